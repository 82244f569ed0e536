"""The truth bench's scores, on evaluations made by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.truth import bench
from benchmarks.truth.bench import (
    ALL_METHODS,
    SWEEP,
    copy_policies,
    ended,
    sweeps,
)
from benchmarks.truth.scores import below, cells, mean, pick, table
from prefrec_ray.bench.worlds import DEVELOPMENT, VALIDATION, WORLDS, one_log, sections_of
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.settings import parse
from prefrec_ray.simulator.settings import SimulateSettings
from tests.policy.test_policy import make_critic, make_policy


def evaluation(values: dict[tuple[str, str], float], nutrition: float) -> dict[str, Any]:
    """Values by (kind, method) on the task depth; the logging policy is worth 1."""
    records: list[dict[str, Any]] = [
        {"estimator": "online", "subject": "nutrition", "role": "control", "task": "depth", "value": nutrition}
    ]
    served = {}
    for (kind, method), value in values.items():
        bundle = f"output/world/log/{kind}/policies/{method}_depth_10_00000"
        known = {"subject": bundle, "bundle": bundle, "method": method, "task": "depth", "behaviour": 1.0}
        records += [
            {**known, "estimator": "online", "role": "policy", "value": value},
            {**known, "estimator": "ncis", "role": "policy", "value": 100.0},
            {**known, "estimator": "ncis", "role": "placebo", "value": 100.0},
        ]
        served[bundle] = {"distinct_items": 10 if kind == "robust" else 1}
    return {"records": records, "served": served}


def write_log(folder: Path, values: dict[tuple[str, str], float], nutrition: float) -> None:
    folder.mkdir(parents=True)
    (folder / "world.yaml").write_text("simulate: {items: 50}")
    (folder / "evaluation.json").write_text(json.dumps(evaluation(values, nutrition)))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    first = {("robust", "PrefRec"): 3.0, ("best", "PrefRec"): 0.5, ("truth", "PrefRec"): 5.0}
    second = {**first, ("robust", "PrefRec"): 2.0, ("truth", "PrefRec"): 4.0}
    write_log(tmp_path / "tiring" / "log0", first, 3.0)
    write_log(tmp_path / "tiring" / "log1", second, 3.0)
    paper = {("paper", "PrefRec"): 1.0}
    write_log(tmp_path / "all_at_once" / "log0", {**first, **paper, ("robust", "IL"): 1.5}, 9.0)
    write_log(tmp_path / "all_at_once" / "log1", {**second, **paper, ("robust", "IL"): 2.5}, 9.0)
    (tmp_path / "tiring" / "log2" / "robust").mkdir(parents=True)  # not rolled out yet
    return tmp_path


def test_scores_are_shares_of_what_is_possible_on_the_same_log(output: Path) -> None:
    scored = cells(output)
    assert len(scored) == 4 * 3 + 2 * 2
    score = {(c["world"], c["log"], c["kind"], c["method"]): c["score"] for c in scored}
    # tiring: the policy that learned from the truth (5, then 4) beats the hand-made one (3); all at once it does not.
    assert score["tiring", "log0", "robust", "PrefRec"] == pytest.approx((3 - 1) / (5 - 1))
    assert score["tiring", "log1", "robust", "PrefRec"] == pytest.approx((2 - 1) / (4 - 1))
    assert score["all_at_once", "log0", "robust", "PrefRec"] == pytest.approx((3 - 1) / (9 - 1))
    assert score["tiring", "log0", "best", "PrefRec"] == pytest.approx(-0.5 / 4)
    (one,) = pick(scored, world="tiring", kind="robust", log="log0")
    assert one["served"] == pytest.approx(10 / 50)


def test_means_and_their_intervals_over_logs(output: Path) -> None:
    scored = cells(output)
    tiring = pick(scored, kind="robust", world="tiring")
    # .5 and .333: t of one degree of freedom is 12.7.
    assert mean(tiring) == "0.42 [-0.64, 1.48]"
    assert mean(pick(tiring, log="log0")) == "0.50"
    assert mean([]) == ""
    assert below(pick(scored, kind="best")) == "4 of 4"
    assert below(pick(scored, kind="paper")) == "0 of 2"


def test_the_table_has_the_worlds_and_the_methods(output: Path) -> None:
    lines = table(cells(output)).splitlines()
    assert "| tiring | 0.42 [-0.64, 1.48] | -0.15 [-0.41, 0.12] | 1.00 [1.00, 1.00] | 0.20 [0.20, 0.20] |" in lines
    assert "| cells below the logging policy | 0 of 4 | 4 of 4 | 0 of 4 |  |" in lines
    # A method next to PrefRec in the worlds of its training.
    assert "| method (`robust`) | all_at_once | below |" in lines
    assert [line for line in lines if line.startswith("| IL | 0.12") and line.endswith("| 0 of 2 |")]
    assert [line for line in lines if line.startswith("| PrefRec, `paper` | 0.00 [0.00, 0.00] | 0 of 2 |")]


def test_a_log_has_seeds_of_its_own() -> None:
    sections = sections_of("tiring")
    logs = [one_log(sections, log, f"log{log}") for log in range(3)]
    assert len({one["simulate"]["seed"] for one in logs}) == len({one["prepare"]["seed"] for one in logs}) == 3
    assert [one["prepare"]["source"]["path"] for one in logs] == ["log0", "log1", "log2"]
    assert sections["prepare"]["source"]["path"] == "logs"
    # Nor does a log of one world have the seed of another's.
    seeds = {sections_of(name)["simulate"]["seed"] + log for name in WORLDS for log in range(3)}
    assert len(seeds) == 3 * len(WORLDS)


def test_every_world_once_before_any_again_and_all_methods_in_some(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[str, int, dict[str, Any], bool]] = []
    monkeypatch.setattr(
        bench, "run_log", lambda name, log, output, changes, full: runs.append((name, log, changes, full))
    )
    bench.main(output, worlds=["tiring", "all_at_once"], logs=[0, 1])
    assert runs == [
        (name, log, {}, full) for log in (0, 1) for name, full in (("tiring", False), ("all_at_once", True))
    ]
    runs.clear()
    bench.main(output, worlds=["tiring"], methods=["IL"], logs=[2])
    assert runs == [("tiring", 2, {"method": ["IL"]}, True)]
    bench.main(output, table=True)
    assert len(runs) == 1


def test_a_world_has_all_methods_and_the_paper_or_prefrec_alone() -> None:
    alone, full = (sweeps({"seeds": [11]}, full) for full in (False, True))
    assert {name: len(one["method"]) for name, one in alone.items()} == {"robust": 1, "truth": 1}
    assert {name: len(one["method"]) for name, one in full.items()} == {"robust": 8, "truth": 1, "paper": 1}
    assert {name: one["recipe"] for name, one in full.items()} == {
        "robust": "robust",
        "truth": "robust",
        "paper": "paper",
    }
    assert all(one["seeds"] == [11] for one in full.values())
    assert full["robust"]["search"]["value_lr"]["methods"] == ["PrefRec", "IQL"]
    assert alone["robust"]["search"]["value_lr"]["methods"] == ["PrefRec"]


def test_policies_that_need_no_training_of_their_own(tmp_path: Path) -> None:
    policy = make_policy(serving=ServingSettings(), critic=make_critic(0), provenance={"task": "frequency"})
    for name in (
        "robust/policies/PrefRec_depth_10_0",
        "robust/policies/IL_depth_10_1",
        "truth/policies/PrefRec_frequency_10_0",
    ):
        policy.save(str(tmp_path / name))
    for _ in range(2):  # the second time finds all there
        copy_policies(tmp_path, ["depth", "frequency"])
    (copy,) = (tmp_path / "best" / "policies").iterdir()
    assert copy.name == "PrefRec_depth_10_0"
    served = Policy.load(str(copy))
    assert (served.serving.rule, served.serving.candidates) == ("best", "catalogue")
    states = np.zeros((50, policy.state.width), dtype=np.float32)
    assert len(np.unique(served.serve(states, 1).items)) == 1 < len(np.unique(policy.serve(states, 1, seed=0).items))
    copies = {path.name: Policy.load(str(path)) for path in (tmp_path / "truth" / "policies").iterdir()}
    assert {name: one.provenance["task"] for name, one in copies.items()} == {
        "PrefRec_depth_10_0": "depth",
        "PrefRec_frequency_10_0": "frequency",
    }
    depth = copies["PrefRec_depth_10_0"].serve(states, 1, seed=0).items
    np.testing.assert_array_equal(depth, policy.serve(states, 1, seed=0).items)


def test_an_interrupted_sweep_has_not_ended(tmp_path: Path) -> None:
    file = tmp_path / "trials.csv"
    assert not ended(file)
    file.write_text("trial,status\na,finished\nb,waiting\n")
    assert not ended(file)
    file.write_text("trial,status\na,finished\nb,failed\n")
    assert ended(file)


def test_every_world_is_valid() -> None:
    assert {*ALL_METHODS, *DEVELOPMENT, *VALIDATION} < set(WORLDS)
    for name in WORLDS:
        sections = sections_of(name)
        parse(SimulateSettings, sections["simulate"], name)
        parse(PrepareSettings, sections["prepare"], name)
    for kind, settings in sweeps({}, full=True).items():
        tuned = parse(TuneSettings, settings, kind)
        assert tuned.task == (["frequency"] if kind == "truth" else ["depth", "frequency", "mixture"])
    assert all(name in SWEEP.read_text() for name in ALL_METHODS)


def test_a_world_of_your_own_is_a_yaml_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(sections_of("differing_leaving")))
    assert sections_of(str(file)) == sections_of("differing_leaving") != sections_of("stable")
    file.write_text("simulate: {users: 10}\n")
    with pytest.raises(UserError, match="section 'prepare' is missing"):
        sections_of(str(file))
