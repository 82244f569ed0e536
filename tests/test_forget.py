"""`prefrec forget`: kinds of folders, claims, policies that it names, and a kill at each change."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from killed import killed_copies
from platform_desk import Desk, make_policy
from tiny import write_dataset

from prefrec_ray import storage
from prefrec_ray.cli.main import run
from prefrec_ray.forget import Forgotten, Places, forget
from prefrec_ray.logs.events.segments import any_row, of_users
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.storage.parquet import write_parquet
from prefrec_ray.web.problems import Problem

DAY = 86_400_000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder `state` of a server with a snapshot, and a `loop` with two nights, of which the second averages both."""
    place = tmp_path / "place"
    make_policy().save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", place / "state")
    for user in (1, 2, 3, 1):
        shown = desk.one(Recommend(user=user, k=1))
        desk.one(Feedback(event_id=shown["event_id"], feedback={}))
    desk.stop(save=True)
    for night, users in (("0001", 6), ("0002", 4)):
        folder = place / "loop/nights" / night
        write_dataset(folder / "dataset", users=users, requests=12, pairs=4, length=3, shards=2)
        trained = {"dataset": str(folder / "dataset"), "task": "depth"}
        make_policy(items=3, provenance=trained).save(str(folder / "run/policy"))
        storage.write_json(str(folder / "run/config.json"), trained)
    averaged = {**trained, "averaged": [str(place / f"loop/nights/{night}/dataset") for night in ("0002", "0001")]}
    make_policy(items=3, provenance=averaged).save(str(place / "loop/nights/0002/run/averaged"))
    (place / "loop/nights.json").write_text("")
    return place


