"""The version of a check: a digest that changes when what it does changes, and not when a kernel restarts.

- A function counts with its code, its defaults and its closure, and with the functions, classes and values to
  which it refers, one after the other. What is installed or built in counts with its name.
- A list, dict, set or variable that the code itself changes, such as a cache, does not count.
- Nothing that differs between processes counts: no address, no order of a set, no place in a file.
"""

from __future__ import annotations

import builtins
import dis
import functools
import hashlib
import inspect
import pickle
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from uuid import uuid4

_MAX_VERSION_CHARACTERS = 200
_CHANGING = (
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"),
    *("put", "remove", "setdefault", "update"),
)
_NOT_OF_A_CLASS = (
    *("__dict__", "__weakref__", "__doc__", "__module__"),
    *("__firstlineno__", "__static_attributes__", "__slotnames__", "__dataclass_fields__"),
)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


def version_of(check: Any) -> str:
    """The check's attribute `version` if it has one, else a digest of what it does."""
    version = getattr(check, "version", None)
    if isinstance(version, str | int | float) and not isinstance(check, type):
        return str(version)[:_MAX_VERSION_CHARACTERS]
    try:
        return _Digest().of(check)[:20]
    except Exception:  # noqa: BLE001  # of a user's object, or nested too deeply
        return uuid4().hex[:20]  # so that no verdict of another check counts for it


class _Digest:
    """A digest of objects that may refer to each other."""

    def __init__(self) -> None:
        self._met: dict[int, str] = {}
        self._held: list[Any] = []  # so that no id is used twice
        self._depth = 0

    def of(self, value: Any) -> str:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return _digest(type(value).__name__, repr(value))
        if id(value) in self._met:
            return self._met[id(value)]
        self._met[id(value)] = _digest("met", str(self._depth))  # in case that it refers to itself
        self._held.append(value)
        self._depth += 1
        self._met[id(value)] = found = _digest(*self._parts(value))
        self._depth -= 1
        return found

    def _parts(self, value: Any) -> list[str]:
        match value:
            case FunctionType():
                return self._of_function(value)
            case CodeType():
                arguments = value.co_varnames[: value.co_argcount + value.co_kwonlyargcount]
                steps = [value.co_code.hex(), value.co_exceptiontable.hex(), *arguments, *value.co_names]
                return ["code", *steps, *map(self.of, value.co_consts)]
            case MethodType():
                return ["method", self.of(value.__func__), self.of(value.__self__)]
            case functools.partial():
                return ["partial", *map(self.of, (value.func, value.args, value.keywords))]
            case ModuleType():
                return ["module", value.__name__]
            case type():
                return self._of_class(value)
            case Mapping():
                pairs = sorted(_digest(self.of(key), self.of(item)) for key, item in value.items())
                return [type(value).__name__, *pairs]
            case set() | frozenset():
                return [type(value).__name__, *sorted(map(self.of, value))]
            case list() | tuple():
                return [type(value).__name__, *map(self.of, value)]
        if (wrapped := inspect.getattr_static(value, "__wrapped__", None)) is not None:  # such as a cache's
            return ["wrapped", _name(type(value)), self.of(wrapped)]
        if inspect.isroutine(value):  # of C
            owner = getattr(value, "__self__", None)
            return ["builtin", _name(value), "" if isinstance(owner, ModuleType) else self.of(owner)]
        kind = type(value)
        if not _is_installed(kind):
            state = {name: getattr(value, name, None) for name in _slots(kind)}
            state |= vars(value) if hasattr(value, "__dict__") else {}
            for changed in _changed_by_methods(kind):
                state.pop(changed, None)
            return ["object", self.of(kind), self.of(state)]
        return ["value", _name(kind), _content(value)]

    def _of_function(self, function: FunctionType) -> list[str]:
        if _is_installed(function) and self._held[0] is not function:
            return ["installed", _name(function)]
        code = function.__code__
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        around = {name: _cell(cell) for name, cell in cells.items()}
        for name in _global_names(code):
            if name in function.__globals__:
                around[name] = function.__globals__[name]
        for name in _changed_by(code):
            if not isinstance(around.get(name), FunctionType | ModuleType | type):
                around.pop(name, None)
        attributes = {
            f"{name}.{attribute}": vars(module)[attribute]
            for name, module in around.items()
            if isinstance(module, ModuleType) and not _is_installed(module)
            for attribute in dict.fromkeys(_attribute_names(code))
            if attribute in vars(module)
        }
        defaults = (function.__defaults__, function.__kwdefaults__)
        return ["function", *map(self.of, (code, defaults, around, attributes))]

    def _of_class(self, kind: type) -> list[str]:
        if _is_installed(kind):
            return ["class", _name(kind)]
        own = {
            name: getattr(item, "fget", getattr(item, "__func__", item))
            for name, item in vars(kind).items()
            if name not in _NOT_OF_A_CLASS
            and not inspect.ismemberdescriptor(item)
            and not name.startswith("_abc_")
        }
        return ["class", kind.__qualname__, self.of(own), *map(self.of, kind.__bases__)]


