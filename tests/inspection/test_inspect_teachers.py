"""Diagnoses of teachers against plain loops, and on histories whose truth is known."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.dataset import SCHEMA_VERSION, Metadata, PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.inspection.teachers import SampledSessions, between_share, diagnose, load_histories, rule_accuracy


def histories(depths: list[list[int]], levels: list[list[float]]) -> SampledSessions:
    sizes = np.array([len(mine) for mine in depths])
    level = np.concatenate(levels).astype(float)
    return SampledSessions(np.cumsum(sizes) - sizes, np.concatenate(depths).astype(int), level, level)


@settings(deadline=None, max_examples=60)
@given(
    pairs=st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20
    )
)
def test_a_rule_is_right_where_it_prefers_what_was_preferred(pairs: list[tuple[float, int, int]]) -> None:
    hits = []
    for label, first, second in pairs:
        if label == 0.5:
            continue
        if first == second:
            hits.append(0.5)
        else:
            hits.append(float((second > first) == (label == 1.0)))
    accuracy = rule_accuracy(*(np.array(column) for column in zip(*pairs, strict=True)))
    if hits:
        assert accuracy == pytest.approx(np.mean(hits))
    else:
        assert accuracy is None


def test_the_share_between_users_is_the_one_that_made_the_numbers() -> None:
    rng = np.random.default_rng(0)
    for between, within in ((1.0, 1.0), (3.0, 1.0), (0.0, 1.0), (1.0, 0.0)):
        scores = np.sqrt(between) * rng.normal(size=(4000, 1)) + np.sqrt(within) * rng.normal(size=(4000, 8))
        assert between_share(scores) == pytest.approx(between / (between + within), abs=0.02)
    assert between_share(np.full((3, 4), 2.0)) == 0.0


def test_the_share_between_users_is_that_of_the_sums_of_squares() -> None:
    scores = pd.DataFrame([[1.0, 2.0, 4.0], [7.0, 5.0, 3.0], [9.0, 9.0, 6.0], [0.0, 1.0, 8.0]])
    grand = scores.to_numpy().mean()
    between = sum(3 * (row.mean() - grand) ** 2 for _, row in scores.iterrows()) / 3
    within = sum((value - row.mean()) ** 2 for _, row in scores.iterrows() for value in row) / 8
    assert between_share(scores.to_numpy()) == pytest.approx((between - within) / (between + 2 * within))


def by_name(diagnoses: list) -> dict:
    return {(d.task, d.teacher): d for d in diagnoses}


def test_users_that_differ_and_never_change() -> None:
    # Every session of user u is u + 1 requests deep and of level u: only the user matters, however segments are paired.
    depths = [[u + 1] * 60 for u in range(4)]
    levels = [[float(u)] * 60 for u in range(4)]
    diagnoses = by_name(diagnose(histories(depths, levels), ["depth"], 12, 0.5, seed=0, pairs=500))
    mean = diagnoses["depth", "any_users_mean"]
    assert mean.between_users == 1.0
    assert mean.user == 1.0
    assert mean.sessions == 1.0
    assert not mean.prefers_more  # users of a higher level end fewer sessions in a segment
    assert mean.ties == 0.0
    within = diagnoses["depth", "within_user_mean"]
    assert within.ties == 1.0
    assert (within.sessions, within.user) == (None, None)


def test_equal_users_whose_sessions_change() -> None:
    # One impression per session: every segment has the same number of ends, and users differ only by chance.
    rng = np.random.default_rng(1)
    levels = [list(rng.integers(0, 6, 400).astype(float)) for _ in range(60)]
    diagnoses = by_name(diagnose(histories([[1] * 400] * 60, levels), ["frequency"], 20, 0.5, seed=3, pairs=2000))
    for teacher in ("any_users_sum", "any_users_mean", "within_user_sum", "within_user_mean"):
        diagnosis = diagnoses["frequency", teacher]
        assert diagnosis.sessions == 0.5
        assert diagnosis.between_users < 0.1
    # The same number of sessions in every segment: the sum and the mean give the same order.
    assert diagnoses["frequency", "any_users_sum"].ties == diagnoses["frequency", "any_users_mean"].ties
    assert diagnoses["frequency", "any_users_sum"].user == pytest.approx(0.5, abs=0.1)


def test_the_sum_of_equal_levels_counts_sessions() -> None:
    rng = np.random.default_rng(2)
    depths = [list(rng.integers(1, 9, 80)) for _ in range(10)]
    diagnoses = by_name(
        diagnose(histories(depths, [[1.0] * 80] * 10), ["depth", "mixture"], 20, 0.5, seed=0, pairs=400)
    )
    for task, pairing in itertools.product(("depth", "mixture"), ("any_users", "within_user")):
        counting = diagnoses[task, f"{pairing}_sum"]
        assert counting.sessions == 1.0
        assert counting.prefers_more
        assert 0 < counting.ties < 1
        assert diagnoses[task, f"{pairing}_mean"].ties == 1.0


def test_the_same_seed_gives_the_same_diagnosis() -> None:
    rng = np.random.default_rng(5)
    some = histories([[2] * 50] * 6, [list(rng.random(50)) for _ in range(6)])
    first, again, other = (diagnose(some, ["depth"], 10, 0.5, seed, pairs=50) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.fixture
def dataset(tmp_path: Path) -> PreparedDataset:
    """Two files of sessions: users a (30 requests), b (8), c (40, test), d (25)."""
    (tmp_path / "sessions").mkdir()
    files = {
        "00000": [("a", [10, 10, 10], "train"), ("b", [4, 4], "train")],
        "00001": [("c", [20, 20], "test"), ("d", [5] * 5, "validation")],
    }
    for name, users in files.items():
        rows = [(user, split, i, depth, len(depths)) for user, depths, split in users for i, depth in enumerate(depths)]
        user, split, number, depth, sessions = zip(*rows, strict=True)
        level = pa.array([float(i) for i in number])
        frequency = pa.array([float(i) if i + 1 < n else None for i, n in zip(number, sessions, strict=True)])
        columns = {"user_id": user, "depth": depth, "level_depth": level, "level_frequency": frequency, "split": split}
        pq.write_table(pa.table(columns), tmp_path / "sessions" / f"part-{name}.parquet")
    metadata = Metadata(
        schema_version=SCHEMA_VERSION,
        counts={},
        state_dim=1,
        action_dim=1,
        action_low=-1,
        action_high=1,
        state={},
        normaliser={},
        settings={},
        seed=0,
        tasks=["depth"],
        teachers=[],
        mixture_weight=0.5,
    )
    return PreparedDataset(str(tmp_path), metadata)


def test_histories_are_those_of_users_with_enough_requests_that_are_no_test_users(dataset: PreparedDataset) -> None:
    user_histories = load_histories(dataset, 10)
    assert user_histories.requests.tolist() == [30, 25]
    assert user_histories.depth.tolist() == [10] * 3 + [5] * 5
    np.testing.assert_array_equal(user_histories.level_frequency, [0, 1, np.nan, 0, 1, 2, 3, np.nan])
    with pytest.raises(UserError, match="1 training and validation users have more than 26 impressions; expected 2"):
        load_histories(dataset, 26)
    assert load_histories(dataset, 1, limit=4).requests.tolist() == [30, 8]
