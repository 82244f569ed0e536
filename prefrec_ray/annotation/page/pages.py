"""The pages of annotators and of the admin, from Jinja2 templates with all texts escaped."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from prefrec_ray.annotation.aggregate import krippendorff_alpha
from prefrec_ray.annotation.page.desk import Desk, exchanged
from prefrec_ray.annotation.page.timeline import HEIGHT, WIDTH, Items, draw, signals_of


def question_page(desk: Desk, annotator: str, items: Items, guide: Markup) -> str:
    """Return the page of an annotator's question, or the last page."""
    question = desk.question(annotator)
    last = desk.last_vote(annotator)
    values = {
        "previous": last and exchanged(last.label, last.flipped),
        "voted": len(desk.votes_of(annotator)),
    }
    if question is None:
        return page("done.html", **values)
    return page(
        "question.html",
        drawing=draw(desk.segments(question), signals_of(desk.store.about["signals"]), items),
        question=question.token,
        guide=guide,
        decided=len(desk.decided),
        pairs=len(desk.pairs),
        **values,
    )


def admin_page(desk: Desk, links: Mapping[str, str], invited: str) -> str:
    """Return the page of the admin. links: of invitations, by annotator; invited: the annotator whose link is new."""
    votes = desk.judged()
    people = desk.store.people()
    return page(
        "admin.html",
        decided=len(desk.decided),
        pairs=len(desk.pairs),
        votes=len(votes),
        alpha=krippendorff_alpha(np.array([pair for pair, _, _ in votes]), np.array([v for _, _, v in votes], str)),
        team=[_person(desk, name, expires) for name, (_, expires) in people.items()],
        links=links,
        invited=invited,
        people=people,
    )


def _person(desk: Desk, name: str, expires: float) -> dict[str, Any]:
    """Return the row of an annotator on the admin's page.

    gold: numbers of right votes and of all; repeats: of equal votes and of all. reliability: by Dawid and Skene's
    model; None without votes. expires: seconds since 1970.
    """
    votes = desk.votes_of(name)
    first = {vote.pair: vote.label for vote in votes if not vote.repeat}
    again = [first[vote.pair] == vote.label for vote in votes if vote.repeat]
    right = [desk.gold[pair] == label for pair, label in first.items() if pair in desk.gold]
    skips = sum(label == "skip" for label in first.values())
    return {
        "name": name,
        "votes": len(first) - skips,
        "skips": skips,
        "gold": (sum(right), len(right)),
        "repeats": (sum(again), len(again)),
        "reliability": desk.scores.reliability.get(name),
        "expires": expires,
    }


def page(template: str, **values: Any) -> str:
    """Return a whole page."""
    return _templates().get_template(template).render(values)


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
    made.filters |= {"date": _date, "thousands": "{:,}".format}
    made.globals |= {"width": WIDTH, "height": HEIGHT}
    return made
