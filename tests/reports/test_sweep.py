"""The page about a sweep: right numbers, right sections, nothing fetched; errors have one line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sweep_folder import OWN, score, settings, write_evaluation, write_sweep
from test_report_page import Page

from prefrec_ray.cli.main import run
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.run import bundles_of
from prefrec_ray.reports.page import write_report
from prefrec_ray.reports.sweep import draw_key, load_sweep, scores_of
from prefrec_ray.runs.tuning.space import Trial

pytestmark = pytest.mark.usefixtures("undrawn")


def written(folder: Path) -> tuple[str, Page]:
    write_report([str(folder)], str(folder / "report.html"))
    text = (folder / "report.html").read_text("utf-8")
    return text, Page(text)


def test_an_evaluated_sweep_has_its_scores_with_controls(tmp_path: Path) -> None:
    folder = tmp_path / "my sweep"
    trials = write_sweep(folder)
    write_evaluation(folder, trials)
    text, document = written(folder)
    assert document.texts["h2"] == [
        "None of 12 policies is a candidate for an A/B test",
        "Best settings",
        "Scores",
    ]
    assert document.texts["th"][-5:] == ["settings", "task", "seeds", "true level", "NCIS"]
    cells = document.texts["td"]
    for method in ("PrefRec", "TD3_BC"):
        levels = [score(t) + 0.2 for t in trials if (t["method"], t["task"]) == (method, "depth")]
        half = stats.t.ppf(0.975, 2) * stats.sem(levels)
        assert f"{np.mean(levels):.4g} ± {half:.2g}" in cells
    for control in ("behavior cloning (control)", "random items (negative control)"):
        assert control in cells
    assert cells.index("PrefRec") < cells.index("TD3_BC")
    assert "12 trials: 12 finished" in text
    assert f"prefrec train '{folder}/best.yaml' --output RUN" in document.texts["pre"]
    assert any("gamma: 0.97" in block for block in document.texts["pre"])
    assert document.fetched == []
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)
    assert "simulator/dataset" in text
    assert "/data/simulator" not in text


def test_without_evaluation_scores_are_those_on_validation_users(tmp_path: Path) -> None:
    folder = tmp_path / "my sweep"
    trials = write_sweep(folder)
    _, document = written(folder)
    assert f"prefrec evaluate '{folder}' --dataset DATASET" in document.texts["pre"]
    scores = scores_of(load_sweep(f"{folder}/"))
    assert list(scores) == ["true level on validation users", "NCIS on validation users"]
    assert next(iter(scores.values())) == {trial["name"]: pytest.approx(score(trial)) for trial in trials}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"method": ["PrefRec", OWN]}, {"PrefRec", OWN}),
        ({"recipe": ["paper", "robust"], "method": "IL"}, {"IL paper", "IL robust"}),
        (
            {"search": {"expectile": {"grid": [0.5, 0.9], "methods": ["PrefRec"]}}},
            {"PrefRec expectile=0.5", "PrefRec expectile=0.9", "TD3_BC"},
        ),
    ],
)
def test_settings_are_named_by_what_differs(tmp_path: Path, changes: dict[str, object], names: set[str]) -> None:
    write_sweep(tmp_path / "sweep", settings(**changes))
    sweep = load_sweep(f"{tmp_path}/sweep")
    assert {sweep.setting(trial) for trial in sweep.trials} == names


def test_a_sweep_without_scores_falls_back_to_its_metric_best_first(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", settings(validation=None, metric="losses/qf_loss", mode="min"))
    assert list(scores_of(load_sweep(f"{tmp_path}/sweep"))) == ["losses/qf_loss at the end of training"]
    table = tmp_path / "sweep" / "trials.csv"
    table.write_text(re.sub(r"(TD3_BC.*),0\.1,", r"\1,0.05,", table.read_text()))
    cells = written(tmp_path / "sweep")[1].texts["td"]
    assert cells.index("TD3_BC") < cells.index("PrefRec")
    write_sweep(tmp_path / "other", settings(validation=None))
    assert scores_of(load_sweep(f"{tmp_path}/other")) == {}


def test_failed_trials_are_named_with_their_error_as_text(tmp_path: Path) -> None:
    def status(trial: Trial) -> str:
        lost = trial["method"] == "TD3_BC" and (trial["task"] == "depth" or trial["seed"] == 0)
        return "failed" if lost else "finished"

    write_sweep(tmp_path / "sweep", status=status)
    table = tmp_path / "sweep" / "trials.csv"
    table.write_text(table.read_text().replace("no space left", "<script>x"))
    text, _ = written(tmp_path / "sweep")
    assert "TD3_BC_depth_1_004 failed: &lt;script&gt;x" in text
    assert "<script" not in text
    assert "12 trials: 8 finished, 4 failed" in text


def test_a_sweep_of_which_nothing_finished_still_has_a_page(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", status=lambda t: "failed")
    text, document = written(tmp_path / "sweep")
    assert "No finished trial has a score" in text
    assert not document.images


def test_every_trial_is_a_dot_by_each_searched_key(tmp_path: Path) -> None:
    search = {"actor_lr": {"loguniform": [1e-6, 1e-3]}, "hidden_sizes": {"choice": [[64, 64], [8]]}}
    chosen = settings(method="PrefRec", task="depth", seeds=[0], num_samples=12, search=search, scheduler="asha")
    trials = write_sweep(
        tmp_path / "sweep", chosen, status=lambda t: "failed" if t["name"].endswith("0") else "stopped"
    )
    _, document = written(tmp_path / "sweep")
    assert len(document.images) == 2  # one per searched key
    sweep = load_sweep(f"{tmp_path}/sweep")
    figure = draw_key(sweep, scores_of(sweep), "actor_lr")
    assert figure is not None
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    drawn = dict(zip(*axes.lines[0].get_data(), strict=True))
    assert drawn == pytest.approx({t["config"]["actor_lr"]: score(t) for t in trials if not t["name"].endswith("0")})
    figure = draw_key(sweep, scores_of(sweep), "hidden_sizes")
    assert figure is not None
    assert {label.get_text() for label in figure.axes[0].get_xticklabels()} == {"[64, 64]", "[8]"}


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
        scores_of(load_sweep(str(folder)))


def test_what_is_no_sweep_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    with pytest.raises(UserError, match=r"sweep/sweep\.json: no such file"):
        load_sweep(str(folder))
    write_sweep(folder)
    table, description = folder / "trials.csv", (folder / "sweep.json").read_text()
    text = table.read_text()
    bad = {
        text.replace("status", "state"): "column 'status' is missing",
        text.replace(",12.5,", ",12.5,,", 1): "line 2: found .* values; expected",
        text.splitlines()[0] + "\n": "no trial in it",
        "": "column 'trial' is missing",
    }
    for changed, message in bad.items():
        table.write_text(changed)
        with pytest.raises(UserError, match=rf"trials\.csv: {message}"):
            load_sweep(str(folder))
    table.write_text(re.sub(r",[\d.]+,0\.8,", ",soon,0.8,", text))
    with pytest.raises(UserError, match=r"trials\.csv: column 'validation/ncis': .*'soon'.*expected numbers"):
        scores_of(load_sweep(str(folder)))
    table.write_text(text)
    for content, message in {
        json.dumps({**json.loads(description), "settings": {"metods": []}}): "settings: key 'metods': unknown key",
        "5": "found int; expected the settings of a run or sweep",
        "{}": "key 'dataset' is missing",
    }.items():
        (folder / "sweep.json").write_text(content)
        with pytest.raises(UserError, match=rf"sweep\.json: {message}"):
            load_sweep(str(folder))


def test_the_command_writes_the_page_and_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    write_sweep(folder)
    assert run(["report", str(folder), "--output", str(tmp_path / "out.html")]) == 0
    assert (tmp_path / "out.html").exists()
    capsys.readouterr()
    (folder / "trials.csv").unlink()
    assert run(["report", str(folder)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "the sweep has not ended" in err
    assert not (folder / "report.html").exists()


def test_a_sweep_stands_for_the_policies_of_all_its_trials(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    trials = write_sweep(folder, settings(seeds=[0, 10]))
    assert [uri.rpartition("/")[2] for uri in bundles_of(str(folder))] == [trial["name"] for trial in trials]
    assert bundles_of(f"{folder}/policies/{trials[0]['name']}") == [f"{folder}/policies/{trials[0]['name']}"]
    write_sweep(tmp_path / "empty", status=lambda t: "failed")
    with pytest.raises(UserError, match="no trial of this sweep has a policy"):
        bundles_of(f"{tmp_path}/empty")
