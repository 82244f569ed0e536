"""What it is worth to read Q by the answers that items are expected to draw.

    python -m benchmarks answers OUTPUT [--worlds tiring ...] [--tasks frequency depth] [--users 120] [--requests 250]

OUTPUT is that of `python -m benchmarks truth`. PrefRec's policies of each log are rolled out in the simulator, with
test users, by Q itself and by what expected answers explain of it, drawn and as the rule `best`; no training is done.
Score: (level - logging policy) / (nutrition - logging policy). OUTPUT/answers.csv has a row per policy and way; what is
in it already is not done again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.harness import markdown
from benchmarks.truth.bench import extended, rolled_scores, trained_bundle
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.evaluation.online import RollOut
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.answers import Answers, worth_of
from prefrec_ray.policy.networks.critic import Critic, some

#: States and items in which it is found what answers are worth.
STATES, ITEMS = 256, 512
RULES = ("sample", "best")
Row = dict[str, Any]


def main(
    output: Path,
    worlds: Sequence[str] | None = None,
    tasks: Sequence[str] = ("frequency", "depth"),
    users: int = 120,
    requests: int = 250,
) -> dict[str, Any]:
    """Scores what is missing, then prints mean scores by world."""
    how = RollOut(users=users, requests=requests)
    rows = extended(output, "answers.csv", lambda folder, task: of_task(folder, task, how), worlds, tasks)
    print(table(rows))
    return {"rows": rows}


def of_task(folder: Path, task: str, how: RollOut) -> Iterator[Row]:
    """A row per rule and way."""
    data = PreparedDataset.open(str(folder / "dataset"))
    policy = Policy.load(str(trained_bundle(folder, task)))
    assert policy.critic is not None
    bare, answers = replace(policy.critic, answers=None, answers_scale=None, worth=None), data.answers()
    assert answers is not None
    ways = {"q": bare, "answers": read_by(answers, bare, data)}
    policies = {
        f"{rule} {way}": replace(policy.under(rule=rule), critic=critic)
        for rule in RULES
        for way, critic in ways.items()
    }
    for name, score in rolled_scores(data, policies, task, how).items():
        rule, way = name.split()
        yield {
            "world": folder.parent.name,
            "log": folder.name,
            "task": task,
            "variety": data.metadata.variety,
            "rule": rule,
            "by": way,
            "served": "answers" if policy.critic.answers is not None else "q",
            "score": score,
        }


def read_by(answers: Answers, critic: Critic, data: PreparedDataset) -> Critic:
    """The critic read by answers, whatever share of Q these explain."""
    states = tensor(data.read(data.files("transitions")[0], ["obs"]).slice(0, STATES)["obs"])
    items = some(data.items().embeddings, ITEMS)
    candidates, known = np.broadcast_to(items, (len(states), *items.shape)), replace(critic, answers=answers)
    return replace(known, worth=worth_of(known.expected(states, candidates), known.q(states, candidates)))


def table(rows: Sequence[Row]) -> str:
    """By world, for each task and rule, the mean over logs of Q's own score and of that by answers."""
    ways = sorted({(row["task"], row["rule"], row["by"]) for row in rows}, key=lambda way: (*way[:2], way[2] != "q"))
    lines = []
    for world in sorted({row["world"] for row in rows}):
        own = [row for row in rows if row["world"] == world]
        scores = [[float(r["score"]) for r in own if (r["task"], r["rule"], r["by"]) == way] for way in ways]
        lines.append([world, own[0]["served"], *(f"{mean(values):.2f}" for values in scores)])
    return markdown(("world", "served by", *(" ".join(way) for way in ways)), lines)
