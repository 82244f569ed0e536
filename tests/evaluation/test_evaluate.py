import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hand_made import direction, write_dataset

from prefrec_ray.cli.verdicts import summary
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError, find_user_error
from prefrec_ray.evaluation.behavior import BehaviorClone, fit_clone
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.ncis import LoggedSessions, ncis_scores
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.results.records import Evaluation, Record, read_evaluation, write_evaluation
from prefrec_ray.evaluation.results.scores import Scores
from prefrec_ray.evaluation.results.verdict import case_of
from prefrec_ray.evaluation.settings import EvaluateSettings, NcisSettings
from prefrec_ray.reports.page import evaluation_section

TASKS = ("depth", "frequency", "mixture")
NCIS = EvaluateSettings(estimators=("ncis",))


@pytest.fixture(scope="module")
def evaluated(dataset: PreparedDataset, policies: dict, clone: BehaviorClone) -> Evaluation:
    calls: list[tuple] = []
    evaluation = evaluate(EvaluationRequest(dataset, policies, TASKS, clone, NCIS), lambda *call: calls.append(call))
    stages = [("score logged sessions: files", done, 4) for done in (0, 1, 2, 3, 4)]
    assert calls == [*stages, ("compute intervals", 0, 1), ("compute intervals", 1, 1)]
    return evaluation


def by_subject(evaluation: Evaluation, task: str) -> dict[str, Record]:
    return {record.subject: record for record in evaluation.records if record.task == task}


def plain_value(dataset: PreparedDataset, policy: object, clone: BehaviorClone, task: str) -> tuple[float, float]:
    """The default NCIS and the value of the logging policy by plain loops over the files' own rows."""
    sigma = 2 * clone.residual_rms
    sessions = [row for file in dataset.files("sessions") for row in dataset.read(file).to_pylist()]
    requests: dict[tuple[int, int], list[float]] = {}
    for file in dataset.files("requests", "test"):
        table = dataset.read(file)
        states, logged = tensor(table["state"]), tensor(table["action"]).astype(np.float64)
        ours = ((logged - policy.act(states)) ** 2).sum(axis=1)
        clones = ((logged - clone.policy.act(states)) ** 2).sum(axis=1)
        for user, index, log_ratio in zip(
            table["user_id"].to_pylist(), table["session_index"].to_pylist(), clones - ours, strict=True
        ):
            requests.setdefault((user, index), []).append(log_ratio / (2 * sigma**2))
    weighted: dict[int, list[tuple[float, float]]] = {}
    for row in sessions:
        depth, frequency = row["level_depth"], row["level_frequency"]
        mixture = None if frequency is None else (depth + frequency) / 2
        level = {"depth": depth, "frequency": frequency, "mixture": mixture}[task]
        if row["split"] == "test" and level is not None:
            logs = requests[row["user_id"], row["session_index"]]
            rho = min(10.0, math.exp(sum(logs) / len(logs)))
            weighted.setdefault(row["user_id"], []).append((rho, level))
    users = list(weighted.values())
    value = np.mean([sum(r * x for r, x in user) / sum(r for r, _ in user) for user in users])
    return float(value), float(np.mean([np.mean([x for _, x in user]) for user in users]))


@pytest.mark.parametrize("task", TASKS)
def test_the_whole_way_equals_plain_loops(
    dataset: PreparedDataset, evaluated: Evaluation, policies: dict, clone: BehaviorClone, task: str
) -> None:
    records = by_subject(evaluated, task)
    for name, policy in policies.items():
        value, logged = plain_value(dataset, policy, clone, task)
        assert records[name].value == pytest.approx(value, abs=1e-5)
        assert records[name].behaviour == pytest.approx(logged, abs=1e-12)


def test_a_record_says_it_all(evaluated: Evaluation, dataset: PreparedDataset, clone: BehaviorClone) -> None:
    records = by_subject(evaluated, "frequency")
    roles = {subject: record.role for subject, record in records.items()}
    assert roles == {
        "right": "policy",
        "left": "policy",
        **dict.fromkeys(["shuffled:right", "shuffled:left", "shuffled:imitation"], "placebo"),
        **dict.fromkeys(["constant action", "random items"], "placebo"),
        **dict.fromkeys(["imitation", "length only:right", "length only:left"], "control"),
    }
    sessions = [row for file in dataset.files("sessions") for row in dataset.read(file).to_pylist()]
    sessions = [row for row in sessions if row["split"] == "test"]
    kept = sum(row["level_frequency"] is not None for row in sessions)
    alone = sum(count == 1 for count in Counter(row["user_id"] for row in sessions).values())
    for record in records.values():
        assert record.ci_low <= record.value <= record.ci_high
        assert record.gain_ci_low <= record.value - record.behaviour + 1e-12
        assert record.value - record.behaviour <= record.gain_ci_high + 1e-12
        assert 0 < record.ess <= 1 + 1e-12
        assert (record.sessions, record.users_left_out, record.users) == (kept, alone, 240 - alone)
        assert record.settings["residual_rms"] == clone.residual_rms
        assert record.settings["mode"] == "ratio"
    assert alone > 0
    assert (records["right"].method, records["left"].method) == ("TD3_BC", "left")


