"""Joined sources: the same data set as from one log, rules for what differs, and contradictions in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from platform_desk import Desk, incumbent_settings

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import OnError, PrepareSettings, categories_of, prepare
from prefrec_ray.errors import UserError
from prefrec_ray.logs.log import Log
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.settings import parse
from prefrec_ray.storage.alias import point

START = 1_700_000_000


def history(seed: int, users: range, item_count: int = 20) -> pd.DataFrame:
    """Return rows in no order: user, item, second, like, watch."""
    rng = np.random.default_rng(seed)
    parts = []
    for user in users:
        count = int(rng.integers(25, 40))
        gaps = rng.choice([20, 100, 4_000, 90_000], count)
        rows = {"item": rng.integers(0, item_count, count), "at": START + gaps.cumsum()}
        parts.append(pd.DataFrame({"user": user, **rows}))
    frame = pd.concat(parts).sample(frac=1.0, random_state=seed)
    like, watch = rng.integers(0, 2, len(frame)), rng.random(len(frame)).round(2)
    return frame.assign(like=like, watch=watch).reset_index(drop=True)


def source(path: Path, **changes: Any) -> dict[str, Any]:
    """Return the settings of a source with the columns of `history`."""
    columns = {"user": "user", "item": "item", "time": "at", "time_unit": "s", "feedback": ["like", "watch"]}
    return {"kind": "files", "path": str(path), **columns, **changes}


def settings_of(*sources: dict[str, Any], **changes: Any) -> PrepareSettings:
    joined = sources[0] if len(sources) == 1 else {"kind": "joined", "sources": list(sources)}
    pairs = {"pairs": 20, "validation_pairs": 10, "length": 5, "min_requests": 12}
    shares = {"train_fraction": 0.5, "validation_fraction": 0.25}
    value = {"source": joined, "action_dim": 3, "partitions": 2, "preferences": pairs, **shares, **changes}
    return parse(PrepareSettings, value, "my.yaml: prepare")


def made(folder: Path, name: str, settings: PrepareSettings, on_error: OnError = "fail") -> PreparedDataset:
    return prepare(settings, str(folder / name), on_error=on_error)


def files_of(dataset: PreparedDataset) -> dict[str, bytes]:
    """Return the content of all files that do not contain the settings."""
    root = Path(dataset.uri)
    found = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    return {name: content for name, content in found.items() if name not in ("metadata.json", "dropped.json")}


def impressions(dataset: PreparedDataset) -> pd.DataFrame:
    files = [file for split in ("train", "validation", "test") for file in dataset.files("requests", split)]
    rows = pd.concat([dataset.read(file).to_pandas() for file in files])
    return rows.sort_values(["user_id", "step"]).reset_index(drop=True)


@pytest.mark.parametrize("seed", range(2))
def test_two_halves_of_a_log_that_overlap_are_the_whole_log(ray_session: None, tmp_path: Path, seed: int) -> None:
    """The later source has other names of columns, and other feedback on the rows that both have."""
    whole = history(seed, range(40)).drop_duplicates(["user", "item", "at"])
    border = [len(whole) // 3, len(whole) // 2]
    whole.to_parquet(tmp_path / "whole.parquet")
    whole[: border[1]].to_csv(tmp_path / "first.csv", index=False)
    second = whole[border[0] :].copy()
    second.loc[second.index[: border[1] - border[0]], "like"] = 1
    names = {"user": "who", "item": "what", "at": "ms", "like": "heart", "watch": "share"}
    second = second.assign(at=second["at"] * 1000).rename(columns=names)
    second.to_parquet(tmp_path / "second.parquet")
    feedback = {"like": "heart", "watch": "share"}
    other = source(tmp_path / "second.parquet", user="who", item="what", time="ms", time_unit="ms", feedback=feedback)

    one = made(tmp_path, "one", settings_of(source(tmp_path / "whole.parquet")))
    joined = made(tmp_path, "joined", settings_of(source(tmp_path / "first.csv"), other))
    assert files_of(joined) == files_of(one)
    report = storage.read_json(str(tmp_path / "joined" / "dropped.json"))
    assert report["left_out"] == {"in_two_sources": border[1] - border[0]}
    assert joined.metadata.dropped == {"in_two_sources": border[1] - border[0]}
    assert report["kept"]["rows"] == len(whole)


def test_a_row_twice_in_one_source_is_still_refused_or_kept_there(ray_session: None, tmp_path: Path) -> None:
    first, second = history(0, range(40)), history(1, range(40, 60))
    first.to_csv(tmp_path / "a.csv", index=False)
    pd.concat([second, second[:3]]).to_csv(tmp_path / "b.csv", index=False)
    sources = source(tmp_path / "a.csv"), source(tmp_path / "b.csv")
    with pytest.raises(UserError, match=rf"b\.csv: row {len(second) + 1}: the same as an earlier row.*3 rows like it"):
        made(tmp_path, "refused", settings_of(*sources))
    kept = made(tmp_path, "kept", settings_of(sources[0], sources[1] | {"duplicates": "keep"}))
    assert len(impressions(kept)) == len(first) + len(second) + 3


def test_bad_rows_of_both_sources_are_counted(ray_session: None, tmp_path: Path) -> None:
    for name, users, bad in (("a.csv", range(40), 2), ("b.csv", range(40, 60), 3)):
        rows = history(0, users)
        rows["like"] = rows["like"].astype(object)
        rows.loc[:bad, "like"] = "much"
        rows.to_csv(tmp_path / name, index=False)
    settings = settings_of(source(tmp_path / "a.csv"), source(tmp_path / "b.csv"))
    dataset = made(tmp_path, "dropped", settings, on_error="drop")
    assert storage.read_json(f"{dataset.uri}/dropped.json")["bad_rows"] == 3 + 4
    dropped = pd.concat([pd.read_parquet(file) for file in (tmp_path / "dropped" / "dropped").iterdir()])
    assert dropped.groupby(dropped.file.str[-5:]).size().to_dict() == {"a.csv": 3, "b.csv": 4}


def test_a_history_and_the_events_of_a_server(ray_session: None, tmp_path: Path) -> None:
    """The history lacks the feedback `watch`; features and items are merged; the columns of the server come first."""
    incumbent = incumbent_settings(tmp_path, list(range(40)))
    point(str(tmp_path / "current"), "", canary=None)
    desk = Desk(tmp_path / "current", tmp_path / "state", log_policy="random", incumbent=incumbent)
    rows = history(0, range(40)).drop_duplicates(["user", "item", "at"])
    rows.to_csv(tmp_path / "history.csv", index=False)
    pd.DataFrame({"user_id": range(10), "country": "de"}).to_csv(tmp_path / "users.csv", index=False)
    latest, clock = START * 1000 + 10**11, START * 1000 + 10**11
    for user in range(5, 45):
        command = Recommend(user=user, k=2, features={"country": "fr"}, timestamp=latest)
        body = desk.one(command, clock=clock)
        for item in body["items"]:
            desk.one(Feedback(event_id=body["event_id"], item=item, feedback={"watch": 0.5}), clock=clock)
    desk.stop()
    users = {"path": str(tmp_path / "users.csv"), "features": "country"}
    items = dict(incumbent["items"])
    old = source(tmp_path / "history.csv", feedback={"like": {"column": "like", "kind": "binary"}}, users=users)
    dataset = made(
        tmp_path, "both", settings_of(old | {"items": items}, {"kind": "events", "path": str(desk.opened.folder)})
    )

    assert dataset.state.feedback == ("like", "watch")
    assert dict(dataset.state.feedback_kinds) == {"like": "binary", "watch": "ratio"}
    assert dict(dataset.state.user_features) == {"country": ("de", "fr")}
    assert len(dataset.items()) == 40
    found = impressions(dataset)
    new = found.timestamp == latest
    assert (new.sum(), (~new).sum()) == (80, len(rows))
    assert found[new].propensity.notna().all()
    assert found[~new].propensity.isna().all()
    feedback = np.stack(found.feedback)
    assert (feedback[~new, 1] == 0).all()
    assert (feedback[new] == [0, 0.5]).all()
    expected = rows.sort_values(["user", "at"], kind="stable")
    assert found[~new].user_id.value_counts().to_dict() == expected.user.value_counts().to_dict()
    assert feedback[~new, 0].sum() == rows.like.sum()


def test_features_titles_and_kinds_are_merged_and_the_first_source_counts(ray_session: None, tmp_path: Path) -> None:
    def part(name: str, ids: list[int], country: list[str | None], title: list[str | None], kind: list[str]) -> dict:
        history(0, range(4)).to_csv(tmp_path / f"{name}.csv", index=False)
        users = pd.DataFrame({"user_id": ids, "country": country, name: "yes"})
        users.to_csv(tmp_path / f"{name}_users.csv", index=False)
        items = pd.DataFrame({"item_id": ids, "name": title, "kind": kind})
        items.to_csv(tmp_path / f"{name}_items.csv", index=False)
        return source(
            tmp_path / f"{name}.csv",
            users={"path": str(tmp_path / f"{name}_users.csv"), "features": ["country", name]},
            items={"path": str(tmp_path / f"{name}_items.csv"), "title": "name", "features": "kind"},
        )

    first = part("a", [1, 2, 3], ["de", None, "fr"], ["one", None, "three"], ["x", "x|y", ""])
    second = part("b", [2, 3, 4], ["it", "it", "it"], ["two", "no", "four"], ["z", "z", "z"])
    log = opened(settings_of(first, second))
    assert log.users is not None
    assert log.users.to_pylist() == [
        {"user_id": 1, "country": "de", "a": "yes", "b": None},
        {"user_id": 2, "country": "it", "a": "yes", "b": "yes"},
        {"user_id": 3, "country": "fr", "a": "yes", "b": "yes"},
        {"user_id": 4, "country": "it", "a": None, "b": "yes"},
    ]
    assert categories_of(log) == {"country": ("de", "fr", "it"), "a": ("yes",), "b": ("yes",)}
    assert log.about is not None
    titles = dict(zip(log.about["item_id"].to_pylist(), log.about["title"].to_pylist(), strict=True))
    assert titles == {1: "one", 2: "two", 3: "three", 4: "four"}
    assert log.content is not None
    content = log.content(np.arange(1, 6))
    tags = [sorted(np.array(content.categories)[row > 0].tolist()) for row in content.tags.toarray()]
    assert tags == [["x"], ["x", "y"], ["z"], ["z"], []]
    assert content.features == ("kind",)


def opened(settings: PrepareSettings) -> Log:
    return settings.source.open_log(settings.seed)


def with_text_ids(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(user="u" + rows["user"].astype(str))


def with_text_items(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(item="i" + rows["item"].astype(str))


@pytest.mark.parametrize(
    ("change", "keys", "message"),
    [
        (
            with_text_ids,
            {},
            r"source 2 \(.*b\.csv\): user ids: found text; expected whole numbers as in source 1 \(.*a",
        ),
        (with_text_items, {}, r"source 2 \(.*b\.csv\): item ids: found text; expected whole numbers as in source 1"),
        (None, {"session": "watch"}, r"source 2 \(.*b\.csv\): session ids: found some; expected none as in source 1"),
        (
            None,
            {"reward": "watch", "feedback": ["like"]},
            r"source 2 .*: rewards: found some; expected none as in sour",
        ),
        (
            None,
            {"feedback": {"like": {"column": "like", "kind": "count"}}},
            r"source 2 .*: feedback 'like': found kind count; expected number as in source 1",
        ),
    ],
)
def test_contradictions_are_one_line(
    ray_session: None,
    tmp_path: Path,
    change: Callable[[pd.DataFrame], pd.DataFrame] | None,
    keys: dict[str, Any],
    message: str,
) -> None:
    rows = history(0, range(3))
    rows.to_csv(tmp_path / "a.csv", index=False)
    (change(rows) if change else rows).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(UserError, match=message) as caught:
        opened(settings_of(source(tmp_path / "a.csv"), source(tmp_path / "b.csv", **keys)))
    assert "\n" not in str(caught.value)


def test_an_item_with_two_embeddings_is_one_line(ray_session: None, tmp_path: Path) -> None:
    parts = []
    for name, values, width in (("a", [0.1, 0.2], 2), ("b", [0.1, 0.3], 2), ("c", [0.1, 0.2], 1)):
        history(0, range(3), 2).to_csv(tmp_path / f"{name}.csv", index=False)
        vectors = pa.array([[value] * width for value in values])
        pd.DataFrame({"item_id": [0, 1], "vector": vectors.to_pylist()}).to_parquet(tmp_path / f"{name}.parquet")
        items = {"path": str(tmp_path / f"{name}.parquet"), "embedding": "vector"}
        parts.append(source(tmp_path / f"{name}.csv", items=items))
    same = opened(settings_of(parts[0], parts[0]))
    assert same.items is not None
    assert len(same.items) == 2
    with pytest.raises(UserError, match=r"source 2 \(.*b\.csv\): item 1: found another embedding; expected the same"):
        opened(settings_of(parts[0], parts[1]))
    with pytest.raises(UserError, match=r"source 2 \(.*c\.csv\): found embeddings of 1 numbers; expected 2 as in sour"):
        opened(settings_of(parts[0], parts[2]))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([{"kind": "events", "path": "a"}] * 2, r"key 'source.*found 2 of kind events; expected one, with all folders"),
        ([{"kind": "events", "path": "a"}], r"key 'source.*sources'"),
        ([{"kind": "events", "path": "a"}, {"kind": "joined"}], r"key 'source.*joined"),
    ],
)
def test_sources_that_cannot_be_joined_are_refused(sources: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(PrepareSettings, {"source": {"kind": "joined", "sources": sources}}, "my.yaml: prepare")
