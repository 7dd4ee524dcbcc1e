"""The examples in the docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import halo_notebook

MODULES = [module.name for module in pkgutil.iter_modules(halo_notebook.__path__)]
# The public classes, each of which shows how it is used.
SHOWN = {
    "stream": {"StreamParser", "encode"},
    "client": {"AsyncHaloClient", "HaloClient"},
    "session": {"Session", "SessionRegister"},
    "reply": {"Reply"},
    "recording": {"Recorder", "Replay"},
    "live": {"Pacer"},
    "panel": {"ChatPanel"},
    "transcript": {"Timeline"},
    "cases": {"read_cases"},
    "checks": {"contains"},
    "evaluating": {"evaluate"},
    "demo": {"DemoAgent"},
    "demo_transport": {"DemoTransport"},
    "render": {"ReplyRenderer"},
}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """Each example gives what it says, and the public classes have one."""
    module = importlib.import_module(f"halo_notebook.{name}")
    examples = {
        test.name.rpartition(".")[2] for test in doctest.DocTestFinder().find(module) if test.examples
    }
    assert SHOWN.get(name, set()) <= examples
    assert doctest.testmod(module).failed == 0
