"""Where the truth is known, training must raise it: three worlds, all tasks (some minutes a world)."""

import pytest

from benchmarks.truth.sanity import one_seed
from prefrec_ray.settings import TASKS


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_policies_raise_true_levels(ray_session: None, seed: int) -> None:
    records = one_seed(seed)
    value = {(record["task"], record["subject"]): record["value"] for record in records}
    for task in TASKS:
        behaviour, best = value[task, "behaviour"], value[task, "nutrition"]

        def score(subject: str, task: str = task, behaviour: float = behaviour, best: float = best) -> float:
            return (value[task, subject] - behaviour) / (best - behaviour)

        assert score("truth") >= 0.8, task
        assert score(f"robust {task}") >= 0.7, task
        assert value[task, f"robust {task}"] > max(behaviour, value[task, "imitation"]), task
