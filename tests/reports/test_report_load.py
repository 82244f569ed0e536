import json
from pathlib import Path

import numpy as np
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import short_names
from prefrec_ray.reports.load import load_evaluation, load_runs


def test_runs_are_found_in_a_folder_and_by_themselves(runs: Path) -> None:
    assert [run.label for run in load_runs([str(runs)])] == ["PrefRec paper", "PrefRec robust"]
    assert [run.label for run in load_runs([f"{runs}/robust/", str(runs)])] == ["PrefRec robust", "PrefRec paper"]


def test_curves_are_numbers_with_empty_cells_as_nan(runs: Path) -> None:
    run = load_runs([str(runs / "paper")])[0]
    np.testing.assert_array_equal(run.curve("training_iteration"), np.arange(1, 16))
    assert np.isnan(run.curve("losses/qf_loss")[:3]).all()
    np.testing.assert_allclose(run.curve("losses/qf_loss")[3:], 0.2 / np.arange(4, 16))
    assert np.isnan(run.curve("no/such/column")).all()


def test_evaluation_beside_and_inside_runs_counts_equal_records_once(runs: Path) -> None:
    loaded = load_runs([str(runs)])
    whole = load_evaluation([str(runs)], loaded)
    (runs / "robust" / "evaluation.json").write_text((runs / "evaluation.json").read_text())
    assert load_evaluation([str(runs)], loaded) == whole
    for file in (runs / "evaluation.json", runs / "robust" / "evaluation.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "dataset": "such/dataset"}))
    assert load_evaluation([str(runs)], loaded).dataset == "such/dataset"
    assert len(whole.records) == 9
    assert [r.subject for r in whole.select("frequency", "online")] == ["paper", "robust", "imitation", "behaviour"]


def test_levels_on_two_data_sets_are_not_compared(runs: Path) -> None:
    text = (runs / "evaluation.json").read_text()
    for folder, name in ((runs, "one"), (runs / "robust", "two")):
        (folder / "evaluation.json").write_text(json.dumps({**json.loads(text), "dataset": str(runs / name)}))
    with pytest.raises(UserError, match=r"found evaluations on several data sets \(.*one, .*two\); expected one"):
        load_evaluation([str(runs)], load_runs([str(runs)]))


def test_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: contains no run \(expected config.json and progress.csv"):
        load_runs([str(tmp_path / "empty")])
    with pytest.raises(UserError, match="nothing: no such folder"):
        load_runs([str(tmp_path / "nothing")])


def test_a_run_without_an_iteration_is_one_line(runs: Path) -> None:
    file = runs / "paper" / "progress.csv"
    file.write_text(file.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match=r"progress\.csv: no iteration yet"):
        load_runs([str(runs)])


def test_names_tell_what_differs() -> None:
    base = {"method": "PrefRec", "recipe": "robust", "task": "depth", "seed": 0}
    assert short_names([base], ["a"]) == ["PrefRec robust"]
    assert short_names([base, {**base, "seed": 1}], ["a", "b"]) == ["PrefRec robust seed 0", "PrefRec robust seed 1"]
    assert short_names([base, {**base, "task": "mixture"}], ["a", "b"]) == [
        "PrefRec robust depth",
        "PrefRec robust mixture",
    ]
    varied = [{**base, "variety": variety} for variety in (1.2, 6.0)]
    assert short_names(varied, ["a", "b"]) == ["PrefRec robust variety 1.2", "PrefRec robust variety 6"]
    drawn = [{**base, "variety": 6.0, "temperature": temperature} for temperature in (0.15, 0.3)]
    assert short_names(drawn, ["a", "b"]) == [
        "PrefRec robust variety 6 temperature 0.15",
        "PrefRec robust variety 6 temperature 0.3",
    ]
    assert short_names([base, dict(base)], ["runs/a/", "runs/b"]) == ["a", "b"]
    assert short_names([base, dict(base)], ["s3://b/runs/a/policy", "s3://b/ruins/policy"]) == [
        "runs/a/policy",
        "ruins/policy",
    ]
    assert short_names([base, dict(base)], ["runs/a", "runs/a"]) == ["a", "a"]


def test_bad_json_names_the_line(runs: Path) -> None:
    (runs / "paper" / "config.json").write_text(json.dumps({"method": 1})[:-1])
    with pytest.raises(UserError, match=r"config\.json: line 1: not JSON"):
        load_runs([str(runs)])


def test_the_settings_of_something_else_are_one_line(runs: Path) -> None:
    file = runs / "paper" / "config.json"
    file.write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(UserError, match=r"config\.json: key 'task' is missing; expected the settings of a run"):
        load_runs([str(runs)])
