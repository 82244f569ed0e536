"""The one exception for mistakes of the user: it becomes one clear line and exit status 2."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class UserError(ValueError):
    """Bad input. The message is one line: the file, column, row or key; what was found; what was expected."""

    def __str__(self) -> str:
        # Ray Data appends its own advice to the message of an error that its tasks raise.
        return super().__str__().partition("\n")[0]


_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def find_user_error(error: BaseException) -> UserError | None:
    """The `UserError` in `error`'s chain of causes (Ray wraps what its tasks and actors raise), or None.

    A full disk and missing permissions become one too: the user can free space, or grant access.
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
                return UserError(f"no space left to write to ({reason}); make room and go on")
            if current.errno in _REFUSED:
                return UserError(f"not allowed to read or write there ({reason})")
        # RayTaskError keeps the original in `cause`; Ray Data and Tune chain with `__cause__`.
        inner = getattr(current, "cause", None)
        current = inner if isinstance(inner, BaseException) else current.__cause__ or current.__context__
    return None


def need(extra: str, *modules: str, where: str) -> None:
    """Raises `UserError` for the first of `modules`, of an `extra` of this package, that is not installed.

    `where`: what needs it.
    """
    for module in modules:
        if find_spec(module) is None:
            raise UserError(
                f"{where}: {module} is not installed; install it by: pip install '.[{extra}]' from a checkout"
            )


@contextmanager
def unwrapped_errors() -> Iterator[None]:
    """Raises the `UserError` that an error of Ray wraps, in its place; other errors pass unchanged."""
    try:
        yield
    except Exception as error:
        mistake = find_user_error(error)
        if mistake is None:
            raise
        raise mistake from None
