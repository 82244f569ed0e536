"""The serving example of docs/serving.md runs as it stands, on the data of the project's own simulator."""

import re
from pathlib import Path

import numpy as np
import pytest
from small_platform import logs_and_data

from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import mlp
from prefrec_ray.settings import parse
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.write import simulate

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"


def test_the_serving_example_runs(ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = logs_and_data(str(tmp_path))
    simulate(parse(SimulateSettings, sections["simulate"], "test"), f"{tmp_path}/logs")
    data = prepare(parse(PrepareSettings, sections["prepare"], "test"), f"{tmp_path}/dataset")
    actor = DeterministicActor(mlp(data.state.width, [4], data.state.action_dim), -np.ones(8), np.ones(8))
    Policy(actor, data.state, data.normaliser, data.items()).save(str(tmp_path / "POLICY"))

    (block,) = re.findall(r"^```python\n(.*?Policy\.load\(\"POLICY\"\).*?)^```", PAGE.read_text("utf-8"), re.S | re.M)
    block = block.rpartition("```python\n")[2]
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(block, str(PAGE), "exec"), names)
    served = names["served"]
    assert served.items.shape == served.propensities.shape == (2, 10)
    assert np.isin(served.items, data.items().ids).all()
    later = np.full(5, 1_700_000_100_000)
    states = names["tracker"].states(later)
    assert names["again"].states(later).tobytes() == states.tobytes()
    counts = data.state.groups["counts"].start
    assert (states[[0, 4], counts] > states[[1, 2], counts]).all()
