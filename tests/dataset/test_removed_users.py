"""Users are removed from a data set: other rows stay, and transitions still belong to their impressions."""

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from killed import killed_copies
from tiny import write_dataset

from prefrec_ray import storage
from prefrec_ray.annotation.labels import write_labels
from prefrec_ray.dataset import PreparedDataset, check_complete, tensor
from prefrec_ray.dataset.removal import remove_users, splits_of, users_of
from prefrec_ray.storage.parquet import read_parquet, write_parquet

SPLITS = ("train", "validation", "test")


def remove(folder: Path, users: list[str]) -> dict[str, int]:
    with storage.claimed(str(folder)) as partial:
        return dict(remove_users(PreparedDataset.open(str(folder)), users, partial))


def table(dataset: PreparedDataset, *parts: str) -> pa.Table:
    return pa.concat_tables([dataset.read(file) for file in dataset.files(*parts)])


def without(rows: pa.Table, users: list[str]) -> pa.Table:
    for name in {"user_id", "user_0", "user_1"} & set(rows.column_names):
        rows = rows.filter(pa.array([str(user) not in users for user in rows[name].to_pylist()]))
    return rows


def states_by_number(dataset: PreparedDataset) -> np.ndarray:
    """Return the states before each transition, in the order of their numbers."""
    transitions = table(dataset, "transitions")
    number = transitions["number"].to_numpy()
    assert sorted(number.tolist()) == list(range(len(number)))
    return tensor(transitions["obs"])[np.argsort(number)]


