"""Rotated transitions: rotation keeps distances and the box, and a Q learns about directions that no log contains."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prefrec_ray.algorithms.base.learner import OfflineLearner
from prefrec_ray.algorithms.base.rotation import Rotation, rotation
from prefrec_ray.algorithms.feed.batches import TransitionPlan, deal
from prefrec_ray.ids import Stream
from prefrec_ray.policy.networks.q import QFunction

DIM, PARTS, OTHERS = 3, 2, 4
#: Behind other columns of the state lie the means of embeddings.
COLUMNS = list(range(OTHERS, OTHERS + PARTS * DIM))


def make_rotation(share: float, seed: int = 0) -> Rotation:
    rng = np.random.default_rng(seed)
    scale = rng.normal(0, 0.1, (PARTS, DIM)).tolist(), rng.uniform(0.8, 1.25, (PARTS, DIM)).tolist()
    about = {"rotations": share, "embedding_columns": ((COLUMNS[0], COLUMNS[-1] + 1), *scale)}
    rotated = Rotation.from_settings(about, torch.device("cpu"))
    assert rotated is not None
    return rotated


def transitions(rows: int, seed: int = 0) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    widths = {"obs": OTHERS + PARTS * DIM, "actions": DIM, "new_obs": OTHERS + PARTS * DIM}
    return {
        name: torch.tensor(rng.normal(0, 0.7, (rows, width)), dtype=torch.float32) for name, width in widths.items()
    }


def embeddings(states: Tensor, of: Rotation) -> np.ndarray:
    """Return the embeddings in the states without their scaling, float64 [rows, PARTS, DIM]."""
    raw = states.numpy()[:, COLUMNS].astype(np.float64) * of.std.flatten().numpy()
    raw += of.mean.flatten().numpy()
    return raw.reshape(len(states), PARTS, DIM)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_inner_products_stay_and_so_does_all_else(seed: int) -> None:
    made_of, batch = make_rotation(0.5, seed), transitions(9, seed)
    matrix = rotation(DIM, np.random.default_rng(seed))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(DIM), atol=1e-6)
    rows = torch.tensor([1, 4, 8])
    after = made_of({**batch, "labels": torch.arange(9.0)}, rows, torch.from_numpy(matrix))
    others = [0, 2, 3, 5, 6, 7]
    for name in batch:
        torch.testing.assert_close(after[name][others], batch[name][others])
    for name in ("obs", "new_obs"):
        torch.testing.assert_close(after[name][:, :OTHERS], batch[name][:, :OTHERS])
        before = np.einsum("npd,nd->np", embeddings(batch[name], made_of), batch["actions"].numpy())
        rotated = np.einsum("npd,nd->np", embeddings(after[name], made_of), after["actions"].numpy())
        np.testing.assert_allclose(rotated, before, atol=1e-4)
        assert np.abs(embeddings(after[name], made_of) - embeddings(batch[name], made_of))[[1, 4, 8]].max() > 0.1
    assert after["labels"].tolist() == list(range(9))


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), dim=st.integers(1, 12))
def test_a_rotated_action_stays_in_the_box_and_keeps_distances(seed: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    actions, matrix = rng.uniform(-1, 1, (20, dim)).astype(np.float32), rotation(dim, rng)
    actions[rng.random((20, dim)) < 0.3] = 1.0  # a general rotation moves the corners of the box out of it
    rotated = actions @ matrix
    np.testing.assert_array_equal(np.sort(np.abs(rotated), axis=1), np.sort(np.abs(actions), axis=1))
    np.testing.assert_allclose(rotated @ rotated.T, actions @ actions.T, atol=1e-5)
    apart = [np.linalg.norm(rows[:, None] - rows[None], axis=2) for rows in (actions, rotated)]
    np.testing.assert_allclose(apart[0], apart[1], atol=1e-5)
    np.testing.assert_array_equal(matrix @ matrix.T, np.eye(dim))


def test_no_column_of_a_rotated_state_is_clipped() -> None:
    """Columns of unequal deviations may exceed 5, the bound of a scaled state, once they are rotated."""
    made_of, batch = make_rotation(1.0), transitions(9)
    made_of = replace(made_of, std=torch.tensor([[10.0, 0.1, 1.0], [1.0, 1.0, 1.0]]))
    swap = torch.eye(DIM)[[1, 0, 2]]
    after = made_of(batch, torch.arange(9), swap)
    expected = embeddings(batch["obs"], made_of)[:, :, [1, 0, 2]]
    np.testing.assert_allclose(embeddings(after["obs"], made_of), expected, atol=1e-4)
    assert after["obs"].abs().max() > 50


def test_nothing_is_made_where_nothing_is_rotated() -> None:
    for about in ({"rotations": 0.0}, {}):  # a run of an earlier version has no such setting
        assert Rotation.from_settings(about, torch.device("cpu")) is None


@pytest.mark.parametrize("learners", [2, 3])
def test_a_row_is_rotated_alike_on_any_learner(learners: int) -> None:
    """The parts of several learners are the rows of one, in another order."""

    def plans(count: int) -> list[TransitionPlan]:
        lanes = deal([None] * 4, [100] * 4, 40, count)  # type: ignore[list-item]
        return [TransitionPlan(part, 4, 40, 10, 7, 0, 1) for part in lanes]

    def of(plan: TransitionPlan, update: int) -> dict[str, Tensor]:
        """Rows that hold their own lane and number."""
        numbers = [lane.number + 0.01 * np.arange(lane.rows)[lane.own] for lane in plan.lanes]
        batch = transitions(sum(map(len, numbers)))
        batch["labels"] = torch.tensor(np.concatenate(numbers))
        batch["actions"] = batch["labels"].float()[:, None].repeat(1, DIM)
        return make_rotation(0.5).of_batch(batch, plan, update)

    rotated = []
    for update in (3, 4):
        (whole,), parts = [of(plan, update) for plan in plans(1)], [of(plan, update) for plan in plans(learners)]
        expected = dict(zip(whole["labels"].tolist(), whole["actions"], strict=True))
        for part in parts:
            for number, action in zip(part["labels"].tolist(), part["actions"], strict=True):
                torch.testing.assert_close(action, expected[number])
        rotated.append([bool((action != number).any()) for number, action in expected.items()])
        assert 8 <= sum(rotated[-1]) <= 32
    assert rotated[0] != rotated[1]


def learned(share: float) -> tuple[float, float, float]:
    """Correlation of a Q with the truth, <taste, item>: tastes as in the log, turned by 90°, and between the axes.

    The log has tastes along one axis only.
    """
    rng, of = np.random.default_rng(0), make_rotation(share)
    torch.manual_seed(0)
    q = QFunction.random(OTHERS + PARTS * DIM, DIM, [64, 64], [])

    def drawn(direction: list[float], rows: int) -> tuple[dict[str, Tensor], Tensor]:
        batch = transitions(rows, int(rng.integers(1 << 30)))
        taste = np.zeros((rows, PARTS * DIM))
        taste[:, :DIM] = rng.choice([-1, 1], (rows, 1)) * np.array(direction)
        batch["obs"][:, COLUMNS] = torch.tensor(
            (taste - of.mean.flatten().numpy()) / of.std.flatten().numpy(), dtype=torch.float32
        )
        return batch, (torch.tensor(taste[:, :DIM], dtype=torch.float32) * batch["actions"]).sum(dim=1)

    optimizer = torch.optim.Adam(q.parameters(), lr=3e-3)
    for _ in range(1000):
        batch, truth = drawn([1, 0, 0], 128)
        rows = torch.from_numpy(np.flatnonzero(rng.random(128) < share))
        batch = of(batch, rows, torch.from_numpy(rotation(DIM, rng)))
        optimizer.zero_grad()
        (q(batch["obs"], batch["actions"]) - truth).square().mean().backward()
        optimizer.step()

    def correlation(direction: list[float]) -> float:
        batch, truth = drawn(direction, 2000)
        with torch.no_grad():
            return float(np.corrcoef(q(batch["obs"], batch["actions"]).numpy(), truth.numpy())[0, 1])

    return correlation([1, 0, 0]), correlation([0, 1, 0]), correlation([-0.58, 0.58, 0.58])


def test_a_q_knows_directions_that_its_log_does_not_show() -> None:
    shown, turned, between = learned(1e-9)
    assert shown > 0.95
    assert max(turned, between) < 0.7
    assert min(learned(0.5)) > 0.9


def test_noise_of_a_method_shares_no_random_numbers_with_rotations() -> None:
    streams: list[int] = []

    def drawn(update: int, stream: int, draw: object) -> np.ndarray:
        streams.append(stream)
        return np.zeros(1, np.float32)

    learner = SimpleNamespace(_transitions=SimpleNamespace(drawn=drawn), update_index=0, device=torch.device("cpu"))
    for draw in range(16):
        OfflineLearner.noise(learner, 2, draw)
    assert streams[:11] == list(range(11))
    assert len({*streams, Stream.ROTATED, Stream.ROTATION}) == 18
