"""Links between the pages lead somewhere, and their examples are well-formed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from prefrec_ray.cli.config import SECTIONS, parse_section

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_exist(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_yaml_with_sections_is_well_formed(page: Path) -> None:
    """Blocks of nothing but sections of a config."""
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        sections = yaml.safe_load(block)
        if not isinstance(sections, dict) or not sections.keys() <= SECTIONS.keys():
            continue
        if "my_package" in block:  # the reader's own file; tests/algorithms/test_own_method.py writes it
            continue
        for name, value in sections.items():
            if name == "prepare" and "source" not in value:  # the settings beside the source, which has its own blocks
                value = {**value, "source": {"kind": "completejourney"}}
            parse_section(name, value, page.name)


def test_the_tree_of_the_architecture_is_that_of_the_folders() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    made = subprocess.check_output([sys.executable, ROOT / "docs" / "tree.py"], text=True)
    assert f"```\n{made}```" in page
    assert len(page.split()) < 1000


def test_the_page_of_settings_is_that_of_the_fields() -> None:
    made = subprocess.check_output([sys.executable, ROOT / "docs" / "settings.py"], text=True)
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == made
