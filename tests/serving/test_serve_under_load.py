"""`prefrec serve` while many clients send: reloads, other states, and kills."""

import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from platform_desk import STATE, Desk, make_policy
from served import Client, Process, serving
from state_definitions import changed

from prefrec_ray.logs.events.format import Kind


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "policy"
    make_policy(items=300).save(str(folder))
    return folder


def test_a_reload_under_load_makes_no_error(bundle: Path, tmp_path: Path) -> None:
    alias = tmp_path / "current"
    other = tmp_path / "other"
    make_policy(seed=5, items=300).save(str(other))
    alias.symlink_to(bundle)
    with serving(alias, tmp_path / "state") as process:
        process.client()
        answers: list[tuple[int, str]] = []
        done = threading.Event()

        def load(user: int) -> None:
            client = Client(process.port)
            while not done.is_set():
                status, answer = client.ask("POST", "/recommend", {"user": user, "k": 1})
                answers.append((status, answer.get("policy", "")))

        threads = [threading.Thread(target=load, args=(user,)) for user in range(4)]
        for thread in threads:
            thread.start()
        client = process.client()
        before = client.ask("GET", "/healthz")[1]["policy"]
        alias.unlink()
        alias.symlink_to(other)
        status, answer = client.ask("POST", "/reload")
        assert (status, answer["changed"]) == (200, True)
        time.sleep(0.3)
        make_policy(items=300, text=True).save(str(tmp_path / "text"))
        alias.unlink()
        alias.symlink_to(tmp_path / "text")
        status, problem = client.ask("POST", "/reload")  # of another kind: the one before goes on
        assert status == 409
        assert "item_ids" in problem["detail"]
        assert client.ask("GET", "/healthz")[1]["policy"] == answer["policies"]["main"] != before
        done.set()
        for thread in threads:
            thread.join()
        assert {status for status, _ in answers} == {200}
        assert {policy for _, policy in answers} == {before, answer["policies"]["main"]}


def test_a_policy_with_other_states_is_taken_over_under_load(bundle: Path, tmp_path: Path) -> None:
    """Its states are made of the whole log, aside; what comes meanwhile is in them, to the bit."""
    alias, other = tmp_path / "current", tmp_path / "other"
    make_policy(seed=5, items=300, state=changed(STATE, item_half_lives=(0, 3))).save(str(other))
    alias.symlink_to(bundle)
    with serving(alias, tmp_path / "state") as process:
        done, statuses = threading.Event(), set()

        def load(user: int) -> None:
            client = process.client()
            while not done.is_set():
                shown = client.post("/recommend", user=user, k=1)
                if shown["items"]:
                    body = {"event_id": shown["event_id"], "feedback": {"watch": 0.5}}
                    statuses.add(client.ask("POST", "/feedback", body)[0])

        threads = [threading.Thread(target=load, args=(user,)) for user in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        alias.unlink()
        alias.symlink_to(other)
        assert process.client().ask("POST", "/reload")[1]["changed"]
        time.sleep(0.2)
        done.set()
        for thread in threads:
            thread.join()
        assert statuses == {200}
    saved = Desk(other, tmp_path / "state")  # from the files of the server
    assert saved.opened.notes == []
    taken_over = saved.states(4_000_000_000_000)
    saved.stop()
    shutil.rmtree(tmp_path / "state" / "snapshots")
    for user, state in Desk(other, tmp_path / "state").states(4_000_000_000_000).items():
        assert state.tobytes() == taken_over[user].tobytes()
    assert len(taken_over) == 3


@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("kills", [20])
def test_acknowledged_events_survive_kill_9_and_count_once(bundle: Path, tmp_path: Path, kills: int) -> None:
    """Also during snapshots. Half of the users send feedback on whole pages, all of which counts or nothing."""
    (tmp_path / "serve.yaml").write_text("serve: {snapshot_events: 5}")
    acknowledged: set[tuple[str, int]] = set()
    recommended: set[str] = set()
    for turn in range(kills):
        process = Process(bundle, tmp_path / "state", "--config", str(tmp_path / "serve.yaml"))
        process.client()
        lock = threading.Lock()

        def load(user: int, port: int = process.port, lock: threading.Lock = lock) -> None:
            client = Client(port)
            try:
                while True:
                    shown = client.post("/recommend", user=user, k=2)
                    with lock:
                        recommended.add(shown["event_id"])
                    entries = [{"item": item, "feedback": {"like": 1}} for item in shown["items"]]
                    for body in [{"items": entries}] if user % 2 else entries:
                        for _ in range(2):  # sent again, as after a lost answer
                            client.post("/feedback", event_id=shown["event_id"], **body)
                            with lock:
                                acknowledged.update(
                                    (shown["event_id"], entry["item"]) for entry in body.get("items", [body])
                                )
            except Exception:  # it was killed
                return

        threads = [threading.Thread(target=load, args=(10 * turn + n,)) for n in range(4)]
        known = len(acknowledged)
        for thread in threads:
            thread.start()
        while len(acknowledged) < known + 30 + 10 * (turn % 6):  # a busy machine takes longer
            time.sleep(0.01)
        process.kill()
        for thread in threads:
            thread.join()
    desk = Desk(bundle, tmp_path / "state")
    rows = [row for table in desk.engine.log.tables() for row in table.to_pylist()]
    counted = Counter((row["event_id"], row["items"][0]) for row in rows if row["kind"] == Kind.FEEDBACK)
    assert len(acknowledged) > 50
    assert acknowledged <= set(counted)
    assert set(counted.values()) == {1}
    of_pages = Counter(row["event_id"] for row in rows if row["kind"] == Kind.FEEDBACK and row["user_number"] % 2)
    assert set(of_pages.values()) == {2}
    assert recommended <= {row["event_id"] for row in rows if row["kind"] == Kind.RECOMMENDED}
    before = desk.states(4_000_000_000_000)
    desk.stop(save=True)
    again = Desk(bundle, tmp_path / "state")
    for user, state in again.states(4_000_000_000_000).items():
        assert state.tobytes() == before[user].tobytes()
    again.stop()
    assert np.isfinite(np.array(list(before.values()))).all()