def test_the_command_removes_users_and_names_what_was_trained(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """User 5 trained in the first night, and is a validation user of the second one."""
    (tmp_path / "ids.txt").write_text("5\n\n2\r\n")
    assert run(["forget", str(place / "state"), str(place / "loop"), "--users", f"{tmp_path}/ids.txt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    nights = place / "loop/nights"
    assert lines[:3] == [
        "trained with data of these users, and not changed:",
        f"  {nights}/0001/run",
        f"  {nights}/0002/run",
    ]
    counts = dict(line.rsplit(maxsplit=1) for line in lines[4:-2])
    assert counts == {
        "impressions of data sets": "48",
        "preferences of data sets": counts["preferences of data sets"],
        "rows of event logs": "2",
        "snapshots of servers": "1",
        "transitions of data sets": "33",
    }
    assert lines[-2].endswith(" removed users: 2 of 2 ids, 2 paths")
    assert not any_row(str(place / "state"), of_users(["2"]))
    assert any_row(str(place / "state"), of_users(["1"]))
    assert run(["forget", str(place), "--user", "2", "--user", "5"]) == 0
    absent, done, *_ = capsys.readouterr().out.splitlines()
    assert absent == "2 of 2 ids have no row below these paths: '2', '5'"
    assert done.endswith(" nothing to remove: 0 of 2 ids, 1 paths")


USERS = ["x", " x", "x ", "4", "4.0", "\u2028", "a\u2028b", "\ufeffq", "q", '"x"', "\ty"]


@pytest.mark.parametrize(
    ("content", "gone"),
    [
        (b" x\n", [" x"]),
        (b"x\r\n4\r\n", ["x", "4"]),
        (b"\xef\xbb\xbfq\n4", ["q", "4"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfq\n", ["\ufeffq"]),
        ("a\u2028b\n".encode(), ["a\u2028b"]),
        (b'"x"\n\n\ty\n', ['"x"', "\ty"]),
        (b"4.0\n", ["4.0"]),
        (b"x \n", ["x "]),
    ],
)
def test_ids_are_taken_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, gone: list[str]
) -> None:
    """One id per line feed: blanks, quotes and other separators belong to it, and a user with a like id stays."""
    make_policy().save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    for user in USERS:
        desk.one(Recommend(user=user, k=1))
    desk.stop()
    (tmp_path / "ids.txt").write_bytes(content + b"nobody")
    count = len(gone) + 1
    if not content.endswith(b"\n"):
        (tmp_path / "ids.txt").write_bytes(content + b"\nnobody")
    assert run(["forget", str(tmp_path / "state"), "--users", f"{tmp_path}/ids.txt"]) == 0
    out = capsys.readouterr().out
    assert f"1 of {count} ids have no row below these paths: 'nobody'" in out
    assert f"removed users: {len(gone)} of {count} ids" in out
    left = Desk(tmp_path / "policy", tmp_path / "state")
    assert left.engine.state.users.ids == [user for user in USERS if user not in gone]
    left.stop()


def test_remains_of_a_killed_command_and_errors_of_nights_are_removed(place: Path) -> None:
    rest = place / "loop/nights/0003/dataset.12345678.partial"
    rest.mkdir(parents=True)
    (rest / "rows.txt").write_text("user 2")
    (place / "loop/nights.json.0123abcd.partial").write_text("user 2")
    (place / "loop/notes.partial").mkdir()  # of the user
    nights = [
        {"night": 1, "status": "failed", "why": "row 7: user '2': found x"},
        {"night": 2, "status": "failed", "why": "disk full at 22"},
        {"night": 3, "status": "kept", "why": "no_difference. 2 of 5 checks fail"},
    ]
    (place / "loop/nights.json").write_text("".join(json.dumps(night) + "\n" for night in nights))
    removed = forget([str(place)], ["2"], print).removed
    assert (removed["half-written outputs of killed commands"], removed["errors of nights"]) == (2, 1)
    assert sorted(path.name for path in (place / "loop").iterdir()) == ["nights", "nights.json", "notes.partial"]
    assert not rest.exists()
    first, *others = map(json.loads, (place / "loop/nights.json").read_text().splitlines())
    assert first.pop("seal").startswith("seal:000000")
    assert first == {"night": 1, "status": "failed", "why": "an error with a value of a removed user"}
    assert others == nights[1:]


@pytest.mark.parametrize("path", ["runs", "runs/dataset"])
def test_remains_without_anything_else_and_next_to_the_path_are_removed(tmp_path: Path, path: str) -> None:
    rest = tmp_path / "runs/dataset.12345678.partial"
    rest.mkdir(parents=True)
    if path == "runs/dataset":
        write_dataset(tmp_path / path, users=6, requests=12, pairs=4, length=3, shards=2)
    forgotten = forget([str(tmp_path / path)], ["nobody"], print)
    assert forgotten == Forgotten(Counter({"half-written outputs of killed commands": 1}), ["nobody"])
    assert not rest.exists()


def test_an_id_of_a_dropped_row_is_not_absent(place: Path) -> None:
    folder = place / "loop/nights/0001/dataset"
    (folder / "dropped").mkdir()
    table = pa.table({"file": ["f"], "row": [1], "raw": [json.dumps({"who": "lost "})]})
    write_parquet(table, str(folder / "dropped/part-0.parquet"))
    forgotten = forget([str(place / "loop")], ["lost", "nobody"], print)
    assert forgotten == Forgotten(Counter({"dropped rows of data sets": 1}), ["nobody"])


def test_a_snapshot_from_before_a_removal_is_not_used(place: Path, tmp_path: Path) -> None:
    """It is put back from a copy, and contains the user."""
    state = place / "state"
    shutil.copytree(state / "snapshots", tmp_path / "copy")
    forget([str(state)], ["1"], print)
    shutil.copytree(tmp_path / "copy", state / "snapshots")
    desk = Desk(tmp_path / "policy", state)
    assert desk.opened.notes == [f"{state}/snapshots/{8:015d}: older than a removal of users; the whole log is read"]
    assert desk.engine.state.users.ids == [2, 3]
    desk.one(Recommend(user=2, k=1))
    desk.stop(save=True)
    desk = Desk(tmp_path / "policy", state)  # of a snapshot from after the removal
    assert (desk.opened.notes, desk.engine.state.users.ids) == ([], [2, 3])
    desk.stop()
    assert forget([str(state)], ["1"], print) == Forgotten(Counter({"snapshots of servers": 1}), ["1"])


def test_a_first_id_of_another_type_is_removed_and_the_next_one_decides(tmp_path: Path) -> None:
    make_policy().save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    desk.one(Recommend(user=42, k=1))
    with pytest.raises(Problem, match="user: found 'alice'; expected a whole number, as for all earlier ids"):
        desk.one(Recommend(user="alice", k=1))
    desk.stop(save=True)
    forget([str(tmp_path / "state")], ["42"], print)
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    desk.one(Recommend(user="alice", k=1))
    assert desk.engine.state.users.ids == ["alice"]
    desk.stop()


def test_an_event_id_of_another_user_stays(tmp_path: Path) -> None:
    """Otherwise its feedback would count twice."""
    make_policy().save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    sent = Feedback(event_id="shared by alice", user="bob", item=3, feedback={"like": 1})
    for feedback in (sent, Feedback(event_id="e", user="alice", item=3, feedback={"like": 1})):
        assert desk.one(feedback)["status"] == "counted"
    desk.stop()
    forget([str(tmp_path / "state")], ["alice"], print)
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    assert desk.engine.state.users.ids == ["bob"]
    assert desk.one(sent)["status"] == "known"
    desk.stop()


def test_remains_of_a_running_command_stay(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with storage.claimed(str(place / "new")) as partial:
        Path(partial).mkdir()
        assert run(["forget", str(place), "--user", "2"]) == 2
        assert Path(partial).exists()
    assert any_row(str(place / "state"), of_users(["2"]))


def test_a_policy_with_the_mean_of_an_earlier_night_is_named(place: Path) -> None:
    shutil.rmtree(place / "loop/nights/0002/dataset")
    named: list[str] = []
    forget([str(place / "loop")], ["0"], named.append)
    assert named == [f"{place}/loop/nights/0001/run", f"{place}/loop/nights/0002/run/averaged"]


def test_the_server_goes_on_without_the_users(place: Path, tmp_path: Path) -> None:
    forget([str(place)], ["1"], print)
    desk = Desk(tmp_path / "policy", place / "state")
    assert desk.engine.state.users.ids == [2, 3]
    again = desk.one(Recommend(user=1, k=1))
    assert int(again["event_id"].partition("-")[2], 16) == 9  # no event id is issued again; row 8 marks the removal
    assert len(desk.states(DAY)) == 3
    new = Desk(tmp_path / "policy", tmp_path / "new")
    new.one(Recommend(user=1, k=1))
    now = 1_700_000_000_000 + DAY
    assert np.array_equal(desk.states(now)[1], new.states(now)[1])
    for one in (desk, new):
        one.stop()


def test_a_user_without_a_row_is_removed_from_the_snapshot(place: Path, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "policy", place / "state")
    desk.one(Recommend(user=1, k=1))
    desk.engine.plan([Recommend(user=4, k=1)], DAY)  # the disk is full
    desk.stop(save=True)
    assert forget([str(place)], ["4"], print).removed["snapshots of servers"] == 1
    assert storage.list_folders(str(place / "state/snapshots")) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["PLACE"], "--user: found no id; expected --user ID, or --users FILE with one id per line"),
        (["PLACE/nothing", "--user", "1"], "PLACE/nothing: found no folder; expected a folder with an event log"),
        (["PLACE/empty", "--user", "1"], "PLACE/empty: found nothing with data of users; expected an event log"),
        (["PLACE/link", "--user", "1"], "PLACE/link: found a link; expected a folder"),
        (["s3://bucket/loop", "--user", "1"], "s3://bucket/loop: found a store; expected a folder on a local disk"),
        (["PLACE", "--users", "PLACE/none.txt"], "PLACE/none.txt: no such file"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], expected: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty").mkdir()
    (place / "link").symlink_to(place / "state")
    assert run(["forget", *(text.replace("PLACE", str(place)) for text in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"prefrec: error: {expected.replace('PLACE', str(place))}")


def test_a_server_or_a_night_that_runs_is_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    desk = Desk(tmp_path / "policy", place / "state")
    assert run(["forget", str(place), "--user", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{place}/state: process " in line
    assert "; stop it, or wait for it" in line
    desk.one(Recommend(user=1, k=1))  # the server goes on, with the user
    desk.stop()
    with storage.claimed(str(place / "loop")):
        assert run(["forget", str(place / "loop/nights/0001/dataset"), "--user", "1"]) == 2
    assert f"{place}/loop: process " in capsys.readouterr().err
    assert any_row(str(place / "state"), of_users(["1"]))


def test_a_kill_between_the_folders_and_a_second_call(place: Path, tmp_path: Path) -> None:
    """Kills inside a log, a data set or a store: test_removed_rows.py, test_removed_users.py and others."""

    def act(folder: Path) -> Any:
        return forget([str(folder)], ["2", "5"], print)

    for killed in killed_copies(act, place, tmp_path / "copies", "forget", "serving/folder"):
        places = Places.find([str(killed)])
        assert (len(places.logs), len(places.datasets)) == (1, 2)
        act(killed)
        assert forget([str(killed)], ["2", "5"], print).removed == {}
        assert not any_row(f"{killed}/state", of_users(["2"]))
        desk = Desk(tmp_path / "policy", killed / "state")
        assert desk.engine.state.users.ids == [1, 3]
        desk.stop()
        for night in ("0001", "0002"):
            counts = json.loads((killed / "loop/nights" / night / "dataset/metadata.json").read_text())["counts"]
            assert sum(split["users"] for split in counts.values()) == {"0001": 11, "0002": 8}[night]
