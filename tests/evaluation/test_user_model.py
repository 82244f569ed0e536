"""A model of users against laws that are written down, and roll-outs in it against sums by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.evaluation.estimators.model import policy_server
from prefrec_ray.evaluation.users import user_model
from prefrec_ray.evaluation.users.histories import Histories
from prefrec_ray.evaluation.users.memory import HALF_LIVES, Memory
from prefrec_ray.evaluation.users.quantiles import BINS, Bins
from prefrec_ray.evaluation.users.roll_out import KEPT_EVERY, WARM, Platform, logged_levels, roll_out
from prefrec_ray.evaluation.users.support import LoggedPasts
from prefrec_ray.evaluation.users.user_model import Outcomes, fit_user_model
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.recent import RecentItems
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.policy import DETERMINISTIC, Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp

STATE = StateDefinition(feedback=("like",), user_features={"sex": ("f", "m")}, action_dim=2)
NORMALISER = Normaliser(np.zeros(STATE.width), np.ones(STATE.width))
ITEMS = ItemTable(np.arange(50) * 10, np.random.default_rng(5).uniform(-1, 1, (50, 2)).astype(np.float32))
HOUR = 3_600_000.0
NOISE = 0.3
LOGGED = ServingSettings(candidates="logged", variety=0.0)


def histories(users: int = 300, requests: int = 60, seed: int = 0) -> Histories:
    """like ~ P(a_0 > 0) = .8 or .2; a session ends after a like with .1, else with .5; who liked it comes back after
    half of the time, times a user's own factor, times noise."""
    rng = np.random.default_rng(seed)
    n = users * requests
    row = rng.integers(0, len(ITEMS), n)
    action = ITEMS.embeddings[row]
    like = rng.random(n) < np.where(action[:, 0] > 0, 0.8, 0.2)
    ends = rng.random(n) < np.where(like, 0.1, 0.5)
    own = np.repeat(np.exp(rng.normal(size=users)), requests)
    away = HOUR * own * np.where(like, 0.5, 1.0) * np.exp(NOISE * rng.normal(size=n))
    wait = np.where(ends, away, 1000.0 * rng.integers(1, 4, n))
    starts = np.arange(users) * requests
    first = np.zeros(n, bool)
    first[starts] = True
    time = np.cumsum(np.where(first, 0, np.roll(wait, 1)))
    session = np.cumsum(np.where(first, 0, np.roll(ends, 1)))
    user = np.arange(n) // requests
    last = np.zeros(n, bool)
    last[starts + requests - 1] = True
    gone = np.where(ends & ~last, wait, np.nan).reshape(users, requests)
    state = rng.normal(size=(n, STATE.width)).astype(np.float32)
    state[:, STATE.groups["profile"]] = np.eye(3)[user % 3]
    return Histories(
        starts=starts,
        timestamp=np.int64(time - time[starts][user] + 1.7e12),
        session=session - session[starts][user],
        row=row,
        state=state,
        action=action,
        feedback=like[:, None].astype(np.float32),
        memory=np.empty((n, 0), np.float32),
        mean_depth=requests / (1 + (session[starts + requests - 1] - session[starts])),
        mean_revisit_ms=np.nanmean(gone, axis=1),
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300), st.integers(0, 99))
def test_every_value_is_in_the_bin_that_draws_it(values: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    bins = Bins.from_values(np.array(values), rng)
    assert 1 <= len(bins) <= BINS
    code = bins.code(np.array(values))
    certain = np.where(np.eye(len(bins))[code] > 0, 0.0, -np.inf)
    drawn = bins.draw(certain, rng.random((2, len(values))))
    np.testing.assert_array_equal(bins.code(drawn), code)
    assert np.isin(drawn, values).all()


def test_bins_are_drawn_as_often_as_their_weights_say() -> None:
    rng = np.random.default_rng(0)
    bins = Bins.from_values(rng.normal(size=2000), rng)
    assert np.bincount(bins.code(bins.values)).tolist() == [125] * BINS
    logits = rng.normal(size=BINS)
    drawn = bins.code(bins.draw(np.tile(logits, (200_000, 1)), rng.random((2, 200_000))))
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(np.bincount(drawn, minlength=BINS) / 200_000, expected, atol=0.005)


def test_a_known_law_is_found_again() -> None:
    data = histories()
    model = fit_user_model(data, STATE, seed=0)
    rng = np.random.default_rng(1)
    fresh = histories(users=200, seed=7)
    rows = np.arange(len(fresh.state))
    of = fresh.user
    answers = model.step(fresh.state[rows], fresh.memory[rows], fresh.action[rows], model.traits(fresh).take(of), rng)
    liked, good = answers.feedback[:, 0] == 1, fresh.action[:, 0] > 0.3
    assert liked[good].mean() == pytest.approx(0.8, abs=0.05)
    assert liked[fresh.action[:, 0] < -0.3].mean() == pytest.approx(0.2, abs=0.05)
    assert answers.ends[liked].mean() == pytest.approx(0.1, abs=0.03)
    assert answers.ends[~liked].mean() == pytest.approx(0.5, abs=0.03)
    true_ends, true_liked = fresh.ends, fresh.feedback[:, 0] == 1
    for kind, true_kind in ((liked, true_liked), (~liked, ~true_liked)):
        ratio = np.log(answers.wait_ms / fresh.mean_revisit_ms[of])[answers.ends & kind]
        logged = np.log(fresh.wait_ms / fresh.mean_revisit_ms[of])[true_ends & true_kind]
        assert ratio.mean() == pytest.approx(logged.mean(), abs=0.07)
        assert ratio.std() == pytest.approx(logged.std(), rel=0.35)
    assert answers.wait_ms[~answers.ends].max() <= 3000.0


def test_equal_seeds_fit_equal_models_and_others_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_model, "UPDATES", 20)
    data = histories(users=40)
    one, same, other = (fit_user_model(data, STATE, seed) for seed in (3, 3, 4))
    weights = [model.leaves.layers[0][0] for model in (one, same, other)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.abs(weights[0] - weights[2]).max() > 1e-3


def test_models_differ_as_users_drawn_again_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two users likes everything, the other nothing: bootstrap samples contain both, or one of them twice."""
    monkeypatch.setattr(user_model, "PASSES", 60)
    data = histories(users=2, requests=300)
    state = np.random.default_rng(0).normal(size=data.state.shape).astype(np.float32)
    split = replace(data, state=state, feedback=np.float32(data.user[:, None]))
    shares = []
    for seed in range(5):
        model = fit_user_model(split, STATE, seed)
        traits = model.traits(split).take(split.user)
        answers = model.step(split.state, split.memory, split.action, traits, np.random.default_rng(1))
        shares.append(float(answers.feedback.mean()))
    draws = np.round(2 * np.array(shares)) / 2
    np.testing.assert_allclose(shares, draws, atol=0.15)
    assert 0.5 in draws
    assert {0.0, 1.0} & set(draws)


def test_what_the_past_sessions_were_like_does_not_move_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intercepts already contain it; in a roll-out it would reinforce itself."""
    monkeypatch.setattr(user_model, "UPDATES", 20)
    data = histories(users=40)
    model = fit_user_model(data, STATE, seed=0)
    traits = model.traits(data).take(data.user)
    before = model.step(data.state, data.memory, data.action, traits, np.random.default_rng(1))
    for group, moves in (("sessions", False), ("counts", False), ("items", True), ("recency", True)):
        state = data.state.copy()
        state[:, STATE.groups[group]] += 5.0
        after = model.step(state, data.memory, data.action, traits, np.random.default_rng(1))
        assert (not np.array_equal(after.wait_ms, before.wait_ms)) == moves, group


def test_histories_without_an_end_are_refused() -> None:
    data = histories(users=3)
    with pytest.raises(ValueError, match="no session ends"):
        fit_user_model(replace(data, session=np.zeros_like(data.session)), STATE, seed=0)


class Clockwork:
    """Users whose every third request ends a session, after which they stay away for `share` of their mean time."""

    def __init__(self, share: float) -> None:
        self.share, self.asked = share, 0
        self.memories: list[np.ndarray] = []

    def traits(self, data: Histories) -> SimpleNamespace:
        return SimpleNamespace(mean_revisit_ms=data.mean_revisit_ms)

    def step(self, state, memory, action, traits, rng):
        self.asked += 1
        self.memories.append(memory)
        ends = np.full(len(state), self.asked % 3 == 0)
        wait = np.where(ends, self.share * traits.mean_revisit_ms, 1000.0)
        return Outcomes(np.ones((len(state), 1), np.float32), ends, wait)


def platform(data: Histories, requests: int = 30, memory: Memory | None = None) -> Platform:
    return Platform(STATE, NORMALISER, ITEMS, data, np.array([0, 2, 5]), 0.5, requests, memory)


def test_levels_of_a_roll_out_are_those_of_its_sessions() -> None:
    data = replace(histories(users=8), mean_depth=np.full(8, 1.2), mean_revisit_ms=np.full(8, 10 * HOUR))
    shown: list[np.ndarray] = []

    def server(states: np.ndarray, step: int, seen: np.ndarray | None) -> np.ndarray:
        assert seen is None  # the log repeats
        shown.append(states)
        return np.full(len(states), 7)

    outcome = roll_out(platform(data), [Clockwork(0.4), Clockwork(0.9)], server, seed=0)
    assert outcome.levels["depth"].tolist() == [[2.0] * 3] * 2  # floor(3 / 1.2)
    np.testing.assert_allclose(outcome.levels["frequency"], [[2.0] * 3, [1.0] * 3])  # floor(1 / .4), floor(1 / .9)
    np.testing.assert_allclose(outcome.levels["mixture"], [[2.0] * 3, [1.5] * 3])
    np.testing.assert_allclose(outcome.depth, 3.0)
    np.testing.assert_allclose(outcome.revisit_hours, [[4.0] * 3, [9.0] * 3])
    assert outcome.counts[7] == outcome.counts.sum() == 6 * 30
    assert outcome.sessions == 3 * 10
    # The states come from the tracker: the profile of the log's users, and their recent items.
    np.testing.assert_array_equal(shown[5][:, STATE.groups["profile"]], np.eye(3)[[0, 2, 2] * 2])
    last = STATE.groups["items"].start
    np.testing.assert_allclose(shown[5][:, last : last + 2], np.tile(ITEMS.embeddings[7], (6, 1)), rtol=1e-5)


def test_states_are_kept_once_means_have_forgotten_their_start_and_only_some() -> None:
    shown: list[np.ndarray] = []

    def server(states: np.ndarray, step: int, seen: np.ndarray | None) -> np.ndarray:
        shown.append(states.copy())
        return np.full(len(states), step % len(ITEMS))

    requests = WARM + 2 * KEPT_EVERY + 1
    outcome = roll_out(platform(histories(users=8), requests), [Clockwork(0.5)], server, seed=0)
    kept = [shown[WARM], shown[WARM + KEPT_EVERY], shown[WARM + 2 * KEPT_EVERY]]
    np.testing.assert_array_equal(outcome.states, np.concatenate(kept))
    short = roll_out(platform(histories(users=8), WARM), [Clockwork(0.5)], server, seed=0)
    assert short.states.shape == (0, STATE.width)


def test_a_roll_out_remembers_what_it_showed() -> None:
    """One repeated item: its similarity is its squared length over the mean squared length, and 0 at the first
    impression."""
    data, recent = histories(users=8), RecentItems.find(STATE, NORMALISER, ITEMS)
    users = Clockwork(0.5)
    roll_out(platform(data, 40, Memory(recent, None)), [users], lambda states, step, seen: np.full(3, 7), seed=0)
    alike = np.square(ITEMS.embeddings[7]).sum() / np.square(ITEMS.embeddings).sum(axis=1).mean()
    assert np.abs(np.stack(users.memories[:2])).max() == 0.0
    for step in (2, 20, 39):
        for half_life, column in zip(HALF_LIVES, users.memories[step].T, strict=True):
            weight = 0.5 ** (np.arange(step) / half_life)
            expected = alike * weight[:-1].sum() / weight.sum()  # all but the first
            np.testing.assert_allclose(column, expected, rtol=1e-4)


def test_what_was_remembered_moves_an_answer() -> None:
    """A session ends with probability .1 or .6, depending on the memory, for any scale of the memory."""
    data, rng = histories(), np.random.default_rng(2)
    memory = 1e-3 * rng.normal(size=(len(data.state), 2)).astype(np.float32) + 0.5
    leaves = data.followed & (rng.random(len(memory)) < np.where(memory[:, 0] > 0.5, 0.6, 0.1))
    session = np.cumsum(np.append(False, leaves[:-1]))
    tired = replace(data, memory=memory, session=session - session[data.starts][data.user])
    model = fit_user_model(tired, STATE, seed=0)
    traits = model.traits(tired).take(tired.user)
    for value, chance in ((0.5015, 0.6), (0.4985, 0.1)):
        answers = model.step(tired.state, np.full_like(memory, value), tired.action, traits, np.random.default_rng(1))
        assert answers.ends.mean() == pytest.approx(chance, abs=0.07)


@pytest.mark.parametrize("requests", [45, 10_000])
def test_the_logged_levels_are_those_of_the_log_as_far_as_a_roll_out_goes(requests: int) -> None:
    data = histories(users=8)
    mean_levels = logged_levels(platform(data, requests))
    levels = []
    for user in (0, 2, 5):
        rows = np.flatnonzero(data.user == user)[:requests]
        _, first, depth = np.unique(data.session[rows], return_index=True, return_counts=True)
        away = data.timestamp[rows[first[1:]]] - data.timestamp[rows[first[1:] - 1]]
        frequency = np.clip(np.floor(data.mean_revisit_ms[user] / away), 0, 5)
        levels.append((np.clip(np.floor(depth / data.mean_depth[user]), 0, 5).mean(), frequency.mean()))
    assert (mean_levels["depth"], mean_levels["frequency"]) == pytest.approx(tuple(np.mean(levels, axis=0)))


def test_where_the_log_repeats_nothing_nothing_is_repeated() -> None:
    data = histories(users=8, requests=20)
    for user in range(8):
        data.row[user * 20 : user * 20 + 20] = np.random.default_rng(user).permutation(50)[:20]
    assert not data.repeats
    seen_counts: list[np.ndarray] = []

    def server(states: np.ndarray, step: int, seen: np.ndarray) -> np.ndarray:
        seen_counts.append(seen.sum(axis=1))
        return seen.argmin(axis=1)  # the first unseen

    outcome = roll_out(platform(data, requests=10), [Clockwork(0.5)], server, seed=0)
    assert [counts.tolist() for counts in seen_counts] == [[step] * 3 for step in range(10)]
    assert outcome.counts[:10].tolist() == [3] * 10


def test_the_log_vouches_for_its_own_pasts_and_for_no_corner() -> None:
    data = histories()
    pasts = LoggedPasts.from_histories(data, STATE)
    fresh = histories(seed=3)
    assert pasts.share(fresh.state) == pytest.approx(0.99, abs=0.01)
    corner = fresh.state.copy()
    corner[:, STATE.groups["items"]] += 3.0
    assert pasts.share(corner) < 0.1
    others = fresh.state.copy()
    others[:, STATE.groups["feedback"]] += 30.0  # what users answer is not the policy's choice
    assert pasts.share(others) == pasts.share(fresh.state)
    assert pasts.share(fresh.state[:0]) == 1.0


def test_the_log_vouches_by_states_as_late_as_those_of_roll_outs() -> None:
    """Earlier and intermediate states lie elsewhere and change neither the mean nor the range."""
    data = histories(users=200, requests=WARM + 3 * KEPT_EVERY)
    step = np.arange(len(data.state)) % (WARM + 3 * KEPT_EVERY)
    late = np.isin(step, [WARM, WARM + KEPT_EVERY, WARM + 2 * KEPT_EVERY])
    state, items = data.state.copy(), STATE.groups["items"]
    state[~late, items] += np.where(step[~late, None] < WARM, 40.0, -20.0)
    pasts = LoggedPasts.from_histories(replace(data, state=state), STATE)
    np.testing.assert_allclose(pasts.centre, state[late, items].mean(axis=0, dtype=np.float64))
    assert pasts.share(state[late]) == pytest.approx(0.99, abs=0.005)
    assert pasts.share(state[~late]) == 0.0
    first = histories(users=50, requests=WARM)  # none is as late: all count
    assert LoggedPasts.from_histories(first, STATE).share(first.state) == pytest.approx(0.99, abs=0.005)


def test_what_was_always_shown_to_a_user_is_not_taken_for_the_users_nature() -> None:
    """Half of the users always see much of something, half always little, and the former return sooner. No user's log
    contains both: with the user's mean revisit time as an input, no effect of the items would remain."""
    data = histories(users=400)
    much = np.arange(400) % 2
    seen = STATE.groups["items"].start
    state = data.state.copy()
    state[:, seen] = much[data.user]
    shorter = np.where(data.ends, np.exp(-1.5 * much[data.user]), 1.0)
    wait = np.where(data.followed, data.wait_ms * shorter, 0.0)
    time = np.cumsum(wait) - wait
    always = replace(data, state=state, timestamp=np.int64(time - time[data.starts][data.user] + 1.7e12))
    model = fit_user_model(always, STATE, seed=0)
    traits = model.traits(always).take(np.repeat(np.arange(400), 10))
    states, action = state[:4000].copy(), data.action[:4000]
    away = []
    for value in (0.0, 1.0):
        states[:, seen] = value
        answers = model.step(states, always.memory[:4000], action, traits, np.random.default_rng(1))
        away.append(np.log(answers.wait_ms[answers.ends]).mean())
    assert -1.6 < away[1] - away[0] < -0.75


def test_some_users_of_histories() -> None:
    data = histories(users=5, requests=7)
    some = data.take(np.array([3, 1]))
    assert some.starts.tolist() == [0, 7]
    rows = np.r_[21:28, 7:14]
    for name in ("timestamp", "session", "row", "state", "action", "feedback", "memory"):
        np.testing.assert_array_equal(getattr(some, name), getattr(data, name)[rows])
    np.testing.assert_array_equal(some.mean_depth, data.mean_depth[[3, 1]])


@pytest.mark.parametrize(
    "serving", [DETERMINISTIC, ServingSettings(variety=0.0), LOGGED], ids=lambda rule: rule.candidates
)
def test_who_has_seen_all_that_may_be_shown_sees_it_again(serving: ServingSettings) -> None:
    """The roll-out is longer than the catalogue, and the log has no repeats."""
    data = histories(users=8, requests=20)
    data.row[:] = np.tile(np.arange(20), 8)
    logged = np.where(np.arange(len(ITEMS)) < 10, 1.0, 0.0)
    bounds = np.ones(2, np.float32)
    actor = DeterministicActor(
        Mlp.from_layers([(np.zeros((2, STATE.width), np.float32), np.zeros(2, np.float32))]), -bounds, bounds
    )
    items = replace(ITEMS, logged=logged)
    policy = Policy(actor, STATE, NORMALISER, items, serving, deviation=1.0)
    server = policy_server(policy, items, np.random.default_rng(0))
    outcome = roll_out(platform(data, requests=2 * len(ITEMS)), [Clockwork(0.5)], server, seed=0)
    if serving.candidates == "logged":
        assert outcome.counts[10:].sum() == 0
        assert outcome.counts[:10].min() >= 3
    else:
        assert outcome.counts.tolist() == [2 * 3] * len(ITEMS)
