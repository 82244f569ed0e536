"""Sweep folders written by hand: what `prefrec tune` and `prefrec evaluate` leave, with made-up numbers."""

import csv
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from prefrec_ray.runs.tuning.settings import TuneSettings
from prefrec_ray.runs.tuning.space import Trial, trials

#: A user's method, with a metric of its own.
OWN = "my_package.mine:Mine"
#: Gain of each method over the logging policy's 1.0.
WORTH = {
    "PrefRec": 1.6,
    "DDPG": 0.3,
    "TD3": 0.5,
    "SAC": 0.2,
    "TD3_BC": 1.2,
    "BCQ": 0.9,
    "IQL": 1.1,
    "IL": 0.1,
    OWN: 1.4,
}


def settings(**changes: Any) -> TuneSettings:
    """Two methods, two tasks, three seeds, scored on validation users."""
    section: dict[str, Any] = {
        "method": ["PrefRec", "TD3_BC"],
        "task": ["depth", "frequency"],
        "seeds": [0, 1, 2],
        "validation": {"every": 1, "online": True},
    }
    return TuneSettings.model_validate({**section, **changes})


def score(trial: Trial, noise: float = 0.1) -> float:
    """A trial's level: its method's, more for an expectile near 0.7 and for either switch, and noise of its own."""
    rng = np.random.default_rng(int(trial["name"].rpartition("_")[2]))
    config = trial["config"]
    worth = WORTH[trial["method"]] + 0.5 * (trial["task"] == "frequency")
    worth -= 8 * (config.get("expectile", 0.7) - 0.7) ** 2 + 0.2 * (np.log10(config.get("actor_lr", 1e-4)) + 4) ** 2
    worth -= 0.4 * (config.get("pretrain_epochs") == 0) + 0.3 * (config.get("finetune_reward") is False)
    return float(1.0 + worth + noise * rng.standard_normal())


def write_sweep(
    folder: Path,
    chosen: TuneSettings | None = None,
    status: Callable[[Trial], str] = lambda trial: "finished",
    worth: Callable[[Trial], float] = score,
) -> list[Trial]:
    """SWEEP/sweep.json, trials.csv, best.yaml, and folders for the policies of finished trials."""
    chosen = chosen or settings()
    folder.mkdir(parents=True)
    description = {"dataset": "/data/simulator/dataset", "settings": chosen.model_dump(mode="json")}
    (folder / "sweep.json").write_text(json.dumps(description))
    all_trials = trials(chosen)
    rows = []
    for trial in all_trials:
        state, level = status(trial), worth(trial)
        reported = state != "failed" and chosen.validation is not None
        rows.append(
            {
                "trial": trial["name"],
                "status": state,
                **{key: trial[key] for key in ("method", "recipe", "task", "seed")},
                **{key: trial["config"].get(key) for key in chosen.search},
                "phase": "train",
                "losses/qf_loss": 0.1,
                "mine/gap": 4 + trial["seed"] if trial["method"] == OWN else None,
                "validation/ncis": 1 + (level - 1) / 10 if reported else None,
                "validation/ess": 0.8 if reported else None,
                "validation/online": level if reported else None,
                "time_total_s": 12.5,
                "error": "no space left" if state == "failed" else None,
            }
        )
        if state == "finished":
            (folder / "policies" / trial["name"]).mkdir(parents=True)
    with (folder / "trials.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    best = {"train": {"method": "PrefRec", "task": chosen.task[0], "config": {"gamma": 0.97}}}
    (folder / "best.yaml").write_text("# the best one\n" + yaml.safe_dump(best))
    return all_trials


def write_evaluation(
    folder: Path, all_trials: list[Trial], worth: Callable[[Trial], float] = score
) -> list[dict[str, Any]]:
    """SWEEP/evaluation.json on test users: 0.2 above validation, users' intervals wider with each seed."""
    records = []
    for trial, estimator in product(all_trials, ("ncis", "online")):
        level = worth(trial) + 0.2
        value = 1 + (level - 1) / 10 if estimator == "ncis" else level
        name = f"{trial['method']} {trial['recipe']} {trial['task']} seed {trial['seed']}"
        half = 0.05 * (1 + trial["seed"])
        own = {
            "bundle": f"elsewhere/{folder.name}/policies/{trial['name']}",
            "provenance": {key: trial[key] for key in ("method", "recipe", "task", "seed")},
        }
        records.append({**record(name, trial["task"], estimator, "policy", value, half), **own})
        if estimator == "ncis":
            for kind, role in (("shuffled:", "placebo"), ("length only:", "control")):
                records.append({**record(kind + name, trial["task"], estimator, role, 1.01), **own})
    for task in dict.fromkeys(trial["task"] for trial in all_trials):
        for name, role, value in (("imitation", "control", 1.0), ("random items", "placebo", 0.9)):
            records.append(record(name, task, "ncis", role, value))
        for name, value in (("behaviour", 1.0), ("imitation", 1.3), ("clickbait", 0.5), ("nutrition", 3.6)):
            records.append(record(name, task, "online", "control", value))
    content = {"schema_version": 1, "dataset": "d", "split": "test", "records": records, "served": {}}
    (folder / "evaluation.json").write_text(json.dumps(content))
    return records


def record(subject: str, task: str, estimator: str, role: str, value: float, half: float = 0.1) -> dict[str, Any]:
    """A record of evaluation.json."""
    interval = {"ci_low": value - half, "ci_high": value + half}
    interval |= {"gain_ci_low": value - half - 1.0, "gain_ci_high": value + half - 1.0}
    provenance = {
        "method": subject.partition(" ")[0],
        "task": task,
        "estimator": estimator,
        "subject": subject,
        "role": role,
    }
    return {
        **provenance,
        "value": value,
        **interval,
        "behaviour": 1.0,
        "ess": None,
        "users": 300,
        "sessions": 4000,
        "settings": {},
    }
