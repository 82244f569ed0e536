"""The runner finds every section, and pages name only existing sections."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.__main__ import SECTIONS, STANDARD
from benchmarks.harness import run_section

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_is_a_function_that_says_what_it_is(name: str) -> None:
    module, function = SECTIONS[name].split(":")
    text = (ROOT / "benchmarks" / f"{module.replace('.', '/')}.py").read_text("utf-8")
    assert f"\ndef {function}(" in text
    assert f"python -m benchmarks {name}" in text


def test_pages_and_the_standard_run_name_sections() -> None:
    files = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("tune_configs/*.yaml")]
    named = {name for file in files for name in re.findall(r"-m benchmarks[ .](\w+)", file.read_text("utf-8"))}
    assert named
    assert named | set(STANDARD) <= set(SECTIONS)


def test_a_signature_is_the_command_line_and_the_json(tmp_path: Path) -> None:
    def section(
        work: Path,
        sizes: Sequence[float],
        seeds: Sequence[int] | None = None,
        gbit: float | None = None,
        slow: bool = False,
    ) -> Iterator[dict[str, object]]:
        """Has a place, and arguments of every kind."""
        yield {"half": [size / 2 for size in sizes], "work": work.name}

    file = tmp_path / "new" / "out.json"
    run_section("any", section, ["somewhere", "1", "3", "--seeds", "4", "5", "--slow", "--json", str(file)])
    written = json.loads(file.read_text())
    assert written["settings"] == {"sizes": [1.0, 3.0], "seeds": [4, 5], "gbit": None, "slow": True}
    assert (written["half"], written["work"]) == ([0.5, 1.5], "somewhere")
    assert written["machine"]["cores"]
