"""KuaiRand: its files, its traps, its labels, and data sets to evaluate on, on small files of exactly its format."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from plain_kuairand import check_sessions

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.errors import UserError, find_user_error
from prefrec_ray.evaluation.behavior import fit_clone
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.logs.log import Log
from prefrec_ray.logs.sources import KuaiRandSource
from prefrec_ray.settings import parse

LOG_HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
USERS_HEADER = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
    "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
    "register_days_range," + ",".join(f"onehot_feat{k}" for k in range(18))
)
VIDEOS_HEADER = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag"
)
LOG = LOG_HEADER.split(",")
START = 1_649_400_000_000


def make_log(users: int, videos: int, rows: int, seed: int, rand: int = 0) -> pd.DataFrame:
    """Sorted by user and time; batches of one time, repeated rows, lengths that are unknown."""
    rng = np.random.default_rng(seed)
    log = pd.DataFrame({name: rng.integers(0, 2, rows) for name in LOG})
    log["user_id"] = np.sort(rng.integers(0, users, rows))
    log["video_id"] = rng.integers(0, videos, rows)
    gaps = rng.choice([0, 20_000, 600_000, 1_800_000, 1_800_001, 40_000_000], rows)
    log["time_ms"] = START + pd.Series(gaps).groupby(log.user_id).cumsum()
    log["date"], log["hourmin"] = 20220408, 100 * rng.integers(0, 24, rows)
    log["play_time_ms"] = rng.integers(0, 60_000, rows)
    log["duration_ms"] = np.where(rng.random(rows) < 0.1, 0, rng.integers(3_000, 90_000, rows))
    log["tab"] = rng.choice([0, 1, 1, 1, 4], rows)
    log["is_rand"] = rand
    repeated = log.sample(frac=0.05, random_state=seed)
    return pd.concat([log, repeated]).sort_values(["user_id", "time_ms"], kind="stable").reset_index(drop=True)[LOG]


def make_users(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    users = pd.DataFrame({name: rng.integers(0, 2, count) for name in USERS_HEADER.split(",")})
    users["user_id"] = np.arange(count)
    users["user_active_degree"] = rng.choice(["full_active", "2_14_day_new", "UNKNOWN"], count)
    users["is_live_streamer"] = rng.choice([1, -124], count)
    for name, ranges in {
        "follow_user_num_range": ["0", "(0,10]", "500+"],
        "fans_user_num_range": ["0", "[1,10)", "[1w,10w)"],
        "friend_user_num_range": ["0", "[1,5)"],
        "register_days_range": ["8-14", "730+"],
    }.items():
        users[name] = rng.choice(ranges, count)
    users["onehot_feat12"] = rng.choice([0.0, 1.0, np.nan], count)
    return users


def make_videos(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    videos = pd.DataFrame(dict.fromkeys(VIDEOS_HEADER.split(","), "x"), index=range(count))
    videos["video_id"], videos["author_id"] = np.arange(count), rng.integers(0, count // 2, count)
    videos["tag"] = rng.choice(np.array(["12", "12,65", "20,43,7", "7", None], object), count)
    return videos


def write(folder: Path, version: str, early: pd.DataFrame, late: pd.DataFrame, rand: pd.DataFrame) -> None:
    """Write the files of a version; the standard log has two parts, as in 27K."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, log in (("4_08_to_4_21", early), ("4_22_to_5_08", late)):
        parts = [log[: len(log) // 2], log[len(log) // 2 :]] if version == "27k" else [log]
        for number, part in enumerate(parts):
            suffix = f"_part{number + 1}" if len(parts) > 1 else ""
            part.to_csv(folder / f"log_standard_{name}_{version}{suffix}.csv", index=False)
    rand.to_csv(folder / f"log_random_4_22_to_5_08_{version}.csv", index=False)
    make_users(60).to_csv(folder / f"user_features_{version}.csv", index=False)
    make_videos(80).to_csv(folder / f"video_features_basic_{version}.csv", index=False)
    # Whoever reads it fails.
    (folder / f"video_features_statistic_{version}.csv").write_text("no,CSV\n1\n")


EARLY, LATE = make_log(60, 60, 1200, seed=0), make_log(60, 60, 900, seed=1)
LATE["time_ms"] += 40 * 86_400_000
RANDOM = make_log(60, 80, 500, seed=2, rand=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data/` holds 27K, in parts."""
    folder = tmp_path_factory.mktemp("KuaiRand-27K")
    write(folder / "data", "27k", EARLY, LATE, RANDOM)
    return folder


def open_source(path: Path, **keys: Any) -> Log:
    return parse(KuaiRandSource, {"kind": "kuairand", "path": str(path), **keys}, "source").open_log(seed=0)


def rows(log: Log) -> pd.DataFrame:
    return log.interactions().to_pandas().sort_values("order").reset_index(drop=True)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, lambda log: log[(log.tab == 1) & (log.is_rand == 0)]),
        ({"tabs": [0, 4]}, lambda log: log[log.tab.isin([0, 4]) & (log.is_rand == 0)]),
        ({"tabs": "all", "random": "include"}, lambda log: log),
        ({"random": "only"}, lambda log: log[(log.tab == 1) & (log.is_rand == 1)]),
    ],
)
def test_rows(ray_session: None, folder: Path, keys: dict, expected: Any) -> None:
    interactions = rows(open_source(folder, **keys))
    # The random log stands before the standard one, as its name does.
    logged = expected(pd.concat([RANDOM, EARLY, LATE])).reset_index(drop=True)
    names = {"item_id": "video_id", "timestamp": "time_ms", "dwell_ms": "play_time_ms"}
    names |= {name: name for name in ("user_id", "is_click", "long_view", "is_like", "is_follow", "is_comment")}
    names |= {name: name for name in ("is_forward", "is_hate", "is_profile_enter")}
    for name, column in names.items():
        np.testing.assert_array_equal(
            interactions[name].to_numpy(np.float64), logged[column].to_numpy(np.float64), name
        )
    known = logged.duration_ms > 0
    length = logged.duration_ms.where(known, 18_000)
    assert not known.all()
    np.testing.assert_allclose(
        interactions.play_ratio.to_numpy(float), (logged.play_time_ms / length).clip(upper=1), rtol=1e-6
    )
    pairs = pd.DataFrame(
        {"hash": interactions.row_hash, "row": logged.groupby(LOG, sort=False).ngroup()}
    ).drop_duplicates()
    assert len(pairs) == logged.drop_duplicates().shape[0] == pairs["hash"].nunique()
    assert len(pairs) < len(logged)


def test_what_is_unknown_of_users_is_null(ray_session: None, folder: Path) -> None:
    users = open_source(folder, user_features=["user_active_degree", "is_live_streamer", "onehot_feat12"]).users
    logged = make_users(60)
    expected = {
        "user_active_degree": logged.user_active_degree.replace("UNKNOWN", None),
        "is_live_streamer": logged.is_live_streamer.map({1: "1", -124: None}),
        "onehot_feat12": logged.onehot_feat12.map({0.0: "0", 1.0: "1"}),
    }
    for name, values in expected.items():
        assert users[name].to_pylist() == values.astype(object).where(values.notna(), None).tolist()
    ranges = open_source(folder).users["follow_user_num_range"].to_pylist()
    assert ranges == logged.follow_user_num_range.tolist()
    assert open_source(folder, user_features=[]).users is None


def test_content_of_videos(ray_session: None, folder: Path) -> None:
    log, videos = open_source(folder), make_videos(80)
    assert log.content is not None
    content = log.content(np.array([3, 5, 8, 70, 1000]))
    wanted = videos.iloc[[3, 5, 8, 70]]
    assert content.maker.tolist() == [*wanted.author_id.tolist(), -1]
    assert (content.features, content.maker_name) == (("tag",), "author_id")
    names = sorted({int(tag) for tags in wanted.tag.dropna() for tag in tags.split(",")})
    tag_ids = [[names[k] for k in np.flatnonzero(row)] for row in content.tags.toarray()]
    assert tag_ids == [sorted(map(int, tags.split(","))) if isinstance(tags, str) else [] for tags in wanted.tag] + [[]]


def test_several_versions_in_one_folder(ray_session: None, tmp_path: Path) -> None:
    write(tmp_path, "pure", EARLY, LATE, RANDOM)
    write(tmp_path, "1k", EARLY, LATE, RANDOM)
    with pytest.raises(UserError, match=r"found 1k, pure; expected one of them as the key version"):
        open_source(tmp_path)
    assert {Path(file).name for file in open_source(tmp_path, version="1k").sources[0].files} == {
        "log_standard_4_08_to_4_21_1k.csv",
        "log_standard_4_22_to_5_08_1k.csv",
    }
    with pytest.raises(UserError, match=r"no log_standard_\*27k\*\.csv; expected KuaiRand as it is unpacked"):
        open_source(tmp_path, version="27k")
    (tmp_path / "user_features_1k.csv").unlink()
    with pytest.raises(UserError, match=r"no user_features_\*1k\*\.csv"):
        open_source(tmp_path, version="1k")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("is_click", 2, "found 2; expected 0 or 1"),
        ("play_time_ms", -1, "found -1; expected at least 0"),
        ("video_id", "v7", "found 'v7'; expected an integer"),
        ("tab", None, "no number; expected one in every row"),
    ],
)
def test_bad_rows(ray_session: None, tmp_path: Path, column: str, value: object, words: str) -> None:
    bad = EARLY.astype(object)
    bad.loc[700, column] = value
    write(tmp_path, "pure", bad, LATE, RANDOM)
    with pytest.raises(Exception, match="row 701") as caught:
        rows(open_source(tmp_path))
    mistake = find_user_error(caught.value)
    file = tmp_path / "log_standard_4_08_to_4_21_pure.csv"
    assert str(mistake) == f"{file}: column '{column}', row 701: {words}"


def test_a_missing_column(tmp_path: Path) -> None:
    write(tmp_path, "pure", EARLY.drop(columns="hourmin"), LATE, RANDOM)
    with pytest.raises(UserError, match=r"4_08_to_4_21_pure.csv: column 'hourmin' is missing; found user_id, video_id"):
        open_source(tmp_path)


def settings(path: Path, like: str | None = None, source: dict | None = None, **keys: Any) -> PrepareSettings:
    value: dict[str, Any] = {"source": {"kind": "kuairand", "path": str(path), **(source or {})}, **keys}
    if like:
        value["like"] = like
    else:
        value |= {"train_fraction": 0.5, "validation_fraction": 0.25, "action_dim": 4, "seed": 3}
        value["preferences"] = {"length": 5, "min_requests": 12, "pairs": 50, "validation_pairs": 20}
    return parse(PrepareSettings, value, "prepare")


@pytest.fixture(scope="module")
def standard(ray_session: None, folder: Path) -> PreparedDataset:
    return prepare(settings(folder, partitions=3), str(folder / "standard"))


def total(dataset: PreparedDataset, what: str) -> int:
    return sum(split[what] for split in dataset.metadata.counts.values())


def test_exact_duplicates_are_dropped_and_counted(standard: PreparedDataset) -> None:
    logged = pd.concat([EARLY, LATE])
    logged = logged[logged.tab == 1]
    unique = logged.drop_duplicates()
    assert standard.metadata.dropped == {"duplicates": len(logged) - len(unique)}
    assert total(standard, "requests") == len(unique)
    assert total(standard, "users") == unique.user_id.nunique()
    requests = pd.concat(
        standard.read(file, ["user_id", "step", "item_id", "timestamp"]).to_pandas()
        for split in ("train", "validation", "test")
        for file in standard.files("requests", split)
    )
    expected = unique.sort_values(["user_id", "time_ms"], kind="stable")  # inside a batch, the order of the file
    ordered = requests.sort_values(["user_id", "step"])
    assert ordered.item_id.tolist() == expected.video_id.tolist()
    assert ordered.timestamp.tolist() == expected.time_ms.tolist()


def test_sessions_are_of_time_ms_and_end_with_their_last_video(standard: PreparedDataset) -> None:
    logged = pd.concat([EARLY, LATE])
    sessions = pd.concat(standard.read(file).to_pandas() for file in standard.files("sessions"))
    check_sessions(sessions, logged[logged.tab == 1].drop_duplicates())


def test_random_exposure_prepared_like_the_training_data_can_be_evaluated_on(
    standard: PreparedDataset, folder: Path
) -> None:
    dataset = prepare(settings(folder, standard.uri, {"random": "only"}), str(folder / "random"))
    logged = RANDOM[RANDOM.tab == 1]
    unique = logged.drop_duplicates()
    kept = unique[unique.video_id.isin(standard.items().ids)]
    assert dataset.metadata.dropped == {
        "duplicates": len(logged) - len(unique),
        "unknown_items": len(unique) - len(kept),
    }
    assert len(unique) > len(kept) == total(dataset, "requests")
    assert dataset.state == standard.state
    assert dataset.normaliser.to_dict() == standard.normaliser.to_dict()
    np.testing.assert_array_equal(dataset.items().embeddings, standard.items().embeddings)
    assert dataset.metadata.tasks == []  # preferences were not requested
    splits = [
        pd.concat(d.read(f, ["user_id", "split"]).to_pandas() for f in d.files("sessions")).drop_duplicates()
        for d in (standard, dataset)
    ]
    both = splits[0].merge(splits[1], on="user_id")
    assert len(both) == kept.user_id.nunique()
    assert (both.split_x == both.split_y).all()

    policy = fit_clone(standard, seed=0).policy
    ncis = EvaluateSettings(estimators=("ncis",))
    records = evaluate(EvaluationRequest(dataset, {"clone": policy}, ["depth"], fit_clone(dataset), ncis)).records
    (record,) = [r for r in records if r.subject == "clone" and r.role == "policy"]
    assert record.users == both[both.split_x == "test"].user_id.nunique()
    assert np.isfinite(record.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"tabs": [9]}, r"the log has no rows of the kind that the source selects"),
        ({"user_features": ["onehot_feat18"]}, r"user_features_27k.csv: column 'onehot_feat18' is missing"),
        ({"user_features": ["register_days"]}, r"column 'register_days' has 600 categories; expected at most 512"),
    ],
)
def test_a_source_that_asks_for_what_is_not_there(
    ray_session: None, folder: Path, tmp_path: Path, source: dict, words: str
) -> None:
    for file in (folder / "data").iterdir():
        (tmp_path / file.name).symlink_to(file)
    users = make_users(600).assign(register_days=np.arange(600))
    (tmp_path / "user_features_27k.csv").unlink()
    users.to_csv(tmp_path / "user_features_27k.csv", index=False)
    with pytest.raises(UserError, match=words):
        prepare(settings(tmp_path, source=source), str(tmp_path / "other"))
    assert not list(tmp_path.glob("other*"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"seed": 4}, r"prepare.seed: found 4; expected 3 as in .*standard \(like\), or omit it"),
        ({"source": {"user_features": []}}, r"user features of the log: 'user_active_degree' is missing"),
    ],
)
def test_settings_that_are_not_like_the_other_data_set(
    standard: PreparedDataset, folder: Path, keys: dict, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        prepare(settings(folder, standard.uri, **keys), str(folder / "other"))
    assert not (folder / "other").exists()
