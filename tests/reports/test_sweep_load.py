"""Sweep folders are read completely, and errors have one line."""

import csv
import json
import re
from pathlib import Path

import pytest
from sweep_folder import OWN, UPDATES, settings, write_evaluation, write_sweep

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.records import Record
from prefrec_ray.reports.sweep.load import load_sweep
from prefrec_ray.reports.sweep.scores import measures, trial_of, unknown_policies


def test_trials_have_their_keys_as_values_again(tmp_path: Path) -> None:
    search = {
        "expectile": {"grid": [0.5, 0.9], "methods": ["PrefRec"]},
        "hidden_sizes": {"choice": [[64, 64], [8]]},
        "finetune_reward": {"grid": [True, False], "methods": ["PrefRec"]},
        "actor_lr": {"loguniform": [1e-6, 1e-3]},
        "updates_per_iteration": {"choice": [None, 5]},
    }
    trials = write_sweep(tmp_path / "sweep", settings(search=search))
    sweep = load_sweep(f"{tmp_path}/sweep/")
    assert sweep.name == "sweep"
    assert sweep.dataset_name == "simulator/dataset"
    for made, trial in zip(trials, sweep.trials, strict=True):
        config = {key: tuple(v) if isinstance(v, list) else v for key, v in made["config"].items()}
        assert trial.keys == config
        assert (trial.name, trial.task, trial.seed) == (made["name"], made["task"], made["seed"])
    assert {type(trial.keys["finetune_reward"]) for trial in sweep.trials if trial.method == "PrefRec"} == {bool}
    assert sweep.runs[trials[0]["name"]].curve("updates").tolist() == list(UPDATES)
    assert list(sweep.best) == ["best.yaml"]


def labels(folder: Path) -> list[str]:
    sweep = load_sweep(str(folder))
    return [sweep.label(setting) for setting in sweep.groups]


def test_settings_are_named_by_what_differs(tmp_path: Path) -> None:
    write_sweep(tmp_path / "methods")
    assert labels(tmp_path / "methods") == ["PrefRec", "TD3_BC"]
    write_sweep(tmp_path / "recipes", settings(recipe=["paper", "robust"], method="IL"))
    assert labels(tmp_path / "recipes") == ["IL paper", "IL robust"]
    search = {"expectile": {"grid": [0.5, 0.9], "methods": ["PrefRec"]}}
    write_sweep(tmp_path / "keys", settings(search=search))
    names = labels(tmp_path / "keys")
    assert names == ["PrefRec expectile=0.5", "PrefRec expectile=0.9", "TD3_BC"]
    write_sweep(tmp_path / "own", settings(method=["PrefRec", OWN], search={}))
    assert labels(tmp_path / "own") == ["PrefRec", "Mine"]
    same = load_sweep(f"{tmp_path}/own")
    assert same.method_name(OWN) == "Mine"
    assert same.method_name("other:Mine") == "other:Mine"
    drawn = settings(method="PrefRec", search={"actor_lr": {"loguniform": [1e-6, 1e-3]}}, seeds=[0], num_samples=2)
    write_sweep(tmp_path / "drawn", drawn)
    assert labels(tmp_path / "drawn") == ["#000", "#001"]


def test_records_are_matched_by_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    search = {"expectile": {"grid": [0.5, 0.9], "methods": ["PrefRec"]}}
    trials = write_sweep(folder, settings(search=search))
    records = write_evaluation(folder, trials)
    sweep = load_sweep(str(folder))
    online, ncis = measures(sweep)
    values = {}
    for record in records:
        if record["role"] == "policy":
            values[record["estimator"], trial_of(Record.model_validate(record), sweep)] = record["value"]
    assert {name: score.value for name, score in online.scores.items()} == {
        trial["name"]: values["online", trial["name"]] for trial in trials
    }
    assert len(ncis.scores) == len(trials)
    assert unknown_policies(sweep) == 0
    first = Record.model_validate(records[0])
    assert trial_of(first.model_copy(update={"bundle": "elsewhere"}), sweep) is None


def test_an_evaluation_of_other_policies_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    write_evaluation(folder, write_sweep(folder))
    file = folder / "evaluation.json"
    content = json.loads(file.read_text())
    for record in content["records"]:
        record.pop("bundle", None)
    file.write_text(json.dumps(content))
    message = r"none of its policies is a trial of this sweep; evaluate them by: prefrec evaluate .*/sweep --d"
    with pytest.raises(UserError, match=message):
        measures(load_sweep(str(folder)))


def test_what_is_no_sweep_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    with pytest.raises(UserError, match=r"sweep/sweep\.json: no such file"):
        load_sweep(str(folder))
    write_sweep(folder)
    table = folder / "trials.csv"
    text = table.read_text()

    table.write_text(text.replace("status", "state"))
    with pytest.raises(UserError, match=r"trials\.csv: column 'status' is missing"):
        load_sweep(str(folder))
    table.write_text(text.replace(",12.5,", ",soon,", 1))
    with pytest.raises(UserError, match=r"trials\.csv: line 2: expected a row .* \(.*'soon'\)"):
        load_sweep(str(folder))
    bad = {
        ",12.5,": (",12.5,,", "line 2: expected a row of the trials.csv"),
        ",depth,0,": (",depth,one,", r"line 2: .* \(invalid literal for int\(\) with base 10: 'one'\)"),
    }
    for good, (changed, message) in bad.items():
        table.write_text(text.replace(good, changed, 1))
        with pytest.raises(UserError, match=rf"trials\.csv: {message}"):
            load_sweep(str(folder))
    table.write_text(text.splitlines()[0] + "\n")
    with pytest.raises(UserError, match=r"trials\.csv: no trial in it"):
        load_sweep(str(folder))
    table.unlink()
    with pytest.raises(UserError, match=r"no trials\.csv in it: the sweep has not ended"):
        load_sweep(str(folder))

    table.write_text(text)
    name = next(csv.DictReader(text.splitlines()))["trial"]
    (folder / name / "progress.csv").unlink()
    with pytest.raises(UserError, match=rf"{name}/progress\.csv: no such file"):
        load_sweep(str(folder))
    description = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps({**description, "settings": {"metods": []}}))
    with pytest.raises(UserError, match=r"sweep\.json: settings: key 'metods': unknown key"):
        load_sweep(str(folder))
    (folder / "sweep.json").write_text("5")
    with pytest.raises(UserError, match=r"sweep\.json: found int; expected the settings of a run or sweep"):
        load_sweep(str(folder))
    (folder / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match=r"sweep\.json: key 'dataset' is missing"):
        load_sweep(str(folder))


def test_a_value_that_was_not_searched_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    search = {"gamma": {"choice": [0.5, 0.9]}, "actor_lr": {"uniform": [0.1, 0.2]}}
    write_sweep(folder, settings(search=search))
    table = folder / "trials.csv"
    text = table.read_text()
    table.write_text(text.replace(",0.5,", ",0.6,").replace(",0.9,", ",0.6,"))
    with pytest.raises(UserError, match=r"trials\.csv: line 2: expected a row .* \('0\.6' is not in list\)"):
        load_sweep(str(folder))
    table.write_text(re.sub(r",0\.1\d+,", ",fast,", text))
    with pytest.raises(UserError, match=r"line 2: expected a row .*'fast'"):
        load_sweep(str(folder))
