"""Relations of candidates to a user's past items, against loops over the items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.relations import Relations

GAP_MS = 1_800_000
ITEMS = 7
HOUR_MS = 3_600_000


@st.composite
def impressions(draw):
    """Return one user's impressions: (milliseconds since the one before, row of the item, two feedback values)."""
    gap = st.sampled_from([0, 1_000, GAP_MS, GAP_MS + 1, 6 * HOUR_MS, 900 * HOUR_MS])
    value = st.sampled_from([0.0, 0.5, 1.0])
    return draw(st.lists(st.tuples(gap, st.integers(0, ITEMS - 1), value, value), max_size=70))


def table(seed):
    """Return random items with two kinds, of which -1 is unknown."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(-1, 3, (ITEMS, 2))
    return ItemTable(np.arange(ITEMS), rng.normal(size=(ITEMS, 3)).astype(np.float32), kind_codes=kinds)


def plain_columns(items, history, now):
    """Return the columns of each item and of the user at `now`, by loops. `history`: (time, row, feedback [2])."""
    last50 = history[-50:]
    unit = [vector / np.linalg.norm(vector) for vector in items.embeddings.astype(float)]
    outcome = np.array([feedback for _, _, feedback in last50]).reshape(-1, 2)
    mean = outcome.mean(axis=0) if last50 else np.zeros(2)
    return np.array([plain_item(items, unit, last50, mean, row, now) for row in range(ITEMS)])


def plain_item(items, unit, last50, mean, row, now):
    n = len(last50)
    likeness = np.array([float(unit[row] @ unit[past]) for _, past, _ in last50])
    columns = []
    for half_life in (3, 12, 40):
        weight = np.array([0.5 ** ((n - 1 - place) / half_life) for place in range(n)])
        columns.append((weight * likeness).sum() / max(weight.sum(), 1e-3))
    # Places without an impression are like nothing.
    columns.append(likeness[-1] if n else 0.0)
    columns.append(max(likeness.max(), 0.0) if 0 < n < 50 else likeness.max() if n else 0.0)
    columns.append(sum(past == row for _, past, _ in last50))
    near = np.exp(6.0 * (likeness - 1.0))
    total = sum((near[place] * last50[place][2] for place in range(n)), np.zeros(2))
    columns += [near.sum(), *((total + 0.1 * mean) / (near.sum() + 0.1))]
    for codes in items.kind_codes.T:
        same = [place for place in range(n) if codes[last50[place][1]] == codes[row] >= 0]
        columns += [sum(n - place <= window for place in same) for window in (5, 15, 50)]
        columns.append(n - 1 - same[-1] if same else 50)
        columns.append(min((now - last50[same[-1]][0]) / HOUR_MS, 500.0) if same else 500.0)
        columns += list((sum((last50[place][2] for place in same), np.zeros(2)) + mean) / (len(same) + 1))
    return columns


def plain_user(history, now):
    depth, before = 0, None
    for time, _, _ in history:
        depth = depth + 1 if before is not None and time - before <= GAP_MS else 1
        before = time
    if before is None or now - before > GAP_MS:
        depth = 0
    columns = [now / HOUR_MS % 24, now // (24 * HOUR_MS) % 7, len(history)]
    for last in (3, 10, 30, 50):
        feedback = [feedback for _, _, feedback in history[-last:]]
        columns += list(np.mean(feedback, axis=0)) if feedback else [0.0, 0.0]
    return [*columns, depth, 500.0 if before is None else min((now - before) / HOUR_MS, 500.0)]


@given(st.lists(impressions(), min_size=1, max_size=3), st.integers(0, 999), st.sampled_from([0, GAP_MS, GAP_MS + 1]))
def test_columns_are_those_of_plain_loops(users, seed, pause):
    items, start = table(seed), 1_700_000_000_000
    for user in users:  # each alone, because the histories differ in length
        relations, history, now = Relations(items, 1, 2, GAP_MS), [], start
        for gap, row, *feedback in user:
            now += gap
            relations.observe(np.array([now]), np.array([row]), np.array([feedback], np.float32))
            history.append((now, row, np.array(feedback)))
        now += pause
        found = relations.of_items(np.array([now]), np.arange(ITEMS)[None])[0]
        np.testing.assert_allclose(found, plain_columns(items, history, now), rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(relations.of_users(np.array([now]))[0], plain_user(history, now), rtol=2e-5)


def test_users_do_not_share_a_history():
    items, now = table(0), np.array([HOUR_MS, HOUR_MS])
    both, alone = Relations(items, 2, 1, GAP_MS), Relations(items, 1, 1, GAP_MS)
    both.observe(now, np.array([1, 2]), np.array([[1.0], [0.0]], np.float32))
    alone.observe(now[:1], np.array([2]), np.array([[0.0]], np.float32))
    candidates = np.array([[0, 1, 2], [0, 1, 2]])
    assert both.of_items(now, candidates)[1] == pytest.approx(alone.of_items(now[:1], candidates[:1])[0], rel=1e-6)
    assert not np.allclose(*both.of_items(now, candidates))
