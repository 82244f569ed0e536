"""Logs of three shapes, prepared through the command line with only a YAML, against plain pandas."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from plain_prepare import requests_of, sessions_of

from prefrec_ray.cli.main import run
from prefrec_ray.dataset import PreparedDataset

GAP_MS = 30 * 60 * 1000
SETTINGS = {
    "action_dim": 3,
    "train_fraction": 0.5,
    "validation_fraction": 0.25,
    "partitions": 2,
    "preferences": {"pairs": 20, "validation_pairs": 10, "length": 3, "min_requests": 7, "tasks": ["depth"]},
}


def visits(seed: int, users: int = 40) -> pd.DataFrame:
    """user, item, ms (whole minutes), in no order; every tenth user has one row."""
    rng = np.random.default_rng(seed)
    parts = []
    for user in range(users):
        count = 1 if user % 10 == 0 else int(rng.integers(8, 25))
        minutes = 26_000_000 + rng.choice([1, 2, 29, 30, 31, 700, 3000], count).cumsum()
        parts.append(pd.DataFrame({"user": user, "item": rng.integers(0, 25, count), "ms": minutes * 60_000}))
    return pd.concat(parts).sample(frac=1.0, random_state=seed).reset_index(drop=True)


def prepare(folder: Path, source: dict[str, Any], *options: str, name: str = "dataset") -> PreparedDataset:
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump({"prepare": {"source": {"kind": "files", **source}, **SETTINGS}}))
    assert run(["validate", str(config)]) == 0
    assert run(["prepare", str(config), "--output", str(folder / name), *options]) == 0
    return PreparedDataset.open(str(folder / name))


def read(dataset: PreparedDataset, *folder: str) -> pd.DataFrame:
    keep = ["user_id", "session_index", "step", "timestamp", "item_id"] if folder[0] == "requests" else None
    return pd.concat([dataset.read(file, keep).to_pandas() for file in dataset.files(*folder)], ignore_index=True)


def check(dataset: PreparedDataset, log: pd.DataFrame) -> None:
    """`log`: user and item as in the log, ms."""
    requests = pd.concat([read(dataset, "requests", split) for split in ("train", "validation", "test")])
    requests = requests.sort_values(["user_id", "step"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(requests, requests_of(log, GAP_MS)[requests.columns], check_dtype=False)
    sessions = read(dataset, "sessions").sort_values(["user_id", "session_index"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(sessions.drop(columns="split"), sessions_of(log, GAP_MS), check_dtype=False)


def feedback_seen(dataset: PreparedDataset, name: str) -> set[float]:
    """The last values of a feedback column, unscaled again, over all requests that have one before them."""
    column = dataset.state.names.index(f"feedback/{name}@0")
    mean, std = dataset.normaliser.mean[column], dataset.normaliser.std[column]
    tables = [dataset.read(file, ["step", "state"]) for file in dataset.files("requests", "train")]
    values = [np.stack(t["state"].to_pylist())[t["step"].to_numpy() > 0, column] for t in tables]
    return set((np.concatenate(values) * std + mean).round(2))


def test_ratings_like_movielens(ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = visits(0)
    stars = np.random.default_rng(0).choice([0.5, 3.0, 5.0], len(log))
    table = pd.DataFrame({"userId": log.user, "movieId": log.item, "rating": stars, "timestamp": log.ms // 1000})
    (tmp_path / "ml").mkdir()
    table[:300].to_csv(tmp_path / "ml" / "ratings1.csv", index=False)
    table[300:].to_csv(tmp_path / "ml" / "ratings2.csv", index=False)
    source = {
        "path": [f"{tmp_path}/ml/*1.csv", f"{tmp_path}/ml/ratings2.csv"],
        **{"user": "userId", "item": "movieId", "time": "timestamp", "time_unit": "s", "feedback": ["rating"]},
    }
    dataset = prepare(tmp_path, source)
    check(dataset, log)
    assert feedback_seen(dataset, "rating") == {0.5, 3.0, 5.0}
    sessions = len(sessions_of(log, GAP_MS))
    assert f"kept: {len(log):,} impressions of 40 users in {sessions:,} sessions\n" in capsys.readouterr().out


def test_plays_like_lastfm(ray_session: None, tmp_path: Path) -> None:
    """Tabs, no header, times in UTC as text, ids of other alphabets (one with a quote); genres of most artists."""
    log = visits(1)
    artists = ["Björk", "坂本龍一", "Мумий Тролль", 'The "5.6.7.8"s', "a, b", *(f"artist {k}" for k in range(20))]
    log["user"] = [f"usér_{user:06d}" for user in log.user]
    log["item"] = [artists[item] for item in log.item]
    times = pd.to_datetime(log.ms, unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    plays = pd.DataFrame({"user": log.user, "time": times, "artist": log.item, "seconds": 90})
    plays.to_csv(tmp_path / "plays.tsv", sep="\t", header=False, index=False)
    source = {
        "path": str(tmp_path / "plays.tsv"),
        "column_names": ["user", "time", "artist", "seconds"],
        **{"user": "user", "item": "artist", "time": "time"},
        "feedback": {"played": {"column": "seconds", "kind": "seconds"}},
        "items": {"path": str(tmp_path / "artists.csv"), "id": "who", "features": "genres", "title": "title"},
    }
    genres = ["pop|rock" if k % 2 else "Jazz" for k in range(24)]
    about = pd.DataFrame({"who": artists[:24], "genres": genres, "title": [f"No. {k}" for k in range(24)]})
    about.to_csv(tmp_path / "artists.csv", index=False)
    dataset = prepare(tmp_path, source)
    check(dataset, log)
    items = dataset.items()
    titles = dict(zip(items.ids.tolist(), items.about["title"].to_pylist(), strict=True))
    assert titles == {**dict(zip(artists, about.title, strict=False)), "artist 19": None}
    # Users and artists are paired at random here: only genres bring artists together.
    jazz, pop = (items.embeddings[items.rows(np.array(artists[start:24:2])), 0] for start in (0, 1))
    assert np.abs(jazz.mean() - pop.mean()) > 1.5
    assert len(set(np.sign(jazz))) == len(set(np.sign(pop))) == 1
    assert dataset.answers() is not None
    assert feedback_seen(dataset, "played") == {round(np.log(91), 2)}


def test_events_like_a_clickstream(ray_session: None, tmp_path: Path) -> None:
    """Parquet by day, local times without a zone, what nothing means, a table of visitors with semicolons."""
    log = visits(2)
    paris = ZoneInfo("Europe/Paris")
    local = [datetime.fromtimestamp(ms / 1000, paris).replace(tzinfo=None) for ms in log.ms]
    events = pd.DataFrame(
        {
            "visitor": [f"{user:08x}-ü" for user in log.user],
            "sku": log.item,
            "at": local,
            "cart": [None if k % 3 else True for k in range(len(log))],
            "pages": np.arange(len(log)) % 4,
        }
    )
    for day, part in events.groupby([moment.date() for moment in local]):
        folder = tmp_path / "events" / f"day={day}"
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pandas(part, preserve_index=False), folder / "part-0.parquet")
    visitors = events.visitor.unique()
    known = pd.DataFrame({"id": visitors, "land": ["FR" if "1" in visitor else "DE" for visitor in visitors]})
    known.to_csv(tmp_path / "visitors.csv", sep=";", index=False)
    source = {
        "path": str(tmp_path / "events"),
        **{"user": "visitor", "item": "sku", "time": "at", "time_zone": "Europe/Paris", "delimiter": ";"},
        "feedback": {
            "cart": {"column": "cart", "kind": "binary", "missing": 0},
            "pages": {"column": "pages", "kind": "count"},
        },
        "users": {"path": str(tmp_path / "visitors.csv"), "id": "id", "features": ["land"]},
    }
    dataset = prepare(tmp_path, source)
    check(dataset, log.assign(user=events.visitor))
    assert feedback_seen(dataset, "cart") == {0.0, 1.0}
    assert feedback_seen(dataset, "pages") == set(np.log1p(np.arange(4)).round(2))
    assert dict(dataset.state.user_features) == {"land": ("DE", "FR")}


def test_bad_rows_are_dropped_as_if_they_had_never_been(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = visits(3)
    clean = pd.DataFrame({"u": log.user, "i": log.item, "t": log.ms, "like": 1}).astype(object)
    rows = [[None, 1, 5, 1], [1, None, 5, 1], [1, 2, -5, 1], [1, 2, 5, "much"], [1, 2, 5, 2], [1, 99, log.ms[0], 1]]
    bad = pd.DataFrame(rows, columns=clean.columns, dtype=object)
    again = clean.iloc[[3, 3, 70]]  # interactions that stand there already
    dirty = pd.concat([clean[:50], bad[:3], clean[50:], bad[3:], again])
    embeddings = np.random.default_rng(0).uniform(-1, 1, (25, 2)).round(3)
    items = pd.DataFrame({"item_id": range(25), "x": embeddings[:, 0], "y": embeddings[:, 1]}).astype(object)
    items["name"] = [f"No. {item}" for item in items.item_id]
    items.to_csv(tmp_path / "items.csv", index=False)
    extra = pd.DataFrame([[3, 0, 0, "x"], [77, 1.5, 0, "y"], [None, 0, 0, "z"]], columns=items.columns, dtype=object)
    pd.concat([items, extra]).to_csv(tmp_path / "dirty_items.csv", index=False)
    clean.to_csv(tmp_path / "clean.csv", index=False)
    dirty.to_csv(tmp_path / "dirty.csv", index=False)
    source = {"user": "u", "item": "i", "time": "t", "time_unit": "ms"}
    feedback = {"like": {"column": "like", "kind": "binary"}}

    def of(log_file: str, items_file: str) -> dict[str, Any]:
        table = {"path": str(tmp_path / items_file), "embedding": ["x", "y"], "title": "name"}
        return {**source, "feedback": feedback, "path": str(tmp_path / log_file), "items": table}

    for name, given in (("clean", of("clean.csv", "items.csv")), ("dirty", of("dirty.csv", "dirty_items.csv"))):
        config = {"prepare": {"source": {"kind": "files", **given}, **SETTINGS, "action_dim": 2}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
    assert run(["prepare", str(tmp_path / "clean.yaml"), "--output", str(tmp_path / "clean")]) == 0
    capsys.readouterr()
    dirty_command = ["prepare", str(tmp_path / "dirty.yaml"), "--output", str(tmp_path / "dirty")]
    assert run(dirty_command) == 2
    assert capsys.readouterr().err == (
        f"prefrec: error: {tmp_path}/dirty_items.csv: column 'item_id', row 26: found 3 again; expected each id once; "
        "3 bad rows in all (by column: 'item_id' 2, 'x' 1; --on-error drop excludes them)\n"
    )
    assert not (tmp_path / "dirty").exists()
    assert run([*dirty_command, "--on-error", "drop"]) == 0
    out = capsys.readouterr().out

    one, two = (PreparedDataset.open(str(tmp_path / name)) for name in ("clean", "dirty"))
    files = [f.relative_to(one.uri) for f in Path(one.uri).rglob("*.parquet")]
    assert len(files) > 10
    for file in files:
        assert (Path(two.uri) / file).read_bytes() == (Path(one.uri) / file).read_bytes(), file
    assert not (Path(one.uri) / "dropped").exists()
    assert one.items().about.to_pydict() == {"title": [f"No. {item}" for item in one.items().ids]}

    dropped = pq.read_table(f"{two.uri}/dropped").to_pandas().sort_values(["file", "row"])
    at = len(clean) + 3
    expected = [("dirty.csv", 51, "u"), ("dirty.csv", 52, "i"), ("dirty.csv", 53, "t")]
    expected += [("dirty.csv", at + 1, "like"), ("dirty.csv", at + 2, "like"), ("dirty.csv", at + 3, "item_id")]
    expected += [("dirty.csv", at + k, "") for k in (4, 5, 6)]
    expected += [("dirty_items.csv", 26, "item_id"), ("dirty_items.csv", 27, "x"), ("dirty_items.csv", 28, "item_id")]
    names = [file.rsplit("/", 1)[-1] for file in dropped.file]
    assert sorted(zip(names, dropped.row, dropped.column, strict=True)) == sorted(expected)
    much = dropped[dropped.value == "much"].iloc[0]
    assert (much.reason, json.loads(much.raw)) == ("expected a number", {"u": "1", "i": "2", "t": "5", "like": "much"})

    report = json.loads((Path(two.uri) / "dropped.json").read_text())
    assert report["kept"] == {"rows": len(log), "users": 40, "sessions": len(sessions_of(log, GAP_MS))}
    assert report["bad_rows"] == 12
    assert "dropped: 12 bad rows" in out
    assert "  3: expected each interaction once" in out
    assert f"  1: column 'like', expected a number; first in {tmp_path}/dirty.csv, row {at + 1} (found 'much')" in out
