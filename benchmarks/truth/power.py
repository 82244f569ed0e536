"""Does the back-test find a model of users that ignores items? `python -m benchmarks power OUTPUT WORLD ...`.

For the worlds that `rules` has trained in OUTPUT: models of users without any input about items are fitted to test
users. In such a model no policy has a gain, so that the true gain of the trained policy is the error to find. Models of
the first kind of an evaluation show what the back-test finds otherwise. OUTPUT/power.csv has a row per world.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks.truth.rules import TASK
from prefrec_ray import runtime, storage
from prefrec_ray.bench.results import markdown
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.estimators.subject_roll_outs import policy_server
from prefrec_ray.evaluation.results.names import LOGGING_POLICY
from prefrec_ray.evaluation.results.records import read_evaluation
from prefrec_ray.policy import Policy
from prefrec_ray.users.checks import backtest_error
from prefrec_ray.users.ensemble import LoggedPasts
from prefrec_ray.users.fit import KINDS, ModelKind, fit_member
from prefrec_ray.users.inputs import Inputs
from prefrec_ray.users.log_server import server_of_log
from prefrec_ray.users.measures import part_histories
from prefrec_ray.users.reading import histories_of
from prefrec_ray.users.roll_out import Platform, logged_levels, roll_out

#: Only user features and the time are inputs.
IGNORES_ITEMS = ModelKind("ignores items", lambda inputs: np.arange(inputs.width) >= len(inputs.seen), (64, 64))
REQUESTS = 240


def main(output: Path, worlds: Sequence[str]) -> dict[str, Any]:
    """Test the models in each world."""
    runtime.start_ray()
    rows = ray.get([_row.remote(world, str(output / world / "log0_page1")) for world in worlds])
    storage.write_csv(str(output / "power.csv"), rows)
    print(markdown(list(rows[0]), [list(row.values()) for row in rows]))
    return {"rows": rows}


@ray.remote(num_cpus=1)
def _row(world: str, folder: str) -> dict[str, Any]:
    dataset, policy = PreparedDataset.open(f"{folder}/dataset"), Policy.load(f"{folder}/run/policy")
    true = {r.subject: r for r in read_evaluation(f"{folder}/evaluation.json").select(TASK, "online")}
    (name,) = (name for name, record in true.items() if record.role == "policy")
    data, items = histories_of(dataset, "test", seed=0), dataset.items()
    users = np.random.default_rng(0).permutation(len(data.starts))
    simulated, fitted = (data.take(np.sort(part)) for part in np.split(users, [len(users) // 3]))
    inputs, logged = Inputs.from_histories(dataset.state, dataset.normaliser, items, fitted)
    columns = LoggedPasts.from_histories(fitted, inputs, logged).columns
    made, everyone = inputs.scaled(logged), np.arange(len(simulated.starts))
    weight = dataset.metadata.mixture_weight
    platform = Platform(
        dataset.state, dataset.normaliser, items, simulated, everyone, weight, REQUESTS, dataset.metadata.rest_ms
    )
    row = {"world": world, "true gain": f"{true[name].value - true[LOGGING_POLICY].value:.2f}"}
    for kind in (IGNORES_ITEMS, KINDS[0]):
        member = fit_member(kind, inputs, fitted, made, seed=0)
        servers = server_of_log(platform), policy_server(policy, items, np.random.default_rng(1))
        by_log, by_policy = (roll_out(platform, [member], server, seed=0) for server in servers)
        missed = logged_levels(platform)[1][TASK] - by_log.parts[TASK][0]
        gain = np.nanmean(by_policy.levels[TASK]) - np.nanmean(by_log.levels[TASK])
        error = backtest_error(missed, part_histories(by_log, columns), part_histories(by_policy, columns))
        row |= {f"gain, {kind.name}": f"{gain:.2f}", f"error found, {kind.name}": f"{error:.2f}"}
    return row