@pytest.mark.ray
def test_users_are_removed_from_a_prepared_data_set(small_platform: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(small_platform / "dataset", folder)
    before = PreparedDataset.open(str(small_platform / "dataset"))
    ids = {split: table(before, "requests", split)["user_id"].unique().to_pylist() for split in SPLITS}
    users = [str(ids["train"][0]), str(ids["train"][-1]), str(ids["validation"][0]), "nobody"]
    assert stat.S_IMODE((small_platform / "dataset").stat().st_mode) == 0o700  # as `prepare` makes it
    assert splits_of(before, users) == {"train", "validation"}
    removed = remove(folder, users)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    dataset = PreparedDataset.open(str(folder))
    check_complete(dataset)
    assert splits_of(dataset, users) == set()
    for parts in (("sessions",), *(("requests", split) for split in SPLITS)):
        assert table(dataset, *parts).equals(without(table(before, *parts), users), check_metadata=True)
    for task in dataset.metadata.tasks:
        for split in ("train", "validation"):
            found, old = (read_parquet(one.path("preferences", task, f"{split}.parquet")) for one in (dataset, before))
            assert found.equals(without(old, users))
            assert len(found) < len(old)
    counts, old_counts = dataset.metadata.counts, before.metadata.counts
    assert {split: old_counts[split]["users"] - counts[split]["users"] for split in SPLITS} == {
        "train": 2,
        "validation": 1,
        "test": 0,
    }
    gone = table(before, "requests", "train")
    of_users = ~np.isin(gone["user_id"].to_numpy(), table(dataset, "requests", "train")["user_id"].to_numpy())
    assert removed["transitions of data sets"] == of_users.sum() - 2
    # A transition has the state of the impression with its number, without each user's last impression.
    rows = table(dataset, "requests", "train")
    user = rows["user_id"].to_numpy()
    has_next = np.append(user[1:] == user[:-1], False)
    np.testing.assert_array_equal(states_by_number(dataset), tensor(rows["state"])[has_next])
    for name in ("items.parquet", "answers.npz"):
        assert (folder / name).read_bytes() == (small_platform / "dataset" / name).read_bytes()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A data set with labels of annotators and dropped rows. Users are 0 to 5 (training), 6 to 8, and 12 to 15."""
    folder = tmp_path / "place" / "dataset"
    write_dataset(folder, users=6, requests=20, pairs=8, length=4, shards=2)
    pairs = pa.table(
        {
            "pair_id": pa.array([1, 2, 3]),
            "user_0": pa.array([0, 1, 4]),
            "user_1": pa.array([2, 4, 5]),
            "label": pa.array([0.0, 1.0, 0.5], pa.float32()),
        }
    )
    votes = pa.table({"pair_id": [1, 2, 2, 3], "annotator": ["a", "a", "b", "b"], "label": [0.0, 1.0, None, 0.5]})
    summary = {"name": "A", "pairs": {"train": 3, "validation": 0}, "votes": 3, "skips": 1}
    write_labels(str(folder / "people" / "A"), {"train": pairs, "votes": votes}, summary, replace=False)
    dropped = [json.dumps(raw) for raw in ({"who": 4, "item": 1}, {"who": 5, "item": 4}, "'4';1", "5;14;44")]
    (folder / "dropped").mkdir()
    table = pa.table({"file": ["f"] * 4, "row": [1, 2, 3, 4], "raw": dropped})
    write_parquet(table, str(folder / "dropped" / "part-0.parquet"))
    reasons = [{"file": "f", "row": row, "found": f"found {dropped[row - 1]}"} for row in (3, 4)]
    storage.write_json(str(folder / "dropped.json"), {"reasons": reasons})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_labels_and_dropped_rows_of_users_are_removed(tiny: Path) -> None:
    removed = remove(tiny, ["4"])
    assert removed["labels of annotators in data sets"] == 2 + 3
    dataset = PreparedDataset.open(str(tiny))
    assert read_parquet(dataset.people_path("A", "train"))["pair_id"].to_pylist() == [1]
    assert read_parquet(dataset.people_path("A", "votes"))["pair_id"].to_pylist() == [1]
    summary = json.loads((tiny / "people/A/people.json").read_text())
    assert (summary["pairs"], summary["votes"], summary["skips"]) == ({"train": 1, "validation": 0}, 1, 0)
    # In the second row 4 is an item; no column of a dropped row is known to contain users.
    assert removed["dropped rows of data sets"] == 3
    reasons = json.loads((tiny / "dropped.json").read_text())["reasons"]
    assert [reason["found"] for reason in reasons] == ["found a value of a removed user", 'found "5;14;44"']


@pytest.mark.parametrize(
    ("raw", "gone"),
    [
        ({"who": " 4"}, True),
        ({"who": 4.0}, True),
        ({"who": {"id": [4]}}, True),
        ({"who": [["4 "]]}, True),
        ("8;4;1", True),
        ({"who": "4.0"}, True),
        ({"note": '{"user": 4}'}, True),
        ({"who": "4.5 of 14"}, False),
        ({"who": 4.5}, False),
        ({"who": "44"}, False),
        ({"who": None, "other": [14]}, False),
    ],
)
def test_dropped_rows_name_a_user_in_any_form(tiny: Path, raw: object, gone: bool) -> None:
    table = pa.table({"file": ["f"], "row": [9], "raw": [json.dumps(raw)]})
    write_parquet(table, str(tiny / "dropped" / "part-1.parquet"))
    remove(tiny, ["4"])
    assert len(read_parquet(str(tiny / "dropped" / "part-1.parquet"))) == (not gone)


def test_a_large_id_that_is_a_float_and_a_blank_id(tiny: Path) -> None:
    """A blank is in most texts: as an id it is a whole value."""
    rows = [json.dumps({"who": 1e16}), json.dumps({"who": " "}), json.dumps({"who": "a b"}), json.dumps("a; ;b")]
    table = pa.table({"file": ["f"] * 4, "row": [6, 7, 8, 9], "raw": rows})
    write_parquet(table, str(tiny / "dropped" / "part-1.parquet"))
    users = ["10000000000000000", " ", "100"]
    assert users_of(PreparedDataset.open(str(tiny)), [*users, "5"]) == {*users[:2], "5"}
    assert remove(tiny, users)["dropped rows of data sets"] == 2
    assert read_parquet(str(tiny / "dropped" / "part-1.parquet"))["row"].to_pylist() == [8, 9]


def test_items_that_users_did_not_examine_are_removed(tiny: Path) -> None:
    (tiny / "unexamined").mkdir()
    rows = pa.table({"user_id": [4, 5, 4], "item_id": [1, 2, 3]})
    write_parquet(rows, str(tiny / "unexamined" / "part-0.parquet"))
    assert remove(tiny, ["4"])["items that users did not examine"] == 2
    assert read_parquet(str(tiny / "unexamined" / "part-0.parquet")).to_pydict() == {"user_id": [5], "item_id": [2]}


def test_users_who_are_not_there_change_nothing(tiny: Path) -> None:
    before, inode = contents(tiny), tiny.stat().st_ino
    assert remove(tiny, ["100", "nobody"]) == {}
    assert (contents(tiny), tiny.stat().st_ino) == (before, inode)
    assert [path.name for path in tiny.parent.iterdir()] == ["dataset"]


def test_a_kill_leaves_the_old_or_the_new_data_set_and_a_second_call_finishes(tiny: Path, tmp_path: Path) -> None:
    before = contents(tiny)
    shutil.copytree(tiny, tmp_path / "new" / "dataset")
    remove(tmp_path / "new" / "dataset", ["1", "7"])
    after = contents(tmp_path / "new" / "dataset")
    seen = []
    for killed in killed_copies(
        lambda folder: remove(folder, ["1", "7"]), tiny, tmp_path / "copies", "dataset/removal", "storage/claims"
    ):
        found = contents(killed)
        assert found in (before, after)
        seen.append(found == after)
        remove(killed, ["1", "7"])
        assert contents(killed) == after
        left = [path.name for path in killed.parent.iterdir() if ".claim" not in path.name]
        assert left == ["dataset"]
    assert seen == sorted(seen)
    assert {*seen} == {False, True}
