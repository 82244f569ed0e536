"""The model of users against policies of known truth: `python -m benchmarks known OUTPUT [--worlds ...] [--models 3]`.

OUTPUT is that of the truth bench; its data sets are enough. The policies need no training: each user is shown items
with chances proportional to exp(-beta * clickbait), as they are clickbait for this user, from random items (beta 0) to
little but the best. Estimated gains are held against true ones, over the logged items shown again and over the logging
policy anew; so is the model's level of the logging policy against the log's. An interval is taken apart: users, of it
luck, and models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import markdown
from benchmarks.truth.again import LoggedUsers
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.estimators.model import platform_of
from prefrec_ray.evaluation.settings import ModelSettings
from prefrec_ray.runtime import start_ray
from prefrec_ray.simulator.law import Choice
from prefrec_ray.simulator.logging_policy import LoggingPolicy
from prefrec_ray.simulator.servers import IgnoresFeedback
from prefrec_ray.users.ensemble import fit_ensemble
from prefrec_ray.users.histories import Histories, histories_of
from prefrec_ray.users.roll_out import Server, logged_levels, roll_out, server_of_log

BETAS = (0, 1, 2, 4, 8)
TASKS = ("depth", "frequency")
Z = 1.96


class Soft(IgnoresFeedback):
    """Serves items drawn by `chances` [n, I]; `ids` [I] are their rows in the world."""

    def __init__(self, chances: np.ndarray, ids: np.ndarray, rng: np.random.Generator) -> None:
        self.below, self.ids, self.rng = chances.cumsum(axis=1), ids, rng

    def draw(self) -> np.ndarray:
        """Columns of `chances` [n]."""
        uniform = self.rng.random((len(self.below), 1)) * self.below[:, -1:]
        return (self.below <= uniform).sum(axis=1)

    def serve(self, time_ms: np.ndarray, excluded: np.ndarray | None) -> Choice:
        return Choice(self.ids[self.draw()], 1.0)


def main(output: Path, worlds: Sequence[str] | None = None, models: int = 3) -> dict[str, Any]:
    """Prints a row a (world, log, beta), and the errors of all."""
    start_ray()
    folders = sorted(output.glob("*/log*/dataset"))
    chosen = [folder for folder in folders if worlds is None or folder.parts[-3] in worlds]
    all_cells = [cell for folder in chosen for cell in cells(folder, models)]
    head = [
        "world",
        "beta",
        "support",
        *(f"{task}: {what}" for task in TASKS for what in ("true", "estimated", "anew")),
    ]
    print(
        markdown(
            head, [_row(all_cells, key) for key in dict.fromkeys((c["world"], c["log"], c["beta"]) for c in all_cells)]
        )
    )
    misses = [cell["miss"] for cell in all_cells]
    errors = [cell["estimate"] - cell["over_logged"] for cell in all_cells]
    print(f"\nerror over the logged items: mean {np.mean(errors):+.2f}, mean absolute {np.abs(errors).mean():.2f}")
    print(f"the model's level of the logging policy less the log's: {min(misses):+.2f} to {max(misses):+.2f}")
    for part in ("users", "luck", "models"):
        print(f"{part}: median {np.median([cell[part] for cell in all_cells]):.2f}")
    return {"cells": all_cells}


def cells(folder: Path, models: int) -> list[dict[str, Any]]:
    """A cell a (beta, task)."""
    dataset = PreparedDataset.open(str(folder))
    held, ensemble = histories_of(dataset, "test", 0), fit_ensemble(dataset, 0, models)
    platform = platform_of(dataset, held, ModelSettings(), 0)
    users, ids = LoggedUsers.from_dataset(dataset), platform.items.ids
    degree = users.world.clickbait[users.world.traits(users.numbers).taste][:, ids]
    mine = np.searchsorted(users.numbers, _numbers(dataset, held)[platform.users])
    again, anew = users.levels_again(), users.levels(lambda crowd: LoggingPolicy(crowd, np.random.default_rng(1)))
    logging = roll_out(platform, ensemble.members, server_of_log(platform), 0)
    log_cells = []
    for beta in BETAS:
        chances = np.exp(-beta * degree)
        true = users.levels(lambda crowd, chances=chances: Soft(chances, ids, np.random.default_rng(1)))
        drawn = Soft(np.tile(chances[mine], (models, 1)), ids, np.random.default_rng(2))
        server: Server = lambda visit, drawn=drawn: drawn.draw()  # noqa: E731
        imagined = roll_out(platform, ensemble.members, server, 0)
        for task in TASKS:
            gains = imagined.levels[task] - logging.levels[task]
            cell = {"world": folder.parts[-3], "log": folder.parts[-2], "beta": beta, "task": task}
            level = np.nanmean(true[task])
            cell |= {
                "support": ensemble.pasts.share(imagined.inputs),
                "estimate": float(np.nanmean(gains)),
                **_parts(gains),
            }
            cell |= {"miss": float(np.nanmean(logging.levels[task])) - float(np.nanmean(logged_levels(platform)[task]))}
            cell |= {"over_logged": float(level - np.nanmean(again[task]))}
            log_cells.append(cell | {"anew": float(level - np.nanmean(anew[task]))})
    return log_cells


def _numbers(dataset: PreparedDataset, held: Histories) -> np.ndarray:
    """The numbers of the users of `held` in the world."""
    files = dataset.files("requests", "test")
    return np.concatenate([dataset.read(file, ["user_id"])["user_id"].to_numpy() for file in files])[held.starts]


def _parts(gains: np.ndarray) -> dict[str, float]:
    """Of the gains [K, n] of users by models: 95 % half-widths by users, by the luck of their roll-outs (a part of
    them), and the standard deviation of models."""
    models, users = gains.shape
    by_user, by_model = np.nanmean(gains, axis=0), np.nanmean(gains, axis=1)
    left = gains - by_user - (by_model[:, None] - by_model.mean())
    luck = np.nanvar(left) * models / (models - 1)
    return {
        "users": float(Z * np.nanstd(by_user, ddof=1) / np.sqrt(users)),
        "luck": float(Z * np.sqrt(luck / models / users)),
        "models": float(by_model.std(ddof=1)),
    }


def _row(all_cells: list[dict[str, Any]], key: tuple[str, str, int]) -> list[str]:
    own = {cell["task"]: cell for cell in all_cells if (cell["world"], cell["log"], cell["beta"]) == key}
    gains = [f"{own[task][name]:+.2f}" for task in TASKS for name in ("over_logged", "estimate", "anew")]
    return [key[0], str(key[2]), f"{own[TASKS[0]]['support']:.2f}", *gains]
