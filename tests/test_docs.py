"""Links between the pages lead somewhere, their commands exist, and their examples are well-formed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from shown_commands import NOTEBOOKS, PAGES, ROOT, commands, prose

from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.annotation.page.desk import LabelSettings
from prefrec_ray.cli.config import SECTIONS, parse_section
from prefrec_ray.cli.main import app
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.results.rules import table
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.nightly.settings import LoopSettings
from prefrec_ray.serving.settings import ServeSettings

#: Pages, and notebooks, whose Markdown cells are pages.
TEXTS = [*PAGES, *NOTEBOOKS]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_relative_links_exist(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", prose(page))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_each_question_has_an_answer_with_a_link_to_a_heading() -> None:
    """Links to pages are checked above; here their anchors, made as MkDocs makes them."""
    sections = (ROOT / "docs/questions.md").read_text("utf-8").split("\n## ")[1:]
    assert len(sections) >= 20
    for section in sections:
        question, _, answer = section.partition("\n")
        assert question.endswith("?")
        targets = re.findall(r"\]\(([\w.]+)(?:#([\w-]+))?\)", answer)
        assert targets, question
        for page, anchor in targets:
            headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings]
            assert not anchor or anchor in anchors, (question, anchor)


def test_every_page_has_its_place_in_the_site() -> None:
    # The rest of the file has tags of MkDocs.
    tabs = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2])
    entries = [
        entry for tab in tabs for content in tab.values() for entry in (content if isinstance(content, list) else [])
    ]
    named = sorted(page for entry in entries for page in entry.values())
    assert named == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES if "docs" in page.parts)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 60


def test_the_pages_are_short() -> None:
    """Words, not the rules of tables. Results are not counted."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert sum(bool(re.search(r"\w", word)) for page in pages for word in page.read_text("utf-8").split()) < 19_000


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    """Parsed; test_shown_commands.py runs the lines of blocks."""
    for name, *words in commands(prose(page)):
        if name in ("--version", "--help", "--install-completion", "COMMAND"):
            continue
        assert name in COMMANDS, f"prefrec {name}: no such command"
        context = typer.Context(COMMANDS[name], info_name=name)
        COMMANDS[name].make_parser(context).parse_args(list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_yaml_with_sections_is_well_formed(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of nothing but sections of a config. Trackers need not be installed."""
    monkeypatch.setattr("prefrec_ray.runs.tracking.need", lambda *extra, where: None)
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        sections = yaml.safe_load(block)
        if not isinstance(sections, dict) or not sections.keys() <= SECTIONS.keys():
            continue
        if "my_package" in block:  # the reader's own file; test_own_files.py writes it
            continue
        for name, value in sections.items():
            if name == "prepare" and "source" not in value:  # other settings; the source has its own blocks
                value = {**value, "source": {"kind": "completejourney"}}
            parse_section(name, value, page.name)


def test_the_page_of_the_command_line_has_a_row_for_each_command() -> None:
    rows = re.findall(r"^\| `prefrec ([a-z-]+)", (ROOT / "docs" / "cli.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS)


def test_the_table_of_verdicts_is_made_from_the_rules() -> None:
    """Its links lead to sections of its page."""
    page = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    assert "\n[verdicts]: # (" in page  # docs/pages.py puts it here
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", page, re.M)
    }
    links = re.findall(r"\]\(#([^)]+)\)", table())
    assert len(links) > 5
    assert set(links) <= anchors


def test_the_tree_of_the_architecture_has_a_sentence_for_each_package() -> None:
    assert "\n[tree]: # (" in (ROOT / "docs" / "architecture.md").read_text("utf-8")  # docs/pages.py puts it here
    printed = subprocess.check_output([sys.executable, ROOT / "docs" / "tree.py"], text=True)
    packages = [line.split(maxsplit=1) for line in printed.partition("\n\n")[0].splitlines()[1:]]
    folders = [file.parent.name for file in (ROOT / "prefrec_ray").glob("*/**/__init__.py")]
    assert sorted(name.rstrip("/") for name, _ in packages if name.endswith("/")) == sorted(folders)


def test_the_tables_of_settings_have_the_sections_of_the_page_and_a_row_for_each_key() -> None:
    printed = subprocess.check_output([sys.executable, ROOT / "docs" / "settings.py"], text=True)
    headings = set(re.findall(r"^## (.*)$", printed, re.MULTILINE))
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert "\n[settings]: # (" in page  # the site puts the tables here: docs/pages.py
    anchors = re.findall(r"\]\(#([a-z-]+)\)", page)
    assert set(anchors) <= {heading.replace(":", "").replace(" ", "-") for heading in headings}
    keys = set(re.findall(r"^\| `(\w+)` \|", printed, re.MULTILINE))
    for settings in (PrepareSettings, TrainingSettings, EvaluateSettings, ServeSettings, LoopSettings, LabelSettings):
        assert set(settings.model_fields) <= keys
