"""Data sets of pages: the rows of a page, sessions and segments in pages, and no change for pages of one item."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_prepare import sessions_of

from prefrec_ray.algorithms.feed.preferences import load_buffer
from prefrec_ray.algorithms.reward.labels import RewardFunction, label_transitions
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.dataset.prepare.rows import RowRules, in_pages
from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.dataset.prepare.users import read_bucket, write_bucket
from prefrec_ray.errors import UserError
from prefrec_ray.logs.contract import Side
from prefrec_ray.settings import parse
from prefrec_ray.users.reading import histories_of

GAP_MS, LENGTH, HORIZON = 30 * 60 * 1000, 3, 4
ROW = st.tuples(st.integers(0, 2), st.sampled_from([0, 0, 1000, 10**7]), st.integers(0, 2), st.integers(0, 3))


def rows_of(drawn: list[tuple[int, int, int, int]]) -> pa.Table:
    """Sorted rows from (user, pause in ms, page, position)."""
    frame = pd.DataFrame(drawn, columns=["user_id", "pause", "page", "position"])
    frame["timestamp"] = frame.groupby("user_id").pause.cumsum()
    frame = frame.assign(order=np.arange(len(frame)), item_id=0, dwell_ms=7.0).drop(columns="pause")
    frame = frame.sort_values(["user_id", "timestamp", "order"]).astype({"position": np.int32, "page": np.int64})
    return pa.Table.from_pandas(frame, preserve_index=False)


@settings(deadline=None, max_examples=60)
@given(st.lists(ROW, min_size=1, max_size=25), st.booleans())
def test_rows_become_pages(drawn: list[tuple[int, int, int, int]], by_position: bool) -> None:
    rows = rows_of(drawn)
    expected = []
    for _, own in groupby(rows.to_pylist(), key=lambda row: row["user_id"]):
        history: list[dict[str, Any]] = []
        for _, moment in groupby(own, key=lambda row: row["timestamp"]):
            same_time = list(moment)
            if by_position:  # pages of one time in the order of their first rows
                first = list(dict.fromkeys(row["page"] for row in same_time))
                same_time.sort(key=lambda row: first.index(row["page"]))
            history += same_time
        for step, (_, page) in enumerate(groupby(history, key=lambda row: row["page"])):
            of_page = list(page)
            time = of_page[0]["timestamp"]
            if by_position:
                of_page.sort(key=lambda row: row["position"])
            expected += [{**row, "timestamp": time, "step": step} for row in of_page]
    assert in_pages(rows, np.full(len(rows), by_position)).to_pylist() == expected


@settings(deadline=None, max_examples=30)
@given(st.lists(ROW, min_size=1, max_size=25))
def test_pages_of_one_row_change_no_byte(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, int, int, int]]
) -> None:
    rows = rows_of(drawn).drop_columns(["page", "position"])
    single = rows.append_column("page", pa.array(np.random.default_rng(0).permutation(len(rows))))
    source = {"kind": "files", "path": "x", "user": "u", "item": "i", "time": "t"}
    written = []
    for table in (rows, single):
        folder = str(tmp_path_factory.mktemp("bucket"))
        (Path(folder) / "sessions").mkdir()
        (Path(folder) / "work").mkdir()
        users, _ = write_bucket(
            table,
            0,
            settings=parse(PrepareSettings, {"source": source}, "test"),
            row_rules=RowRules(Side(folder, keep_rows=False)),
            folder=folder,
        )
        narrow = read_bucket(folder, 0).drop_columns(["page"] if table is single else [])
        written.append((users, narrow, Path(folder, "sessions", "part-00000.parquet").read_bytes()))
    assert written[0] == written[1]


def pages_log(users: int = 24) -> pd.DataFrame:
    """user, ms, page, item, rank, like: pages of one to four items, in no order."""
    rng, parts, number = np.random.default_rng(0), [], 0
    for user in range(users):
        minutes = 26_000_000 + rng.choice([1, 29, 31, 700], int(rng.integers(9, 20))).cumsum()
        for minute in minutes:
            size, number = int(rng.integers(1, 5)), number + 1
            columns = {"item": rng.choice(20, size, replace=False), "rank": np.arange(size)}
            parts.append(pd.DataFrame({"user": user, "ms": minute * 60_000, "page": f"page {number}", **columns}))
    log = pd.concat(parts).sample(frac=1.0, random_state=0).reset_index(drop=True)
    return log.assign(like=rng.integers(0, 2, len(log)))


def settings_of(path: Path, **changes: Any) -> PrepareSettings:
    columns = {"user": "user", "item": "item", "time": "ms", "time_unit": "ms", "feedback": ["like"]}
    value = {
        "source": {"kind": "files", "path": str(path), **columns, **changes},
        **{"action_dim": 3, "partitions": 2, "train_fraction": 0.5, "validation_fraction": 0.25},
        "preferences": {"pairs": 20, "validation_pairs": 10, "length": LENGTH, "min_requests": 7, "tasks": ["depth"]},
    }
    return parse(PrepareSettings, value, "test")


@pytest.fixture(scope="module")
def paged(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("pages")
    pages_log().assign(seen=1).to_parquet(folder / "log.parquet")
    keys = {"page": "page", "position": "rank", "examined": "seen"}
    return prepare(settings_of(folder / "log.parquet", **keys), str(folder / "dataset"))


def impressions(dataset: PreparedDataset) -> pd.DataFrame:
    files = [file for split in ("train", "validation", "test") for file in dataset.files("requests", split)]
    tables = [dataset.read(file) for file in files]
    keys = pd.concat([table.drop_columns(["state", "action", "feedback"]).to_pandas() for table in tables])
    arrays = {name: list(np.concatenate([tensor(table[name]) for table in tables])) for name in ("state", "action")}
    return keys.assign(**arrays).reset_index(drop=True)


def test_sessions_and_steps_count_pages(paged: PreparedDataset) -> None:
    log, rows = pages_log(), impressions(paged)
    pages = log.drop_duplicates(["user", "page"]).drop(columns="item")
    sessions = pd.concat([paged.read(file).to_pandas() for file in paged.files("sessions")])
    sessions = sessions.sort_values(["user_id", "session_index"]).reset_index(drop=True).drop(columns="split")
    pd.testing.assert_frame_equal(sessions, sessions_of(pages, GAP_MS), check_dtype=False)
    expected = log.sort_values(["user", "ms", "rank"]).reset_index(drop=True)
    rows = rows.sort_values(["user_id", "step", "position"]).reset_index(drop=True)
    assert rows.step.tolist() == expected.groupby("user").page.transform(lambda page: pd.factorize(page)[0]).tolist()
    assert rows.item_id.tolist() == expected["item"].tolist()
    of_pages = rows.groupby(["user_id", "step"])
    assert of_pages.state.agg(lambda of_page: len({state.tobytes() for state in of_page})).max() == 1
    assert paged.state.pages


def test_every_item_is_a_transition_to_the_next_page(paged: PreparedDataset) -> None:
    """Labels: the own reward, then the means of the next pages that begin within HORIZON items."""
    action = np.zeros((1, paged.state.width + 3), np.float32)
    action[0, -3:] = [1.0, 2.0, -1.0]
    reward = RewardFunction({"net.0.weight": action, "net.0.bias": np.zeros(1, np.float32)}, (), None)
    stored = label_transitions(paged, reward, HORIZON)
    labels = stored.find(np.arange(len(stored)))
    train = pd.concat([paged.read(file, ["user_id"]).to_pandas() for file in paged.files("requests", "train")])
    expected = {}
    for _, history in impressions(paged).groupby("user_id"):
        if history.user_id.iloc[0] not in set(train.user_id):
            continue
        pages = [page for _, page in history.groupby("step")]
        values = [np.stack(page.action) @ action[0, -3:] for page in pages]
        for number, page in enumerate(pages[:-1]):
            within = np.cumsum([len(value) for value in values[number:-1]])[:-1] < HORIZON
            later = [value.mean() for value, counts in zip(values[number + 1 : -1], within, strict=True) if counts]
            for state, item, value in zip(page.state, page.action, values[number], strict=True):
                key = (state.tobytes(), item.tobytes(), pages[number + 1].state.iloc[0].tobytes())
                expected[key] = np.mean([value, *later])
    found = {}
    for file in paged.files("transitions"):
        table = paged.read(file)
        keys = zip(tensor(table["obs"]), tensor(table["action"]), tensor(table["next_obs"]), strict=True)
        for (state, item, following), number in zip(keys, table["number"].to_pylist(), strict=True):
            found[state.tobytes(), item.tobytes(), following.tobytes()] = labels[number]
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key], abs=1e-5) for key in found)
    assert len(labels) == len(found) == paged.metadata.counts["train"]["transitions"]


@pytest.mark.parametrize("columns", [None, [0, 4]], ids=["state and action", "next state"])
def test_segments_are_pages(paged: PreparedDataset, columns: list[int] | None) -> None:
    buffer = load_buffer(paged.uri, "depth", "train", ["any_users_sum"], columns)
    pairs = paged.read(paged.path("preferences", "depth", "train.parquet"))
    pairs = pairs.filter(pa.compute.equal(pairs["teacher"], "any_users_sum")).to_pylist()
    rows = impressions(paged)
    for number, pair in enumerate(pairs):
        for side in (0, 1):
            own = rows[rows.user_id == pair[f"user_{side}"]]
            steps = pair[f"start_{side}"] + np.arange(LENGTH) + (columns is not None)
            segment = own[own.step.isin(steps)]
            if columns is not None:  # one row per page
                expected = np.stack(segment.drop_duplicates("step").state)[:, columns]
                count = LENGTH
            else:
                expected = np.concatenate([np.stack(segment.state), np.stack(segment.action)], axis=1)
                count = int(buffer.count[number, side])
                weight = buffer.weight[buffer.first[number, side] :][:count]
                np.testing.assert_allclose(weight, 1 / segment.groupby("step").step.transform("size"))
            found = buffer.inputs[buffer.first[number, side] :][:count]
            assert len(expected) == count
            assert {row.tobytes() for row in found} == {row.tobytes() for row in expected}


def test_a_log_without_pages_does_not_fit_states_of_pages(paged: PreparedDataset, tmp_path: Path) -> None:
    log = pages_log()
    log.to_parquet(tmp_path / "log.parquet")
    plain = settings_of(tmp_path / "log.parquet").model_copy(update={"like": paged.uri})
    with pytest.raises(UserError, match="pages of the log: found none; expected pages, as in"):
        prepare(plain, str(tmp_path / "dataset"))


def test_pages_of_one_item_change_no_file(ray_session: None, tmp_path: Path) -> None:
    """Only the metadata differ."""
    log = pages_log()
    log["page"] = np.random.default_rng(1).permutation(len(log))
    log.to_parquet(tmp_path / "log.parquet")
    datasets = [
        prepare(settings_of(tmp_path / "log.parquet", **keys), str(tmp_path / name))
        for name, keys in {"plain": {}, "paged": {"page": "page"}}.items()
    ]
    files = [sorted(path for path in Path(dataset.uri).rglob("*") if path.is_file()) for dataset in datasets]
    for plain, paged in zip(*files, strict=True):
        assert plain.relative_to(datasets[0].uri) == paged.relative_to(datasets[1].uri)
        if plain.name != "metadata.json":
            assert plain.read_bytes() == paged.read_bytes(), plain


def with_unexamined(rank: Sequence[int]) -> pd.DataFrame:
    """Return the log of `paged` with ranks 10, 20, ..., and 60 unexamined items at other ranks."""
    log = pages_log().assign(seen=1)
    log["rank"] = 10 * log["rank"] + 10
    more = log.drop_duplicates("page").sample(60, random_state=1)
    more = more.assign(rank=np.resize(rank, 60), like=0, seen=0, item=np.arange(60) % 20)
    return pd.concat([log, more])


def test_rows_that_were_not_examined_change_nothing_that_is_learned(paged: PreparedDataset, tmp_path: Path) -> None:
    log = with_unexamined([90])
    log["rank"] = log["rank"] // 10 - 1
    log.to_parquet(tmp_path / "log.parquet")
    keys = {"page": "page", "position": "rank", "examined": "seen"}
    dataset = prepare(settings_of(tmp_path / "log.parquet", **keys), str(tmp_path / "dataset"))
    for file in (path for path in Path(paged.uri).rglob("*.parquet")):
        assert file.read_bytes() == (tmp_path / "dataset" / file.relative_to(paged.uri)).read_bytes(), file
    assert dataset.metadata.counts == paged.metadata.counts
    assert dataset.metadata.dropped == {"unexamined": 60}


def test_histories_contain_the_items_that_were_not_examined(ray_session: None, tmp_path: Path) -> None:
    log = with_unexamined([5, 15, 25, 90])
    log.to_parquet(tmp_path / "log.parquet")
    keys = {"page": "page", "position": "rank", "examined": "seen"}
    dataset = prepare(settings_of(tmp_path / "log.parquet", **keys), str(tmp_path / "dataset"))
    expected = log.sort_values(["user", "ms", "rank"])
    expected = expected.assign(step=expected.groupby("user").page.transform(lambda page: pd.factorize(page)[0]))
    items = dataset.items()
    for split in ("train", "validation", "test"):
        users = pd.concat([dataset.read(file, ["user_id"]).to_pandas() for file in dataset.files("requests", split)])
        own = expected[expected.user.isin(users.user_id)]
        data = histories_of(dataset, split, seed=0)
        assert data.examined is not None
        by_file = {name: number for number, name in enumerate(pd.unique(users.user_id))}
        own = own.iloc[np.lexsort((own["rank"], own.step, own.user.map(by_file)))]
        for name, column in {"row": items.rows(own["item"].to_numpy()), "step": own.step, "examined": own.seen}.items():
            np.testing.assert_array_equal(getattr(data, name), column, err_msg=name)
        np.testing.assert_array_equal(data.feedback[:, 0], own.like)
        np.testing.assert_array_equal(data.action, items.embeddings[data.row])
        np.testing.assert_array_equal(data.state, data.state[data.pages.first[data.pages.of_row]])
        seen = data.examined_only(items.kinds)
        np.testing.assert_array_equal(seen.recent(items.kinds), data.recent(items.kinds, np.flatnonzero(data.examined)))


def test_feedback_shows_which_items_were_examined(ray_session: None, tmp_path: Path) -> None:
    """Without the column: every examined item has a view, and later positions have fewer."""
    log = pages_log(users=200)
    unseen = np.random.default_rng(2).random(len(log)) < 0.2 * log["rank"]
    log = log.assign(view=np.where(unseen, 0.0, 1.5), like=np.where(unseen, 0, log.like))
    log.to_parquet(tmp_path / "log.parquet")
    keys = {"page": "page", "position": "rank", "feedback": ["like", "view"]}
    dataset = prepare(settings_of(tmp_path / "log.parquet", **keys), str(tmp_path / "dataset"))
    found, expected = impressions(dataset)[["user_id", "item_id"]], log.loc[~unseen, ["user", "item"]]
    assert sorted(found.itertuples(index=False, name=None)) == sorted(expected.itertuples(index=False, name=None))
    assert dataset.metadata.dropped == {"unexamined": int(unseen.sum())}
