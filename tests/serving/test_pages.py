"""Pages with candidates, priors, pins and blocks: the shown items, and exact propensities of drawn items."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_desk import Desk, make_policy
from scipy.stats import chisquare

from prefrec_ray.mdp.kinds import KindNames
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import Policy
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.web.problems import Problem

NOW, ITEMS, SEEN = 1_700_000_000_000, 40, [0, 1]
TOPICS = {"news": 0, "games": 1, "music": 2, "food": 3}


def make_topics(items: int = ITEMS) -> Policy:
    """A policy whose items have the topics in turn; log weights are scores over a scale, without penalties."""
    policy = make_policy(items=items, serving=ServingSettings(temperature=0.7, variety=0.0, repetition=0.0, scores="q"))
    codes = np.stack([np.zeros(items, np.int32), np.arange(items, dtype=np.int32) % 4], axis=1)
    names = (KindNames("cluster", {"0": 0}), KindNames("topic", TOPICS))
    return replace(policy, items=replace(policy.items, kind_codes=codes, kind_names=names))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "policy"
    make_topics().save(str(folder))
    return folder


@pytest.fixture(scope="module")
def desk(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """User 1 has seen the items `SEEN`; plans are not written, so that the state stays as it is."""
    desk = Desk(bundle, tmp_path_factory.mktemp("state"))
    for item in SEEN:
        desk.one(Feedback(event_id=f"own {item}", user=1, item=item, feedback={"like": 1.0}))
    return desk


def pages_of(desk: Desk, body: Recommend, turns: int) -> list[tuple[list[int], list[float]]]:
    pages = []
    for _ in range(turns):
        plan = desk.engine.plan([body] * 32, NOW)
        pages += [(list(event.items or ()), list(event.propensities or ())) for event in plan.events]
    return pages


def weights_of(desk: Desk, body: Recommend, temperature: float) -> np.ndarray:
    """The weights of all items, from the networks by the formula; 0 for items that may not be drawn."""
    policy = desk.engine.state.policy
    assert policy.critic is not None
    state = desk.states(NOW)[1][None]
    scores = policy.critic.scores(state, policy.items.embeddings[None])[0].astype(np.float64)
    logits = scores / (temperature * scores.std())
    priors = dict.fromkeys(range(ITEMS), 0.0) if body.candidates is None else body.priors
    pinned, blocked = {item for _, item in body.pins}, {TOPICS[name] for name in body.blocks.get("topic", [])}
    may = [
        item in priors and item not in {*SEEN, *body.exclude, *pinned} and item % 4 not in blocked
        for item in range(ITEMS)
    ]
    return np.where(may, np.exp(logits + [priors.get(item, 0.0) for item in range(ITEMS)]), 0.0)


def conditional(weights: np.ndarray, drawn: list[int]) -> list[float]:
    """The probability of each item given the items before it."""
    left, chances = weights.copy(), []
    for item in drawn:
        chances.append(left[item] / left.sum())
        left[item] = 0
    return chances


@st.composite
def requests(draw: st.DrawFn, ks: tuple[int, ...] = (1, 5, 10), most: int = ITEMS) -> Recommend:
    k = draw(st.sampled_from(ks))
    items = st.integers(0, ITEMS - 1)
    candidates: Any = None
    if most < ITEMS or draw(st.booleans()):
        ids = draw(st.lists(items, unique=True, min_size=2, max_size=most))
        priors = st.floats(-1.5, 1.5)
        candidates = ids if draw(st.booleans()) else [(item, draw(priors)) for item in ids]
    pins = draw(
        st.lists(st.tuples(st.integers(0, k - 1), items), max_size=2, unique_by=(lambda p: p[0], lambda p: p[1]))
    )
    blocks = draw(st.sampled_from([{}, {"topic": ["news"]}, {"topic": ["food", "games"]}]))
    return Recommend(
        user=1,
        k=k,
        exclude=draw(st.lists(items, max_size=8)),
        candidates=candidates,
        pins=pins,
        blocks=blocks,
        timestamp=NOW,
    )


@settings(deadline=None, max_examples=12)
@given(body=requests(), data=st.data())
def test_the_mean_importance_weight_of_each_position_is_one(desk: Desk, body: Recommend, data: st.DataObject) -> None:
    """Weights are those of the policy itself, and of policies that double the weight of some items.

    Ratios are at most 2 and at least 1/2. So the error of a mean of 900 draws has a bound, which rare ratios do not
    break: the empirical Bernstein bound (Maurer and Pontil, COLT 2009) with a chance of 2e-6.
    """
    own = weights_of(desk, body, 0.7)
    items = np.arange(ITEMS)
    targets = [own, own * np.where(items % 2, 2.0, 1.0), own * np.where(items < ITEMS // 2, 2.0, 1.0)]
    pinned = dict(body.pins)
    ratios: list[list[np.ndarray]] = [[] for _ in targets]
    for items, chances in pages_of(desk, body, 30):
        size = min(body.k, len(pinned) + int((own > 0).sum()))
        assert len(items) == len(set(items)) == size
        assert all(items[position] == item for position, item in pinned.items() if position < size - len(pinned))
        drawn = [item for item in items if item not in pinned.values()]
        known = np.array([chance for item, chance in zip(items, chances, strict=True) if item in drawn])
        assert np.isnan([chance for item, chance in zip(items, chances, strict=True) if item not in drawn]).all()
        for target, of_target in zip(targets, ratios, strict=True):
            of_target.append(np.array(conditional(target, drawn)) / known)
    for number, of_target in enumerate(ratios):
        ratio = np.stack(of_target)
        if number == 0:
            np.testing.assert_allclose(ratio, 1, rtol=1e-4)
        log, error = np.log(1e6), ratio.std(axis=0, ddof=1) / np.sqrt(len(ratio))
        bound = np.sqrt(2 * log) * error + 7 * 1.5 * log / (3 * (len(ratio) - 1))
        assert (np.abs(ratio.mean(axis=0) - 1) <= bound).all()


@settings(deadline=None, max_examples=8)
@given(body=requests(ks=(2, 3), most=6))
def test_pages_are_as_frequent_as_enumerated(desk: Desk, body: Recommend) -> None:
    weights = weights_of(desk, body, 0.7)
    count = min(body.k - len(body.pins), int((weights > 0).sum()))
    orders = list(permutations(np.flatnonzero(weights).tolist(), count))
    expected = np.array([np.prod(conditional(weights, list(order))) for order in orders])
    assert expected.sum() == pytest.approx(1)
    pinned = {item for _, item in body.pins}
    pages = pages_of(desk, body, 40)
    drawn = Counter(tuple(item for item in items if item not in pinned) for items, _ in pages)
    assert set(drawn) <= set(orders)
    counts = np.array([drawn[order] for order in orders])
    frequent = expected * len(pages) >= 5
    parts = [np.append(values[frequent], values[~frequent].sum()) for values in (counts, expected * len(pages))]
    counts, likely = (part[parts[1] > 0] for part in parts)
    assert len(counts) == 1 or chisquare(counts, likely / likely.sum() * counts.sum()).pvalue > 1e-5


def test_unknown_candidates_are_ignored_and_counted(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    shown = desk.one(Recommend(user=1, k=5, candidates=[3, 10**6, 7, 10**7]))
    assert (sorted(shown["items"]), shown["unknown"]) == ([3, 7], 2)
    assert desk.one(Recommend(user=1, k=5, candidates=[3, 10**6, 7, 8]))["items"] == [8]  # 3 and 7 were shown
    empty = desk.one(Recommend(user=1, k=5, candidates=[]))
    assert (empty["items"], empty["propensities"], empty["unknown"]) == ([], [], 0)
    assert "unknown" not in desk.one(Recommend(user=1, k=1))


def test_pins_are_placed_and_shown_once(bundle: Path, tmp_path: Path) -> None:
    """Also items that are excluded, blocked, seen, or unknown; behind the last item they move up."""
    desk = Desk(bundle, tmp_path)
    pins = [(4, 8), (0, 10**6), (2, 3)]
    body = Recommend(user=1, k=5, pins=pins, exclude=[8], blocks={"topic": ["food"]}, candidates=[3, 5, 6, 8])
    for save in (False, True):
        shown = desk.one(body.model_copy(update={"user": int(save)}))
        assert [shown["items"][position] for position, _ in pins] == [8, 10**6, 3]
        assert [chance is None for chance in shown["propensities"]] == [True, False, True, False, True]
        for item in (8, shown["items"][1], 10**6):
            assert desk.one(Feedback(event_id=shown["event_id"], item=item, feedback={}))["status"] == "counted"
        desk.stop(save)
        desk = Desk(bundle, tmp_path)
    row = [row for table in desk.engine.log.tables() for row in table.to_pylist()][-1]
    assert (row["items"], row["position"], row["known"]) == ([10**6], 0, False)
    assert np.isnan(row["propensities"]).all()
    short = desk.one(Recommend(user=2, k=5, pins=[(4, 8)], candidates=[5]))
    assert short["items"] == [5, 8]
    full = desk.one(Recommend(user=1, k=2, pins=[(1, 8), (0, 9)]))
    assert (full["items"], full["propensities"]) == ([9, 8], [None, None])


def test_blocked_values_are_not_shown(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    blocked = desk.one(Recommend(user=1, k=40, blocks={"topic": ["news", "games"], "cluster": []}))
    assert sorted(blocked["items"]) == [item for item in range(ITEMS) if item % 4 > 1]
    assert desk.one(Recommend(user=1, k=5, blocks={"cluster": ["0"]}))["items"] == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"candidates": [3, "four"]}, "candidates: found 'four'; expected a whole number, as for all items"),
        ({"candidates": [3, 4, 3]}, "candidates: found item 3 twice; expected each item once"),
        ({"candidates": [(3, 0.5), (3, 0.7)]}, "candidates: found item 3 twice; expected each item once"),
        ({"pins": [(10, 3)]}, "pins: found position 10; expected 0 to 9, as k is 10"),
        ({"pins": [(1, 3), (1, 4)]}, "pins: found position 1 twice; expected each position once"),
        ({"pins": [(1, 3), (2, 3)]}, "pins: found item 3 twice; expected each item once"),
        ({"pins": [(1, "three")]}, "pins: found 'three'; expected a whole number, as for all items"),
        (
            {"blocks": {"topic": ["sport"]}},
            "blocks: topic: found value 'sport'; expected one of food, games, music, news",
        ),
        ({"blocks": {"theme": []}}, "blocks: items: found kind 'theme'; expected one of cluster, topic"),
    ],
)
def test_a_page_that_cannot_be_made_is_refused(
    bundle: Path, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    desk = Desk(bundle, tmp_path)
    with pytest.raises(Problem) as caught:
        desk.one(Recommend(user=1, **changes))
    assert (caught.value.status, caught.value.detail) == (422, line)
    assert len(desk.engine.state.users) == desk.engine.log.next == 0


def test_items_without_kinds_cannot_be_blocked(tmp_path: Path) -> None:
    make_policy().save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    with pytest.raises(Problem, match="blocks: found kind 'topic'; expected none, as the policy's items have no kinds"):
        desk.one(Recommend(user=1, blocks={"topic": ["news"]}))


@pytest.mark.parametrize("rule", [{"rule": "best"}, {"candidates": "nearest", "count": 4}, {"rule": "sample"}])
def test_every_rule_serves_candidates_of_text(tmp_path: Path, rule: dict[str, Any]) -> None:
    make_policy(text=True, serving=ServingSettings(**rule)).save(str(tmp_path / "policy"))
    desk = Desk(tmp_path / "policy", tmp_path / "state")
    candidates = [("item 3", 0.0), ("item 4", 1.0), ("an item with a long name", 0.0)]
    shown = desk.one(Recommend(user="anna", k=3, candidates=candidates, pins=[(0, "an advertisement")]))
    assert (shown["items"][0], set(shown["items"][1:])) == ("an advertisement", {"item 3", "item 4"})
    assert shown["unknown"] == 1


def test_withdrawn_candidates_are_known_and_not_shown(bundle: Path, tmp_path: Path) -> None:
    desk = Desk(bundle, tmp_path)
    desk.engine.state.withdraw_items([3, 4])
    shown = desk.one(Recommend(user=1, k=5, candidates=[3, 4, 5]))
    assert (shown["items"], shown["unknown"]) == ([5], 0)
