"""Description of a segment for annotators: sessions with start, depth and gap to the next, and their impressions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import run_tasks

#: A segment as JSON, and as HTML.
Described = tuple[str, str]


def describe(dataset: PreparedDataset, pairs: pa.Table, progress: Progress) -> list[tuple[Described, Described]]:
    """Return both segments of every pair, in order; one task per file with users of the pairs.

    Raises `UserError` for a data set with impressions without feedback.
    """
    shared = ray.put(pairs)
    files = [(split, file) for split in ("train", "validation") for file in dataset.files("requests", split)]
    segments: list[list[Any]] = [[None, None] for _ in range(len(pairs))]
    for part in run_tasks(
        lambda place: _describe_file.remote(dataset.uri, *place, shared), files, "describe segments: files", progress
    ):
        for pair, side, described in part:
            segments[pair][side] = described
    return [(first, second) for first, second in segments]


@ray.remote(num_cpus=1)
def _describe_file(uri: str, split: str, file: str, pairs: pa.Table) -> list[tuple[int, int, Described]]:
    dataset = PreparedDataset.open(uri)
    names = dataset.state.feedback
    columns = ["user_id", "session_index", "step", "item_id", *(["feedback"] if names else [])]
    table = dataset.read(file, columns=columns)
    if names and "feedback" not in table.column_names:
        raise UserError(
            f"{file}: column 'feedback' is missing; prepare the data set again to show feedback to annotators"
        )
    ids, first_row = np.unique(table["user_id"].to_numpy(zero_copy_only=False), return_index=True)
    sessions = _Sessions(dataset, file)
    session_index = table["session_index"].to_numpy()
    feedback = tensor(table["feedback"]) if names else np.empty((len(table), 0), np.float32)
    described = []
    for number, pair in enumerate(pairs.select(["split", "length", *_sides()]).to_pylist()):
        for side in (0, 1) if pair["split"] == split else ():
            user, start = pair[f"user_{side}"], pair[f"start_{side}"]
            place = int(np.searchsorted(ids, user))
            if place == len(ids) or ids[place] != user:
                continue
            rows = slice(first_row[place] + start, first_row[place] + start + pair["length"])
            items = table["item_id"].slice(rows.start, pair["length"]).to_pylist()
            segment = _segment(sessions, user, session_index[rows], items, feedback[rows], names)
            described.append((number, side, (json.dumps(segment, ensure_ascii=False), to_html(segment))))
    return described


def _sides() -> list[str]:
    return [f"{name}_{side}" for name in ("user", "start") for side in (0, 1)]


class _Sessions:
    """The sessions of a file's users, from the file of the same name."""

    def __init__(self, dataset: PreparedDataset, file: str) -> None:
        name = file.rsplit("/", 1)[-1]
        table = dataset.read(
            dataset.path("sessions", name), columns=["user_id", "session_index", "start", "depth", "revisit_ms"]
        )
        self._ids, self._first = np.unique(table["user_id"].to_numpy(zero_copy_only=False), return_index=True)
        self._start, self._depth = table["start"].to_numpy(), table["depth"].to_numpy()
        self._gap = pc.fill_null(table["revisit_ms"], -1).to_numpy()

    def describe(self, user: Any, session: int) -> dict[str, Any]:
        """Return start (ISO 8601, UTC), depth (including impressions outside of the segment) and gap to the next, if
        any."""
        row = self._first[np.searchsorted(self._ids, user)] + session
        gap = int(self._gap[row])
        start = datetime.fromtimestamp(self._start[row] / 1000, UTC).isoformat(timespec="milliseconds")
        return {"start": start, "depth": int(self._depth[row]), "gap_ms": gap if gap >= 0 else None}


def _segment(
    sessions: _Sessions, user: Any, session: np.ndarray, items: list[Any], feedback: np.ndarray, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    segment: list[dict[str, Any]] = []
    for number in range(int(session[0]), int(session[-1]) + 1):
        requests = [
            # The shortest decimal that is this float32.
            {"item": items[i], "feedback": {n: float(str(v)) for n, v in zip(names, feedback[i], strict=True)}}
            for i in np.flatnonzero(session == number)
        ]
        segment.append({"session": number, **sessions.describe(user, number), "requests": requests})
    return segment


def to_html(segment: list[dict[str, Any]]) -> str:
    """Return one table per session, on one line, with escaped ids and names."""
    parts = []
    for session in segment:
        ms = session["gap_ms"]
        gap = "no session after it" if ms is None else f"next session after {_duration(ms)}"
        shown, depth = len(session["requests"]), session["depth"]
        size = f"{depth} impressions" if shown == depth else f"{shown} of its {depth} impressions"
        names = list(session["requests"][0]["feedback"])
        head = "".join(f"<th>{escape(name)}</th>" for name in ["item", *names])
        body = "".join(
            "<tr>"
            + "".join(
                f"<td>{escape(text)}</td>" for text in [str(r["item"]), *(f"{r['feedback'][n]:g}" for n in names)]
            )
            + "</tr>"
            for r in session["requests"]
        )
        title = f"{session['start'][:16].replace('T', ' ')} UTC: {size}; {gap}"
        parts.append(f"<h4>{escape(title)}</h4><table><tr>{head}</tr>{body}</table>")
    return "".join(parts)


def _duration(ms: int) -> str:
    for unit, size in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if ms >= 2 * size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms / 1000:.0f} seconds"
