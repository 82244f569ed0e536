"""The pages, from Jinja2 templates with all texts escaped."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from prefrec_ray.annotation.page.texts import TEXTS
from prefrec_ray.annotation.page.timeline import HEIGHT, WIDTH


def page(template: str, **values: Any) -> str:
    """Return a whole page."""
    return _templates().get_template(template).render(t=TEXTS, **values)


def guidelines(text: str) -> Markup:
    """Convert Markdown to HTML. HTML in it is shown as text, and links cannot run scripts."""
    return Markup(MarkdownIt("commonmark", {"html": False}).render(text))


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("prefrec_ray.annotation.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["date"] = _date
    made.globals.update(width=WIDTH, height=HEIGHT)
    return made