def test_ranks_by_what_good_sessions_did(evaluated: Evaluation) -> None:
    records = by_subject(evaluated, "frequency")
    assert records["right"].gain_ci_low > 0.2
    assert records["left"].gain_ci_high < -0.2
    assert records["imitation"].value == pytest.approx(records["imitation"].behaviour, abs=1e-12)
    assert records["imitation"].ess == pytest.approx(1)


def test_everybody_scores_the_logging_policys_value_where_actions_change_nothing(
    ray_session: None, tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", users=240, effect=0.0)
    request = EvaluationRequest(dataset, {"right": direction(dataset, 0.8)}, ["frequency"], fit_clone(dataset), NCIS)
    records = evaluate(request).records
    assert len(records) == 7
    for record in records:
        assert record.value == pytest.approx(record.behaviour, abs=0.05)


def test_session_length_explains_none_of_a_gain_in_frequency(evaluated: Evaluation) -> None:
    records = by_subject(evaluated, "frequency")
    gain = records["right"].value - records["right"].behaviour
    by_length = records["length only:right"].value - records["right"].behaviour
    assert abs(by_length) < 0.2 * gain


def test_what_is_served(evaluated: Evaluation, dataset: PreparedDataset, policies: dict) -> None:
    served = evaluated.served
    assert set(served) == {"right", "left", "imitation", "behaviour"}
    rows = {"state": [], "item_id": []}
    for file in dataset.files("requests", "test"):
        table = dataset.read(file)
        rows["state"].append(tensor(table["state"]))
        rows["item_id"].append(table["item_id"].to_numpy())
    states, logged = np.concatenate(rows["state"]), np.concatenate(rows["item_id"])
    assert len(states) < 20_000  # the sample is everything
    for name, policy in policies.items():
        ids, counts = np.unique(policy.serve(states, 1).items, return_counts=True)
        actions = policy.act(states)
        distances = np.linalg.norm(actions[:, None] - policy.items.embeddings, axis=2).min(axis=1)
        assert served[name].requests == len(states)
        assert served[name].distinct_items == len(ids)
        top = served[name].top_items[0]
        assert top.share == pytest.approx(counts.max() / len(states))
        assert top.item_id in ids[counts == counts.max()]
        assert len(served[name].top_items) == min(20, len(ids))
        assert served[name].item_distance == pytest.approx(distances.mean(), rel=1e-4)
        assert served[name].action_saturation == pytest.approx((np.abs(actions) >= 0.99).mean(), abs=1e-6)
    assert served["behaviour"].distinct_items == len(np.unique(logged))


def test_the_order_of_files_does_not_matter(
    dataset: PreparedDataset, evaluated: Evaluation, policies: dict, clone: BehaviorClone, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(dataset.uri, mixed)
    rng = np.random.default_rng(0)
    renamed = dict(zip(range(4), rng.permutation(4), strict=True))
    for source, target in renamed.items():
        for folder in ("requests/test", "sessions"):
            table = pq.read_table(f"{dataset.uri}/{folder}/part-{source:05d}.parquet")
            pq.write_table(table, mixed / folder / f"part-{target:05d}.parquet")
    for aggregate in ("product", "geometric"):
        settings = EvaluateSettings(estimators=("ncis",), ncis=NcisSettings(aggregate=aggregate))
        there, here = (
            by_subject(evaluate(EvaluationRequest(data, policies, ["frequency"], clone, settings)), "frequency")
            for data in (PreparedDataset.open(str(mixed)), dataset)
        )
        for name in ("right", "left", "constant action", "length only:right"):
            for key in ("value", "ess", "behaviour"):
                assert getattr(there[name], key) == pytest.approx(getattr(here[name], key), abs=1e-5)


def test_the_same_seed_gives_the_same_records(
    dataset: PreparedDataset, evaluated: Evaluation, policies: dict, clone: BehaviorClone
) -> None:
    assert evaluate(EvaluationRequest(dataset, policies, TASKS, clone, NCIS)) == evaluated


def test_a_policy_equal_to_the_clone_scores_like_it(dataset: PreparedDataset, clone: BehaviorClone) -> None:
    settings = EvaluateSettings(estimators=("ncis",), split="validation")
    records = by_subject(
        evaluate(EvaluationRequest(dataset, {"copy": clone.policy}, ["depth"], clone, settings)), "depth"
    )
    assert records["copy"].value == pytest.approx(records["copy"].behaviour, abs=1e-12)
    assert records["copy"].users_left_out == 0


def one_policy(dataset: PreparedDataset, clone: BehaviorClone) -> EvaluationRequest:
    settings = EvaluateSettings(estimators=("ncis",), ncis=NcisSettings(cap=None))
    return EvaluationRequest(dataset, {"p": clone.policy}, ["depth"], clone, settings)


def test_sessions_without_a_level_are_left_out(dataset: PreparedDataset, clone: BehaviorClone) -> None:
    level = np.array([1.0, np.nan, 3.0, np.nan, np.nan, 5.0])
    log_rho = np.repeat(np.log([[1.0], [9.0], [3.0], [2.0], [2.0], [7.0]]), 6, axis=1)
    sessions = LoggedSessions(np.array([0, 0, 0, 1, 1, 2]), level, level, np.ones(6), log_rho)
    scores = ncis_scores(one_policy(dataset, clone), "depth", sessions)
    records = {record.subject: record for record in scores.records(seed=0)}
    assert records["p"].value == pytest.approx((2.5 + 5) / 2)
    assert records["length only:p"].value == records["p"].behaviour == pytest.approx((2 + 5) / 2)
    assert (records["p"].users, records["p"].sessions, records["p"].users_left_out) == (2, 3, 1)


def test_nobody_with_a_level_is_one_line(dataset: PreparedDataset, clone: BehaviorClone) -> None:
    nothing = np.full(2, np.nan)
    sessions = LoggedSessions(np.array([0, 1]), nothing, nothing, np.ones(2), np.zeros((2, 6)))
    with pytest.raises(UserError, match="no session has a level"):
        ncis_scores(one_policy(dataset, clone), "depth", sessions)


def test_mistakes_are_one_line(dataset: PreparedDataset, policies: dict, clone: BehaviorClone) -> None:
    def failing(message: str, policies: dict, **settings: object) -> None:
        about = NCIS.model_copy(update=settings)
        with pytest.raises(UserError, match=message):
            evaluate(EvaluationRequest(dataset, policies, ["depth"], clone, about))

    right = policies["right"]
    for name in ("imitation", "shuffled:x"):
        failing(f"policy name '{name}'", {name: right})
    failing("no impressions in the split 'elsewhere'", policies, split="elsewhere")


def test_a_mistake_found_by_a_worker_is_one_line(
    dataset: PreparedDataset, policies: dict, clone: BehaviorClone, tmp_path: Path
) -> None:
    shutil.copytree(dataset.uri, tmp_path / "less")
    file = tmp_path / "less" / "requests" / "test" / "part-00002.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(Exception, match="found other sessions than") as raised:
        evaluate(EvaluationRequest(PreparedDataset.open(str(tmp_path / "less")), policies, ["depth"], clone, NCIS))
    error = find_user_error(raised.value)
    assert error is not None
    assert str(error).startswith(f"{file}: found other sessions than")


def test_the_file_reads_back(evaluated: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_evaluation(str(path), evaluated)
    assert read_evaluation(str(path)) == evaluated


def numbered(request: EvaluationRequest, task: str) -> Scores:
    """An estimator of a user's own: the number of the user plus the number of the subject."""
    subjects = request.subjects_on(task)
    values = np.arange(3.0)[:, None] + np.arange(len(subjects))
    counts = {"users": 3, "sessions": 3, "users_left_out": 0}
    return Scores(task, "any", subjects, values, np.ones(3), None, counts, {"mine": True})


def test_an_estimator_of_a_users_own_has_records_and_no_part_in_verdicts(
    dataset: PreparedDataset, evaluated: Evaluation, policies: dict, clone: BehaviorClone
) -> None:
    name = f"{__name__}:numbered"
    settings = EvaluateSettings(estimators=("ncis", name))
    both = evaluate(EvaluationRequest(dataset, policies, ("depth",), clone, settings))
    own = both.select("depth", name)
    assert [record.subject for record in own[:2]] == ["right", "shuffled:right"]
    assert [record.value for record in own[:3]] == [1.0, 2.0, 3.0]
    assert own[0].behaviour == 1.0
    assert both.select("depth", "ncis") == evaluated.select("depth", "ncis")
    assert {case_of(both, policy).record.estimator for policy in policies} == {"ncis"}
    assert name in str(evaluation_section(both))
    assert name in [column.header for column in summary(both, "depth").columns]


def test_an_estimator_that_cannot_be_imported_is_reported_before_the_work(
    dataset: PreparedDataset, policies: dict, clone: BehaviorClone
) -> None:
    calls: list[tuple] = []
    settings = EvaluateSettings(estimators=("ncis", "nowhere:numbered"))
    with pytest.raises(UserError, match="found 'nowhere:numbered'"):
        evaluate(EvaluationRequest(dataset, policies, ("depth",), clone, settings), lambda *call: calls.append(call))
    assert calls == []
