"""The accuracy on training pairs counts pairs that a teacher decides, and is absent if all are ties."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from prefrec_ray.algorithms import PrefRec
from prefrec_ray.algorithms.base import learner
from prefrec_ray.algorithms.feed.preferences import PreferenceBuffer
from prefrec_ray.algorithms.reward.model import RewardModel, mean_metrics, preference_gradient, update_metrics
from prefrec_ray.policy.networks.layers import seeded

ACCURACY, LOSS = "reward/accuracy_train", "losses/reward_loss"
CPU = torch.device("cpu")


def metrics(labels: list[float]) -> dict[str, torch.Tensor]:
    """Return metrics of one mini-batch with these labels, for a reward that always prefers the second segment."""
    with seeded(0):
        reward = RewardModel(2, 1, (4,), [0, 1])
    (layer,) = [one for one in reward.network.net.linear if one.out_features == 1]
    hidden = reward.network.net.linear[0]
    with torch.no_grad():
        hidden.weight.copy_(torch.ones_like(hidden.weight))
        hidden.bias.zero_()
        layer.weight.fill_(1.0)
    rows, first = np.float32([[0, 0], [1, 1]]), np.tile([0, 1], (len(labels), 1))
    pairs = np.ones(len(labels), bool)
    buffer = PreferenceBuffer(rows, first, np.float32(labels), pairs, pairs.astype(str), 1)
    return update_metrics(preference_gradient(reward, buffer, np.arange(len(labels)), len(labels), CPU)[1])


def test_ties_count_neither_for_a_reward_nor_against_it() -> None:
    assert metrics([1, 1, 0, 0.5])[ACCURACY] == pytest.approx(2 / 3)
    assert math.isnan(metrics([0.5, 0.5])[ACCURACY])
    assert math.isfinite(metrics([0.5, 0.5])[LOSS])


def test_a_mini_batch_of_ties_alone_does_not_lower_the_mean() -> None:
    batches = [metrics([1, 1]), metrics([0.5, 0.5]), metrics([1, 0])]
    means = mean_metrics(batches)
    assert means[ACCURACY] == pytest.approx(0.75)
    assert means[LOSS] == pytest.approx(np.mean([float(batch[LOSS]) for batch in batches]))
    assert math.isnan(mean_metrics(batches[1:2])[ACCURACY])


def test_a_loss_that_is_no_number_is_seen_in_the_mean() -> None:
    nothing = torch.tensor(float("nan"))
    assert math.isnan(mean_metrics([{LOSS: torch.tensor(1.0)}, {LOSS: nothing}])[LOSS])
    assert mean_metrics([{"losses/actor_loss": torch.tensor(2.0)}, {}])["losses/actor_loss"] == 2


@pytest.fixture
def tied(tiny_dataset: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrefRec]:
    """A run whose teacher ties all pairs."""

    def undecided(*given: object) -> tuple[list[torch.Tensor], torch.Tensor]:
        gradient, sums = preference_gradient(*given)
        return gradient, sums * torch.tensor([1.0, 0.0, 0.0])

    monkeypatch.setattr(learner, "preference_gradient", undecided)
    config = PrefRec.get_default_config().offline_data(input_=tiny_dataset)
    settings = {"hidden_sizes": (8,), "train_batch_size_per_learner": 64, "preference_batch_size": 64}
    algorithm = config.training(recipe="paper", task="depth", num_epochs=1, **settings).build_algo()
    yield algorithm
    algorithm.stop()


def test_the_rows_of_a_run_leave_it_out(tied: PrefRec) -> None:
    row = tied.train()
    while row["phase"] == "pretrain":
        assert "accuracy_train" not in row["reward"]
        row = tied.train()
    assert "accuracy_train" not in row["reward"]
    assert "accuracy_within_user" in row["reward"]
    assert math.isfinite(row["losses"]["reward_loss"])
