"""The pages, from templates by Jinja2: every text is escaped, wherever it comes from."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from prefrec_ray.people.labeling.desk import exchanged
from prefrec_ray.people.labeling.store import Vote
from prefrec_ray.people.labeling.texts import TEXTS
from prefrec_ray.people.labeling.timeline import HEIGHT, WIDTH, duration


def page(template: str, **values: Any) -> str:
    """A whole page."""
    return _templates().get_template(template).render(t=TEXTS, **values)


def guidelines(text: str) -> Markup:
    """Markdown as HTML. HTML in it is shown as text, and links lead to no scripts."""
    return Markup(MarkdownIt("commonmark", {"html": False}).render(text))


def afterwards(vote: Vote, outcome: dict[str, Any]) -> list[str]:
    """What came of the last answer: what the person said, when users came back, what the scripted teacher says.

    Sides are as the person saw them.
    """
    order = (1, 0) if vote.flipped else (0, 1)
    gaps = [outcome["gap_ms"][side] for side in order]
    back = [TEXTS["never"] if gap is None else TEXTS["after"].format(duration(gap)) for gap in gaps]
    first, second = (outcome["scores"][side] for side in order)
    rule = "tie" if first == second else "second" if second > first else "first"
    return [
        TEXTS["previous"].format(TEXTS[exchanged(vote.label, vote.flipped)]),
        TEXTS["came_back"].format(*back),
        TEXTS["rule"].format(TEXTS[f"rule_{rule}"]),
    ]


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("prefrec_ray.people.labeling"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["date"] = _date
    made.globals.update(width=WIDTH, height=HEIGHT)
    return made
