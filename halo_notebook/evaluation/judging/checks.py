"""Checks made ready, and applied to replies.

A failed assertion is a fail, and a skipped test says nothing. What else a check raises is its own failure to
judge: never a pass, and never a failure of the agent. An interrupt, SystemExit and pytest.exit end the run.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from ... import checks as ready_made
from ...checks import Check, NoVerdict, Score, Verdict, check_name
from ...checks.verdicts import PASSING, plain
from ...checks.versions import version_of
from ...concurrency.usercode import UserCodeError, is_async
from ...display.text import one_line, whole_text
from ...errors import InvalidRequest, UsageError
from ..cases.columns import COLUMNS, summary_columns_of

if TYPE_CHECKING:
    from pathlib import Path

    from ...checks import JudgedTurn
    from ...reply import Reply
    from ...stream import JSON
    from ..cases.case import Case, Conversation

Checks: TypeAlias = "Sequence[Check] | Mapping[str, Check] | Check"


@dataclass(frozen=True, slots=True)
class Seen:
    """What checks may see of a turn that has ended: the arguments that a check may name."""

    reply: Reply
    expect: JSON
    message: str
    conversation: tuple[JudgedTurn, ...]  # the turns so far, this one included
    case: Case
    config: str
    repeat: int

    is_last: bool  # of the conversation: conversation checks are called


ARGUMENTS = ("reply", "expect", "message", "conversation", "case", "config", "repeat")


def seen_of(conversation: Conversation, said: Sequence[JudgedTurn], *, is_last: bool) -> Seen:
    """What checks see of the last of the turns that have been `said` in a conversation."""
    case, latest = conversation.case, said[-1]
    return Seen(
        latest.reply,
        case.expected(len(said) - 1, is_last=is_last),
        latest.message,
        tuple(said),
        case,
        conversation.config,
        conversation.repeat,
        is_last,
    )


@dataclass(frozen=True)
class Judge:
    """A check, made ready.

    Attributes:
        arguments: the names of what it receives.
        of_conversation: whether it is called once for each conversation, at its end, and not for each reply.
        version: what its verdicts belong to, see `version_of`.
        of_user: whether it judges the simulated user, and not the agent, see `checks.of_user`.
        only_asserts: whether it returns nothing, as a test does, so that it passes when it comes to its end.
    """

    name: str
    function: Check
    arguments: frozenset[str]
    of_conversation: bool
    version: str
    _by_position: tuple[str, ...]  # those of the arguments that are given by their position
    of_user: bool = False
    only_asserts: bool = False

    def with_arguments(self, seen: Seen) -> Callable[[], Any]:
        """The check as a function without arguments; its verdict may be awaitable."""
        by_name = {name: getattr(seen, name) for name in self.arguments.difference(self._by_position)}
        return partial(self.function, *(getattr(seen, name) for name in self._by_position), **by_name)

    def score(self, verdict: Any) -> Score:
        """What it returned, as a `Score`. Raises as `as_score` does."""
        return Score(True) if verdict is None and self.only_asserts else as_score(verdict)

    def judges(self, case: Case) -> bool:
        """Whether it is about conversations of that case: a check of users is not, where there is none."""
        return case.user is not None or not self.of_user

    @property
    def is_async(self) -> bool:
        """Whether it is known to be async before it is called."""
        return is_async(self.function)


def named_checks(checks: Checks) -> dict[str, Judge]:
    """The checks by their names. Raises `InvalidRequest` for what is not a check, and a name twice."""
    if isinstance(checks, Mapping):
        items = [(whole_text(str(name)), check) for name, check in checks.items()]
        remedy = "give one another name"
    else:
        given: Any = [checks] if callable(checks) else checks
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise InvalidRequest(
                f"The checks are {type(given).__name__}. Nothing was sent; give a function, or a list or "
                "dict of functions."
            )
        items = [(check_name(check), check) for check in given]
        remedy = "give them as a dict, name to check"
    functions: dict[str, Check] = {}
    for name, check in items:
        if name in functions:
            raise InvalidRequest(f"Two checks are called {name!r}. Nothing was sent; {remedy}.")
        functions[name] = check
    check_names(functions)
    return {name: judge_of(check, name) for name, check in functions.items()}


def check_names(names: Iterable[str]) -> None:
    """Raise `InvalidRequest` for a check that would have the column of something else."""
    names = list(names)
    of_others = {column for name in names for column in summary_columns_of(name) if column != name}
    for name in names:
        if name in COLUMNS or name in of_others or name.endswith((" note", " score")) or not name:
            raise InvalidRequest(
                f"A check cannot be called {name!r}: a column is. Nothing was sent; give it another name."
            )


def stored_check(
    *, name: str, version: str, arguments: Iterable[str], of_conversation: bool, of_user: bool = False
) -> Judge:
    """A check of which only the verdicts are known."""
    return Judge(name, _unknown, frozenset(arguments), of_conversation, version, (), of_user)


def _unknown() -> Verdict:
    raise LookupError("its code is not in the file")


def is_stored(check: Judge) -> bool:
    """Whether only its verdicts are known."""
    return check.function is _unknown


def checks_to_apply(given: Checks | None, known: Mapping[str, Judge], path: Path) -> dict[str, Judge] | None:
    """The given checks by their names; None for the `known` ones, whose code must be there.

    Raises as `named_checks` does, and `UsageError` where only the verdicts of a known check are there.
    """
    if given is not None:
        return named_checks(given)
    if stored := [name for name, each in known.items() if is_stored(each)]:
        raise UsageError(
            f"{path.name!r} holds the verdicts of its checks ({', '.join(stored)}), and not their code. "
            "Nothing was changed; give the checks: rescore([…])."
        )
    return None


def judge_of(check: Check, name: str = "check") -> Judge:
    """A check made ready. Raises `InvalidRequest` when it cannot be called as a check is."""
    # Done once: reading a signature takes longer than most checks.
    if not callable(check):
        raise InvalidRequest(f"The check {name!r} is not a function. Nothing was sent; give a function.")
    if _makes_checks(check):
        raise InvalidRequest(f"{name!r} makes a check. Nothing was sent; call it: {name}(…).")
    by_position, by_name = _arguments(check, name)
    arguments = frozenset(by_position + by_name)
    of_conversation = "conversation" in arguments and "reply" not in arguments
    of_user = getattr(check, "of_user", False) is True
    version = version_of(check)
    only_asserts = _only_asserts(check, name)
    return Judge(name, check, arguments, of_conversation, version, by_position, of_user, only_asserts)


def _only_asserts(check: Check, name: str) -> bool:
    """Whether its code asserts, and has no return. Raises `InvalidRequest` where every return is of nothing.

    Of such a one, nobody could know whether the end of its code is a pass.
    """
    function: Any = check
    while isinstance(function, partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    try:
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except Exception:  # noqa: BLE001  # its source is not there, or not a whole one
        return False
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    if definition.name != function.__name__:  # its file has changed meanwhile
        return False
    nodes = list(_own_nodes(definition))
    returns = [node for node in nodes if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom)]
    asserts = any(map(_is_assertion, nodes))
    if asserts and returns and all(_is_of_nothing(each) for each in returns):
        raise InvalidRequest(
            f"The check {name!r} asserts, and returns only None, which says nothing: it could never pass. "
            "Nothing was sent; let it return True at its end."
        )
    return asserts and not returns


def _own_nodes(definition: ast.AST) -> Iterator[ast.AST]:
    """Its body, without that of functions and classes in it."""
    for node in ast.iter_child_nodes(definition):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield node
            yield from _own_nodes(node)


def _is_assertion(node: ast.AST) -> bool:
    """An assert statement, or a name such as `AssertionError`, `assertEqual` and `pytest.fail`."""
    word = getattr(node, "attr", getattr(node, "id", ""))
    return isinstance(node, ast.Assert) or word == "fail" or word.lower().startswith("assert")


def _is_of_nothing(node: ast.AST) -> bool:
    value = getattr(node, "value", None) if isinstance(node, ast.Return) else node
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _makes_checks(check: Check) -> bool:
    """Whether parentheses were left out: a ready-made `contains`, or a class whose instances are checks."""
    if isinstance(check, type):
        return any("__call__" in vars(kind) for kind in check.__mro__)
    while isinstance(check, partial):  # such as partial(contains)
        check = check.func
    return any(check is getattr(ready_made, name) for name in ready_made.__all__)


def _arguments(check: Check, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The arguments that a check is given by position, and those that it is given by name."""
    try:
        parameters = list(inspect.signature(check).parameters.values())
    except (TypeError, ValueError):  # of a builtin
        return ("reply",), ()
    bound = check.keywords if isinstance(check, partial) else {}  # the user's choice
    names = {parameter.name for parameter in parameters}.difference(bound)
    by_position: list[str] = []
    by_name: list[str] = []
    unknown: list[str] = []
    for parameter in parameters:
        known = parameter.name in ARGUMENTS and parameter.name not in bound
        is_reply = parameter is parameters[0] and not known and "reply" not in names
        match parameter.kind:
            case parameter.POSITIONAL_ONLY | parameter.POSITIONAL_OR_KEYWORD | parameter.VAR_POSITIONAL if (
                is_reply
            ):
                by_position.append("reply")
            case parameter.VAR_POSITIONAL | parameter.VAR_KEYWORD:
                pass
            case parameter.POSITIONAL_ONLY if known and len(by_position) == parameters.index(parameter):
                by_position.append(parameter.name)
            case kind if known and kind is not parameter.POSITIONAL_ONLY:
                by_name.append(parameter.name)
            case _ if parameter.default is parameter.empty:
                unknown.append(parameter.name)
    if unknown:
        raise InvalidRequest(
            f"The check {name!r} has an argument {unknown[0]!r}. Nothing was sent; a check may name "
            f"{', '.join(ARGUMENTS)}, and give others a default."
        )
    if not by_position and not by_name:
        raise InvalidRequest(
            f"The check {name!r} takes no argument. Nothing was sent; let it take the reply."
        )
    return tuple(by_position), tuple(by_name)


