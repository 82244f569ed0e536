"""Roll-outs in models of users against sums by hand."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from logged_users import HOUR, ITEMS, NORMALISER, STATE, histories, inputs_of

from prefrec_ray.evaluation.estimators.subject_roll_outs import policy_server
from prefrec_ray.mdp.exposure import WINDOWS
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.policy import DETERMINISTIC, Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.layers import Mlp
from prefrec_ray.users import WARM
from prefrec_ray.users.histories import Histories
from prefrec_ray.users.inputs import DOSES
from prefrec_ray.users.log_server import with_pins
from prefrec_ray.users.member import Outcomes
from prefrec_ray.users.roll_out import KEPT_EVERY, Platform, Traits, Visit, logged_levels, roll_out


class Clockwork:
    """Users whose every third page ends a session, after which they stay away for `share` of their mean time."""

    inputs = inputs_of(histories(users=30))[0]

    def __init__(self, share: float) -> None:
        self.share, self.asked = share, 0

    def intercepts(self, data: Histories, made: np.ndarray) -> np.ndarray:
        return data.mean_revisit_ms

    def step(self, made: np.ndarray, own: np.ndarray, rng: np.random.Generator, before: Any, *_: Any) -> Outcomes:
        self.asked += before is None
        ends = np.full(len(made), self.asked % 3 == 0)
        wait_ms, nothing = np.where(ends, self.share * own, 1000.0), np.zeros((len(made), 2))
        return Outcomes(np.ones((len(made), 1), np.float32), ends, wait_ms, nothing, nothing[:, 0], nothing)


def platform(data: Histories, requests: int = 30, rest_ms: float = 0.0) -> Platform:
    return Platform(STATE, NORMALISER, ITEMS, data, np.array([0, 2, 5]), 0.5, requests, rest_ms)


def test_levels_of_a_roll_out_are_those_of_its_sessions() -> None:
    data = replace(histories(users=8), mean_depth=np.full(8, 1.2), mean_revisit_ms=np.full(8, 10 * HOUR))
    shown: list[np.ndarray] = []

    def server(visit: Visit) -> np.ndarray:
        assert visit.seen is None  # without rest
        shown.append(visit.states)
        return np.full(len(visit.states), 7)

    members = [Clockwork(0.4), Clockwork(0.9)]
    outcome = roll_out(platform(data), members, server, seed=0)
    assert outcome.levels["depth"].tolist() == [[2.0] * 3] * 2  # floor(3 / 1.2)
    np.testing.assert_allclose(outcome.levels["frequency"], [[2.0] * 3, [1.0] * 3])  # floor(1 / .4), floor(1 / .9)
    np.testing.assert_allclose(outcome.levels["mixture"], [[2.0] * 3, [1.5] * 3])
    np.testing.assert_allclose(outcome.depth, 3.0)
    np.testing.assert_allclose(outcome.revisit_hours, [[4.0] * 3, [9.0] * 3])
    traits = Traits.find(platform(data), members)  # once for several roll-outs, with other values
    again = roll_out(platform(data), [Clockwork(0.4)] * 2, server, 0, traits._replace(intercepts=traits.intercepts / 2))
    np.testing.assert_allclose(again.revisit_hours, [[2.0] * 3] * 2)
    assert outcome.counts[7] == outcome.counts.sum() == 6 * 30
    assert outcome.sessions == 3 * 10
    assert (outcome.rows == 7).all()
    assert outcome.rows.shape == (2, 3, 30)
    # A session takes 2 s, and the next one begins after 4 or 9 h.
    per_day = [[24 / (away + 2 / 3600)] * 3 for away in (4, 9)]
    np.testing.assert_allclose(outcome.daily_sessions, per_day)
    np.testing.assert_array_equal(outcome.feedback, np.ones((2, 3, 1)))
    # The states come from the tracker: the profile of the log's users, and their recent items.
    np.testing.assert_array_equal(shown[5][:, STATE.groups["profile"]], np.eye(3)[[0, 2, 2] * 2])
    last = STATE.groups["items"].start
    np.testing.assert_allclose(shown[5][:, last : last + 2], np.tile(ITEMS.embeddings[7], (6, 1)), rtol=1e-5)


def test_pages_have_the_typical_length_of_the_log_and_the_outcomes_of_their_items() -> None:
    data = replace(histories(users=8), mean_depth=np.full(8, 1.2), mean_revisit_ms=np.full(8, 10 * HOUR))
    data = replace(data, step=np.arange(len(data.row)) // 4)  # 60 impressions per user
    states: list[np.ndarray] = []

    def server(visit: Visit) -> np.ndarray:
        assert (visit.page, visit.step) == (4, 4 * len(states))
        states.append(visit.states)
        return np.tile([7, 8, 9, 6], (len(visit.states), 1))

    outcome = roll_out(platform(data, 60), [Clockwork(0.4), Clockwork(0.9)], server, seed=0)
    assert len(states) == 15
    assert outcome.levels["depth"].tolist() == [[2.0] * 3] * 2  # sessions of three pages
    np.testing.assert_allclose(outcome.revisit_hours, [[4.0] * 3, [9.0] * 3])
    assert outcome.rows[1, 2].tolist() == [7, 8, 9, 6] * 15
    assert outcome.counts[[6, 7, 8, 9]].tolist() == [6 * 15] * 4
    last = STATE.groups["items"].start
    np.testing.assert_allclose(states[1][:, last : last + 2], np.tile(ITEMS.embeddings[6], (6, 1)), rtol=1e-5)
    # Levels of the log equal the levels of a log with the first impression of each page.
    opened = {"timestamp": data.timestamp[::4], "session": data.session[::4]}
    pages = replace(data, **opened, starts=np.arange(8) * 15, step=None)
    again = logged_levels(platform(pages, 15))
    for levels, of_pages in zip(logged_levels(platform(data, 60)), again, strict=True):
        for task in levels:
            np.testing.assert_array_equal(levels[task], of_pages[task])


def test_parts_have_the_sessions_that_begin_in_them() -> None:
    """Sessions of three impressions: 32 impressions are eight parts of four, and sessions begin at 0, 3, 6, ..."""
    data = replace(histories(users=8), mean_depth=np.full(8, 1.2), mean_revisit_ms=np.full(8, 10 * HOUR))

    class Slower(Clockwork):
        """The time away is .2 times the mean after the first session, and one more tenth after each other one."""

        def step(self, *inputs: Any) -> Outcomes:
            self.share = 0.2 + 0.1 * (self.asked // 3)
            return super().step(*inputs)

    outcome = roll_out(platform(data, 32), [Slower(0.0)], lambda visit: np.full(len(visit.states), 7), seed=0)
    frequency = [math.floor(1 / (0.2 + 0.1 * number)) for number in range(10)]
    begins = [[0, 3], [6], [9], [12, 15], [18], [21], [24, 27], []]  # of the last session no return is known
    expected = [np.mean([frequency[start // 3] for start in part]) if part else np.nan for part in begins]
    np.testing.assert_allclose(outcome.parts["frequency"], [[expected] * 3])
    np.testing.assert_allclose(outcome.parts["depth"][0, :, :7], 2.0)
    # The log of a user who does the same.
    start = np.arange(32) // 3
    gaps = np.where(np.arange(32) % 3 == 2, np.array([0.2 + 0.1 * number for number in start]) * 10 * HOUR, 1000)
    times = np.concatenate([[0], np.cumsum(gaps[:-1])]).astype(np.int64)
    short = replace(data.take(np.arange(1)), mean_depth=np.array([1.2]), mean_revisit_ms=np.array([10.0 * HOUR]))
    logged = replace(
        short,
        timestamp=times,
        session=start,
        **{
            name: np.resize(getattr(short, name), (32, *getattr(short, name).shape[1:]))
            for name in ("row", "state", "action", "feedback", "exposure", "propensity")
        },
    )
    parts = logged_levels(replace(platform(logged, 32), users=np.array([0])))[1]
    np.testing.assert_allclose(parts["frequency"], [expected])


def test_inputs_belong_to_the_part_in_which_they_were_recorded() -> None:
    data = histories(users=8)
    outcome = roll_out(platform(data, 80), [Clockwork(0.5)], lambda visit: np.full(len(visit.states), 7), seed=0)
    assert outcome.part.tolist() == [number // 10 for number in range(WARM, 80, KEPT_EVERY)]


def test_a_server_keeps_the_pins_of_the_log() -> None:
    data = histories(users=8)
    pins = np.random.default_rng(0).random(len(data.row)) < 0.3
    data = replace(data, step=np.arange(len(data.row)) // 4, pins=pins)

    def server(visit: Visit) -> np.ndarray:
        assert visit.seen is not None
        return np.argsort(visit.seen, axis=1, kind="stable")[:, : visit.page]  # the first items that are not excluded

    here = platform(data, 72)  # longer than the log
    outcome = roll_out(here, [Clockwork(0.4), Clockwork(0.9)], with_pins(here, server), seed=0)
    for user, start in enumerate(data.starts[here.users]):
        for number in range(18):
            at = [start + (4 * number + place) % 60 for place in range(4)]
            pinned = {place: data.row[row] for place, row in enumerate(at) if pins[row]}
            others = [item for item in range(len(ITEMS)) if item not in pinned.values()]
            page = [pinned[place] if place in pinned else others.pop(0) for place in range(4)]
            for model in range(2):
                assert outcome.rows[model, user, 4 * number : 4 * number + 4].tolist() == page
    assert with_pins(platform(replace(data, pins=None)), server) is server


def test_inputs_are_recorded_once_means_have_forgotten_their_start_and_only_some() -> None:
    """One item is repeated, so that the number of earlier impressions of its kind is known."""

    def inputs_after(requests: int) -> np.ndarray:
        data = histories(users=8)
        return roll_out(platform(data, requests), [Clockwork(0.5)], lambda *_: np.full(3, 7), seed=0).inputs

    recorded = inputs_after(WARM + 2 * KEPT_EVERY + 1)
    first = np.flatnonzero(Clockwork.inputs.counts)[0]
    steps = (WARM, WARM + KEPT_EVERY, WARM + 2 * KEPT_EVERY)
    expected = [[min(step, window) >= dose for window in WINDOWS for dose in DOSES] for step in steps]
    width = len(WINDOWS) * len(DOSES)
    np.testing.assert_array_equal(
        recorded[..., first : first + width], np.repeat(np.array(expected)[:, None], 3, axis=1)
    )
    assert inputs_after(WARM).shape == (0, 3, Clockwork.inputs.width)


def test_items_that_are_not_examined_are_in_no_input() -> None:
    """Second items of pages are never examined: 15 pages are 15 impressions of item 7."""
    data = histories(users=8)
    data = replace(data, step=np.arange(len(data.row)) // 2, examined=np.arange(len(data.row)) % 2 == 0)
    recorded = roll_out(
        platform(data, 120), [Clockwork(0.5)], lambda visit: np.tile([7, 8], (len(visit.states), 1)), seed=0
    ).inputs
    first = np.flatnonzero(Clockwork.inputs.counts)[0]
    numbers = np.arange(54, 120, 9)  # from two times WARM, and of both positions
    assert len(recorded) == len(numbers)
    for own, number in zip(recorded, numbers, strict=True):
        expected = [min(number // 2, window) >= dose for window in WINDOWS for dose in DOSES]
        if number % 2:
            assert np.isnan(own).all()
        else:
            np.testing.assert_array_equal(own[:, first : first + len(expected)], [expected] * 3)


def test_a_policy_knows_only_the_items_that_were_examined() -> None:
    """States and kinds before each page, if second items of pages are never examined, equal those of single items."""
    data = histories(users=8)
    pages = replace(data, step=np.arange(len(data.row)) // 2, examined=np.arange(len(data.row)) % 2 == 0)
    seen: dict[int, list[np.ndarray]] = {1: [], 2: []}

    def server(visit: Visit) -> np.ndarray:
        seen[visit.page] += [visit.states, visit.recent()]
        return np.tile([7, 8][: visit.page], (len(visit.states), 1))

    roll_out(platform(data, 60), [Clockwork(0.0)], server, seed=0)
    roll_out(platform(pages, 120), [Clockwork(0.0)], server, seed=0)
    assert len(seen[1]) == len(seen[2]) == 120
    for single, page in zip(seen[1], seen[2], strict=True):
        np.testing.assert_array_equal(single, page)


@pytest.mark.parametrize("requests", [45, 10_000])
def test_the_logged_levels_are_those_of_the_log_as_far_as_a_roll_out_goes(requests: int) -> None:
    data = histories(users=8)
    mean_levels, _ = logged_levels(platform(data, requests))
    levels = []
    for user in (0, 2, 5):
        rows = np.flatnonzero(data.user == user)[:requests]
        _, first, depth = np.unique(data.session[rows], return_index=True, return_counts=True)
        away = data.timestamp[rows[first[1:]]] - data.timestamp[rows[first[1:] - 1]]
        frequency = np.clip(np.floor(data.mean_revisit_ms[user] / away), 0, 5)
        levels.append((np.clip(np.floor(depth / data.mean_depth[user]), 0, 5).mean(), frequency.mean()))
    np.testing.assert_allclose(np.stack([mean_levels["depth"], mean_levels["frequency"]], axis=1), levels)


def test_items_that_rest_for_ever_are_not_repeated() -> None:
    data = histories(users=8, requests=20)
    seen_counts: list[np.ndarray] = []

    def server(visit: Visit) -> np.ndarray:
        assert visit.seen is not None
        seen_counts.append(visit.seen.sum(axis=1))
        return visit.seen.argmin(axis=1)  # the first unseen

    outcome = roll_out(platform(data, 10, math.inf), [Clockwork(0.5)], server, seed=0)
    assert outcome.ceiling == 0.1
    assert [counts.tolist() for counts in seen_counts] == [[step] * 3 for step in range(10)]
    assert outcome.counts[:10].tolist() == [3] * 10


def test_items_come_again_after_their_rest() -> None:
    """The users see three items in two seconds, and return after ten hours."""
    data = replace(histories(users=8), mean_revisit_ms=np.full(8, 10 * HOUR))

    def server(visit: Visit) -> np.ndarray:
        assert visit.seen is not None
        return visit.seen.argmin(axis=1)  # the first item that does not rest

    outcome = roll_out(platform(data, 12, 1000.5), [Clockwork(1.0)], server, seed=0)
    assert outcome.rows[0, 0].tolist() == [0, 1, 0] * 4
    outcome = roll_out(platform(data, 12, 15 * HOUR), [Clockwork(1.0)], server, seed=0)
    assert outcome.rows[0, 0].tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert outcome.ceiling == 1.0


def test_some_users_of_histories() -> None:
    data = histories(users=5, requests=7)
    some = data.take(np.array([3, 1]))
    assert some.starts.tolist() == [0, 7]
    rows = np.r_[21:28, 7:14]
    for name in ("timestamp", "session", "row", "state", "action", "feedback", "exposure"):
        np.testing.assert_array_equal(getattr(some, name), getattr(data, name)[rows])
    np.testing.assert_array_equal(some.mean_depth, data.mean_depth[[3, 1]])


@pytest.mark.parametrize("serving", [DETERMINISTIC, ServingSettings(variety=0.0)], ids=lambda rule: rule.candidates)
def test_who_has_seen_all_that_may_be_shown_sees_it_again(serving: ServingSettings) -> None:
    """The roll-out is longer than the catalogue, and items rest for ever."""
    data = histories(users=8, requests=20)
    bounds = np.ones(2, np.float32)
    actor = DeterministicActor(
        Mlp.from_layers([(np.zeros((2, STATE.width), np.float32), np.zeros(2, np.float32))]), -bounds, bounds
    )
    policy = Policy(actor, STATE, NORMALISER, ITEMS, serving, deviation=1.0)
    server = policy_server(policy, ITEMS, np.random.default_rng(0))
    outcome = roll_out(platform(data, 2 * len(ITEMS), math.inf), [Clockwork(0.5)], server, seed=0)
    assert outcome.counts.tolist() == [2 * 3] * len(ITEMS)
