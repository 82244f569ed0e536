"""Event logs of several servers as one log, for any distribution over files."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from event_log import ABOUT as PLAIN

from prefrec_ray.errors import UserError
from prefrec_ray.guard_rails import check_rails, guard_rails
from prefrec_ray.logs.contract import ROWS_OF_FILE
from prefrec_ray.logs.events import log as log_module
from prefrec_ray.logs.events.format import About, Event, Kind, write_about
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.logs.events.segments import compact, same
from prefrec_ray.logs.readers import events
from prefrec_ray.logs.sources import EventsSource
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import kinds_of

ABOUT = {**PLAIN, "feedback": ["like", "watch"], "user_features": {"country": ["de", "fr"]}}


class Data(list[dict[str, Any]]):
    """Replacement of a Ray Data set in this process."""

    def map_batches(self, function: Any, fn_kwargs: dict[str, Any], **more: Any) -> "Data":
        fragments = pa.Table.from_pylist(list(self))
        self.table = pa.concat_tables(function(fragments, **fn_kwargs))
        return self


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.ray, "put", lambda value: value)
    monkeypatch.setattr(events.ray, "get", lambda value: value)
    monkeypatch.setattr(events.ray.data, "from_items", lambda items, **_: Data(items))
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 6_000)


def write(folder: Path, rows: Sequence[Event], items: int = 9, **about: Any) -> str:
    folder.mkdir()
    write_about(str(folder), About(**ABOUT | about))
    embeddings = np.random.default_rng(0).uniform(-1, 1, (items, 2)).astype(np.float32)
    ItemTable(np.arange(items), embeddings).save(str(folder / "items.parquet"))
    log = EventLog(str(folder), pa.int64())
    for begin in range(0, len(rows), 4):
        log.commit(rows[begin : begin + 4])
    log.close()
    return str(folder)


def row(number: int, user: int, note: str | None = None, received: int = 0) -> Event:
    fields = {"note": json.dumps({"country": note}), "kind": Kind.RECOMMENDED} if note else {"kind": Kind.FEEDBACK}
    return Event(
        timestamp=1000 + number,
        user_number=user,
        received=received,
        items=[number % 9],
        propensities=[0.5],
        feedback=[number % 2, 0.25],
        known=True,
        **fields,
    )


def table(path: str | tuple[str, ...], only: Any = None, **more: Any) -> pa.Table:
    log = events.open_events(EventsSource(kind="events", path=path, **more), only)
    return log.interactions().table.sort_by("order")


def test_two_logs_hold_the_rows_of_both(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [row(n, n % 5) for n in range(40)])
    b = write(tmp_path / "b", [row(n, 3 + n % 5) for n in range(20, 80)])
    both, first, second = table((a, b)), table(a), table(b)
    order = pa.array(second["order"].to_numpy() + ROWS_OF_FILE)
    moved = second.set_column(second.column_names.index("order"), "order", order)
    assert same(both, pa.concat_tables([first, moved]))
    assert (len(first), len(second)) == (40, 60)
    left_out = ((10, 19), (ROWS_OF_FILE + 3, 2 * ROWS_OF_FILE))
    assert len(table((a, b), without=left_out)) == 30 + 3


def test_a_page_is_an_event_with_the_positions_of_its_items(tmp_path: Path) -> None:
    shown = [replace(row(n, 1), event_id=f"event {n // 3}", position=2 - n % 3) for n in range(6)]
    rows = table(write(tmp_path / "a", [*shown, replace(row(6, 1), event_id="own")]))
    assert rows["page"].to_pylist() == 3 * ["event 0"] + 3 * ["event 1"] + ["own"]
    assert rows["position"].to_pylist() == [2, 1, 0, 2, 1, 0, None]


def test_impressions_of_unknown_items_are_left_out(tmp_path: Path) -> None:
    rows = table(write(tmp_path / "a", [row(n, 1) for n in range(18)], items=5))
    assert rows["item_id"].to_pylist() == 2 * [0, 1, 2, 3, 4]


def test_kinds_and_titles_of_items_come_from_a_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a = write(tmp_path / "a", [row(n, 1) for n in range(18)], items=5)
    lines = ["sku,topic,maker,name", "0,news|talk,7,Zero", "1,news,7,One", "3,pop,,Three", "99,jazz,8,Other"]
    (tmp_path / "items.csv").write_text("\n".join(lines))
    named = {"path": str(tmp_path / "items.csv"), "id": "sku", "features": ["topic", "maker"], "title": "name"}
    log = events.open_log(EventsSource(kind="events", path=a, items=named))
    assert caplog.messages == [f"{tmp_path}/items.csv: lacks 2 of the 5 items of the log"]
    items = ItemTable.from_table(log.items)
    items = items.with_kinds(kinds_of(items.ids, items.embeddings, log.content))
    assert items.about["title"].to_pylist() == ["Zero", "One", None, "Three", None]
    found = {name: items.kind(name) for name in ("topic", "maker")}
    news, pop = (found["topic"].find(value) for value in ("news", "pop"))
    assert found["topic"].codes.tolist() == [news, news, -1, pop, -1]
    assert found["maker"].codes.tolist() == [found["maker"].find("7")] * 2 + [-1] * 3
    check_rails(guard_rails(["exposure[maker] <= 10 %", "share[topic: jazz] >= 5 %"]), log.feedback, items)
    plain = events.open_log(EventsSource(kind="events", path=a))
    assert same(log.interactions().table, plain.interactions().table)


def test_a_log_is_the_same_in_whatever_files_it_lies(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [row(n, n % 5, "de" if n % 9 == 1 else None) for n in range(90)])
    before = events.open_events(EventsSource(kind="events", path=a))
    assert compact(a, 4e9) > 2
    after = events.open_events(EventsSource(kind="events", path=a))
    assert same(before.interactions().table, after.interactions().table)
    assert before.users is not None
    assert before.users.equals(after.users)
    assert before.rows == after.rows


def test_a_file_that_becomes_parquet_between_listing_and_reading_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = write(tmp_path / "a", [row(n, n % 5) for n in range(90)])
    expected = table(a)
    plain = Data.map_batches

    def meanwhile(self: Data, *of: Any, **more: Any) -> Data:
        assert compact(a, 4e9)
        return plain(self, *of, **more)

    monkeypatch.setattr(Data, "map_batches", meanwhile)
    assert same(table(a), expected)


def test_files_without_a_row_that_counts_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (write(tmp_path / name, [row(n, n % 5) for n in range(90)]) for name in "ab")
    everything, read, plain = table((a, b)), [], events.read_tables
    monkeypatch.setattr(
        events, "read_tables", lambda files, *of, **more: read.extend(files) or plain(files, *of, **more)
    )
    spans = ((70, ROWS_OF_FILE - 1), (ROWS_OF_FILE + 5, ROWS_OF_FILE + 6))
    rows = table((a, b), spans)
    assert set(rows["order"].to_pylist()) >= {*range(70, 90), ROWS_OF_FILE + 5, ROWS_OF_FILE + 6}
    assert len(rows) < len(everything) / 2
    firsts = {folder: [int(Path(file).stem) for file in read if file.startswith(folder)] for folder in (a, b)}
    assert min(firsts[a]) > 30
    assert set(firsts[b]) == {0}


def test_a_users_features_are_those_that_were_received_last(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [row(0, 1, "de", 50), row(1, 2, "de", 50), row(2, 1)])
    b = write(tmp_path / "b", [row(9, 1, "fr", 40), row(10, 2, "fr", 60), row(11, 2)])
    log = events.open_events(EventsSource(kind="events", path=(a, b)))
    assert log.users is not None
    countries = dict(zip(log.users["user_id"].to_pylist(), log.users["country"].to_pylist(), strict=True))
    assert countries == {1: "de", 2: "fr"}


def test_logs_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [row(0, 1)])
    b = write(tmp_path / "b", [row(0, 1)], feedback=["like"])
    with pytest.raises(UserError, match=r"b: found another kind of log than .*a: feedback: found \['like'\]; exp"):
        table((a, b))
    c = write(tmp_path / "c", [row(0, 1)])
    ItemTable(np.arange(3), np.zeros((3, 2), np.float32)).save(f"{c}/items.parquet")
    with pytest.raises(UserError, match=r"c/items\.parquet: item 0: found another embedding; expected .*a"):
        table((a, c))


@pytest.mark.parametrize("text_first", [False, True])
def test_logs_with_ids_of_users_of_two_kinds_are_refused(tmp_path: Path, text_first: bool) -> None:
    """Ids in different columns would otherwise turn all users of a log into one user."""
    a = write(tmp_path / "a", [row(n, n % 3) for n in range(9)])
    b = write(tmp_path / "b", [replace(row(n, 1), user=f"user {n % 3}", user_number=None) for n in range(9)])
    assert set(table(b)["user_id"].to_pylist()) == {"user 0", "user 1", "user 2"}
    with pytest.raises(UserError, match=r"\.arrow: found another kind of user ids") as caught:
        table((b, a) if text_first else (a, b))
    assert str(caught.value).startswith(a if text_first else b)


def test_what_is_no_log_of_this_version_is_one_line(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [row(0, 1)])
    description = Path(a) / "log.json"
    description.write_text(description.read_text().replace('"schema_version": 2', '"schema_version": 9'))
    with pytest.raises(UserError, match=r"log\.json: found schema version 9; expected 2"):
        table(a)
    description.write_text("[]")
    with pytest.raises(UserError, match=r"log\.json: found schema version None; expected 2"):
        table(a)
    with pytest.raises(UserError, match=r"no folder of events \(log\.json is missing\)"):
        table(str(tmp_path))
    b = write(tmp_path / "b", [row(n, 1) for n in range(60)])
    files = sorted((tmp_path / "b" / "events").iterdir())
    shutil.move(files[0], tmp_path / "gone")
    with pytest.raises(UserError, match="expected 0: a file is missing"):
        table(b)
