"""From files to a YAML that `prefrec prepare` takes."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from inspect_logs import clickstream, lastfm, movielens, write

from prefrec_ray.cli.inspect_tables import described
from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.errors import UserError
from prefrec_ray.inspection.log import find_tables, inspect_log
from prefrec_ray.inspection.proposal import proposal, source_lines
from prefrec_ray.settings import parse


def settings_of(text: str) -> PrepareSettings:
    return parse(PrepareSettings, yaml.safe_load(text)["prepare"], "proposal")


def test_movielens_in_a_folder_is_prepared_as_proposed(ray_session: None, tmp_path: Path) -> None:
    log = movielens()
    folder = tmp_path / "ml"
    write(log, folder / "ratings.csv")
    movies = {
        "movieId": range(200),
        "title": [f"Movie {k} (1994)" for k in range(200)],
        "genres": ["Action|Comedy", "Drama"] * 100,
        "year": range(1800, 2000),
        "imdbId": range(200),
        "mean_rating": np.linspace(1, 5, 200),
    }
    write(pd.DataFrame(movies)[60:], folder / "movies.csv")
    write(pd.DataFrame({"movieId": range(200), "tmdbId": range(200)}), folder / "links.csv")
    people = {"userId": range(1, 161), "gender": ["F", "M"] * 80, "age": [18, 25, 35, 50] * 40, "zip": range(160)}
    write(pd.DataFrame(people), folder / "users.csv")
    report = inspect_log([str(folder)])
    assert report.unused == [str(folder / "links.csv")]
    assert report.sampled == len(log)
    settings = settings_of(report.yaml)
    assert settings.source.items.model_dump(exclude_none=True) == {
        "path": str(folder / "movies.csv"),
        "id": "movieId",
        "title": "title",
        "features": ["genres", "year"],
    }
    source = settings.source
    assert source.path == str(folder / "ratings.csv")
    assert source.users.model_dump() == {
        "path": str(folder / "users.csv"),
        "id": "userId",
        "features": ["gender", "age"],
    }
    assert settings.preferences.length == 10  # no user has more than 100 requests, nearly all have more than 20
    few = settings.model_copy(
        update={"preferences": settings.preferences.model_copy(update={"pairs": 40, "validation_pairs": 20})}
    )
    dataset = prepare(few, str(tmp_path / "dataset"))
    without_row = {"items": log.movieId[log.movieId < 60].nunique()}
    assert json.loads((tmp_path / "dataset/dropped.json").read_text())["without_row"] == without_row
    counts = dataset.metadata.counts
    assert sum(split["requests"] for split in counts.values()) == len(log) == report.counts.rows
    assert sum(split["users"] for split in counts.values()) == 160
    assert sum(split["sessions"] for split in counts.values()) == report.counts.sessions[30]


def test_other_logs_are_proposed_with_what_they_have(tmp_path: Path) -> None:
    for day in range(2):
        part = clickstream(30, seed=day)
        part = part.assign(visitorid=part.visitorid + 100 * day, sessionId=f"{day}-" + part.sessionId)
        write(part, tmp_path / f"clicks/day={day}/part.parquet")
    report = inspect_log([str(tmp_path / "clicks")])
    source = settings_of(report.yaml).source
    assert (source.path, source.session, source.dwell, source.dwell_unit) == (
        str(tmp_path / "clicks"),
        "sessionId",
        "dwell_sec",
        "s",
    )
    assert {name: (f.kind, f.missing) for name, f in source.feedback.items()} == {
        "view": ("binary", None),
        "bought": ("binary", None),
        "price": ("number", 0),
    }
    assert None in report.counts.sessions

    write(lastfm(), tmp_path / "a.tsv", sep="\t")
    write(lastfm(seed=5).assign(userid="only one"), tmp_path / "b.tsv", sep="\t")
    report = inspect_log([str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv")])
    settings = settings_of(report.yaml)
    assert settings.source.path == [str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv")]
    assert (settings.source.time_unit, settings.source.feedback) == (None, {})
    assert settings.validation_fraction == 0.2  # 41 users
    assert report.counts.users == 41


def test_embeddings_beside_a_log_are_proposed(tmp_path: Path) -> None:
    write(clickstream(5), tmp_path / "log/clicks.parquet")
    pq.write_table(pa.table({"itemid": [1, 2], "vector": [[0.5], [1.0]]}), tmp_path / "log/items.parquet")
    items = settings_of(inspect_log([str(tmp_path / "log")]).yaml).source.items
    expected = {"path": str(tmp_path / "log/items.parquet"), "id": "itemid", "embedding": "vector"}
    assert items.model_dump(exclude_none=True, exclude_defaults=True) == expected


def test_columns_of_a_table_of_items_are_proposed(tmp_path: Path) -> None:
    """Proposed: lists of Parquet, flags and prices; not constants, ids, means of the log, or texts of many words."""
    tracks = {
        "track_id": [f"t{k}" for k in range(60)],
        "name": [f"Song {k}" for k in range(60)],
        "tags": [["rock", "pop"], []] * 30,
        "explicit": [True, False] * 30,
        "price": [0.5 * k for k in range(60)],
        "country": "SE",
        "isrc_code": ["a", "b"] * 30,
        "mean_rating": [0.1 * k for k in range(60)],
        "lyrics": [f"{k}|{k + 100}" for k in range(60)],
    }
    pq.write_table(pa.table({**tracks, "country": ["SE"] * 60}), tmp_path / "tracks.parquet")
    write(lastfm(4), tmp_path / "plays.csv")
    source = {"user": "userid", "item": "track_id"}
    log = pa.table({"userid": ["u"], "track_id": ["t1"]})
    found, unused = find_tables([str(tmp_path / "plays.csv"), str(tmp_path / "tracks.parquet")], source, log)
    file = str(tmp_path / "tracks.parquet")
    items = {"path": file, "id": "track_id", "title": "name", "features": ["explicit", "price", "tags"]}
    assert found == {"items": items}
    assert unused == [str(tmp_path / "plays.csv")]
    assert list(described(found)) == [
        "table of items: tracks.parquet (id track_id; title name; features explicit, price, tags)"
    ]


COUNTS = SimpleNamespace(
    sessions={30.0: 9000},
    timed=1,
    rows=90_900,
    steps=90_900,
    users=900,
    long_users=(150, 300, 500, 600, 700),
)


@pytest.mark.parametrize(
    "name",
    ["order", "is: it?", "yes", "12", "a#b", "größe", "- x", "{q}", "'", "null", "a, b", "\t", "a\nb", "a\u2028b"],
)
def test_any_name_of_a_column_survives_the_yaml(name: str) -> None:
    keys = {"kind": "files", "path": name, "delimiter": ";", "user": "user", "item": name, "time": "time"}
    keys |= {"time_unit": "us", "feedback": {name: {"column": name, "missing": 0}}, "reward": f"{name} "}
    keys["users"] = {"path": name, "id": "id", "features": [name, "b"]}
    doubts = {name: "right?", "reward": "stays out of the state"}
    if name == "order":  # a canonical column
        keys["feedback"] = {"order_": keys["feedback"].pop(name)}
    text = proposal(source_lines(keys, doubts), COUNTS)
    assert yaml.safe_load(text)["prepare"]["source"] == keys
    assert settings_of(text).source.item == name


@pytest.mark.parametrize(
    ("long_users", "length", "validation"),
    [((150, 300, 500, 600, 700), 100, 0.1), ((20, 99, 100, 600, 700), 20, 0.1), ((0, 0, 0, 2, 40), 5, 0.2)],
)
def test_the_length_of_segments_is_one_that_enough_users_can_give(
    long_users: tuple[int, ...], length: int, validation: float
) -> None:
    counts = SimpleNamespace(**{**vars(COUNTS), "long_users": long_users})
    settings = settings_of(proposal(["kind: completejourney"], counts))
    assert (settings.preferences.length, settings.preferences.min_requests) == (length, 2 * length)
    assert settings.validation_fraction == validation


@pytest.mark.parametrize(
    ("rows", "users", "pairs", "config", "requests"),
    [
        # 54,000 transitions, five epochs of 211 updates; 1,090 pairs of 100 are twice 54,540 impressions
        (90_900, 900, 1100, {"hidden_sizes": [64, 64], "train_batch_size_per_learner": 256}, 100),
        (1_000, 100, 100, {"hidden_sizes": [64, 64], "train_batch_size_per_learner": 256, "num_epochs": 50}, 50),
        (501_000, 1_000, 6000, {"hidden_sizes": [128, 128], "train_batch_size_per_learner": 512}, 250),
        (10_000_000, 50_000, None, {"num_epochs": 0.7}, 200),
    ],
)
def test_sizes_fit_the_log(rows: int, users: int, pairs: int | None, config: dict, requests: int) -> None:
    counts = SimpleNamespace(**{**vars(COUNTS), "rows": rows, "steps": rows, "users": users})
    sections = yaml.safe_load(proposal(["kind: completejourney"], counts))
    assert sections["prepare"].get("preferences", {}).get("pairs") == pairs
    assert sections["train"] == {"task": "frequency", "config": config}
    assert sections["evaluate"] == {"model": {"requests": requests}}


def test_a_folder_stays_a_folder(tmp_path: Path) -> None:
    """Parts that are written later belong to it. A folder with other files is listed."""
    log, items = movielens(30), pd.DataFrame({"movieId": range(200), "title": [f"Movie {k}" for k in range(200)]})
    for number in range(2):
        write(log[number::2], tmp_path / f"log/part-{number}.parquet")
    write(items, tmp_path / "movies.csv")
    source = settings_of(inspect_log([f"{tmp_path}/log", f"{tmp_path}/movies.csv"]).yaml).source
    assert (source.path, source.items.path) == (f"{tmp_path}/log", f"{tmp_path}/movies.csv")
    source = settings_of(inspect_log([str(tmp_path)]).yaml).source
    assert source.path == [f"{tmp_path}/log/part-{number}.parquet" for number in range(2)]


def test_a_log_with_only_a_header_is_named(tmp_path: Path) -> None:
    """The table of items is larger."""
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n")
    write(pd.DataFrame({"movieId": range(90), "title": "a long title"}), tmp_path / "movies.csv")
    with pytest.raises(UserError, match=r"/ratings.csv: the log is empty; expected interactions"):
        inspect_log([str(tmp_path / "movies.csv"), str(tmp_path / "ratings.csv")])


def test_a_folder_without_a_log_says_what_its_largest_files_lack(tmp_path: Path) -> None:
    write(pd.DataFrame({"userId": [1, 1], "gender": ["F", "M"]}), tmp_path / "users.csv")
    write(pd.DataFrame({"movieId": range(90), "title": "a long title"}), tmp_path / "movies.csv")
    with pytest.raises(UserError, match=r"movies.csv: no column looks like a time .*found movieId .int64., title"):
        inspect_log([str(tmp_path)])
