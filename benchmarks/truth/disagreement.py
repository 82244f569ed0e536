"""Do models of users disagree where they are wrong? `python -m benchmarks disagreement OUTPUT WORLD ...`.

For the worlds that `rules` has trained in OUTPUT: serving rules of the same networks are rolled out with validation
users in models of users of each kind, and with test users in the true law. OUTPUT/disagreement.csv has a row per rule.
A truth counts as within its interval up to the error of 40 test users. Losses are against the best rule, of the rule
with the largest mean gain over models and of the one with the highest lower end.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks.harness import rows_in
from benchmarks.truth.rules import TASK, in_words
from prefrec_ray import storage
from prefrec_ray.bench.results import markdown
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.estimators.subject_roll_outs import policy_server, with_rest
from prefrec_ray.evaluation.online import RollOut, true_level
from prefrec_ray.evaluation.results.names import LOGGING_POLICY
from prefrec_ray.evaluation.results.records import read_evaluation
from prefrec_ray.evaluation.results.scores import error_of_kinds
from prefrec_ray.evaluation.selection.model_score import ModelScore, fit_score
from prefrec_ray.evaluation.selection.serving_rule import Rule
from prefrec_ray.evaluation.settings import ModelSettings
from prefrec_ray.policy import Policy
from prefrec_ray.users.roll_out import roll_out

#: Temperatures, diversity penalties and repetition penalties; each rule has scores by Q or by expected feedback.
GRID = (0.05, 0.15, 0.45), (0.0, 3.0, 9.0), (0.0, 0.3)
#: Standard error of a true level.
TRUE_ERROR = 0.08


def main(output: Path, worlds: Sequence[str]) -> dict[str, Any]:
    """Roll out the rules in each world that OUTPUT/disagreement.csv lacks.

    Prints how often gains were shown, true and within their intervals.
    """
    file = output / "disagreement.csv"
    rows: list[dict[str, Any]] = rows_in(file)
    for world in worlds:
        if world not in {row["world"] for row in rows}:
            rows += [{"world": world, **row} for row in rows_of(output / world / "log0_page1")]
            storage.write_csv(str(file), rows)
    names = list(dict.fromkeys(row["world"] for row in rows))
    columns = ["world", "rules", "gain above .5", "of these shown", "shown", "shown, but a loss", "within", "below"]
    columns += ["loss by the mean", "loss by the lower end"]
    print(markdown(columns, [summary(name, [row for row in rows if row["world"] == name]) for name in names]))
    return {"rows": rows}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the world that `rules` has trained and evaluated in `folder`."""
    data, policy = PreparedDataset.open(str(folder / "dataset")), Policy.load(str(folder / "run" / "policy"))
    score = ray.get(fit_score(data.uri, "validation", ModelSettings(requests=200)).score)
    rules = [Rule(*values, 30, scores) for *values, scores in product(*GRID, ("q", "feedback"))]
    online = read_evaluation(str(folder / "evaluation.json")).select(TASK, "online")
    logged = next(record.value for record in online if record.subject == LOGGING_POLICY)
    parts = [_row.remote(score, policy.under(**rule._asdict()), data, logged) for rule in rules]
    return ray.get(parts)


@ray.remote(num_cpus=1)
def _row(score: ModelScore, policy: Policy, data: PreparedDataset, logged: float) -> dict[str, Any]:
    server = policy_server(policy, score.platform.items, np.random.default_rng(1))
    imagined = roll_out(with_rest(score.platform, policy), score.ensemble.members, server, seed=0)
    gains = imagined.levels[TASK] - score.logging.levels[TASK]
    by_user = np.nanmean(gains, axis=0)
    true = true_level(data, policy, TASK, RollOut("test", users=40, requests=100))
    kinds = zip(score.ensemble.kinds, np.nanmean(gains, axis=1), strict=True)
    return {
        "rule": in_words(Rule.from_policy(policy)),
        **{f"gain by {kind}": f"{gain:.3f}" for kind, gain in kinds},
        "error of users": f"{np.nanstd(by_user) / np.sqrt(np.isfinite(by_user).sum()):.3f}",
        "support": f"{score.ensemble.pasts.share(imagined.inputs):.3f}",
        "true gain": f"{true - logged:.3f}",
    }


def summary(world: str, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the row of a world in the table."""
    gains = np.array([[float(value) for key, value in row.items() if key.startswith("gain by")] for row in rows]).T
    of_users, true = (np.array([float(row[key]) for row in rows]) for key in ("error of users", "true gain"))
    half = np.hypot(1.96 * of_users, error_of_kinds(gains))
    mean, slack = gains.mean(axis=0), 1.96 * TRUE_ERROR
    shown, inside = mean - half > 0, (true > mean - half - slack) & (true < mean + half + slack)
    counts = [true > 0.5, shown & (true > 0.5), shown, shown & (true < 0), inside, true < mean - half - slack]
    losses = [f"{true.max() - true[key.argmax()]:.2f}" for key in (mean, mean - half)]
    return [world, len(rows), *(int(count.sum()) for count in counts), *losses]
