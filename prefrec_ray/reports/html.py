"""The few pieces of HTML that a report is made of; every text is escaped here."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure

from prefrec_ray.reports.style import svg

STYLE = """
:root { --ink: #222; --grey: #666; --line: #e3e3e3; --blue: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1.2rem; color: var(--ink); background: #fff;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .4rem 0 .2rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .4rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .3rem 0 .8rem; max-width: 52rem; } p.note { color: var(--grey); font-size: .9rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 1rem 1.4rem;
           align-items: start; margin: 1.2rem 0 .8rem; }
.figures.wide { grid-template-columns: minmax(0, 1fr); } .wide figure { overflow-x: auto; }
.wide img { max-width: 1100px; min-width: 640px; }
tr td.keys:first-child { max-width: 24rem; min-width: 10rem; white-space: normal; }
tr.policy td.keys:first-child { font-weight: 400; color: var(--grey); font-size: .8rem; }
tr.policy td.keys:first-child::first-line { font-weight: 600; color: var(--blue); font-size: .9rem; }
figure { margin: 0; } img { width: 100%; max-width: 620px; height: auto; display: block; }
figcaption { color: var(--grey); font-size: .85rem; }
.scroll { overflow-x: auto; } .scroll + p { margin-top: 1rem; }
.scroll td:first-child, .scroll th:first-child { position: sticky; left: 0; background: #fff; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; min-width: 50%; }
th, td { padding: .3rem .7rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--grey); white-space: nowrap; } td.number, th.number { text-align: right; }
tr.policy td:first-child { font-weight: 600; color: var(--blue); } tr.placebo td { color: var(--grey); }
td:first-child { white-space: nowrap; } td.good, td.bad, td.open { min-width: 14rem; }
.good { color: #00734f; font-weight: 600; } .bad { color: #a84400; font-weight: 600; } .open { color: var(--grey); }
td.score { color: var(--grey); font-size: .8rem; white-space: nowrap; padding-right: 1.4rem; }
td.score::first-line { color: var(--ink); font-size: .95rem; }
td.best { background: #eaf3fa; box-shadow: inset 3px 0 var(--blue); padding-left: .5rem; }
td.best::first-line { font-weight: 700; color: var(--blue); }
tr.placebo td.score::first-line { color: var(--grey); }
tr.gain td { border-bottom-style: dashed; } tr.gain td:first-child { white-space: normal; max-width: 11rem; }
pre { background: #f6f6f6; padding: .6rem .8rem; overflow-x: auto; font-size: .82rem; line-height: 1.4; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--blue); }
"""


NEW_LINE = "\n"


class Cell:
    """A cell of a table with a class of its own (a verdict's tone); a new line of the text is one of the cell."""

    def __init__(self, text: str, tone: str) -> None:
        self.text, self.tone = text, tone


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], classes: Sequence[str] = ()) -> str:
    """A table; numbers stand right. `classes` names each row's class."""
    numeric = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
    cells = "".join(f"<th{_class(n)}>{escape(name)}</th>" for name, n in zip(head, numeric, strict=True))
    body = []
    for number, row in enumerate(rows):
        css = f' class="{classes[number]}"' if classes else ""
        body.append(f"<tr{css}>{''.join(_cell(value, n) for value, n in zip(row, numeric, strict=True))}</tr>")
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def figures(items: Sequence[tuple[Figure, str]], captions: bool = True, wide: bool = False) -> str:
    """Figures with their alternative text, side by side as they fit, or each across the page (`wide`).

    `captions` shows that text below them too.
    """
    parts = []
    for figure, caption in items:
        data = base64.b64encode(svg(figure)).decode("ascii")
        text = escape(caption, quote=True)
        below = f"<figcaption>{text}</figcaption>" if captions else ""
        parts.append(f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}">{below}</figure>')
    return f'<div class="{"figures wide" if wide else "figures"}">{"".join(parts)}</div>'


def paragraph(text: str, css: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{css}">{escape(text)}</p>' if css else f"<p>{escape(text)}</p>"


def pre(text: str) -> str:
    """Text as it stands, in a box of its own."""
    return f"<pre>{escape(text)}</pre>"


def details(summary: str, *parts: str) -> str:
    """Parts that open on a click; empty where there are none."""
    content = "\n".join(part for part in parts if part)
    return f"<details><summary>{escape(summary)}</summary>\n{content}</details>" if content else ""


def section(title: str, *parts: str) -> str:
    """A section of the page; empty where it has no parts."""
    content = "\n".join(part for part in parts if part)
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>" if content else ""


def document(title: str, body: str) -> str:
    """A whole page, which loads nothing from anywhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def number(value: float | None, digits: int = 2) -> str:
    """A number for a reader; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """[low, high], or a dash."""
    if low is None or high is None:
        return "–"
    # Adding 0 makes a rounded -0.0 a plain 0.
    return f"[{round(low, 2) + 0.0:.2f}, {round(high, 2) + 0.0:.2f}]"


def _class(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _cell(value: Any, numeric: bool) -> str:
    if isinstance(value, Cell):
        return f'<td class="{value.tone}">{escape(value.text).replace(NEW_LINE, "<br>")}</td>'
    text = f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)
    return f"<td{_class(numeric)}>{escape(text)}</td>"
