"""The product's commands, as users run them."""

from __future__ import annotations

import subprocess
import sys


def prefrec(*arguments: str) -> None:
    """A command of the product, in a process of its own. Ends the benchmark where it fails."""
    print("prefrec", *arguments, flush=True)
    done = subprocess.run([sys.executable, "-m", "prefrec_ray.cli.main", *arguments], stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(done.returncode)
