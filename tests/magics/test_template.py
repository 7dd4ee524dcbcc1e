"""A prompt's `{{ expression }}`: replaced where it is one, left alone where it is not."""

from __future__ import annotations

from types import CodeType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo_notebook.errors import UsageError
from halo_notebook.magics.template import expand


def fails(text: str) -> None:
    raise ValueError(text)


def inside() -> Any:
    return eval("not_here")  # noqa: S307  # a name that is missing elsewhere than in the prompt


NAMES = {"plan": "pro", "seats": [1, 2], "row": {"a": {"b": 7}}, "fails": fails, "inside": inside}


def value(code: CodeType) -> Any:
    return eval(code, dict(NAMES))  # noqa: S307  # the expressions below


@pytest.mark.parametrize(
    ("prompt", "expanded"),
    [
        ("On {{ plan }}", "On pro"),
        ("{{plan}}{{seats}}", "pro[1, 2]"),
        ("{{ row['a']['b'] + 1 }}", "8"),
        ("{{ {'x': {'y': 1}}['x']['y'] }}", "1"),
        ("{{ f'{plan}!' }}", "pro!"),
        ("{{\n  plan\n}}", "pro"),
        ("{{ '}}' + plan }}", "}}pro"),
        ('{"plan": {{ seats }}}', '{"plan": [1, 2]}'),
        ('{"a": {"b": {}}}', '{"a": {"b": {}}}'),
        ("{plan} and {'a': 1}", "{plan} and {'a': 1}"),
        ("{{}} and {{ }}", "{{}} and {{ }}"),
        ("open {{ plan", "open {{ plan"),
        ("}} {{ plan }}", "}} pro"),
        ("", ""),
        ("{{ (lambda: (x := 2) + x)() }}", "4"),
    ],
)
def test_expansion(prompt: str, expanded: str) -> None:
    """Expressions give their values; single, empty and open braces stay as typed."""
    assert expand(prompt, value) == expanded


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("On {{ paln }}", "No variable named 'paln' for {{ paln }}"),
        ("{{ plan.nope + other }}", "raised AttributeError"),
        ("{{ 1 / 0 }}", "raised ZeroDivisionError: division by zero"),
        ("{{ plan python }}", "is not a Python expression"),
        ("{{ import os }}", "is not a Python expression"),
        ("{{ x = 1 }}", "is not a Python expression"),
        ("{{#each}}", "is not a Python expression"),
        ("{{ plan) + (plan }}", "is not a Python expression"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "is not a Python expression"),
        ("{{ fails('a\\n\\x1bb') }}", "raised ValueError: a b"),
        ("{{ inside() }}", "raised NameError"),
    ],
)
def test_what_cannot_be_expanded_is_named(prompt: str, words: str) -> None:
    """One line that names it and says that nothing was sent."""
    with pytest.raises(UsageError, match=words) as caught:
        expand(prompt, value)
    assert "Nothing was sent" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="ab{} \n'\"[]", max_size=30))
def test_text_without_double_braces_is_untouched(prompt: str) -> None:
    """Whatever a prompt holds, only a double brace can change it."""
    prompt = prompt.replace("{{", "{")
    assert expand(prompt, value) == prompt
