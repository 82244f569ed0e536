"""How a benchmark runs as a script: what its user got wrong is one line and exit status 2, as in the product."""

from __future__ import annotations

import sys
from collections.abc import Callable

from prefrec_ray.errors import find_user_error


def run(main: Callable[[], None]) -> None:
    """Calls `main`. What is no mistake of the user is raised as it is."""
    try:
        main()
    except Exception as error:
        found = find_user_error(error)
        if found is None:
            raise
        print(f"error: {found}", file=sys.stderr)
        sys.exit(2)
