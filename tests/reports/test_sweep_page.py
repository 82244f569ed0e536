"""The page about a sweep: right sections, right numbers, nothing fetched."""

import re
from pathlib import Path

import pytest
from sweep_folder import OWN, settings, write_evaluation, write_sweep
from test_report_page import Page

from prefrec_ray.cli.main import run
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.run import bundles_of
from prefrec_ray.reports.page import write_report
from prefrec_ray.reports.sweep.load import load_sweep
from prefrec_ray.reports.sweep.scores import measures
from prefrec_ray.reports.sweep.table import make_table

pytestmark = pytest.mark.usefixtures("undrawn")


def written(folder: Path) -> tuple[str, Page]:
    write_report([str(folder)], str(folder / "report.html"))
    text = (folder / "report.html").read_text("utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    """An evaluated sweep, and its page."""
    folder = tmp_path_factory.mktemp("evaluated") / "sweep"
    write_evaluation(folder, write_sweep(folder))
    return folder, *written(folder)


def test_an_evaluated_sweep_has_table_2_and_curves(evaluated: tuple[Path, str, Page]) -> None:
    folder, text, document = evaluated
    assert document.texts["h2"] == [
        "None of 12 policies is a candidate for an A/B test",
        "Best settings",
        "Scores by method and task (the paper's Table 2)",
        "Learning curves (the paper's Fig. 5)",
        *("Trials", "Settings"),
    ]
    cells = " ".join(document.texts["td"])
    sweep = load_sweep(str(folder))
    for measure in measures(sweep):
        assert measure.title in document.texts["h3"]
        for line in make_table(sweep, measure).lines:
            for texts in line.texts:
                assert " ".join(texts) in cells
    assert "against the best baseline" in cells
    assert "Not evaluated" not in text
    assert f"prefrec train {folder}/best.yaml --output RUN" in document.texts["pre"]
    assert "gamma: 0.97" in document.texts["pre"][1]
    assert "12 trials: 12 finished." in text
    assert [title for title in document.texts["h3"] if "users" in title] == [
        "True level on test users",
        "NCIS on test users",
    ]


def test_the_page_fetches_nothing_and_names_the_data_set_only(evaluated: tuple[Path, str, Page]) -> None:
    _, text, document = evaluated
    assert document.fetched == []
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)
    assert "simulator/dataset" in text
    assert "/data/simulator" not in text


def test_commands_to_be_copied_quote_a_folder_with_a_blank(tmp_path: Path) -> None:
    folder = tmp_path / "my sweep"
    write_sweep(folder)
    _, document = written(folder)
    assert f"prefrec evaluate '{folder}' --dataset DATASET" in document.texts["pre"]
    assert f"prefrec train '{folder}/best.yaml' --output RUN" in document.texts["pre"]


def test_without_evaluation_the_page_says_how_to_make_one(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep")
    text, document = written(tmp_path / "sweep")
    assert f"prefrec evaluate {tmp_path}/sweep --dataset DATASET" in document.texts["pre"]
    assert "True level on validation users" in document.texts["h3"]
    assert "on test users:" not in text
    assert "behaviour" not in " ".join(document.texts["td"])


def test_failed_trials_are_named_with_their_error(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", status=lambda t: "failed" if t["name"] == "TD3_BC_depth_1_004" else "finished")
    text, _ = written(tmp_path / "sweep")
    assert "TD3_BC_depth_1_004 failed: no space left" in text
    assert "12 trials: 11 finished, 1 failed." in text


def test_a_sweep_of_which_nothing_finished_still_has_a_page(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", status=lambda t: "failed")
    text, document = written(tmp_path / "sweep")
    assert "No finished trial has a score" in text
    assert not document.images


@pytest.mark.parametrize(
    ("search", "keys", "images"),
    [
        # Two curves for each of two tasks, and for two measures of each task a figure of lines or two of dots.
        ({"expectile": {"grid": [0.5, 0.9]}}, "expectile", 4 + 4),
        (
            {"pretrain_epochs": {"grid": [3, 0]}, "finetune_reward": {"grid": [True, False]}},
            "pretrain_epochs, finetune_reward",
            4 + 4,
        ),
        ({"actor_lr": {"loguniform": [1e-6, 1e-3]}, "gamma": {"uniform": [0.9, 0.99]}}, "actor_lr, gamma", 4 + 2 * 4),
    ],
)
def test_each_kind_of_sweep_has_its_figures(tmp_path: Path, search: dict, keys: str, images: int) -> None:
    chosen = settings(method="PrefRec", search=search, num_samples=3 if "gamma" in keys else 1)
    write_sweep(tmp_path / "sweep", chosen)
    _, document = written(tmp_path / "sweep")
    assert document.texts["h2"][1:3] == ["Scores", f"Scores by {keys}"]
    assert len(document.images) == images


def test_every_metric_of_a_users_method_is_on_the_page(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", settings(method=["PrefRec", OWN], task="depth", validation=None))
    text, document = written(tmp_path / "sweep")
    assert "mine/gap at the end of training" in document.texts["h3"]
    assert "mine/gap over training: depth" in document.texts["figcaption"]
    assert "mine/gap" in document.texts["th"]
    assert "time_total_s" in document.texts["th"]
    assert "Level (Eq. 11)" not in text
    assert "baseline" not in text


def test_names_are_escaped(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", status=lambda t: "failed" if t["seed"] else "finished")
    table = tmp_path / "sweep" / "trials.csv"
    table.write_text(table.read_text().replace("no space left", "<script>x"))
    text, _ = written(tmp_path / "sweep")
    assert "<script" not in text
    assert "&lt;script&gt;x" in text


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
