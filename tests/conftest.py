"""Shared fixtures: one Ray per process, one thread, a marker for tests that need Ray, and the order of the files.

Slow imports are inside functions: the process that only distributes tests does not need them.
"""

from __future__ import annotations

import fcntl
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hypothesis
import pytest

if TYPE_CHECKING:
    from s3_server import Proxy

#: Files that take ten seconds or more, the longest first.
LONGEST = (
    "test_tune_sweep.py",
    "test_object_store.py",
    "test_methods.py",
    "test_modelled.py",
    "test_fit.py",
    "test_prefrec.py",
    "test_own_files.py",
    "test_label_browser.py",
    "test_checkpoints.py",
    "test_ray_data.py",
    "test_killed_steps.py",
    "test_kuairand_excerpt.py",
    "test_run.py",
    "test_experiment.py",
    "test_validation.py",
    "test_cli_errors.py",
    "test_serve_under_load.py",
    "test_first_night.py",
    "test_tutorials.py",
    "test_serve.py",
    "test_first_nights.py",
    "test_bench_run.py",
    "test_nights.py",
    "test_input_fuzz.py",
    "test_distribution.py",
    "test_exported_policies.py",
    "test_fitted.py",
    "test_specification.py",
    "test_tuner.py",
    "test_forget.py",
    "test_serving_rule.py",
    "test_rules.py",
    "test_plugins.py",
    "test_snapshots.py",
)

# One thread for matrices, here and in child processes: several threads would wait for each other. On two busy cores the
# tests of fitted Q took 40 to 270 s, and 7 to 12 s with one thread. torch reads the variable during its import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray ends workers that are idle for a second, and tests would repeat all imports.
os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
# Ray Data reads the footers of Parquet files in 32 actors, as far as processes start in time, for any number of files.
os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
# Nobody reads the metrics and logs of the tests' Ray. Its log monitor lists its folder ten times a second.
os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "3600000")
os.environ.setdefault("RAY_LOG_MONITOR_MANY_FILES_THRESHOLD", "0")
os.environ.setdefault("LOG_NAME_UPDATE_INTERVAL_S", "3600")
# Imported and collected objects stay. Garbage collection of them took a third of the time of collecting.
gc.disable()

#: The error of a test that starts Ray without the mark.
UNMARKED = "a test that starts Ray is marked `ray` (tests/conftest.py)"

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")
#: For mutants: a counterexample is enough, it need not be the smallest.
hypothesis.settings.register_profile(
    "unshrunk",
    hypothesis.settings.get_profile("repeatable"),
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)


def pytest_collection_finish() -> None:
    """Only what tests make is looked through for garbage."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests whose fixtures start Ray. Tests that start Ray themselves carry the mark.

    The longest files come first, so that parallel workers end together.
    """
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(autouse=True)
def ray_only_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test without the mark `ray` if it starts Ray, in this process or a child process."""
    if request.node.get_closest_marker("ray") is None:
        monkeypatch.setattr("ray.init", _refuse)
        monkeypatch.setattr("prefrec_ray.runtime.start_ray", _refuse_in_one_line)  # would try the address in a process
        monkeypatch.setenv("RAY_ADDRESS", UNMARKED)


def _refuse_in_one_line(*args: object, **kwargs: object) -> NoReturn:
    from prefrec_ray.errors import UserError

    raise UserError(UNMARKED)


def _refuse(*args: object, **kwargs: object) -> NoReturn:
    pytest.fail("this test starts Ray: it takes the fixture `ray_session`, or is marked `ray`")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installed package with plug-ins, on the path of Ray's workers, but not of this process."""
    from plugin_template import install_template

    folder = tmp_path_factory.mktemp("site")
    install_template(folder)
    return folder


@pytest.fixture(scope="session")
def object_store() -> Iterator[Proxy]:
    """The address of an object store, for Ray's workers from their start; test_object_store.py puts a store there."""
    from s3_server import Proxy, in_thread

    with in_thread(Proxy()) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def ray_session(site: Path, object_store: Proxy) -> Iterator[None]:
    import ray

    from prefrec_ray.runtime import start_ray

    with pytest.MonkeyPatch.context() as environment:
        for name, value in {"PYTHONPATH": str(site), **object_store.environment}.items():
            environment.setenv(name, value)
        start_ray(num_cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def small_platform(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with `logs` and `dataset` of small_platform.py, for tests that only read them: one for all workers."""
    from small_platform import prepare_logs, simulate_logs

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "small_platform"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "dataset").exists():
            simulate_logs(folder)
            prepare_logs(folder, "dataset")
    return folder


@pytest.fixture(scope="session")
def tiny_dataset(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The small data set of tiny.py, at a size for tests of equality."""
    from tiny import write_dataset

    folder = tmp_path_factory.mktemp("tiny") / "dataset"
    write_dataset(folder, users=20, requests=60, pairs=96, length=10)
    return str(folder)


@pytest.fixture(scope="module")
def short_fits(ray_session: None) -> Iterator[None]:
    """Limit the updates of an evaluation's fits in Ray's workers (short_fits.py)."""
    from short_fits import limited_fits

    with limited_fits():
        yield
