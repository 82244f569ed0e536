"""The serving example of docs/serving.md runs as it stands, on the data of the project's own simulator."""

import re
from pathlib import Path

import numpy as np
import pytest

from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import mlp

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"


def test_the_serving_example_runs(small_platform: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = PreparedDataset.open(str(small_platform / "dataset"))
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
