"""The version of a check: the same after a restart of the kernel, another when what it does changes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from halo_notebook.checks import contains
from halo_notebook.checks.versions import version_of

if TYPE_CHECKING:
    from pathlib import Path

HELPERS = "def short(text):\n    return len(text) < 100\n"
# Name of the check → the cell that defines it.
CELLS = {
    "plain": """
        def plain(reply): return len(reply.text) < 60
        """,
    "default": """
        def default(reply, limit=60): return len(reply.text) < limit
        """,
    "keyword": """
        def keyword(reply, *, limit=60): return len(reply.text) < limit
        """,
    "constant": """
        LIMIT = 60
        def constant(reply): return len(reply.text) < LIMIT
        """,
    "a list": """
        BANNED = ["60", "x"]
        def check(reply): return not any(word in reply.text for word in BANNED)
        """,
    "a dict of functions": """
        RULES = {"short": lambda reply: len(reply.text) < 60}
        def check(reply): return all(rule(reply) for rule in RULES.values())
        """,
    "a closure": """
        def make(limit):
            def check(reply): return len(reply.text) < limit
            return check
        check = make(60)
        """,
    "a function of a function": """
        def limit(): return 60
        def helper(reply): return len(reply.text) < limit()
        def check(reply): return helper(reply)
        """,
    "a recursion": """
        def even(number): return number == 0 or odd(number - 1)
        def odd(number): return number != 60 and even(number - 1)
        def check(reply): return even(len(reply.text))
        """,
    "nested functions": """
        async def check(reply):
            async def inner(): return [word for word in reply.text.split() if len(word) < 60]
            return bool(await inner())
        """,
    "a lambda": "check = lambda reply: len(reply.text) < 60",
    "a partial": """
        from functools import partial
        def within(reply, limit): return len(reply.text) < limit
        check = partial(within, limit=60)
        """,
    "an object": """
        class Within:
            def __init__(self, limit): self.limit = limit
            def __call__(self, reply): return len(reply.text) < self.limit
        check = Within(60)
        """,
    "a method": """
        class Within:
            limit = 60
            def check(self, reply): return len(reply.text) < self.limit
        check = Within().check
        """,
    "a base class": """
        class Base:
            def limit(self): return 60
        class Within(Base):
            def __call__(self, reply): return len(reply.text) < self.limit()
        check = Within()
        """,
    "a dataclass": """
        from dataclasses import dataclass, field
        @dataclass(frozen=True)
        class Within:
            limit: int = 60
            words: frozenset = frozenset({"a", "b", "c", "d"})
            more: dict = field(default_factory=dict)
            def __call__(self, reply): return len(reply.text) < self.limit
        check = Within()
        """,
    "slots": """
        class Within:
            __slots__ = ("limit",)
            def __init__(self): self.limit = 60
            def __call__(self, reply): return len(reply.text) < self.limit
        check = Within()
        """,
    "an enumeration": """
        from enum import Enum
        class Limit(Enum): SHORT = 60; LONG = 600
        def check(reply): return len(reply.text) < Limit.SHORT.value
        """,
    "a pattern": """
        import re
        PATTERN = re.compile("a{60}")
        def check(reply): return bool(PATTERN.search(reply.text))
        """,
    "sets": """
        WORDS = {"alpha", "beta", "gamma", ("delta", "60")}
        def check(reply): return reply.text in WORDS and reply.text in {"one", "two", "three", "60"}
        """,
    "a table": """
        import pandas as pd
        GOLDEN = pd.DataFrame({"id": range(1000), "answer": [f"answer {n}" for n in range(999)] + ["60"]})
        def check(reply): return reply.text in set(GOLDEN["answer"])
        """,
    "a decorated function": """
        import functools
        def twice(function):
            @functools.wraps(function)
            def inner(reply): return function(reply) and function(reply)
            return inner
        @twice
        def check(reply): return len(reply.text) < 60
        """,
    "a cached function": """
        import functools
        @functools.cache
        def limit(): return 60
        def check(reply): return len(reply.text) < limit()
        """,
    "a clause": """
        def check(reply):
            try: return float(reply.text) < 60
            except ValueError: return None
        """,
    "a ready-made check": "from halo_notebook.checks import contains\ncheck = contains('60')",
    "another": "from halo_notebook.checks import action\ncheck = action('go', n=lambda n: n < 60)",
    "a file of one's own": "from helpers import short\ndef check(reply): return short(reply.text) and 60",
    "a module of one's own": "import helpers\ndef check(reply): return helpers.short(reply.text) and 60",
    "a version": "def check(reply): return True\ncheck.version = '60'",
}
SCRIPT = """
import json, sys
from halo_notebook.checks.versions import version_of
found = {}
for name, cell in json.load(sys.stdin).items():
    cell = compile(cell, f"<ipython-input-{len(sys.argv[1]) * 100}>", "exec")
    exec(cell, globals())
    found[name] = version_of(globals().get(name) or globals().get("check"))
    globals().pop(name, None)
