"""Roll-outs with the users of a data set, against values known by hand."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray import cloudpickle
from state_definitions import changed

from prefrec_ray import storage
from prefrec_ray.dataset import Metadata, PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation import online
from prefrec_ray.evaluation.online import RollOut, evaluate_online, true_level
from prefrec_ray.evaluation.policy_server import PolicyServer
from prefrec_ray.evaluation.results.records import Record
from prefrec_ray.mdp.bulk import HistoryRows, raw_states
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.policy import Served
from prefrec_ray.simulator.catalogue import CATEGORIES
from prefrec_ray.simulator.crowd import FEEDBACK, Crowd
from prefrec_ray.simulator.law import generator
from prefrec_ray.simulator.rollout import Outcome, roll_out
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import World
from prefrec_ray.simulator.write import log_block

# Ray's workers cannot import this file; its policies travel whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SETTINGS = SimulateSettings(users=400, requests=150, items=300, seed=2)
WORLD = World(SETTINGS)
ITEMS = ItemTable(np.arange(300), WORLD.embeddings)
DEFINITION = StateDefinition(feedback=FEEDBACK, user_features=CATEGORIES)
CONTROLS = ["behaviour", "random items", "constant action", "clickbait", "nutrition"]


@dataclass
class Constant:
    """A policy that looks at nothing."""

    action: np.ndarray
    items: ItemTable = field(default_factory=lambda: ITEMS)
    seen: list[np.ndarray] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    serving: ServingSettings = field(default_factory=lambda: ServingSettings(rest_days=0.0))
    definition: StateDefinition = field(default_factory=lambda: DEFINITION)

    def serve(
        self,
        states: np.ndarray,
        k: int,
        exclude: Any = None,
        seed: int | None = None,
        recent: np.ndarray | None = None,
    ) -> Served:
        self.seen.append(states.copy())
        actions = np.tile(self.action, (len(states), 1)).astype(np.float32)
        excluded = None if exclude is None else ExcludedItems.from_mask(exclude)
        return Served(self.items.ids[self.items.nearest(actions, k, excluded)], np.ones((len(states), k)))

    def tracker(self, user_features: Any) -> StateTracker:
        return StateTracker(self.definition, Normaliser(np.zeros(245), np.full(245, 100.0)), self.items, user_features)


def logged() -> pd.DataFrame:
    """Sessions of the log, plainly: a row a session."""
    log = pd.concat(log_block(WORLD, block).to_pandas() for block in range(SETTINGS.blocks))
    late = log.groupby("user_id").timestamp.diff() > 1_800_000
    log["session"] = late.groupby(log.user_id).cumsum()
    visits = log.groupby(["user_id", "session"]).timestamp.agg(["min", "max", "size"]).reset_index()
    visits["revisit_ms"] = visits.groupby("user_id")["min"].shift(-1) - visits["max"]
    return visits.rename(columns={"size": "depth"})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """The parts of a prepared data set that a roll-out reads. Every second user is a test user."""
    folder = tmp_path_factory.mktemp("online")
    visits = logged()
    visits["split"] = np.where(visits.user_id % 2 == 0, "test", "train")
    (folder / "sessions").mkdir()
    for part in range(3):
        table = pa.Table.from_pandas(visits[visits.user_id % 3 == part], preserve_index=False)
        pq.write_table(table, folder / "sessions" / f"part-{part}.parquet")
    (folder / "transitions").mkdir()
    actions = pa.FixedSizeListArray.from_arrays(pa.array(np.full(80, 0.1, np.float32)), 8)
    pq.write_table(pa.table({"action": actions}), folder / "transitions" / "part-0.parquet")
    ITEMS.save(str(folder / "items.parquet"))
    write_metadata(folder, SETTINGS.model_dump(mode="json"))
    return PreparedDataset.open(str(folder))


def write_metadata(folder: Path, world: dict[str, Any] | None) -> None:
    metadata = Metadata(
        schema_version=1,
        counts={},
        state_dim=245,
        action_dim=8,
        action_low=-1,
        action_high=1,
        state=DEFINITION,
        normaliser=Normaliser(np.zeros(245), np.ones(245)).to_dict(),
        settings={},
        seed=0,
        tasks=["depth"],
        teachers=[],
        mixture_weight=0.25,
        world=world,
    )
    storage.write_json(str(folder / "metadata.json"), metadata.model_dump())


@pytest.fixture(scope="module")
def records(ray_session: None, dataset: PreparedDataset) -> list[Record]:
    along = WORLD.embeddings @ WORLD.directions[0]
    policies: dict[str, Any] = {
        "kale": Constant(WORLD.embeddings[along.argmin()]),
        "chocolate": Constant(WORLD.embeddings[along.argmax()]),
    }
    controls: dict[str, Any] = {"imitation": Constant(np.full(8, 0.1))}
    return evaluate_online(dataset, policies, how=RollOut(requests=200), controls=controls)


def by_subject(records: list[Record], task: str) -> dict[str, Record]:
    return {record.subject: record for record in records if record.task == task}


def test_a_record_for_each_task_and_subject(records):
    for task in ("depth", "frequency", "mixture"):
        task_records = by_subject(records, task)
        assert list(task_records) == [*CONTROLS, "kale", "chocolate", "imitation"]
        assert [task_records[name].role for name in task_records] == ["control"] * 5 + ["policy"] * 2 + ["control"]
        for record in task_records.values():
            assert record.estimator == "online"
            # Whoever never leaves has no revisit time.
            assert record.users + record.users_left_out == 200
            assert record.users_left_out <= (0 if task == "depth" else 4)
            assert record.ci_low <= record.value <= record.ci_high
            assert record.behaviour == pytest.approx(task_records["behaviour"].value, rel=0.03)
            assert record.ess is None
        assert task_records["behaviour"].gain_ci_low == task_records["behaviour"].gain_ci_high == 0
    assert len(records) == 3 * 8


@pytest.mark.parametrize("task", ["depth", "frequency", "mixture"])
def test_nutrition_is_best_and_clickbait_worst(records, task):
    task_records = by_subject(records, task)
    nutrition, logged, clickbait = (task_records[name] for name in ("nutrition", "behaviour", "clickbait"))
    assert nutrition.ci_low > 2 * logged.ci_high
    assert logged.ci_low > 1.5 * clickbait.ci_high
    assert nutrition.gain_ci_low > 0 > clickbait.gain_ci_high
    # The most aligned item of all with the true direction is one of the ten that the hand-made servers use.
    assert task_records["kale"].value == pytest.approx(nutrition.value, rel=0.1)
    assert task_records["chocolate"].value == pytest.approx(clickbait.value, rel=0.3, abs=0.05)
    # Nearest to the mean action, by the policy or by the control: the same item for everybody.
    assert task_records["imitation"].value == task_records["constant action"].value


def test_true_means_go_with_the_levels(records):
    task_records = by_subject(records, "depth")
    nutrition, logged, clickbait = (task_records[name] for name in ("nutrition", "behaviour", "clickbait"))
    assert nutrition.mean_depth > logged.mean_depth > clickbait.mean_depth
    assert nutrition.mean_revisit_hours < logged.mean_revisit_hours < clickbait.mean_revisit_hours
    assert nutrition.mean_satisfaction > 0.8 > 0.6 > logged.mean_satisfaction > 0.2
    assert clickbait.mean_satisfaction < 0.15


def test_the_logging_policy_rolled_out_is_the_log_again(records):
    visits = logged()
    visits = visits[visits.user_id % 2 == 0]
    by_user = visits.groupby("user_id")
    depth = np.clip(np.floor(visits.depth / by_user.depth.transform("mean")), 0, 5)
    frequency = np.clip(np.floor(by_user.revisit_ms.transform("mean") / visits.revisit_ms), 0, 5)
    record = by_subject(records, "depth")["behaviour"]
    assert record.value == pytest.approx(depth.groupby(visits.user_id).mean().mean(), abs=0.12)
    assert record.mean_depth == pytest.approx(by_user.depth.mean().mean(), rel=0.1)
    assert record.mean_revisit_hours == pytest.approx(by_user.revisit_ms.mean().mean() / 3.6e6, rel=0.1)
    record = by_subject(records, "frequency")["behaviour"]
    assert record.value == pytest.approx(frequency.groupby(visits.user_id).mean().mean(), abs=0.2)


def test_the_same_seed_gives_the_same_records(records, dataset):
    again = evaluate_online(dataset, {}, ["depth"], RollOut(requests=200))
    assert again == [by_subject(records, "depth")[name] for name in CONTROLS]
    other = evaluate_online(dataset, {}, ["depth"], RollOut(requests=200, seed=1))
    assert other[0].value != again[0].value


def test_fewer_users_are_drawn_from_the_split(ray_session, dataset):
    progress = []
    train_records = evaluate_online(
        dataset, {}, ["frequency"], RollOut("train", 150, 60), progress=lambda *report: progress.append(report)
    )
    assert {record.settings["split"] for record in train_records} == {"train"}
    assert all(record.users + record.users_left_out == 150 for record in train_records)
    # 150 users are two blocks for each of the five controls.
    assert progress[-1] == ("roll out in the simulator: parts", 10, 10)


def test_a_policy_sees_the_states_of_the_log_that_it_makes():
    users = np.arange(40)
    policy = Constant(np.full(8, 0.2))
    traits = WORLD.traits(users)
    server = PolicyServer(policy, traits.features, np.random.default_rng(0))
    history = roll_out(Crowd(WORLD, traits, generator(0, 9)), server, 50)
    states = raw_states(
        DEFINITION,
        HistoryRows(
            starts=users * 50,
            timestamp=history.time_ms.ravel(),
            session=history.session.ravel(),
            feedback=history.feedback.reshape(2000, -1),
            embeddings=WORLD.embeddings[history.rows.ravel()],
            profile=DEFINITION.one_hot(traits.features),
        ),
    )
    seen = np.array(policy.seen).transpose(1, 0, 2).reshape(2000, 245)
    np.testing.assert_allclose(seen, np.clip(states / 100, -5, 5), atol=1e-6)
    assert len(np.unique(history.rows)) == 1


@pytest.mark.parametrize("only_examined", [False, True])
def test_a_policy_sees_the_states_of_the_pages_that_it_shows(only_examined):
    definition, users, k = changed(DEFINITION, pages=True), 20, 3
    world = World(SETTINGS.model_copy(update={"page": k, "users": users}))
    policy = Constant(np.full(8, 0.2), definition=definition)
    traits = world.traits(np.arange(users))
    server = PolicyServer(policy, traits.features, np.random.default_rng(0), only_examined=only_examined)
    history = roll_out(Crowd(world, traits, generator(0, 9)), server, 40)
    seen: dict[int, list[np.ndarray]] = {user: [] for user in range(users)}
    turns = iter(policy.seen)
    for opened in (history.position == 0).T:
        if opened.any():
            for user, state in zip(np.flatnonzero(opened), next(turns), strict=True):
                seen[user].append(state)
    for user in range(users):
        steps = np.flatnonzero(history.position[user] == 0)
        number = np.cumsum(history.position[user] == 0) - 1
        feedback, examined = np.zeros((len(steps), k, len(FEEDBACK)), np.float32), np.zeros((len(steps), k), bool)
        feedback[number, history.position[user]] = history.feedback[user]
        examined[number, history.position[user]] = True
        kept = (examined if only_examined else np.ones_like(examined)).ravel()
        rows = HistoryRows(
            starts=np.zeros(1, int),
            timestamp=np.repeat(history.time_ms[user, steps], k)[kept],
            session=np.repeat(history.session[user, steps], k)[kept],
            feedback=feedback.reshape(-1, len(FEEDBACK))[kept],
            embeddings=world.embeddings[history.page[user, steps].ravel()[kept]],
            profile=definition.one_hot({name: values[user : user + 1] for name, values in traits.features.items()}),
            step=np.repeat(np.arange(len(steps)), k)[kept],
        )
        first = np.flatnonzero(np.diff(rows.step, prepend=-1))
        expected = np.clip(raw_states(definition, rows)[first] / 100, -5, 5)
        np.testing.assert_allclose(seen[user], expected, atol=1e-6)


def test_what_may_not_be_shown_makes_way_for_the_next():
    traits, action = WORLD.traits(np.arange(3)), -0.4 * WORLD.directions[0]
    server = PolicyServer(Constant(action), traits.features, np.random.default_rng(0))
    order = np.linalg.norm(WORLD.embeddings - action, axis=1).argsort()
    excluded = np.zeros((3, 300), bool)
    excluded[1, order[0]] = excluded[2, order[[0, 1, 3]]] = True
    assert server.serve(traits.start_ms, excluded).rows.tolist() == order[[0, 1, 2]].tolist()


def test_items_of_a_policy_rest_in_the_simulator_and_all_come_again_if_none_is_left():
    traits, items = WORLD.traits(np.arange(3)), ITEMS.ids[:4]
    few = ItemTable(items, WORLD.embeddings[:4])
    policy = Constant(WORLD.embeddings[0], few, serving=ServingSettings(rest_days=2.0))
    server = PolicyServer(policy, traits.features, np.random.default_rng(0))
    excluded = np.zeros((3, 300), bool)
    excluded[2, 0] = True
    day, shown = 86_400_000, []
    for now in (0, 1, 2, 3, 4, 5):
        time = np.full(3, traits.start_ms.max() + now * day)
        rows = server.serve(time, excluded).rows
        server.observe(time, rows, np.zeros((3, len(FEEDBACK)), np.float32))
        shown.append(rows.tolist())
    nearest = few.nearest(WORLD.embeddings[:1], 4)[0].tolist()
    other = [row for row in nearest if row]
    assert [rows[0] for rows in shown] == [nearest[now % 2] for now in range(6)]
    assert [rows[2] for rows in shown] == [other[now % 2] for now in range(6)]
    forever = PolicyServer(Constant(WORLD.embeddings[0], few, serving=ServingSettings()), traits.features, server.rng)
    for now in range(5):
        time = np.full(3, traits.start_ms.max() + now * day)
        rows = forever.serve(time, None).rows
        assert rows.tolist() == [nearest[now % 4]] * 3  # the fifth time all have been shown
        forever.observe(time, rows, np.zeros((3, len(FEEDBACK)), np.float32))


def test_mistakes_are_one_line(dataset, tmp_path):
    with pytest.raises(UserError, match="policy name 'nutrition': another subject has this name"):
        evaluate_online(dataset, {"nutrition": Constant(np.zeros(8))})
    with pytest.raises(UserError, match="no user in the split 'validation'"):
        evaluate_online(dataset, {}, how=RollOut("validation"))
    write_metadata(tmp_path, None)
    with pytest.raises(UserError, match="found logs that do not come from the simulator"):
        evaluate_online(PreparedDataset.open(str(tmp_path)), {})


def test_a_true_level_of_exactly_zero_is_zero(dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_ever_above_the_mean(*arguments: object) -> Outcome:
        zeros = np.zeros(10)
        return Outcome({"depth": zeros, "frequency": np.full(10, np.nan)}, {}, zeros, zeros, zeros)

    monkeypatch.setattr(online._World, "roll_out", nobody_ever_above_the_mean)
    policy: Any = Constant(np.zeros(8))
    assert true_level(dataset, policy, "depth", RollOut(users=10)) == 0.0
    assert np.isnan(true_level(dataset, policy, "frequency", RollOut(users=10)))
