"""The one exception for mistakes of the user: it becomes one clear line and exit status 2."""

from __future__ import annotations

import errno


class UserError(ValueError):
    """Bad input. The message is one line: the file, column, row or key; what was found; what was expected."""

    def __str__(self) -> str:
        # Ray Data appends advice of its own to the message of what its tasks raise.
        return super().__str__().partition("\n")[0]


_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def find_user_error(error: BaseException) -> UserError | None:
    """The `UserError` in `error`'s chain of causes (Ray wraps what its tasks and actors raise), or None.

    A full disk is one too, and so is a file that may not be read or written, though nobody raised it as such: whoever
    runs the command can make room, or give the right.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if type(current) is UserError:
            return current
        if isinstance(current, OSError):
            said = str(current).partition("\n")[0]
            if current.errno in _FULL:
                return UserError(f"no space left to write to ({said}); make room and go on")
            if current.errno in _REFUSED:
                return UserError(f"not allowed to read or write there ({said})")
        # RayTaskError keeps the original in `cause`; Ray Data and Tune chain with `__cause__`.
        inner = getattr(current, "cause", None)
        current = inner if isinstance(inner, BaseException) else current.__cause__ or current.__context__
    return None
