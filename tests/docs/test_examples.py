"""The examples in the docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import halo_notebook

MODULES = [module.name for module in pkgutil.walk_packages(halo_notebook.__path__, "halo_notebook.")]
# The public classes, each of which shows how it is used.
SHOWN = {
    "stream": {"StreamParser", "encode"},
    "client.aio": {"AsyncHaloClient"},
    "client.sync": {"HaloClient"},
    "session": {"Session", "SessionRegister"},
    "reply": {"Reply"},
    "recording.recorder": {"Recorder", "Replay"},
    "display.pacer": {"Pacer"},
    "panel.widget": {"ChatPanel"},
    "display.timeline": {"Timeline"},
    "evaluation.cases": {"read_cases"},
    "checks": {"contains"},
    "evaluation.run": {"evaluate"},
    "demo.server": {"DemoAgent"},
    "demo.inprocess": {"DemoTransport"},
    "display.blocks": {"ReplyRenderer"},
}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """Each example gives what it says, and the public classes have one."""
    module = importlib.import_module(name)
    examples = {
        test.name.rpartition(".")[2] for test in doctest.DocTestFinder().find(module) if test.examples
    }
    assert SHOWN.get(name.removeprefix("halo_notebook."), set()) <= examples
    assert doctest.testmod(module).failed == 0
