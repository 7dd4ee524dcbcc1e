"""The examples in the docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import halo_notebook

MODULES = [module.name for module in pkgutil.walk_packages(halo_notebook.__path__, "halo_notebook.")]
SHOWN = {
    *(
        "AsyncHaloClient",
        "ChatPanel",
        "DemoAgent",
        "DemoTransport",
        "HaloClient",
        "Pacer",
        "Recorder",
        "Replay",
    ),
    *("Reply", "BlockRenderer", "Session", "SessionRegister", "StreamParser", "Timeline"),
    *("contains", "encode", "evaluate", "read_cases"),
}
"""Each shows how it is used: the public classes, and what is easier to see than to describe."""


@pytest.mark.parametrize("name", MODULES)
def test_each_example_gives_what_it_says(name: str) -> None:
    """In each module."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_each_public_class_has_an_example() -> None:
    """In its docstring."""
    found = (test for name in MODULES for test in doctest.DocTestFinder().find(importlib.import_module(name)))
    assert {test.name.rpartition(".")[2] for test in found if test.examples} >= SHOWN
