"""Result pages name the source of their figures, and their files exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.results import RESULTS, ROOT, Measured, git, measured

PAGES = sorted(RESULTS.glob("*.md"))


def commands(page: Path) -> list[str]:
    """The lines of the page's first block, without comments."""
    block = re.search(r"^```\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = block[1].replace("\\\n", " ").splitlines() if block else []
    return [line for line in (re.sub(r"\s+#.*", "", line).strip() for line in lines) if line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_where_its_figures_come_from(page: Path) -> None:
    source = measured(page)
    assert re.fullmatch(r"[0-9a-f]{7,40}", source.commit)
    assert source.code
    assert all((ROOT / path).exists() for path in source.code)
    assert all((RESULTS / file).is_file() for file in source.files)
    assert all(re.match(r"(sudo )?\S*(prefrec|python|make|pytest|L=)", line) for line in commands(page))
    assert commands(page)
    for file in source.files:
        if file.endswith(".json"):
            content = json.loads((RESULTS / file).read_text("utf-8"))
            commit = content.get("commit") if isinstance(content, dict) else None
            named = commit in (None, source.commit) or f"commit {commit}" in page.read_text("utf-8")
            assert named, f"{page.name} does not name {commit}, the commit of {file}"


def test_a_commit_of_digits_alone_is_no_number(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("---\nmeasured: {commit: 0123456, files: [a.csv], code: [docs]}\n---\n")
    assert measured(page) == Measured("0123456", ["a.csv"], ["docs"])


def test_every_file_of_figures_has_a_page() -> None:
    named = {file for page in PAGES for file in measured(page).files}
    assert {path.name for path in RESULTS.iterdir() if path.suffix != ".md"} == named


def test_commits_are_in_the_history() -> None:
    if git("rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("the history is not here")
    missing = [page.name for page in PAGES if git("cat-file", "-t", measured(page).commit) != "commit"]
    assert missing == []


def test_a_page_is_as_old_as_its_code_has_moved() -> None:
    if git("rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("the history is not here")
    newest = git("rev-parse", "HEAD")
    first = git("rev-list", "--max-parents=0", "HEAD")
    assert newest is not None
    assert first is not None
    assert Measured(newest, [], ["prefrec_ray"]).changes == 0
    assert "figures of today's code may differ" in Measured(first.split()[0], [], ["prefrec_ray"]).age()


@pytest.mark.parametrize("file", sorted(RESULTS.iterdir()), ids=lambda file: file.name)
def test_no_figure_names_a_place_on_a_machine(file: Path) -> None:
    match = re.search(r"/(tmp|home|root|Users)/\S*", file.read_text("utf-8"))
    assert match is None, f"{file.name}: {match}"
