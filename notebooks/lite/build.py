"""Makes the JupyterLite site of the tutorials: run it where JupyterLite is installed.

What it promises: the site, `_site`, is plain files that ask no other host for anything. Python and its
packages come from npm and PyPI, and are there when a notebook's kernel has started: nothing is installed in
the page.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SITE = HERE / "_site"
NOTEBOOKS = ("01-first-reply.ipynb", "03-sessions.ipynb", "04-chat-panel.ipynb")
"""Those of the tutorials that a page can run: the others need pandas, or a server of their own."""
PYODIDE = HERE / "node_modules/pyodide"
PYODIDE_FILES = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel"


def main() -> None:
    """Fetch, lay out, build."""
    run(
        "npm", "install", "--prefix", HERE, "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"
    )
    with tempfile.TemporaryDirectory() as scratch:
        lite = Path(scratch)
        python = lite / "static/pyodide"  # where JupyterLite looks for it
        python.mkdir(parents=True)
        for name in PYODIDE_FILES:
            shutil.copy(PYODIDE / name, python)
        lock = json.loads((PYODIDE / "pyodide-lock.json").read_text())
        wheels = fetched_wheels(python, python_version=lock["info"]["python"])
        lock["packages"] = {locked["name"]: locked for locked in map(lock_entry, wheels)}
        (python / "pyodide-lock.json").write_text(json.dumps(lock))
        settings = {"loadPyodideOptions": {"packages": sorted(lock["packages"])}, "disablePyPIFallback": True}
        (lite / "jupyter-lite.json").write_text(
            json.dumps({"jupyter-lite-schema-version": 0,
                        "jupyter-config-data": {"litePluginSettings": {KERNEL: settings}}})
        )  # fmt: skip
        shutil.copytree(ROOT / "notebooks/images", lite / "files/images")
        for name in NOTEBOOKS:
            shutil.copy(ROOT / "notebooks" / name, lite / "files")
        shutil.rmtree(SITE, ignore_errors=True)
        jupyterlite = (sys.executable, "-m", "jupyterlite_core.app", "build")
        run(*jupyterlite, "--lite-dir", lite, "--output-dir", SITE, "--apps", "lab", "--no-sourcemaps",
            cwd=lite)  # fmt: skip


def fetched_wheels(folder: Path, *, python_version: str) -> list[Path]:
    """Put the package, and all it and JupyterLite's kernel need, into `folder`."""
    with tempfile.TemporaryDirectory() as made:
        pip("wheel", "--no-deps", "--wheel-dir", made, ROOT, HERE / "nh3")
        package = next(Path(made).glob("halo_notebook-*.whl"))
        # Only what is pure Python: the rest that Pyodide has is neither on PyPI nor on npm.
        pip("download", "--dest", folder, "--find-links", made, "--only-binary", ":all:", "--platform", "any",
            "--implementation", "py", "--abi", "none", "--python-version", python_version,
            package, "comm", "ipython", "jedi", "micropip")  # fmt: skip
    return sorted(folder.glob("*.whl"))


def lock_entry(wheel: Path) -> dict[str, object]:
    """A wheel as Pyodide's lock names it. All are loaded, so none needs to name another."""
    name, version, *_ = wheel.name.split("-")
    return {
        "name": name.lower().replace("_", "-"),
        "version": version,
        "file_name": wheel.name,
        "install_dir": "site",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "package_type": "package",
        "imports": [],
        "depends": [],
        "unvendored_tests": False,
    }


def pip(*arguments: object) -> None:
    """Run pip."""
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)


def run(*command: object, cwd: Path = ROOT) -> None:
    """Run a command; what it says is shown when it fails, and ends the build."""
    words = [str(part) for part in command]
    done = subprocess.run(words, check=False, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{command[0]} ended with {done.returncode}.")


if __name__ == "__main__":
    main()
