"""Parts of a page, rendered by macros in templates/*.html (Jinja2, all texts escaped). This file contains no HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from prefrec_ray.reports.figures import svg


@dataclass(frozen=True)
class Cell:
    """Cell of a table with a CSS class; lines of the text are lines of the cell."""

    text: str
    css: str = ""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], classes: Sequence[str] = ()) -> Markup:
    """Return a table of values or `Cell`s; numbers are aligned right. `classes`: one CSS class per row."""
    numeric = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
    cells = [[_cell(value, right) for value, right in zip(row, numeric, strict=True)] for row in rows]
    columns = [(name, "number" if right else "") for name, right in zip(head, numeric, strict=True)]
    return render("table", columns, list(zip(cells, classes or [""] * len(cells), strict=True)))


def figures(items: Sequence[tuple[Figure, str]], captions: bool = True) -> Markup:
    """Return figures with their alternative texts, side by side. `captions`: whether the texts are visible."""
    drawn = [(base64.b64encode(svg(figure)).decode("ascii"), text) for figure, text in items]
    return render("figures", drawn, captions)


def section(title: str, *parts: Markup | None, folded: bool = False) -> Markup | None:
    """Return a section of the parts that are not None; None if all are None. `folded`: shown on a click."""
    there = [part for part in parts if part is not None]
    return render("section", title, there, folded) if there else None


def document(title: str, parts: Sequence[Markup | None]) -> str:
    """Return a whole page in one file, which loads no other file."""
    there = [part for part in parts if part is not None]
    return _templates().get_template("page.html").render(title=title, parts=there)


def render(macro: str, *values: Any) -> Markup:
    """Return the HTML of a macro of blocks.html."""
    return getattr(_templates().get_template("blocks.html").module, macro)(*values)


def share(value: float | None) -> str:
    """Format a share in percent; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"


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
