# From a bare machine with Python 3.11 or later: `make demo` or `make test`. `make help` lists all targets.
# PYTHON=/path/to/python3 chooses the interpreter; ARGS='-k stream' is passed to pytest.

BIN := .venv/bin
ESLINT := tests/node_modules/.bin/eslint --config tests/eslint.config.js --max-warnings 0
PACKAGE := $(filter-out %.pyc %__pycache__,$(wildcard halo_notebook/*.py halo_notebook/*/*.py halo_notebook/*/*/* halo_notebook/*/*/*/*))
ARGS ?=
# `make test BROWSER=firefox`. A BROWSER in the environment is meant for other programs.
BROWSER = chromium
export TEST_BROWSER = $(BROWSER)
# Without files of bytecode, each process of a test run would compile all tests.
unexport PYTHONDONTWRITEBYTECODE
# Most tests wait for something, so more can run at once than there are cores. ARGS=-n0 runs them one after the other.
WORKERS ?= 5
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder --durations=25

.PHONY: help demo lite test coverage check bench binder clean
.DEFAULT_GOAL := help

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

demo: .venv/.lab ## Open the first notebook in JupyterLab
	@.ci/demo

lite: notebooks/lite/_site/.made ## Build the notebooks as a JupyterLite site, which needs no server
	@echo "The site is in notebooks/lite/_site. To look at it:"
	@echo "  python3 -m http.server --bind 127.0.0.1 --directory notebooks/lite/_site"

test: .venv/.test tests/node_modules/.made $(if $(CI)$(findstring -m ci,$(ARGS)),notebooks/lite/_site/.made) ## Run the tests (CI=true: also those that only CI runs)
	@.ci/browser $(BROWSER)
	$(PYTEST) $(if $(filter firefox,$(BROWSER)),-m 'browser and not chromium') $(ARGS)

coverage: .venv/.test tests/node_modules/.made ## Run the tests that need no browser, and check how much they cover
	@rm -f .coverage .coverage.*
	$(PYTEST) -m 'not browser' --cov --cov-report= --cov-fail-under=0 $(ARGS)
	$(BIN)/coverage report
	$(BIN)/coverage report --include='*/stream.py' --fail-under=100

check: .venv/.test tests/node_modules/.made ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(ESLINT) tests halo_notebook/panel/static

bench: .venv/.test ## Measure how long users wait
	$(BIN)/python -m tests.benchmarks $(ARGS)

# The versions of what is downloaded for the site are in notebooks/lite/.
notebooks/lite/_site/.made: .venv-lite/.made tests/node_modules/.made notebooks/lite/build.py \
		notebooks/lite/package.json $(wildcard notebooks/lite/nh3/* notebooks/*.ipynb) $(PACKAGE) pyproject.toml
	@echo "Building the JupyterLite site"
	@.venv-lite/bin/python notebooks/lite/build.py
	@touch $@

binder: .venv/.test ## Update the versions that Binder installs
	$(BIN)/python -m pip install --quiet uv
	{ sed '/==/d' binder/requirements.txt; $(BIN)/uv pip compile --quiet --no-header --no-annotate \
		--python-version "$$(sed s/python-// binder/runtime.txt)" --extra eval --extra lab pyproject.toml; } \
		> binder/new && mv binder/new binder/requirements.txt

clean: ## Remove the environments and everything that was built
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* artefacts build dist \
		tests/node_modules notebooks/lite/_site notebooks/lite/node_modules

# The environment is created once; its packages are updated when pyproject.toml changes.
.venv/bin/python:
	@python=$$(.ci/python) && echo "Creating .venv with $$python" && "$$python" -m venv .venv

.venv/.test: pyproject.toml | .venv/bin/python
	@echo "Installing the package and what its tests need"
	@.ci/install $(BIN)/python -e '.[test]'
	@touch .venv/.lab $@

.venv/.lab: pyproject.toml | .venv/bin/python
	@echo "Installing the package with JupyterLab"
	@.ci/install $(BIN)/python -e '.[eval,lab]'
	@touch $@

# A separate environment, because the site includes the front-end extensions of every package installed beside it.
.venv-lite/.made: notebooks/lite/requirements.txt | .venv/bin/python
	@echo "Installing what builds the JupyterLite site"
	@$(BIN)/python -m venv .venv-lite
	@.ci/install .venv-lite/bin/python -r notebooks/lite/requirements.txt
	@touch $@

tests/node_modules/.made: tests/package.json
	@.ci/node
	@touch $@
