from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hand_made import direction, write_dataset

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.behavior import BehaviorClone
from prefrec_ray.evaluation.estimators import logged_sessions
from prefrec_ray.evaluation.estimators.logged_sessions import score_file
from prefrec_ray.evaluation.estimators.ncis import LoggedSessions, session_columns
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.policy import Policy
from prefrec_ray.users.reading import in_page_order, session_starts

SESSIONS = pa.table(
    {
        "user_id": ["a", "a", "b"],
        "session_index": [0, 1, 0],
        "depth": [1, 3, 2],
        "level_depth": [0.0, 1.0, 1.0],
        "level_frequency": [2.0, None, None],
    }
)
REQUESTS = pa.table({"user_id": ["a"] * 4 + ["b"] * 2, "session_index": [0, 1, 1, 1, 0, 0], "step": [0, 1, 2, 3, 0, 1]})


def test_sessions_begin_where_their_user_or_number_changes() -> None:
    assert session_starts(REQUESTS, SESSIONS, "file").tolist() == [0, 1, 4]
    pages = REQUESTS.take([0, 0, 1, 2, 3, 3, 3, 4, 5])  # some of several items
    assert session_starts(pages, SESSIONS, "file").tolist() == [0, 2, 7]


def test_items_of_a_page_are_read_by_position() -> None:
    pages = REQUESTS.take([0, 1, 1, 1, 4, 4]).append_column("position", pa.array([7, 2, 0, 1, None, 3], pa.int32()))
    ordered = in_page_order(pages)
    assert ordered["position"].to_pylist() == [7, 0, 1, 2, 3, None]
    assert ordered.drop_columns("position").equals(pages.drop_columns("position"))
    assert in_page_order(REQUESTS) is REQUESTS


def test_columns_of_sessions() -> None:
    columns = session_columns(SESSIONS, np.zeros((3, 1)))
    assert columns.user.tolist() == [0, 0, 1]
    assert columns.depth.tolist() == [1.0, 3.0, 2.0]
    np.testing.assert_array_equal(columns.frequency_level, [2, np.nan, np.nan])


def test_an_empty_file_among_others() -> None:
    assert len(session_starts(REQUESTS.slice(0, 0), SESSIONS.slice(0, 0), "file")) == 0
    some = session_columns(SESSIONS, np.zeros((3, 1)))
    none = session_columns(SESSIONS.slice(0, 0), np.zeros((0, 1)))
    joined = LoggedSessions.concatenate([none, some, none, some])
    assert joined.user.tolist() == [0, 0, 1, 2, 2, 3]
    assert some.user.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "requests",
    [
        REQUESTS.slice(1),  # a session is shorter than its depth
        pa.concat_tables([REQUESTS, pa.table({"user_id": ["c"], "session_index": [0], "step": [0]})]),  # a stranger
        REQUESTS.set_column(0, "user_id", pa.array(["a"] * 4 + ["c"] * 2)),  # another user
        REQUESTS.take([4, 5, 0, 1, 2, 3]),  # in another order
        REQUESTS.slice(0, 0),
    ],
)
def test_requests_of_other_sessions_are_refused(requests: pa.Table) -> None:
    with pytest.raises(UserError, match="part-7: found other sessions than"):
        session_starts(requests, SESSIONS, "part-7")


def test_of_many_requests_whose_items_are_drawn_some_whole_users_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_dataset(tmp_path / "dataset", users=40, files=2)
    clone = BehaviorClone(direction(dataset, 0.0), 0.3, np.zeros(2, np.float32))
    request = EvaluationRequest(dataset, {"p": direction(dataset, 0.8)}, ["depth"], clone)
    file = dataset.files("requests", "test")[0]
    everybody, _ = score_file(file, request, served_rows=5)
    monkeypatch.setattr(logged_sessions, "DRAWN_REQUESTS", dataset.metadata.counts["test"]["requests"] // 4)
    same, _ = score_file(file, request, served_rows=5)
    np.testing.assert_array_equal(same.log_rho, everybody.log_rho)  # its actions are the actor's own
    monkeypatch.setattr(Policy, "always_nearest", False)
    some, _ = score_file(file, request, served_rows=5)
    assert (everybody.users, some.users) == (20, 5)
    depths = [
        {tuple(sessions.depth[sessions.user == user]) for user in range(sessions.users)}
        for sessions in (some, everybody)
    ]
    assert depths[0] < depths[1]  # of whole users


def test_each_file_has_luck_of_its_own_which_all_policies_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_dataset(tmp_path / "dataset", users=40, files=2)
    clone = BehaviorClone(direction(dataset, 0.0), 0.3, np.zeros(2, np.float32))
    policies = {"p": direction(dataset, 0.8), "q": direction(dataset, 0.1)}
    request = EvaluationRequest(dataset, policies, ["depth"], clone)
    seeds: list[int] = []
    act = Policy.act

    def spied(policy: Policy, states: np.ndarray, seed: int = 0, recent: np.ndarray | None = None) -> np.ndarray:
        seeds.append(seed)
        return act(policy, states, seed, recent)

    monkeypatch.setattr(Policy, "act", spied)
    for call in (score_file, logged_sessions.serve_file):
        seeds.clear()
        for file in dataset.files("requests", "test"):
            call(file, request, served_rows=5)
        first, second = seeds[:3], seeds[3:]
        assert len(set(first)) == len(set(second)) == 1
        assert first != second
