"""What trained policies are worth under other serving rules, and under the variety that their log says.

    python -m benchmarks rules OUTPUT [--worlds tiring ...] [--tasks frequency depth] [--users 120] [--requests 250]

OUTPUT is that of `python -m benchmarks truth`. PrefRec's policies of each log are rolled out in the simulator, with
test users, under all temperatures and varieties; no training is done. Score: (level - logging policy) / (nutrition -
logging policy). OUTPUT/rules.csv has a row per policy and rule, and what is in it already is not done again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.harness import markdown
from benchmarks.truth.bench import extended, rolled_scores, trained_bundle
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.online import RollOut
from prefrec_ray.policy import Policy

TEMPERATURES, VARIETIES = (0.15, 0.3), (0.0, 1.0, 2.5, 5.0, 7.5, 10.0)
#: In `variety`: that of the log.
SAID = "log"
Row = dict[str, Any]


def main(
    output: Path,
    worlds: Sequence[str] | None = None,
    tasks: Sequence[str] = ("frequency", "depth"),
    users: int = 120,
    requests: int = 250,
) -> dict[str, Any]:
    """Scores what is missing, then prints the mean score of each rule, and of the variety that logs say."""
    how = RollOut(users=users, requests=requests)
    rows = extended(output, "rules.csv", lambda folder, task: of_task(folder, task, how), worlds, tasks)
    print(table(rows))
    return {"rows": rows}


def of_task(folder: Path, task: str, how: RollOut) -> Iterator[Row]:
    """A row per rule."""
    data = PreparedDataset.open(str(folder / "dataset"))
    log_variety = data.metadata.variety
    policy = Policy.load(str(trained_bundle(folder, task)))
    rules = {
        f"{t:g} {name}": policy.under(temperature=t, variety=v)
        for t, (name, v) in product(TEMPERATURES, [*((f"{v:g}", v) for v in VARIETIES), (SAID, log_variety)])
        if v is not None
    }
    for name, score in rolled_scores(data, rules, task, how).items():
        yield {
            "world": folder.parent.name,
            "log": folder.name,
            "task": task,
            "temperature": rules[name].serving.temperature,
            "variety": name.split()[1],
            "said": log_variety,
            "score": score,
        }


def table(rows: Sequence[Row]) -> str:
    """By world and variety the mean score over tasks; by temperature and variety that over all, and the least."""
    names = [*(f"{v:g}" for v in VARIETIES), SAID]

    def scores(name: str, temperature: float, world: str | None = None) -> list[float]:
        return [
            float(row["score"])
            for row in rows
            if (row["variety"], float(row["temperature"])) == (name, temperature) and world in (None, row["world"])
        ]

    highest, worlds = max(TEMPERATURES), sorted({row["world"] for row in rows})
    log_varieties = {row["world"]: row["said"] for row in rows}
    lines = [[w, log_varieties[w], *(f"{mean(scores(name, highest, w)):.2f}" for name in names)] for w in worlds]
    lines += [
        [f"all, temperature {t:g}", "", *(f"{mean(s):.2f} ({min(s):.2f})" for s in (scores(name, t) for name in names))]
        for t in sorted(TEMPERATURES, reverse=True)
    ]
    return markdown(("world", "the log says", *names), lines)
