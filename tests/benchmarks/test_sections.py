"""Sections are where the runner looks for them, and pages name those that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.__main__ import SECTIONS
from benchmarks.harness import STANDARD

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_is_a_function_that_says_what_it_is(name: str) -> None:
    module, function = SECTIONS[name].split(":")
    text = (ROOT / "benchmarks" / f"{module.replace('.', '/')}.py").read_text("utf-8")
    assert f"\ndef {function}() -> None:\n" in text
    assert f"python -m benchmarks {name}" in text


def test_pages_and_the_standard_run_name_sections() -> None:
    files = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("tune_configs/*.yaml")]
    named = {name for file in files for name in re.findall(r"-m benchmarks[ .](\w+)", file.read_text("utf-8"))}
    assert named
    assert named | set(STANDARD) <= set(SECTIONS)
