"""The commands that pages, headers of YAMLs and the help show."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md"))]
NOTEBOOKS = sorted((ROOT / "examples").glob("**/*.ipynb"))
CONFIGS = sorted((ROOT / "tune_configs").glob("*.yaml"))
HELP = ROOT / "prefrec_ray" / "cli" / "examples.txt"


def prose(page: Path) -> str:
    """The text of a page, or of the Markdown cells of a notebook."""
    text = page.read_text("utf-8")
    if page.suffix == ".md":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and code of each block."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)


def shown_lines(file: Path) -> list[str]:
    """The lines of the shell blocks of a page, of the header of a YAML, or of the examples of the help."""
    text = file.read_text("utf-8")
    if file.suffix == ".md":
        return _lines_of(text)
    return _plain(re.sub(r"^# ?", "", text, flags=re.MULTILINE) if file.suffix == ".yaml" else text)


def _lines_of(text: str) -> list[str]:
    return _plain("\n".join(code for kind, code in blocks(text) if kind in ("", "bash", "console")))


def _plain(text: str) -> list[str]:
    """The lines of a shell, without comments, prompts and what follows the first command."""
    lines = re.sub(r"\\\n|\n +(?=\[--)", " ", text).splitlines()
    return [re.sub(r"\s(#|&|&&|;)(\s.*)?$", "", line.strip().removeprefix("$ ")) for line in lines]


def words_of(line: str) -> list[str]:
    """The words after `prefrec`, with the first of alternatives and with all optional words."""
    line = re.sub(r"(?<=\w)\\?\|[\w|\\.]+", "", line)  # a|b
    return shlex.split(re.sub(r"(?<!=)\[([^\]]*)\]", r"\1", line).replace("...", ""))[1:]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every `prefrec ...` in a shell block, or between backticks in the text."""
    inline = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = _lines_of(text) + [
        _plain(" ".join(code.split()))[0] for code in re.findall(r"(?<!`)`(prefrec [^`]+)`(?!`)", inline)
    ]
    yield from (words_of(line) for line in lines if line.startswith("prefrec "))
