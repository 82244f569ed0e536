"""Embeddings from tags, makers and co-consumption: against plain loops and dense algebra."""

import numpy as np
import pytest
from scipy import sparse

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.embeddings import content_embeddings, placed, spread

ITEMS, TAGS, DIM = 200, 6, 3


def world(seed=0):
    """Items with tags and makers (some without), half of them with a vector from co-consumption."""
    rng = np.random.default_rng(seed)
    maker = np.where(rng.random(ITEMS) < 0.1, -1, rng.integers(0, 40, ITEMS) * 1000)
    topic = np.where(maker < 0, rng.integers(0, TAGS, ITEMS), maker // 1000 % TAGS)
    tags = np.zeros((ITEMS, TAGS))
    tags[np.arange(ITEMS), topic] = 1
    second = rng.random(ITEMS) < 0.3
    tags[second, rng.integers(0, TAGS, second.sum())] = 1
    tags[rng.random(ITEMS) < 0.1] = 0
    together = (rng.normal(size=(TAGS, DIM))[topic] + 0.2 * rng.normal(size=(ITEMS, DIM))).clip(-1, 1)
    together[rng.random(ITEMS) < 0.5] = np.nan
    return together, tags, maker, rng.integers(0, 50, ITEMS)


def plain_shares(tags):
    return np.array([row / row.sum() if row.any() else row for row in tags])


def plain_place(together, shares, maker):
    known = ~np.isnan(together[:, 0])
    by_tag = [
        sum(shares[i, t] * together[i] for i in range(ITEMS) if known[i])
        / sum(shares[i, t] for i in range(ITEMS) if known[i])
        for t in range(TAGS)
    ]
    result = together.copy()
    for i in np.flatnonzero(~known):
        guess = sum(shares[i, t] * by_tag[t] for t in range(TAGS))
        mine = [together[j] for j in range(ITEMS) if known[j] and maker[j] == maker[i]]
        result[i] = guess if maker[i] < 0 else (sum(mine, np.zeros(DIM)) + 2 * guess) / (len(mine) + 2)
    return result


def grouped(maker):
    group = np.unique(maker, return_inverse=True)[1]
    return np.where(maker >= 0, group, -1), group.max() + 1


def test_items_nobody_took_stand_between_their_makers_and_their_tags():
    together, tags, maker, _ = world()
    shares = plain_shares(tags)
    # A second tag may pull an item elsewhere: what knows its tags only stands with the mean of these tags.
    places = placed(together, sparse.csr_array(shares), *grouped(maker))
    np.testing.assert_allclose(places, plain_place(together, shares, maker), atol=1e-12)


def test_axes_are_those_of_dense_algebra():
    together, tags, maker, count = world()
    own = plain_shares(tags)
    theirs = own.copy()
    for m in np.unique(maker[maker >= 0]):
        tagged = own[(maker == m) & own.any(axis=1)]
        if len(tagged):
            theirs[maker == m] = tagged.mean(axis=0)
    own[~own.any(axis=1)] = theirs[~own.any(axis=1)]
    weight = count / count.sum()
    columns = []
    for block, share in ((own, 0.25), (theirs, 0.25), (plain_place(together, own, maker), 0.5)):
        centred = block - weight @ block
        scaled = centred * np.sqrt(share / (weight @ centred**2).sum())
        scaled[~block.any(axis=1)] = 0
        columns.append(scaled)
    values = np.concatenate(columns, axis=1)
    axes = np.linalg.svd(values * np.sqrt(weight)[:, None], full_matrices=False)[2][:4]
    expected = spread(values @ axes.T, np.maximum(count, 1e-3))
    embeddings = content_embeddings(together.astype(np.float32), sparse.csr_array(tags), maker, count, 4)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=2e-3)
    assert np.abs(embeddings).max() <= 1
    assert (np.sqrt(weight @ embeddings**2) > 0.2).all()


def test_items_of_one_maker_lie_together_though_nobody_took_them():
    together, tags, maker, count = world()
    embeddings = content_embeddings(together, sparse.csr_array(tags), maker, count, 4)
    unknown = np.isnan(together[:, 0]) & (maker >= 0)
    distance = np.linalg.norm(embeddings[unknown][:, None] - embeddings[None], axis=2)
    same = maker[unknown][:, None] == maker[None]
    own = np.flatnonzero(unknown)[:, None] == np.arange(ITEMS)[None]
    assert distance[same & ~own].mean() < 0.6 * distance[~same].mean()


def test_without_co_consumption_labels_are_enough_and_without_both_an_item_stands_in_the_middle():
    _, tags, maker, count = world()
    tags[0], maker[0] = 0, -1
    embeddings = content_embeddings(np.full((ITEMS, DIM), np.nan), sparse.csr_array(tags), maker, count, 4)
    assert not embeddings[0].any()
    assert np.abs(embeddings).sum(axis=1).mean() > 0.5
    with pytest.raises(UserError, match=r"found \d+ axes of tags, makers and sessions; expected 20: lower action_dim"):
        content_embeddings(np.full((ITEMS, 20), np.nan), sparse.csr_array(tags), maker, count, 20)
    axes = content_embeddings(np.full((ITEMS, 20), np.nan), sparse.csr_array(tags), maker, count, 20, fewer=True)
    assert 4 < axes.shape[1] < 20
    np.testing.assert_allclose(axes[:, :4], embeddings, atol=1e-5)
