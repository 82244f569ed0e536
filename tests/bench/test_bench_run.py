"""Submissions that train, on a small world of the simulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_platform import NETWORKS, logs_and_data

from prefrec_ray import storage
from prefrec_ray.bench import baselines
from prefrec_ray.bench.baselines import OneOfFirst, ThompsonSampling
from prefrec_ray.bench.results import Estimates, Levels
from prefrec_ray.bench.run import BenchRun, run_bench
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.online import levels_of_logged_items
from prefrec_ray.runs.train import start_run


@pytest.fixture
def world(tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the YAML of a world, on which trainings take seconds."""

    def short(settings: Any, *arguments: Any, **more: Any) -> Any:
        config = {**NETWORKS, "num_epochs": 1, **settings.config}
        return start_run(settings.model_copy(update={"config": config}), *arguments, **more)

    monkeypatch.setattr(baselines, "start_run", short)
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(logs_and_data("unused")))
    return file


def test_a_policy_and_an_estimator_are_run_with_the_true_law(world: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    (clicks,) = run_bench(BenchRun("clicks", [str(world)], output)).results
    assert isinstance(clicks, Levels)
    assert clicks.world == "small"
    assert np.isfinite(clicks.score())
    assert clicks.regret("best known") == 0
    # Nothing that a submission is given names the law or the seed of its world.
    dataset = PreparedDataset.open(f"{output}/worlds/small-0/dataset")
    assert dataset.metadata.world is None
    assert not dataset.metadata.has_reward

    (ncis,) = run_bench(BenchRun("ncis", [str(world)], output, estimator=True)).results
    assert isinstance(ncis, Estimates)
    assert [one.subject for one in ncis.estimates][:3] == ["PrefRec", "greedy", "spread"]
    assert all(one.gain is not None for one in ncis.estimates)
    # Estimates are over the logged items, and so are the true gains that they are compared with.
    law = storage.read_json(f"{output}/worlds/small-0/world.json")["simulate"]
    known = replace(dataset, metadata=dataset.metadata.model_copy(update={"world": law}))
    logged = levels_of_logged_items(known)["frequency"]
    assert logged != pytest.approx(clicks.levels["behaviour"], abs=1e-3)
    random = next(one for one in ncis.estimates if one.subject == "random items")
    assert random.true_gain == pytest.approx(clicks.levels["random items"] - logged, abs=1e-9)


def test_an_error_of_a_submission_is_one_line(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"submission 'builtins:len': world small: found TypeError .*expected a policy"):
        run_bench(BenchRun("builtins:len", [str(world)], str(tmp_path / "out")))
    with pytest.raises(UserError, match=r"found str; expected a Policy or a maker of servers"):
        run_bench(BenchRun("builtins:repr", [str(world)], str(tmp_path / "out")))


def test_worlds_with_pages_are_refused_for_estimators_before_a_world_is_simulated(world: Path, tmp_path: Path) -> None:
    sections = logs_and_data("unused")
    pages, output = tmp_path / "pages.yaml", tmp_path / "out"
    pages.write_text(yaml.safe_dump({**sections, "simulate": {**sections["simulate"], "page": 5}}))
    with pytest.raises(UserError, match=r"pages.yaml: key 'simulate.page': found 5; expected 1"):
        run_bench(BenchRun("ncis", [str(world), str(pages)], str(output), estimator=True))
    assert not output.exists()


def test_baselines_serve_the_best_items_that_are_not_excluded() -> None:
    rng, ranking = np.random.default_rng(0), np.array([3, 1, 0, 2])
    excluded = np.array([[False, False, False, True], [True, False, True, True]])
    times = np.zeros(2, np.int64)
    shown = np.array([OneOfFirst(ranking, rng).serve(times, excluded).rows for _ in range(60)])
    assert set(shown[:, 0]) == {0, 1, 2}
    assert set(shown[:, 1]) == {1}
    bandit = ThompsonSampling(np.full(4, 1e6), np.array([1e5, 2e5, 3e5, 9e5]), rng)
    np.testing.assert_array_equal(bandit.serve(times, excluded).rows, [2, 1])
    for _ in range(40):
        bandit.observe(times, np.array([2, 2]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert bandit.count[2] == 1e6 + 80
    assert bandit.total[2] == 3e5
