"""Label Studio: the tasks, the labelling config, and what its export of annotations says.

Formats: labelstud.io/guide/tasks (import), labelstud.io/guide/export (export), labelstud.io/tags (config). The control
is called `label`, so that the exports JSON-MIN and CSV have the columns that `votes` reads: pair_id, annotator, label.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prefrec_ray.errors import UserError

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
    """One task: what makes the pair (it comes back with every export), and the HTML of its segments."""
    return {"data": {**pair, "first": first, "second": second}}


def is_export(rows: list[Any]) -> bool:
    """Whether a JSON list is an export of annotated tasks (not JSON-MIN, whose entries are plain answers)."""
    return any(isinstance(row, dict) and ("annotations" in row or "data" in row) for row in rows)


def answers(rows: list[Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, {pair_id, annotator, label}) of every annotation; one that was cancelled, or is empty, is a skip.

    Raises `UserError` for a task without data or annotations, and an annotation without author.
    """
    for number, row in enumerate(rows, 1):
        place = f"{where}: task {number}"
        if not isinstance(row, dict) or not isinstance(row.get("data"), dict) or "annotations" not in row:
            raise UserError(
                f"{place}: expected an object with 'data' and 'annotations' (Label Studio's export as JSON)"
            )
        for annotation in row["annotations"]:
            author = annotation.get("completed_by")
            if isinstance(author, dict):
                author = author.get("email") or author.get("id")
            choices = [
                choice
                for result in annotation.get("result") or ()
                if result.get("from_name") == "label"
                for choice in result["value"]["choices"]
            ]
            if len(choices) > 1:
                raise UserError(
                    f"{place}: annotation {annotation.get('id')}: found {len(choices)} choices, expected one"
                )
            cancelled = annotation.get("was_cancelled") or not choices
            answer = {"annotator": author, "label": "skip" if cancelled else choices[0]}
            yield place, answer | {name: row["data"][name] for name in ("pair_id",) if name in row["data"]}
