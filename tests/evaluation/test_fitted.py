"""Fitted-Q and doubly robust records, the whole way through Ray."""

from itertools import pairwise

import numpy as np
import pytest
from hand_made import direction

from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.evaluation.behavior import BehaviorClone
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.results.records import Record
from prefrec_ray.evaluation.settings import EvaluateSettings, FqeSettings
from prefrec_ray.policy import Policy
from prefrec_ray.users.reading import histories_of

FQE = FqeSettings(gamma_session=0.5, updates=200, networks=3)


@pytest.fixture(scope="module")
def evaluated(dataset: PreparedDataset, policies: dict[str, Policy], clone: BehaviorClone) -> tuple[Record, ...]:
    calls: list[tuple] = []
    request = EvaluationRequest(
        dataset,
        {**policies, "other": direction(dataset, 0.4)},
        ["frequency", "depth"],
        clone,
        EvaluateSettings(estimators=("ncis", "fqe", "dr"), fqe=FQE),
        trained_for={"right": "frequency", "left": "frequency", "other": "depth"},
    )
    records = evaluate(request, lambda *call: calls.append(call)).records
    # Policies and their shuffled selves, imitation and its own, constant, random; and the logging policy, task by task.
    assert calls[-3] == ("fit Q: policies and controls", 9 + 7, 9 + 7)
    return records


def of(records: tuple[Record, ...], task: str, estimator: str) -> dict[str, Record]:
    return {r.subject: r for r in records if (r.task, r.estimator) == (task, estimator)}


def mean_level(dataset: PreparedDataset) -> float:
    """Return the mean level of all test sessions."""
    rows = [row for file in dataset.files("sessions") for row in dataset.read(file).to_pylist()]
    return float(
        np.mean(
            [row["level_frequency"] for row in rows if row["split"] == "test" and row["level_frequency"] is not None]
        )
    )


@pytest.mark.parametrize("estimator", ["fqe", "dr"])
def test_who_is_better_than_the_logging_policy_and_who_worse(
    dataset: PreparedDataset, evaluated: tuple[Record, ...], estimator: str
) -> None:
    records = of(evaluated, "frequency", estimator)
    assert records["right"].gain_ci_low > 0.2
    assert records["left"].gain_ci_high < -0.2
    # The correction gives each user the user's own mean level, which these states do not know.
    logged = of(evaluated, "frequency", "ncis")["right"].behaviour
    expected = mean_level(dataset) if estimator == "fqe" else logged
    assert records["right"].behaviour == pytest.approx(expected, abs=0.1)
    for name in ("imitation", "shuffled:imitation", "constant action"):
        gain = records[name].value - records[name].behaviour
        assert abs(gain) < 0.5 * (records["right"].value - records["right"].behaviour)


def test_records_are_of_the_same_kind_as_those_of_ncis(evaluated: tuple[Record, ...], clone: BehaviorClone) -> None:
    ncis, fqe, dr = (of(evaluated, "frequency", estimator) for estimator in ("ncis", "fqe", "dr"))
    assert set(fqe) == set(dr) == {name for name in ncis if not name.startswith("length only:")}
    for record in (*fqe.values(), *dr.values()):
        like = ncis[record.subject]
        assert record.model_fields_set == like.model_fields_set
        assert (record.role, record.method) == (like.role, like.method)
        assert record.ci_low <= record.value <= record.ci_high
        assert record.gain_ci_low - 1e-9 <= record.gain <= record.gain_ci_high + 1e-9
    # Users with one session have no step; all others have one session less than in the log, as for frequency's levels.
    for key in ("users", "sessions", "users_left_out"):
        assert getattr(fqe["right"], key) == getattr(dr["right"], key) == getattr(ncis["right"], key)
    assert fqe["right"].ess is None
    assert dr["imitation"].ess == pytest.approx(1)
    assert fqe["left"].settings == {"gamma_session": 0.5, "updates": 200, "networks": 3, "split": "test", "seed": 0}
    assert dr["left"].settings["residual_rms"] == clone.residual_rms


def test_a_policy_is_scored_on_the_task_it_was_trained_for(evaluated: tuple[Record, ...]) -> None:
    for estimator in ("ncis", "fqe", "dr"):
        policies = {
            task: [n for n, r in of(evaluated, task, estimator).items() if r.role == "policy"] for task in TASKS
        }
        assert policies == {"frequency": ["right", "left"], "depth": ["other"]}


def test_the_interval_behind_the_best_is_that_of_the_difference(evaluated: tuple[Record, ...]) -> None:
    for estimator in ("ncis", "fqe", "dr"):
        right, left = (of(evaluated, "frequency", estimator)[name] for name in ("right", "left"))
        assert right.best is None
        assert left.best == "right"
        assert left.behind_ci_low < right.value - left.value < left.behind_ci_high
        assert left.behind_ci_low > 0
    assert all(record.best is None for record in evaluated if record.task == "depth")


def test_the_table_of_items_is_read_once_whatever_the_number_of_files(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = []
    load = PreparedDataset.items
    monkeypatch.setattr(PreparedDataset, "items", lambda self: tables.append(load(self)) or tables[-1])
    assert len(dataset.files("requests", "train")) == 4
    histories_of(dataset, "train", 0)
    assert len(tables) == 1


def test_a_sample_holds_whole_users(dataset: PreparedDataset) -> None:
    read = histories_of
    data = read(dataset, "train", 0, rows=1000)
    assert 700 < len(data.state) < 1400
    logged = {}
    for file in dataset.files("requests", "train"):
        table = dataset.read(file)
        for user, state in zip(table["user_id"].to_pylist(), tensor(table["state"]), strict=True):
            logged.setdefault(user, []).append(state[:3].tobytes())
    whole = {tuple(states) for states in logged.values()}
    for start, end in pairwise([*data.starts, len(data.state)]):
        assert tuple(state[:3].tobytes() for state in data.state[start:end]) in whole
    assert not np.array_equal(read(dataset, "train", 1, rows=1000).state, data.state)


TASKS = ("frequency", "depth")
