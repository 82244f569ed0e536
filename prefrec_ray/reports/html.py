"""Blocks of a page, which templates (templates/*.html, Jinja2) turn into HTML with all texts escaped.

A page is a list of blocks, plain data. The look of a block is in templates/blocks.html. This file contains no HTML.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from prefrec_ray.reports.style import adaptive, svg


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
    """Preformatted text in a box."""

    kind = "pre"
    text: str


@dataclass(frozen=True)
class Cell:
    """Cell of a table with a CSS class; lines of the text are lines of the cell."""

    text: str
    css: str = ""

    @property
    def lines(self) -> list[str]:
        """Return the lines of the text."""
        return self.text.split("\n")


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    cells: Sequence[Cell]
    css: str = ""


@dataclass(frozen=True)
class Table(Block):
    """A table; `numeric`: whether each column is aligned right."""

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
    """Figures side by side, or each across the page (`wide`); `captions`: whether their texts are visible."""

    kind = "figures"
    drawn: Sequence[Picture]
    captions: bool = True
    wide: bool = False


@dataclass(frozen=True)
class Details(Block):
    """Parts that are shown on a click."""

    kind = "details"
    summary: str
    parts: Sequence[Block]


@dataclass(frozen=True)
class Section(Block):
    """A section of the page; `folded`: shown on a click."""

    kind = "section"
    title: str
    parts: Sequence[Block]
    folded: bool = False


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], classes: Sequence[str] = ()) -> Table:
    """Return a table of values or `Cell`s; numbers are aligned right. `classes`: one CSS class per row."""
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
    """Return figures with their alternative texts."""
    drawn = [Picture(base64.b64encode(adaptive(svg(figure))).decode("ascii"), text) for figure, text in items]
    return Figures(drawn, captions, wide)


def details(summary: str, *parts: Block | None) -> Details | None:
    """Return a block of the parts that are not None; None if all are None."""
    there = [part for part in parts if part is not None]
    return Details(summary, there) if there else None


def section(title: str, *parts: Block | None, folded: bool = False) -> Section | None:
    """Return a block of the parts that are not None; None if all are None."""
    there = [part for part in parts if part is not None]
    return Section(title, there, folded) if there else None


def document(title: str, blocks: Sequence[Block | None]) -> str:
    """Return a whole page in one file, which loads no other file."""
    there = [block for block in blocks if block is not None]
    return _templates().get_template("page.html").render(title=title, blocks=there)


def number(value: float | None, digits: int = 2) -> str:
    """Format a number; a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """Format [low, high]; a dash if one is missing."""
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
    """Return the templates: all texts are escaped, and an unknown name in a template is an error."""
    return Environment(
        loader=PackageLoader("prefrec_ray.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def share(value: float | None) -> str:
    """Format a share in percent; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"
