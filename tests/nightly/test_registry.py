"""The aliases of a loop in MLflow's registry name the policies of current.json, after any night, kill and rollback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from made_up_nights import Killed, Loop, Steps, made_comparison
from platform_desk import STATE

from prefrec_ray import storage
from prefrec_ray.cli.main import run as prefrec
from prefrec_ray.nightly import registry
from prefrec_ray.policy import Policy
from prefrec_ray.runs.tracking import TrackingSettings


@dataclass
class TrackedSteps(Steps):
    """Steps whose runs are tracked."""

    tracking: TrackingSettings = field(default_factory=TrackingSettings)

    def train(self, dataset: str, run: str, current: str | None) -> None:
        super().train(dataset, run, current)
        storage.write_json(str(Path(run).parents[2] / "tracking.json"), self.tracking.model_dump())


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A loop with canaries that is tracked by MLflow in a file."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    tracking = TrackingSettings(mlflow=f"sqlite:///{tmp_path}/tracked.db", model="shop")
    return Loop(tmp_path / "loop", TrackedSteps([], tracking=tracking), {"release": "canary"})


def aliases(loop: Loop) -> dict[str, str]:
    """The night of each alias."""
    from mlflow import MlflowClient

    client = MlflowClient(loop.steps.tracking.mlflow)
    versions = [client.get_model_version("shop", one.version) for one in client.search_model_versions("name = 'shop'")]
    return {alias: version.tags["night"] for version in versions for alias in version.aliases}


def test_aliases_follow_canary_promotion_withdrawal_and_rollback(
    loop: Loop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    loop.night()
    assert aliases(loop) == {"canary": "night 1"}
    loop.steps.compared = made_comparison(0.5)
    loop.night()
    assert aliases(loop) == {"champion": "night 1", "canary": "night 2"}
    loop.steps.compared = made_comparison(-0.5)
    loop.night(gain=0.0)  # withdrawn; the night's own policy is kept
    assert aliases(loop) == {"champion": "night 1"}
    loop.night()
    loop.steps.compared = made_comparison(0.5)
    loop.night(gain=0.0)
    assert aliases(loop) == {"champion": "night 4"}
    assert prefrec(["rollback", str(loop.path)]) == 0
    assert aliases(loop) == {"champion": "night 1"}

    monkeypatch.setenv("MLFLOW_TRACKING_URI", loop.steps.tracking.mlflow or "")
    mlflow.set_registry_uri(loop.steps.tracking.mlflow)
    model = mlflow.pyfunc.load_model("models:/shop@champion")
    policy = Policy.load(str(loop.path / "current"))
    states = [[0.0] * STATE.width, [1.0] * STATE.width]
    served = policy.serve(pd.DataFrame(states).to_numpy("float32"), 2, seed=3)
    found = model.predict(pd.DataFrame({"state": states}), params={"k": 2, "seed": 3})
    assert found["items"].tolist() == served.items.tolist()
    assert found["propensities"].tolist() == served.propensities.tolist()


@pytest.mark.parametrize("stop", ["_version", "save_model"])
def test_a_night_that_was_killed_sets_the_same_aliases(loop: Loop, stop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(registry, stop, killed)
        with pytest.raises(Killed):
            loop.night()
    loop.steps.compared = None
    for _ in range(2):
        loop.night()
        assert aliases(loop) == {"canary": "night 1"}


def test_a_night_without_mlflow_ends_and_the_next_one_sets_the_aliases(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(settings: TrackingSettings) -> None:
        raise ConnectionError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(registry, "_connect", away)
        assert loop.night().status == "canary"
    line = "tracking: MLflow fails (ConnectionError: refused); the next night sets the aliases"
    assert line in loop.printed
    loop.steps.compared = None
    loop.night()
    assert aliases(loop) == {"canary": "night 1"}


def test_a_loop_without_a_registered_model_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: Sequence[object]) -> None:
        raise AssertionError

    monkeypatch.setattr(registry, "_connect", connect)
    plain = Loop(tmp_path / "loop", settings={"release": "canary"})
    assert plain.night().status == "canary"
    assert not any("tracking" in line for line in plain.printed)
