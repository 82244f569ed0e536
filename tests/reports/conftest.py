import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

COLUMNS = [
    "training_iteration,phase,epoch,progress,updates,transitions_per_second,pairs_per_second,time_total_s",
    "losses/reward_loss,losses/value_loss,losses/qf_loss,losses/actor_loss",
    "reward/accuracy_train,reward/accuracy_any_users,reward/accuracy_within_user",
    "reward/loss_any_users,reward/loss_within_user,values/reward_mean,values/q_mean,values/v_mean",
    "policy/action_saturation,policy/item_distance,policy/items_served",
]


def write_run(folder: Path, recipe: str, seed: int = 0, dataset: str = "no/such/dataset") -> Path:
    """A run of 3 pre-training and 12 training iterations with made-up curves."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    config = {"gamma": 0.97 if recipe == "robust" else 0.9}
    top = {"method": "PrefRec", "recipe": recipe, "task": "frequency", "dataset": dataset, "seed": seed}
    (folder / "config.json").write_text(json.dumps({**top, "config": config}))
    lines = [",".join(COLUMNS)]
    for i in range(1, 16):
        training, learned = i > 3, 1 - np.exp(-i / 5) + 0.02 * rng.standard_normal()
        head = [i, "train" if training else "pretrain", i / 4, i / 15, max(0, i - 3) * 100]
        speed = [9000 + 100 * rng.standard_normal(), "", i * 2.0] if training else ["", 3000, i * 2.0]
        losses = [0.69 - 0.3 * learned, 0.1 / i, 0.2 / i, -learned] if training else [0.69 - 0.3 * learned, "", "", ""]
        reward = [0.5 + 0.4 * learned, 0.5 + 0.2 * learned, 0.5 + 0.25 * learned, 0.6, 0.65 - 0.1 * learned]
        values = [learned / 10, learned, 0.9 * learned] if training else ["", "", ""]
        lines.append(",".join(str(v) for v in [*head, *speed, *losses, *reward, *values, 0.6 * learned, 0.4, 40]))
    (folder / "progress.csv").write_text("\n".join(lines) + "\n")
    return folder


def record(subject: str, role: str, value: float, estimator: str = "ncis", **changes: object) -> dict:
    """One record of evaluation.json, with an interval of +- 0.1."""
    return {
        "method": "PrefRec",
        "task": "frequency",
        "estimator": estimator,
        "subject": subject,
        "role": role,
        "value": value,
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "gain_ci_low": value - 1.3,
        "gain_ci_high": value - 1.1,
        "ess": 0.8 if estimator == "ncis" else None,
        "behaviour": 1.2,
        "users": 300,
        "sessions": 4000,
        "settings": {},
        **changes,
    }


def write_evaluation(folder: Path) -> None:
    """An evaluation of two policies with their controls, by NCIS and by roll-outs."""
    records = [
        record("paper", "policy", 1.25),
        record("robust", "policy", 1.5),
        record("imitation", "control", 1.21),
        record("shuffled:imitation", "placebo", 1.18),
        record("random items", "placebo", 1.22),
        record("paper", "policy", 1.3, "online"),
        record("robust", "policy", 3.4, "online"),
        record("imitation", "control", 1.4, "online"),
        record("behaviour", "control", 1.2, "online"),
    ]
    top = [{"item_id": 3, "share": 0.25}, {"item_id": 4, "share": 0.125}]
    served = {"robust": {"requests": 800, "distinct_items": 12, "top_items": top, "item_distance": 1.5}}
    (folder / "evaluation.json").write_text(json.dumps({"schema_version": 1, "records": records, "served": served}))


def write_runs(folder: Path) -> Path:
    """A folder with the runs `paper` and `robust`, and their evaluation."""
    write_run(folder / "paper", "paper")
    write_run(folder / "robust", "robust")
    write_evaluation(folder)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder of `write_runs`, for a test that changes it."""
    return write_runs(tmp_path / "runs")


@pytest.fixture(scope="module")
def unchanged_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One such folder, for tests that only look at it."""
    return write_runs(tmp_path_factory.mktemp("unchanged") / "runs")


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Pages whose figures are made, and not rendered as SVG, which takes most of the time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("prefrec_ray.reports.html.svg", lambda figure: b"<svg/>")
        yield
