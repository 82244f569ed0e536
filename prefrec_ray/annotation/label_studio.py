"""Label Studio: tasks, labelling config, and reading of its exports.

Formats: labelstud.io/guide/tasks (import), labelstud.io/guide/export (export), labelstud.io/tags (config). The control
is called `label`, so that the exports JSON-MIN and CSV have the columns that `votes` reads: pair_id, annotator, label.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from pydantic import ConfigDict

from prefrec_ray.errors import UserError
from prefrec_ray.settings import Settings, parse

CONFIG = """\
<View>
  <Header value="Which of the two histories shows the more satisfied user, who is likelier to keep coming back?"/>
  <View style="display: flex; gap: 2em;">
    <View style="flex: 1;">
      <Header value="First" size="4"/>
      <HyperText name="first" value="$first"/>
    </View>
    <View style="flex: 1;">
      <Header value="Second" size="4"/>
      <HyperText name="second" value="$second"/>
    </View>
  </View>
  <Choices name="label" toName="first" choice="single-radio" showInline="true" required="true">
    <Choice alias="first" value="The first" hotkey="1"/>
    <Choice alias="second" value="The second" hotkey="2"/>
    <Choice alias="tie" value="Equally good" hotkey="3"/>
    <Choice alias="skip" value="I cannot tell" hotkey="4"/>
  </Choices>
</View>
"""


def task(pair: dict[str, Any], first: list[dict[str, Any]], second: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one task: the keys of the pair (which every export repeats), and its segments as HTML."""
    return {"data": {**pair, "first": to_html(first), "second": to_html(second)}}


def to_html(segment: list[dict[str, Any]]) -> str:
    """Return one table per session (`questions.Segment`), on one line, with escaped ids and names."""
    parts = []
    for session in segment:
        ms = session["gap_ms"]
        gap = "no session after it" if ms is None else f"next session after {_duration(ms)}"
        shown, depth = len(session["requests"]), session["depth"]
        size = f"{depth} impressions" if shown == depth else f"{shown} of its {depth} impressions"
        rows = [
            [str(request["item"]), *(f"{value:g}" for value in request["feedback"].values())]
            for request in session["requests"]
        ]
        head = _row("th", ["item", *session["requests"][0]["feedback"]])
        title = f"{session['start'][:16].replace('T', ' ')} UTC: {size}; {gap}"
        parts.append(f"<h4>{escape(title)}</h4><table>{head}{''.join(_row('td', row) for row in rows)}</table>")
    return "".join(parts)


def _row(tag: str, texts: list[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in texts)}</tr>"


def _duration(ms: int) -> str:
    for unit, size in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if ms >= 2 * size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms / 1000:.0f} seconds"


def is_export(rows: list[Any]) -> bool:
    """Return True if a JSON list is an export of annotated tasks (not JSON-MIN, with plain votes as entries)."""
    return any(isinstance(row, dict) and ("annotations" in row or "data" in row) for row in rows)


class _Part(Settings):
    """Base of models with the relevant keys of Label Studio's export."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _Task(_Part):
    data: dict[str, Any]
    annotations: list[dict[str, Any]]


class _Annotation(_Part):
    completed_by: Any = None  # the author's number, or an object with email and id
    was_cancelled: bool | None = None
    result: list[dict[str, Any]] | None = None


class _Chosen(_Part):
    choices: list[str]


class _Result(_Part):
    value: _Chosen


def votes(rows: list[Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, {pair_id, annotator, label}) of every annotation. A cancelled or empty one is a skip.

    Raises `UserError` with task and annotation, both counted from 1: a task without data or annotations, a
    result of the control `label` without choices, or with several.
    """
    for number, row in enumerate(rows, 1):
        of_task = f"{where}: task {number}"
        task = parse(_Task, row, of_task)
        for count, given in enumerate(task.annotations, 1):
            place = f"{of_task}: annotation {count}"
            annotation = parse(_Annotation, given, place)
            results = [r for r in annotation.result or () if r.get("from_name") == "label"]
            choices = [choice for r in results for choice in parse(_Result, r, place).value.choices]
            if len(choices) > 1:
                raise UserError(f"{place}: found {len(choices)} choices, expected one")
            author = annotation.completed_by
            if isinstance(author, dict):
                author = author.get("email") or author.get("id")
            label = "skip" if annotation.was_cancelled or not choices else choices[0]
            yield place, {"pair_id": task.data.get("pair_id"), "annotator": author, "label": label}