def _digest(*parts: str) -> str:
    made = hashlib.sha256()
    for part in parts:
        text = part.encode("utf-8", "surrogatepass")
        made.update(f"{len(text)}:".encode() + text)
    return made.hexdigest()


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _content(value: Any) -> str:
    """What a library's object holds, as far as that can be said."""
    try:
        if type(value).__module__.partition(".")[0] in ("numpy", "pandas", "polars", "pyarrow"):
            return hashlib.sha256(pickle.dumps(value)).hexdigest()  # their repr leaves parts out
        shown = repr(value)
    except Exception:  # noqa: BLE001  # that is the library's code
        return ""
    # A client, a lock: it shows where it is, and perhaps what it is doing.
    return "" if shown.startswith("<") else _ADDRESS.sub("", shown)


def _is_installed(value: Any) -> bool:
    """Whether something belongs to Python or to an installed package, and not to the user's own files."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if not isinstance(name, str) or name == "__main__":
        return False
    if name.partition(".")[0] in sys.stdlib_module_names or name == builtins.__name__:
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is still empty
        return None


def _slots(kind: type) -> Iterable[str]:
    for each in kind.__mro__:
        slots = vars(each).get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots


def _codes(code: CodeType) -> Iterable[CodeType]:
    """A function's code, and that of the functions within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


# Reading the steps of code costs more than all else here, and checks share much of theirs.
@functools.lru_cache(1_000)
def _global_names(code: CodeType) -> list[str]:
    steps = (step for each in _codes(code) for step in dis.get_instructions(each))
    return list(dict.fromkeys(step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")))


def _attribute_names(code: CodeType) -> Iterable[str]:
    for each in _codes(code):
        yield from each.co_names


@functools.lru_cache(1_000)
def _changed_by(code: CodeType) -> set[str]:
    """The names of the variables and attributes that code changes, other than its own local variables."""
    found = set()
    for each in _codes(code):
        steps = list(dis.get_instructions(each))
        for place, step in enumerate(steps):
            changed = None
            match step.opname:
                case "STORE_GLOBAL" | "STORE_DEREF" | "STORE_ATTR":
                    found.add(step.argval)
                case "LOAD_METHOD" | "LOAD_ATTR" if step.argval in _CHANGING:
                    changed = place - 1
                case "STORE_SUBSCR" | "DELETE_SUBSCR":
                    changed = _before_value(steps, place)
            if changed is not None and steps[changed].opname in ("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_ATTR"):
                found.add(steps[changed].argval)
    return found


def _before_value(steps: list[dis.Instruction], end: int) -> int | None:
    """The place of the last step before those that compute the value on the top of the stack at `end`."""
    pushed = 0
    for place in range(end - 1, 0, -1):
        pushed += dis.stack_effect(steps[place].opcode, steps[place].arg, jump=False)
        if pushed == 1:
            return place - 1
    return None


def _changed_by_methods(kind: type) -> set[str]:
    """The attributes that a class's methods change, but not those that only its `__init__` sets."""
    methods = (
        item
        for each in kind.__mro__
        for name, item in vars(each).items()
        if isinstance(item, FunctionType) and name not in ("__init__", "__post_init__")
    )
    return set().union(*(_changed_by(method.__code__) for method in methods))
