"""Embeddings on toys whose structure is known, and against dense linear algebra."""

import numpy as np
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.mdp import embeddings as module
from prefrec_ray.mdp.embeddings import basket_gram, basket_sizes, embeddings_from_gram


def blocks(baskets=900, groups=6, size=10, seed=0):
    """Baskets of 3 to 6 items, nine in ten from one group of items; returns labels, items, number of items."""
    rng = np.random.default_rng(seed)
    label, item = [], []
    for basket in range(baskets):
        group = rng.integers(groups)
        count = rng.integers(3, 7)
        own = group * size + rng.integers(size, size=count)
        anywhere = rng.integers(groups * size, size=count)
        item += list(np.where(rng.random(count) < 0.9, own, anywhere))
        label += [basket] * count
    return np.array(label), np.array(item), groups * size


def summed(label, item, count, parts=1):
    part = label % parts
    sizes = np.concatenate([basket_sizes(label[part == p], item[part == p]) for p in range(parts)])
    grams = [basket_gram(label[part == p], item[part == p], count, sizes.mean()) for p in range(parts)]
    total = grams[0]
    for gram in grams[1:]:
        total = total.merge(gram)
    return total


def test_items_of_one_group_lie_together():
    label, item, count = blocks()
    embeddings = embeddings_from_gram(summed(label, item, count), 5)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (count, 5)
    assert np.abs(embeddings).max() <= 1.0
    distance = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2) + np.diag(np.full(count, np.inf))
    nearest = distance.argsort(axis=1)[:, :5]
    assert (nearest // 10 == np.arange(count)[:, None] // 10).mean() > 0.95
    spread = embeddings[item].std(axis=0)
    assert spread.min() > 0.2


def test_gram_equals_dense_algebra():
    label, item, count = blocks(baskets=80)
    matrix = np.zeros((80, count))
    matrix[label, item] = 1.0  # what stands twice in a basket counts once
    size = matrix.sum(axis=1)
    matrix, size = matrix[size >= 3], size[size >= 3]
    gram = summed(label, item, count, parts=4)
    weighted = matrix / np.sqrt(size + size.mean())[:, None]
    np.testing.assert_allclose(gram.pairs.toarray(), np.triu(weighted.T @ weighted), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(gram.counts, matrix.sum(axis=0))


def test_partitions_do_not_matter_and_the_same_input_gives_the_same_bits():
    label, item, count = blocks()
    whole = embeddings_from_gram(summed(label, item, count), 4)
    np.testing.assert_array_equal(embeddings_from_gram(summed(label, item, count), 4), whole)
    np.testing.assert_allclose(embeddings_from_gram(summed(label, item, count, parts=5), 4), whole, atol=1e-2)


def test_items_that_are_all_alike_have_the_same_bits_again():
    for group in ([0], [0, 1, 2, 3]):  # all in every basket; four kinds of baskets without an item in common
        item = np.concatenate([np.arange(12 // len(group)) + 12 // len(group) * (b % len(group)) for b in range(40)])
        label = np.repeat(np.arange(40), 12 // len(group))
        first, second = (embeddings_from_gram(summed(label, item, 12), 3) for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_items_of_small_baskets_and_unseen_items_are_zero():
    label, item, count = blocks()
    lonely, unseen = count, count + 1
    label = np.concatenate([label, [10_000, 10_000, 10_001]])
    item = np.concatenate([item, [lonely, 3, lonely]])
    embeddings = embeddings_from_gram(summed(label, item, count + 2), 4)
    assert not embeddings[[lonely, unseen]].any()
    assert np.abs(embeddings[:count]).sum(axis=1).min() > 0.0


def test_a_long_basket_counts_as_several(monkeypatch):
    monkeypatch.setattr(module, "MAX_SIZE", 4)
    assert basket_sizes(np.array([1] * 11 + [2] * 3), np.arange(14)).tolist() == [4, 4, 3, 3]


def test_too_few_items_are_an_error():
    with pytest.raises(
        UserError, match="found 3 items in sessions of at least 3 distinct items; expected 10 for an `action_dim` of 8"
    ):
        embeddings_from_gram(summed(np.zeros(3, dtype=int), np.arange(3), 3), 8)
