"""Draw Figs. 4 to 9 of the paper for docs/results/figures.md, from the CSV files in its folder.

python docs/images/figures.py                   draw
python docs/images/figures.py DATASET SWEEP     also write the data of Figs. 4 to 7 (tune_configs/table2_paper.yaml)
"""

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefrec_ray.reports.figures import COLOURS, GREY, INK, STYLE, svg
from prefrec_ray.reports.load import level_shares
from prefrec_ray.settings import TASKS

RESULTS = Path(__file__).parents[1] / "results"
METHODS = ("PrefRec", "DDPG", "TD3", "SAC", "TD3_BC", "BCQ", "IQL", "IL")
KINDS = {"train": "training pairs", "any_users": "held out, any users", "within_user": "held out, within users"}
#: Colour and dashes of the methods.
LINES = (*((colour, "-") for colour in COLOURS), (INK, "--"), (GREY, "-."))
Rows = list[dict[str, str]]


def collect(dataset: str, sweep: Path) -> None:
    """Write the data of Figs. 4 to 7: shares of levels; NCIS and reward of each trial by updates."""
    shares = [
        {"task": task, "level": level, "share": f"{share:.6f}"}
        for task, of_task in level_shares(dataset).items()
        for level, share in enumerate(of_task)
    ]
    curves, reward = [], []
    for file in sorted(sweep.glob("*/progress.csv")):
        method, task, seed, _ = file.parent.name.rsplit("_", 3)
        for row in read(file):
            trial = {"method": method, "task": task, "seed": seed, "updates": row["updates"]}
            curves.append({**trial, "ncis": f"{float(row['validation/ncis']):.5f}"})
            if method == "PrefRec":
                found = {f"accuracy_{kind}": row[f"reward/accuracy_{kind}"] for kind in KINDS}
                found |= {"loss_train": row["losses/reward_loss"]}
                found |= {f"loss_{kind}": row[f"reward/loss_{kind}"] for kind in ("any_users", "within_user")}
                reward.append({**trial, **{name: f"{float(value):.5f}" for name, value in found.items()}})
    for name, rows in (("levels", shares), ("curves", curves), ("reward", reward)):
        with (RESULTS / f"figures_{name}.csv").open("w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def read(file: Path) -> Rows:
    """Return the rows of a CSV file."""
    with file.open() as lines:
        return list(csv.DictReader(lines))


def draw(name: str, tasks: Sequence[str], panel: Callable[[Axes, str], None], x: str, y: str, height: float) -> None:
    """Write RESULTS/`name`.svg: one panel per task, one legend for all."""
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(10.5, height), layout="constrained")
        for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
            axes.set(title=task, xlabel=x, ylabel=y if task == tasks[0] else "")
            panel(axes, task)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    (RESULTS / f"{name}.svg").write_bytes(svg(figure))


def curve(axes: Axes, rows: Rows, column: str, label: str, colour: str, dashes: str = "-") -> None:
    """Plot a column over updates: the mean over seeds, and the band from the lowest to the highest."""
    updates = sorted({int(row["updates"]) for row in rows})
    seeds = [[float(row[column]) for row in rows if int(row["updates"]) == update] for update in updates]
    axes.fill_between(updates, [min(of) for of in seeds], [max(of) for of in seeds], color=colour, alpha=0.1, lw=0)
    axes.plot(updates, [np.mean(of) for of in seeds], color=colour, ls=dashes, label=label)


def levels(axes: Axes, task: str) -> None:
    """Fig. 4."""
    shares = [float(row["share"]) for row in read(RESULTS / "figures_levels.csv") if row["task"] == task]
    axes.bar_label(axes.bar(range(len(shares)), shares, color=COLOURS[0]), [f"{one:.1%}" for one in shares], padding=2)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylim(0, 1.12 * max(shares))
    axes.grid(axis="x", visible=False)


def learning_curves(axes: Axes, task: str) -> None:
    """Fig. 5."""
    rows = read(RESULTS / "figures_curves.csv")
    for method, (colour, dashes) in zip(METHODS, LINES, strict=True):
        of_method = [row for row in rows if (row["method"], row["task"]) == (method, task)]
        curve(axes, of_method, "ncis", method, colour, dashes)


def reward(measure: str, chance: float) -> Callable[[Axes, str], None]:
    """Figs. 6 and 7."""

    def panel(axes: Axes, task: str) -> None:
        rows = [row for row in read(RESULTS / "figures_reward.csv") if row["task"] == task]
        for (kind, label), colour in zip(KINDS.items(), COLOURS, strict=False):
            curve(axes, rows, f"{measure}_{kind}", label, colour)
        axes.axhline(chance, color=GREY, ls=":", lw=1, label="chance")

    return panel


def scores(file: str, keys: tuple[str, ...]) -> Callable[[Axes, str], None]:
    """Figs. 8 and 9: true levels against `keys`; seeds as dots, their mean as a line or a bar, the logging policy."""

    def panel(axes: Axes, task: str) -> None:
        rows = [row for row in read(RESULTS / file) if (row["estimator"], row["task"]) == ("online", task)]
        groups: dict[str, list[float]] = {}
        for row in rows:
            if row["subject"] == "PrefRec":
                groups.setdefault(name_of([row[key] for key in keys]), []).append(float(row["value"]))
        places = range(len(groups))
        means = [np.mean(values) for values in groups.values()]
        if len(keys) == 1:
            axes.plot(places, means, color=COLOURS[0], marker="o", label="mean of three seeds")
        else:
            axes.bar(places, means, color=COLOURS[0], alpha=0.35, width=0.6, label="mean of three seeds")
        for place, values in zip(places, groups.values(), strict=True):
            axes.plot([place] * len(values), values, "o", color=INK, ms=3, label="" if place else "a seed")
        axes.set_xticks(places, list(groups))
        axes.set_ylim(0, 1.12 * max(map(max, groups.values())))
        logged = next(float(row["value"]) for row in rows if row["subject"] == "behaviour")
        axes.axhline(logged, color=GREY, ls="--", lw=1.2, label="logging policy")

    return panel


def name_of(values: list[str]) -> str:
    """Return the label of a setting: the number, or its pre-training and fine-tuning."""
    if len(values) == 1:
        return values[0]
    pretrained, finetuned = float(values[0]) > 0, values[1] == "True"
    return {(0, 0): "neither", (1, 0): "pre-\ntraining", (0, 1): "fine-\ntuning", (1, 1): "both"}[pretrained, finetuned]


if __name__ == "__main__":
    if len(sys.argv) == 3:
        collect(sys.argv[1], Path(sys.argv[2]))
    draw("figure_4", TASKS[:2], levels, "level", "share of sessions", 3.2)
    draw("figure_5", TASKS, learning_curves, "updates", "NCIS, validation users", 3.8)
    draw("figure_6", TASKS, reward("accuracy", 0.5), "updates", "pairs ordered right", 3.6)
    draw("figure_7", TASKS, reward("loss", float(np.log(2))), "updates", "cross-entropy, nats a pair", 3.6)
    draw("figure_8", TASKS, scores("expectile.csv", ("expectile",)), "expectile", "true level, test users", 3.4)
    keys = ("pretrain_epochs", "finetune_reward")
    draw("figure_9", TASKS, scores("reward_switches.csv", keys), "", "true level, test users", 3.6)