print(json.dumps(found))
"""


def versions_in_a_new_process(
    folder: Path, seed: str, helpers: str = HELPERS, old: str = "60"
) -> dict[str, str]:
    """The versions of the checks, in which 60 may be replaced by something else."""
    import json

    (folder / "helpers.py").write_text(helpers)
    cells = {name: textwrap.dedent(cell).strip().replace("60", old) for name, cell in CELLS.items()}
    settings = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "x" * int(seed)],
        input=json.dumps(cells),
        env=settings,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_versions_stay_and_change(tmp_path: Path) -> None:
    """They stay in other processes and at another place in the file; each changes with what it refers to."""
    first = versions_in_a_new_process(tmp_path, "1")
    assert first.keys() == CELLS.keys()
    assert versions_in_a_new_process(tmp_path, "2") == first == versions_in_a_new_process(tmp_path, "3")
    changed = versions_in_a_new_process(tmp_path, "1", old="61")
    assert {name for name in first if first[name] == changed[name]} == set()
    other = versions_in_a_new_process(tmp_path, "1", helpers=HELPERS.replace("100", "200"))
    assert {name for name in first if first[name] != other[name]} == {
        "a file of one's own",
        "a module of one's own",
    }


def test_what_a_check_changes_itself_is_not_part_of_its_version() -> None:
    """A cache, a log, a counter: running the cell again must not call the check again because of them."""
    calls: list[str] = []
    cache: dict[str, bool] = {}
    count = 0

    def check(reply: str) -> bool:
        nonlocal count
        count += 1
        calls.append(reply)
        cache[reply.strip()] = True
        return cache[reply.strip()]

    class Counted:
        def __init__(self) -> None:
            self.calls, self.seen, self.log = 0, {"x": 1}, [1]

        def __call__(self, reply: str) -> bool:
            self.calls += 1
            self.seen[reply] = 2
            self.log.append(3)
            return True

    counted = Counted()
    before = version_of(check), version_of(counted), version_of(counted.__call__)
    assert check("a") and counted("a") and check(" b")
    assert (calls, count, counted.calls) == (["a", " b"], 2, 1)
    assert (version_of(check), version_of(counted), version_of(counted.__call__)) == before


@pytest.mark.parametrize("check", [len, bool, str.strip, "abc".__contains__, contains, [].append, object()])
def test_anything_has_a_version(check: object) -> None:
    """Builtins, methods of C and objects of nobody: a text that is the same the next time."""
    assert version_of(check) == version_of(check) != ""


def test_a_version_of_its_own_counts() -> None:
    """As text, whatever the check does."""

    def check(reply: str) -> bool:
        return True

    check.version = 3  # type: ignore[attr-defined]
    assert version_of(check) == "3"
    check.version = "judge-2025" * 100  # type: ignore[attr-defined]
    assert len(version_of(check)) == 200
    check.version = object()  # type: ignore[attr-defined]  # not text: the digest
    assert len(version_of(check)) == 20


def test_a_check_without_a_digest_is_new_each_time() -> None:
    """It is judged again, rather than taken for another; nothing breaks."""

    class Lazy:
        def __call__(self, reply: str) -> bool:
            return True

        @property
        def __dict__(self) -> dict[str, object]:  # type: ignore[override]
            raise RuntimeError("not loaded")

    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for check in (Lazy(), lambda reply: bool(nested)):
        assert version_of(check) != version_of(check)
    assert version_of(check_of_itself) == version_of(check_of_itself)


def check_of_itself(reply: str) -> bool:
    return FRIENDS["me"] is check_of_itself


FRIENDS = {"me": check_of_itself}
