"""Pages from templates (templates/*.html, by Jinja2): the blocks that a page is made of, every text of them escaped.

A page is a list of blocks, plain data; how a block looks is in templates/blocks.html. Nothing here is HTML.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from prefrec_ray.reports.style import svg


@dataclass(frozen=True)
class Block:
    """A part of a page; `kind` names its macro."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Heading(Block):
    """A heading inside a section."""

    kind = "heading"
    text: str


@dataclass(frozen=True)
class Paragraph(Block):
    """A paragraph of plain text."""

    kind = "paragraph"
    text: str
    css: str = ""


@dataclass(frozen=True)
class Pre(Block):
    """Text as it stands, in a box of its own."""

    kind = "pre"
    text: str


@dataclass(frozen=True)
class Cell:
    """A cell of a table with a class of its own; a new line of the text is one of the cell."""

    text: str
    css: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines of the text."""
        return self.text.split("\n")


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    cells: Sequence[Cell]
    css: str = ""


@dataclass(frozen=True)
class Table(Block):
    """A table; `numeric`: which columns stand right."""

    kind = "table"
    head: Sequence[str]
    rows: Sequence[Row]
    numeric: Sequence[bool]


@dataclass(frozen=True)
class Picture:
    """A figure as base64 of its SVG, with its alternative text."""

    data: str
    text: str


@dataclass(frozen=True)
class Figures(Block):
    """Figures side by side as they fit, or each across the page (`wide`); `captions`: their texts below them too."""

    kind = "figures"
    drawn: Sequence[Picture]
    captions: bool = True
    wide: bool = False


@dataclass(frozen=True)
class Details(Block):
    """Parts that open on a click."""

    kind = "details"
    summary: str
    parts: Sequence[Block]


@dataclass(frozen=True)
class Section(Block):
    """A section of the page; `folded`: it opens on a click."""

    kind = "section"
    title: str
    parts: Sequence[Block]
    folded: bool = False


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], classes: Sequence[str] = ()) -> Table:
    """A table of values or `Cell`s; numbers stand right. `classes` names each row's class."""
    numeric = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
    made = [
        Row(
            [_cell(value, right) for value, right in zip(row, numeric, strict=True)],
            classes[number] if classes else "",
        )
        for number, row in enumerate(rows)
    ]
    return Table(head, made, numeric)


def figures(items: Sequence[tuple[Figure, str]], captions: bool = True, wide: bool = False) -> Figures:
    """Figures with their alternative texts."""
    drawn = [Picture(base64.b64encode(svg(figure)).decode("ascii"), text) for figure, text in items]
    return Figures(drawn, captions, wide)


def details(summary: str, *parts: Block | None) -> Details | None:
    """Those parts that there are; None where there are none."""
    there = [part for part in parts if part is not None]
    return Details(summary, there) if there else None


def section(title: str, *parts: Block | None, folded: bool = False) -> Section | None:
    """Those parts that there are; None where there are none."""
    there = [part for part in parts if part is not None]
    return Section(title, there, folded) if there else None


def document(title: str, blocks: Sequence[Block | None]) -> str:
    """A whole page, which loads nothing from anywhere."""
    there = [block for block in blocks if block is not None]
    return _templates().get_template("page.html").render(title=title, blocks=there)


def number(value: float | None, digits: int = 2) -> str:
    """A number for a reader; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """[low, high], or a dash."""
    if low is None or high is None:
        return "–"
    # Adding 0 makes a rounded -0.0 a plain 0.
    return f"[{round(low, 2) + 0.0:.2f}, {round(high, 2) + 0.0:.2f}]"


def _cell(value: Any, numeric: bool) -> Cell:
    if isinstance(value, Cell):
        return value
    text = f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)
    return Cell(text, "number" if numeric else "")


@cache
def _templates() -> Environment:
    """Every text is escaped, wherever it comes from; a name that a template misspells is an error."""
    return Environment(
        loader=PackageLoader("prefrec_ray.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def share(value: float | None) -> str:
    """A share in percent; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"
