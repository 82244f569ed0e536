"""Style of all figures: colours for color-blind readers, quiet axes, names of lines next to the panel."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

# Okabe and Ito's palette, with lighter colours last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GREY, FAINT = "#222222", "#767676", "#DDDDDD"

#: Colour and dashes of the first eight lines of a panel.
LINES = (*((colour, "-") for colour in COLOURS), (INK, "--"), (GREY, "-."))

#: Colours on a dark page, by the colour on a white one.
DARK = {
    INK: "#e6e6e6",
    GREY: "#a3a3a3",
    FAINT: "#3a4047",
    "#EEEEEE": "#2c3238",
    "#FFFFFF": "#15181c",
    COLOURS[0]: "#5ab0e8",
    COLOURS[1]: "#f08a4b",
    COLOURS[2]: "#35c49a",
}

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#EEEEEE",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "prefrec",
}


def panel(title: str, x: str, y: str, width: float = 5.0, height: float = 3.1) -> tuple[Figure, Axes]:
    """Return an empty figure with one panel; sizes are in inches."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot(title=title, xlabel=x, ylabel=y)
    return figure, axes


def note(axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write a small text `offset` points away from the point `at`, readable over lines."""
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
    axes.annotate(text, at, offset, textcoords="offset points", fontsize=8, bbox=behind, **style)


def legend(axes: Axes) -> None:
    """Name the lines of a panel to its right, in the order in which they were drawn. Long names are wrapped."""
    lines, names = axes.get_legend_handles_labels()
    if lines:
        axes.legend(lines, map(wrapped, names), loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)


def wrapped(text: str) -> str:
    """Return `text` in lines of at most `_LETTERS` letters."""
    return "\n".join(textwrap.fill(line, _LETTERS) for line in text.split("\n"))


def svg(figure: Figure) -> bytes:
    """Return the figure as SVG: equal bytes for equal figures."""
    for text in figure.findobj(Text):
        if "$" in text.get_text():  # in the name of a folder or method, not a formula
            text.set_parse_math(False)
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC):
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    return buffer.getvalue()


def adaptive(drawn: bytes) -> bytes:
    """Return the SVG with a second set of colours, which a browser uses in dark mode."""
    rules = "".join(
        f'[style*="{kind}: {light.lower()}"]{{{kind}:{dark}!important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    return drawn.replace(_RULE, _RULE + f"@media (prefers-color-scheme: dark){{{rules}}}".encode(), 1)


#: The last rule of the style sheet in an SVG by Matplotlib.
_RULE = b"*{stroke-linejoin: round; stroke-linecap: butt}"
#: Letters of a line of a name: a third of a panel.
_LETTERS = 24
_NO_METADATA: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
