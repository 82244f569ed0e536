"""The pages of docs/results: commit of each measurement, and changes of the code since.

`python -m benchmarks results` prints one line per page: commit, date, number of later commits to its code.

The front matter of a page has the commit of the measurement, files next to the page, and the measured code:

    measured: {commit: efb7b6d, files: [loop_habit.csv], code: [prefrec_ray/algorithms]}
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


@dataclass(frozen=True)
class Measured:
    """Front matter of a page: a commit, files of figures next to the page, paths of the measured code."""

    commit: str
    files: list[str]
    code: list[str]

    @property
    def date(self) -> str | None:
        """Return the day of the commit; None without the history."""
        return git("log", "-1", "--format=%ad", "--date=short", self.commit)

    @property
    def changes(self) -> int | None:
        """Return the number of commits that changed the code since; None without the history."""
        count = git("rev-list", "--count", f"{self.commit}..HEAD", "--", *self.code)
        return None if count is None else int(count)

    def title(self) -> str:
        """Return the commit and day of the measurement."""
        return f"Measured at commit {self.commit}" + (f" of {self.date}" if self.date else "")

    def age(self) -> str:
        """Return the changes of the code since, in a sentence."""
        code = ", ".join(f"`{path}`" for path in self.code)
        if self.changes:
            many = f"{self.changes} commits have" if self.changes > 1 else "One commit has"
            return f"{many} changed {code} since: figures of today's code may differ."
        return f"Of {code}."


def git(*words: str) -> str | None:
    """Return the output of git, or None."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None


def measured(page: Path) -> Measured:
    """Return the front matter of a page. Raises `KeyError` if it has none."""
    head = re.match(r"---\n(.*?)\n---\n", page.read_text("utf-8"), re.DOTALL)
    # All of it as text: some short commits look like numbers.
    return Measured(**(yaml.load(head[1], Loader=yaml.BaseLoader) if head else {})["measured"])


def main() -> dict[str, Any]:
    """Print the age of all pages."""
    pages = {path.stem: measured(path) for path in sorted(RESULTS.glob("*.md"))}
    for name, one in pages.items():
        print(f"{name:26} {one.commit}  {one.date or '?':10}  {one.changes} commits since")
    return {"pages": {name: one.changes for name, one in pages.items()}}
