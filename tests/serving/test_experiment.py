"""Experiments: outcomes that stay final, shares that grow, and guard-rails."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from made_experiment import ABOUT, DAY_MS, FEEDBACK_HOURS, HOUR_MS, NOW, Platform, write_log

from prefrec_ray.errors import UserError
from prefrec_ray.guard_rails import guard_rails
from prefrec_ray.logs.events.format import Event, Kind
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.logs.events.segments import received_before, remove_rows
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.kinds import KindNames
from prefrec_ray.nightly.release import look
from prefrec_ray.nightly.settings import CanarySettings
from prefrec_ray.serving.experiment.compare import CanaryComparison, ComparedOutcome, compare
from prefrec_ray.serving.experiment.estimates import Sample
from prefrec_ray.serving.experiment.history import Participants, participants, read_events
from prefrec_ray.serving.experiment.outcomes import UserOutcome, behavior
from prefrec_ray.serving.settings import Arm, Canary, ServeSettings
from prefrec_ray.serving.state.users import arm_of

#: Item 1 is of kind 0, items 2 to 9 are of kind 1.
ITEMS = ItemTable(np.arange(1, 10), np.eye(9), kind_codes=np.array([[0], *[[1]] * 8]))
RAILS = guard_rails(
    [
        "feedback.like >= -20 %",
        "depth >= -20 %",
        "sessions >= -25 %",
        "hours_to_return <= +25 %",
        "exposure[cluster] <= 95 %",
        "share[cluster: 0] >= 10 %",
    ]
)


def compared(folder: Path, days: float = 3.0) -> CanaryComparison:
    return compare([str(folder)], days, rails=RAILS, items_of=lambda arm: ITEMS).canaries["a"]


def row_of(comparison: CanaryComparison, name: str) -> ComparedOutcome:
    return next(row for row in comparison.outcomes if row.name == name)


def statuses(comparison: CanaryComparison) -> dict[str, str]:
    return {one.rail.measure: one.status for one in comparison.rails}


def test_an_equal_canary_breaks_no_guard_rail_and_a_harmful_one_does(tmp_path: Path) -> None:
    equal = compared(write_log(tmp_path / "equal", Platform(users=700).rows()))
    assert "broken" not in statuses(equal).values()
    assert statuses(equal) | {"share": "kept", "exposure": "kept", "depth": "kept"} == statuses(equal)
    assert equal.objective.verdict == "not told apart"
    harm = Platform(users=700, longer=0.3, sooner=0.4, likes=0.3, popular_canary=0.02)
    harmful = compared(write_log(tmp_path / "harmful", harm.rows()))
    expected = {"feedback": "broken", "depth": "broken", "sessions": "broken", "hours_to_return": "broken"}
    expected["came_back"] = "broken"
    assert statuses(harmful) == {**expected, "share": "broken", "exposure": "broken"}
    assert harmful.objective.verdict == "less"
    assert row_of(harmful, "share[cluster: 0]").canary.value == pytest.approx(0.02, abs=0.015)
    assert row_of(harmful, "exposure[cluster]").canary.value == pytest.approx(0.98, abs=0.015)
    assert row_of(harmful, "exposure[cluster]").difference.verdict == "more"


def test_impressions_of_items_without_a_kind_are_reported(tmp_path: Path) -> None:
    """Item 2 has no kind, and item 9 is not in the table: a seventh of the impressions that are not of item 1."""
    kinds = np.array([[0], [-1], *[[1]] * 6])
    items = ItemTable(np.arange(1, 9), np.eye(8), kind_codes=kinds, kind_names=(KindNames("topic", {"a": 0, "b": 1}),))
    folder = write_log(tmp_path / "state", Platform(users=300, likes=0.5).rows())
    rails = guard_rails(["exposure[topic] <= 60 %", "share[topic: a] >= 10 %", "depth >= -50 %"])
    comparison = compare([str(folder)], 3.0, rails=rails, items_of=lambda arm: items).canaries["a"]
    came_back, exposure, share, depth = comparison.rails
    assert (str(came_back.rail), came_back.note) == ("came_back >= -5 %", "")
    assert exposure.note == share.note
    unknown, of, impressions = exposure.note.split(" ")[:3]
    assert (of, exposure.note.endswith("impressions are of items without topic"), depth.note) == ("of", True, "")
    part = int(unknown.replace(",", "")) / int(impressions.replace(",", ""))
    assert part == pytest.approx(0.8 * 2 / 8, abs=0.03)
    assert row_of(comparison, "exposure[topic]").canary.value == pytest.approx(0.8 * 6 / 8, abs=0.04)
    canary = Canary(night=1, target="p", share=0.5, began=NOW)
    assert exposure.note in look(canary, comparison, CanarySettings(), NOW).why


def test_final_outcomes_stay_final_though_feedback_is_late(tmp_path: Path) -> None:
    rows, days_ms = Platform(users=200).rows(), 3 * DAY_MS
    # A client's own feedback on the past, long after it would be refused for a recommendation.
    late = {"user_number": 5, "items": [3], "feedback": [1.0], "known": True}
    rows.append(Event(Kind.FEEDBACK, NOW + 2 * DAY_MS, received=NOW + 7 * DAY_MS, **late))
    rows.sort(key=lambda row: row.received)
    looks = []
    for number, day in enumerate((4.0, 5.0, 6.5, 8.0)):
        folder = write_log(tmp_path / str(number), rows, NOW + round(day * DAY_MS))
        events = read_events([str(folder)], ABOUT)
        who = participants(events, days_ms)
        final = int((who.begin + days_ms + FEEDBACK_HOURS * HOUR_MS < events.until).sum())
        looks.append((events.users.to_numpy()[who.user[:final]], final, behavior(events, who, ABOUT, days_ms)))
    assert 0 < looks[0][1] < looks[1][1] < looks[2][1]
    (last_users, _, last) = looks[-1]
    for users, final, seen in looks:
        np.testing.assert_array_equal(users, last_users[:final])
        for name, outcome in seen.outcomes.items():
            np.testing.assert_array_equal(outcome.values[:final], last.outcomes[name].values[:final], err_msg=name)
            if outcome.before is not None:
                np.testing.assert_array_equal(outcome.before[:final], last.outcomes[name].before[:final], err_msg=name)


def test_the_days_of_a_canary_do_not_depend_on_removed_rows(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", Platform(users=100).rows())
    log = EventLog(str(folder), ABOUT.columns.field("items").type.value_type)
    log.begin_file()
    log.close()
    whole = compared(folder)
    assert whole.elapsed_days == pytest.approx(8.0, abs=0.3)
    assert remove_rows(str(folder), received_before(NOW + 4 * DAY_MS))
    assert compared(folder).elapsed_days == whole.elapsed_days


def test_a_growing_share_continues_without_the_users_who_move(tmp_path: Path) -> None:
    platform = Platform(users=400, before=3.0, shares=((0.0, 0.1), (4.0, 0.4)))
    events = read_events([str(write_log(tmp_path / "state", platform.rows()))], ABOUT)
    who = participants(events, 2 * DAY_MS)
    users = events.users.to_numpy()[who.user].tolist()
    small, large = (
        arm_of(users, ServeSettings(canaries=(Arm(name="a", policy="p", share=share),))) for share in (0.1, 0.4)
    )
    early = who.begin + 2 * DAY_MS < NOW + 4 * DAY_MS
    late = who.begin >= NOW + 4 * DAY_MS
    between = ~early & ~late
    assert min(early.sum(), late.sum(), between.sum()) > 0
    np.testing.assert_array_equal(who.arm, np.where(late, large, small))
    assert (small[between] == large[between]).all()
    np.testing.assert_allclose(who.chance[early], [[0.9, 0.1]] * early.sum())
    np.testing.assert_allclose(who.chance[late], [[0.6, 0.4]] * late.sum())
    np.testing.assert_allclose(who.chance[between], [[0.6 / 0.7, 0.1 / 0.7]] * between.sum())
    everyone = np.unique(events.impressions.user[events.impressions.number >= 0])
    assert who.moved == len(everyone) - len(users) > 0
    comparison = compared(tmp_path / "state", 2.0)
    assert comparison.objective.verdict == "not told apart"
    fallen = [*platform.rows(), *Platform(users=1, shares=((0.0, 0.1),)).rows()[-40:]]
    again = read_events([str(write_log(tmp_path / "again", fallen))], ABOUT)
    assert [stage.shares["a"] for stage in again.assignments[0].stages] == [0.1, 0.4]


def test_a_share_that_falls_and_a_new_seed_start_again(tmp_path: Path) -> None:
    rows = Platform(users=100, shares=((0.0, 0.4), (3.0, 0.1), (5.0, 0.1))).rows()
    (assignment,) = read_events([str(write_log(tmp_path / "fallen", rows))], ABOUT).assignments
    assert [(stage.shares["a"], stage.timestamp) for stage in assignment.stages] == [(0.1, NOW + 3 * DAY_MS)]
    last = max(number for number, row in enumerate(rows) if row.kind == Kind.ARMS)
    rows[last] = dataclasses.replace(rows[last], note=rows[last].note.replace('"seed": 0', '"seed": 1'))
    (assignment,) = read_events([str(write_log(tmp_path / "new", rows))], ABOUT).assignments
    assert (assignment.seed, assignment.stages[0].timestamp) == (1, NOW + 5 * DAY_MS)


def test_ids_may_be_text(tmp_path: Path) -> None:
    """The log has the arms of ids that are whole numbers, so that half of the users count as moved."""

    def texts(row: Event) -> Event:
        if row.kind == Kind.ARMS:
            return row
        return dataclasses.replace(row, user=f"user {row.user_number}", user_number=None, items=[f"i{row.items[0]}"])

    rows = [texts(row) for row in Platform(users=100).rows()]
    about = ABOUT.model_copy(update={"item_ids": "string"})
    folder = write_log(tmp_path / "state", rows, about=about)
    items = ItemTable(np.array([f"i{item}" for item in ITEMS.ids]), ITEMS.embeddings, kind_codes=ITEMS.kind_codes)
    comparison = compare([str(folder)], 3.0, rails=RAILS, items_of=lambda arm: items).canaries["a"]
    who = participants(read_events([str(folder)], about), 3 * DAY_MS)
    assert 30 < who.moved < 70
    assert 30 < len(who.user) <= 100 - who.moved
    assert sum(comparison.users.values()) + comparison.waiting == len(who.user)
    assert 0 < row_of(comparison, "share[cluster: 0]").main.value < 1


def test_users_without_history_count_also_in_levels(tmp_path: Path) -> None:
    rows = Platform(users=60).rows()
    new = set(range(0, 60, 3))
    kept = [row for row in rows if row.user_number not in new or row.timestamp >= NOW]
    comparison = compared(write_log(tmp_path / "state", kept))
    assert sum(comparison.users.values()) == 60
    for name in ("frequency level", "depth level", "depth", "came back"):
        assert row_of(comparison, name).difference.users == 60


def test_levels_of_new_users_refer_to_the_mean_of_users_before(tmp_path: Path) -> None:
    """Users 1 and 2 had sessions of 2 and 4 impressions; user 3 is new, with one session of 6: depth level 6 / 3."""
    arms = [{"arm": "main", "policy": "m", "share": 1.0}]
    note = json.dumps({"main": "main", "seed": 0, "feedback_hours": FEEDBACK_HOURS, "arms": arms})
    rows = [Event(Kind.ARMS, NOW, received=NOW, note=note)]

    def session(user: int, at: int, depth: int) -> None:
        shown = {"user_number": user, "arm": "main", "policy": "m", "items": [2]}
        rows.append(Event(Kind.RECOMMENDED, at, **shown, received=at))
        for number in range(depth):
            time = at + 1000 * number
            rows.append(Event(Kind.FEEDBACK, time, **shown, received=time, feedback=[0.0], known=True))

    for day in range(-9, 0):
        session(1, NOW + day * DAY_MS, 2)
        session(2, NOW + day * DAY_MS, 4)
    for user in (1, 2, 3, 4):
        session(user, NOW + HOUR_MS, 6 if user < 4 else 0)
    session(1, NOW + 9 * DAY_MS, 1)
    folder = write_log(tmp_path / "state", sorted(rows, key=lambda row: row.received))
    events = read_events([str(folder)], ABOUT)
    who = participants(events, 3 * DAY_MS)
    seen = behavior(events, who, ABOUT, 3 * DAY_MS)
    at = np.argsort(events.users.to_numpy()[who.user])
    assert seen.outcomes["depth level"].values[at].tolist() == [3, 1, 2, 0]
    assert seen.outcomes["depth"].values[at].tolist() == [6, 6, 6, 0]
    assert seen.outcomes["came back"].values.tolist() == [0, 0, 0, 0]
    assert seen.outcomes["hours to return"].values[at][3] == 72.0


def test_users_who_never_answer_again_have_level_0(tmp_path: Path) -> None:
    rows = Platform(users=60).rows()
    silent = [row for row in rows if row.timestamp < NOW or row.kind != Kind.FEEDBACK or row.user_number % 2]
    comparison = compared(write_log(tmp_path / "state", silent))
    events = read_events([str(tmp_path / "state")], ABOUT)
    who = participants(events, 3 * DAY_MS)
    seen = behavior(events, who, ABOUT, 3 * DAY_MS)
    even = events.users.to_numpy()[who.user] % 2 == 0
    assert even.sum() == 30
    assert (seen.outcomes["frequency level"].values[even] == 0).all()
    assert (seen.outcomes["sessions a day"].values[even] == 0).all()
    assert (seen.outcomes["depth"].values[even] == 0).all()
    assert seen.outcomes["came back"].values[even].mean() > 0.9
    assert row_of(comparison, "sessions a day").difference.users == 60


@pytest.mark.parametrize(
    ("of_main", "limits", "first"),
    [
        (np.arange(1000.0) % 100, (0.0, 98.01), 200),  # the 99 % quantile of 0 to 99
        (-(np.arange(1000.0) % 100), (-99.0, -0.99), 200),
        (np.where(np.arange(1000) == 150, 7.0, 0.0), (0.0, 7.0), 400),  # all of the first hundred have 0
        (np.zeros(1000), (-np.inf, np.inf), 0),
        (np.arange(99.0), (-np.inf, np.inf), 0),
    ],
)
def test_the_range_is_known_before_the_outcomes_that_count(
    of_main: np.ndarray, limits: tuple[float, float], first: int
) -> None:
    """Every second user has the canary, and an outcome of 1e6 that has no influence on the range."""
    users = 2 * len(of_main)
    arm = np.arange(users) % 2 == 0
    values = np.full(users, 1e6)
    values[~arm] = of_main
    number = np.arange(users)
    who = Participants(number, 0 * number, number, number, arm.astype(int), np.full((users, 2), 0.5), 0)
    sample = Sample.of_canary(who, UserOutcome(values), 1, users)
    assert sample.limits == pytest.approx(limits)
    assert sample.first == first
    difference = sample.difference(0.05)
    assert (difference.verdict == "more") == bool(first)
    assert np.isfinite(difference.low) == bool(first)


def test_unknown_feedback_and_kinds_are_one_line(tmp_path: Path) -> None:
    folder = str(write_log(tmp_path / "state", Platform(users=5).rows()))
    for text, words in {
        "feedback.shares >= -2 %": "found feedback 'shares'; expected one of like",
        "exposure[maker] <= 5 %": "found kind 'maker'; expected one of cluster",
        "share[cluster: news] >= 5 %": "found value 'news'; expected one of 0, 1",
    }.items():
        with pytest.raises(UserError, match=words):
            compare([folder], 3.0, rails=guard_rails([text]), items_of=lambda arm: ITEMS)
    assert list(compare([folder], 3.0).canaries) == ["a"]
    with pytest.raises(UserError, match=r"'exposure\[cluster\] <= 5 %': found no table of items"):
        compare([folder], 3.0, rails=guard_rails(["exposure[cluster] <= 5 %"]))
