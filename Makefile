# From a bare machine with Python 3.11 or later: `make demo` or `make test`. `make help` lists the rest.
# PYTHON=/path/to/python3 chooses the interpreter, ARGS='-k stream' goes to pytest.

BIN := .venv/bin
ESLINT := tests/node_modules/.bin/eslint --config tests/eslint.config.js --max-warnings 0
ARGS ?=
# Most tests wait, so there may be more at a time than there are cores. ARGS=-n0 runs one after the other.
WORKERS ?= 3

.PHONY: help demo lite test check bench binder clean
.DEFAULT_GOAL := help

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

demo: .venv/.lab ## Open the first notebook in JupyterLab
	@.ci/demo

lite: notebooks/lite/_site/.made ## Build notebooks/ as a JupyterLite site, which needs no server
	@echo "The site is in notebooks/lite/_site. To look at it:"
	@echo "  python3 -m http.server --bind 127.0.0.1 --directory notebooks/lite/_site"

test: .venv/.test tests/node_modules/.made notebooks/lite/_site/.made ## Run all tests, with the floors for coverage
	@.ci/browser
	@rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder \
		--cov --cov-report= --cov-fail-under=0 --durations=25 $(ARGS)
	$(BIN)/coverage report
	$(BIN)/coverage report --include='*/stream.py' --fail-under=100

check: .venv/.test tests/node_modules/.made ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(ESLINT) tests halo_notebook/panel/static

bench: .venv/.test ## Measure what a user waits for
	$(BIN)/python -m tests.benchmarks $(ARGS)

# What the site is made of; what is fetched for it has its versions in notebooks/lite/.
notebooks/lite/_site/.made: .venv-lite/.made tests/node_modules/.made notebooks/lite/build.py \
		notebooks/lite/package.json $(wildcard notebooks/lite/nh3/* notebooks/*.ipynb halo_notebook/*.py halo_notebook/*/*.py halo_notebook/*/*/*) pyproject.toml
	@echo "Building the JupyterLite site"
	@.venv-lite/bin/python notebooks/lite/build.py
	@touch $@

binder: .venv/.test ## Name Binder's versions anew
	$(BIN)/python -m pip install --quiet uv
	{ sed '/==/d' binder/requirements.txt; $(BIN)/uv pip compile --quiet --no-header --no-annotate \
		--python-version "$$(sed s/python-// binder/runtime.txt)" --extra eval --extra lab pyproject.toml; } \
		> binder/new && mv binder/new binder/requirements.txt

clean: ## Remove the environment and everything that was made
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* artefacts build dist \
		tests/node_modules notebooks/lite/_site notebooks/lite/node_modules

# The environment is made once; what is in it follows pyproject.toml.
.venv/bin/python:
	@python=$$(.ci/python) && echo "Making .venv with $$python" && "$$python" -m venv .venv

.venv/.test: pyproject.toml | .venv/bin/python
	@echo "Installing the package with what its tests need"
	@.ci/install $(BIN)/python -e '.[test]'
	@touch .venv/.lab $@

.venv/.lab: pyproject.toml | .venv/bin/python
	@echo "Installing the package with JupyterLab"
	@.ci/install $(BIN)/python -e '.[eval,lab]'
	@touch $@

# An environment of its own: the site takes over the page's parts of all that is installed beside it.
.venv-lite/.made: notebooks/lite/requirements.txt | .venv/bin/python
	@echo "Installing what builds the JupyterLite site"
	@$(BIN)/python -m venv .venv-lite
	@.ci/install .venv-lite/bin/python -r notebooks/lite/requirements.txt
	@touch $@

tests/node_modules/.made: tests/package.json
	@.ci/node
	@touch $@
