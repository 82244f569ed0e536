"""User errors: one exception with a message of one line. Commands then end with exit status 2."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_MAX_VALUE_LENGTH = 200  # characters of a value in an error


class UserError(ValueError):
    """Bad input. The message is one line: file, column, row or key; the value found; the value expected."""

    def __str__(self) -> str:
        # Ray Data appends its own advice to the error messages of its tasks.
        return super().__str__().partition("\n")[0]


_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
_OTHER_KIND = {errno.EISDIR: "found a folder; expected a file", errno.ENOTDIR: "found a file; expected a folder"}


def find_user_error(error: BaseException) -> UserError | None:
    """Return the `UserError` in `error`'s chain of causes, or None. Ray wraps exceptions of its tasks and actors.

    A full disk and missing permissions also become a `UserError`, because the user can free space or grant access.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if type(current) is UserError:
            return current
        if isinstance(current, OSError):
            reason = str(current).partition("\n")[0]
            if current.errno in _FULL:
                return UserError(f"no space left to write to ({reason}); make room, then continue")
            if current.errno in _OTHER_KIND:
                return UserError(f"{_OTHER_KIND[current.errno]} ({reason})")
            if current.errno in _REFUSED:
                return UserError(f"not allowed to read or write there ({reason})")
        # RayTaskError has the original in `cause`; Ray Data and Tune chain with `__cause__`.
        inner = getattr(current, "cause", None)
        current = inner if isinstance(inner, BaseException) else current.__cause__ or current.__context__
    return None


def error_line(error: BaseException) -> str:
    """Return the message of the `UserError` in an error of Ray, else the last line of the error."""
    return str(find_user_error(error) or error).strip().splitlines()[-1].strip()


def need(extra: str, *modules: str, where: str) -> None:
    """Raise `UserError` if one of `modules`, of an `extra` of this package, is not installed.

    `where`: the setting or function that needs it.
    """
    for module in modules:
        if find_spec(module) is None:
            raise UserError(
                f"{where}: {module} is not installed; install it by: pip install '.[{extra}]' from a checkout"
            )


@contextmanager
def unwrapped_errors() -> Iterator[None]:
    """Raise the `UserError` inside an error of Ray instead of it; other errors pass unchanged."""
    try:
        yield
    except Exception as error:
        mistake = find_user_error(error)
        if mistake is None:
            raise
        raise mistake from None


def nearest(key: str, valid: list[str]) -> str:
    """Return a hint for an unknown key: `did you mean 'gamma'?`, or the list of valid keys if none is similar."""
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(sorted(valid))}"


def first_problem(error: ValidationError, model: type[BaseModel], value: Any, prefix: str = "") -> str:
    """Return the first validation problem of `value` as a `model`: key (after `prefix`), expected and found values."""
    problems = error.errors()
    problem = _furthest(problems)
    path = _keys(problem["loc"], value)
    expected = _expected(problem)
    if path and _BRANCH.fullmatch(path[-1]):  # a union: each of its types has its own problem
        kinds = [one for one in problems if one["loc"][:-1] == problem["loc"][:-1]]
        each = dict.fromkeys(_expected(one).removeprefix("expected ") for one in kinds)
        path, expected = path[:-1], f"expected {' or '.join(each)}"
    key = prefix + ".".join(path) or "(top)"
    if problem["type"] == "extra_forbidden":
        return f"key '{key}': unknown key; {nearest(path[-1], _valid_keys(model, path[:-1]))}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if problem["type"] == "value_error" and isinstance(problem.get("input"), dict):
        return f"key '{key}': {expected}" if path else f"{prefix}{expected}"  # of several keys, which it names
    return f"key '{key}': {expected}, found {_short(problem.get('input'))}"


def _furthest(problems: Sequence[Any]) -> Any:
    """Return the first problem; of a value that may be one of several lists, the problem furthest in the list."""
    first = problems[0]["loc"]
    branch = next((n for n, part in enumerate(first) if str(part).startswith(_LIST)), len(first))
    same = [one for one in problems if one["loc"][:branch] == first[:branch]]
    return max(same, key=lambda one: [part for part in one["loc"][branch:] if isinstance(part, int)])


def _keys(place: tuple[int | str, ...], value: Any) -> list[str]:
    """Return the keys of pydantic's `place` in `value`, without the types that follow the keys of unions."""
    keys = []
    for number, part in enumerate(place):
        if isinstance(value, dict) and part not in value and value.get("kind") == part:
            continue
        if str(part).startswith(_LIST) and number < len(place) - 1:
            continue
        keys.append(str(part))
        value = value.get(part) if isinstance(value, dict) else None
    return keys


#: The begin of the name of a list's type.
_LIST = "list["
#: The last part of a place, if it is one of the types of a union.
_BRANCH = re.compile(r"(literal|constrained-|function-|list\[).*|str")
#: First word of a pydantic error type -> description of the expected value.
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "string": "a text",
    "dict": "a mapping",
    "model": "a mapping",
    "finite": "a finite number",
}


def _expected(problem: Any) -> str:
    kind, _, check = problem["type"].partition("_")
    if kind in _TYPES and check in ("type", "parsing", "from_float", "number"):
        return f"expected {_TYPES[kind]}"
    if check in ("too_short", "too_long", "short", "long"):  # of a text, or of a list
        low, high = (problem["ctx"].get(limit) for limit in ("min_length", "max_length"))
        limit = f"at most {high}" if low is None else f"at least {low}"
        return f"expected a text of {limit} characters" if kind == "string" else f"expected {limit} entries"
    message = str(problem["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
    return message[0].lower() + message[1:]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}..."


def _valid_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the field names of the model at `path` (through lists, optionals and tagged unions)."""
    models: list[type[BaseModel]] = [model]
    for part in path:
        inner: list[type[BaseModel]] = []
        for candidate in models:
            if part in candidate.model_fields:
                inner += _models_in(candidate.model_fields[part].annotation)
        # A part that does not name a field is a list index or the tag of a union: the models stay the same.
        models = inner or models
    return sorted({name for candidate in models for name in candidate.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]
