"""Label Studio: tasks, labelling config, and reading of its exports.

Formats: labelstud.io/guide/tasks (import), labelstud.io/guide/export (export), labelstud.io/tags (config). The control
is called `label`, so that the exports JSON-MIN and CSV have the columns that `votes` reads: pair_id, annotator, label.
"""

from __future__ import annotations

from collections.abc import Iterator
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


def task(pair: dict[str, Any], first: str, second: str) -> dict[str, Any]:
    """Return one task: the keys of the pair (which every export repeats), and the HTML of its segments."""
    return {"data": {**pair, "first": first, "second": second}}


def is_export(rows: list[Any]) -> bool:
    """Return True if a JSON list is an export of annotated tasks (not JSON-MIN, with plain votes as entries)."""
    return any(isinstance(row, dict) and ("annotations" in row or "data" in row) for row in rows)


class _ExportPart(Settings):
    """Base of models with the relevant keys of Label Studio's export."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _Task(_ExportPart):
    data: dict[str, Any]
    annotations: list[dict[str, Any]]


class _Annotation(_ExportPart):
    completed_by: Any = None  # the author's number, or an object with email and id
    was_cancelled: bool | None = None
    result: list[dict[str, Any]] | None = None


class _Chosen(_ExportPart):
    choices: list[str]


class _Result(_ExportPart):
    value: _Chosen


def answers(rows: list[Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
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
            answer = {"annotator": author, "label": "skip" if annotation.was_cancelled or not choices else choices[0]}
            yield place, answer | {name: task.data[name] for name in ("pair_id",) if name in task.data}