def wanted(checks: Mapping[str, Judge], seen: Seen) -> dict[str, Judge]:
    """Those of the checks that judge this turn."""
    return {
        name: check
        for name, check in checks.items()
        if (seen.is_last or not check.of_conversation) and check.judges(seen.case)
    }


def check_expectations(checks: Mapping[str, Judge], cases: Iterable[Case]) -> None:
    """Raise `InvalidRequest`, naming the case, when a check cannot use what a case expects."""
    asking = [ask for each in checks.values() if (ask := getattr(each.function, "may_expect", None))]
    for case in cases if asking else ():
        for expected in case.expectations:
            for ask in asking:
                try:
                    ask(expected)
                except InvalidRequest as error:
                    raise InvalidRequest(
                        f"Case {case.id!r}: {error} Nothing was sent; fix that case."
                    ) from None


def failed(failure: UserCodeError | TypeError | ValueError) -> Score:
    """What it means that a check raised this, or returned what it may not. Raises what ends the run."""
    error = failure.error if isinstance(failure, UserCodeError) else failure
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # a task group of the check
    # By name, since neither pytest nor unittest may be loaded; pytest says that its own are builtins.
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    of_pytest = ("_pytest", "OutcomeException") in kinds
    if isinstance(error, KeyboardInterrupt | SystemExit) or ("_pytest", "Exit") in kinds:
        raise error from None
    if isinstance(error, AssertionError) or (of_pytest and ("builtins", "Failed") in kinds):
        return Score(False, 0.0, one_line(str(error)) or _source_line(error))
    if (of_pytest and ("builtins", "Skipped") in kinds) or ("unittest", "SkipTest") in kinds:
        return Score(None, note=one_line(str(error)))
    return NoVerdict(None, note=one_line(str(failure)))


def _source_line(error: BaseException) -> str:
    """The line that raised: what an assertion without a message says."""
    frames = traceback.extract_tb(error.__traceback__)
    return one_line(frames[-1].line or "") if frames else ""


def as_score(verdict: Any) -> Score:
    """What a check returned, as a `Score`. Raises `TypeError` or `ValueError` when it may not return it."""
    verdict = plain(verdict)
    match verdict:
        case Score():
            return verdict
        case None:
            return Score(None)
        case bool():
            return Score(verdict)
        case int() | float() if 0 <= verdict <= 1:
            return Score(verdict >= PASSING, float(verdict), f"score {verdict:.3g}")
    given = verdict if isinstance(verdict, int | float) else type(verdict).__name__
    hint = "; were its parentheses left out?" if inspect.isroutine(verdict) else ""
    raise TypeError(f"a check returns a bool, a number from 0 to 1 or a Score, not {given}{hint}")
