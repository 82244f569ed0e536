import functools
import json
import operator
import os
import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import numpy as safetensors
from torch import nn

from prefrec_ray import storage
from prefrec_ray.errors import UserError
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback
from prefrec_ray.policy.networks.layers import Mlp
from prefrec_ray.policy.networks.q import QFunction
from prefrec_ray.storage.checksums import seal
from prefrec_ray.storage.parquet import seal_parquet

STATE = StateDefinition(feedback=("like", "watch"), user_features={"country": ("de", "fr")}, action_dim=3)
LOW, HIGH = np.float32([-1, -1, 0]), np.float32([1, 2, 0.5])


def nearest(count: int = 1, rule: str = "best") -> ServingSettings:
    return ServingSettings(rule=rule, candidates="nearest", count=count, variety=0.0)


def make_policy(seed: int = 0, hidden: tuple[int, ...] = (16, 8), items: int = 40, **changes: object) -> Policy:
    rng = np.random.default_rng(seed)
    sizes = [STATE.width, *hidden, 3]
    layers = [
        ((rng.normal(size=(b, a)) / np.sqrt(a)).astype(np.float32), rng.normal(size=b).astype(np.float32))
        for a, b in pairwise(sizes)
    ]
    table = ItemTable(np.array([f"item {i}" for i in range(items)]), rng.uniform(-1, 1, (items, 3)))
    normaliser = Normaliser(rng.normal(size=STATE.width), rng.uniform(0.5, 2, STATE.width))
    options = {"serving": nearest(), "provenance": {"method": "PrefRec", "task": "depth"}, **changes}
    return Policy(DeterministicActor(Mlp.from_layers(layers), LOW, HIGH), STATE, normaliser, table, **options)


def make_states(rows: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, STATE.width)).astype(np.float32)


def test_where_actions_lie() -> None:
    policy = make_policy()
    actions = np.concatenate([policy.act(make_states(20)), np.float32([[-0.991, 1.986, 0.25], [-0.989, 1.984, 0.002]])])
    lie = policy.place(actions)
    assert lie.saturated[-2:].tolist() == [[True, True, False], [False, False, True]]
    away = np.linalg.norm(actions[:, None] - policy.items.embeddings[None], axis=2)
    np.testing.assert_array_equal(lie.row, away.argmin(axis=1))
    np.testing.assert_allclose(lie.distance, away.min(axis=1), rtol=1e-6)


@pytest.mark.parametrize("hidden", [(), (16,), (16, 8, 4)])
def test_act_equals_a_torch_mlp(hidden: tuple[int, ...]) -> None:
    policy = make_policy(hidden=hidden)
    modules: list[nn.Module] = []
    for weight, bias in policy.actor.net.layers:
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        modules += [layer, nn.ReLU()]
    unit = torch.tanh(nn.Sequential(*modules[:-1])(torch.tensor(make_states(50)))).detach().numpy()
    actions = policy.act(make_states(50))
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions, (LOW + HIGH) / 2 + unit * (HIGH - LOW) / 2, atol=1e-6)


def test_a_policy_is_shown_in_one_line() -> None:
    policy = make_policy(provenance={"method": "PrefRec", "recipe": "robust", "task": "depth", "seed": 1})
    items, width = len(policy.items.ids), len(policy.normaliser.mean)
    assert repr(policy) == f"<Policy PrefRec robust depth: {items} items, states of {width} numbers>"


def test_act_gives_the_same_in_chunks_and_on_read_only_memory() -> None:
    policy, states = make_policy(), make_states(40_000)
    states.flags.writeable = False
    actions = policy.act(states)
    np.testing.assert_allclose(actions[16_300:16_500], policy.act(states[16_300:16_500]), atol=1e-6)
    assert policy.act(states[:0]).shape == (0, 3)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), k=st.integers(1, 40))
def test_recommend_equals_brute_force(seed: int, k: int) -> None:
    policy, states = make_policy(seed), make_states(7, seed)
    recommended = policy.serve(states, k).items
    for action, ids in zip(policy.act(states), recommended, strict=True):
        embeddings = policy.items.embeddings.astype(np.float64)
        score = -np.linalg.norm(embeddings - action, axis=1)
        assert ids.tolist() == policy.items.ids[np.argsort(-score, kind="stable")[:k]].tolist()


def test_a_bundle_comes_back_as_it_was(tmp_path: Path) -> None:
    policy, states = make_policy(), make_states(20)
    policy.save(str(tmp_path / "policy"))
    again = Policy.load(str(tmp_path / "policy"))
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "actor.safetensors",
        "items.parquet",
        "manifest.json",
        "policy.json",
    ]
    np.testing.assert_array_equal(again.act(states), policy.act(states))
    np.testing.assert_array_equal(again.serve(states, 5).items, policy.serve(states, 5).items)
    assert (again.state, again.serving, again.provenance) == (policy.state, policy.serving, policy.provenance)
    np.testing.assert_array_equal(again.normaliser.std, policy.normaliser.std)


def test_a_bundle_holds_no_pickle(tmp_path: Path) -> None:
    make_policy().save(str(tmp_path / "policy"))
    arrays = safetensors.load_file(tmp_path / "policy" / "actor.safetensors")
    assert {name: array.dtype for name, array in arrays.items()} == {
        f"layers.{i}.{name}": np.dtype(np.float32) for i in range(3) for name in ("weight", "bias")
    }


def test_the_tracker_is_that_of_the_policys_own_definition() -> None:
    policy = make_policy()
    features = pa.table({"country": ["fr", None]})
    from_policy, plain = policy.tracker(features), StateTracker(STATE, policy.normaliser, policy.items, features)
    now = np.array([1_700_000_000_000, 1_700_000_100_000])
    feedback = {"like": np.array([1.0, 0.0]), "watch": np.array([0.5, 2.0])}
    for tracker in (from_policy, plain):
        tracker.observe(now, np.array(["item 3", "item 4"]), feedback)
    states = from_policy.states(now + 5000)
    np.testing.assert_array_equal(states, plain.states(now + 5000))
    assert policy.serve(states, 2).items.shape == (2, 2)


def test_pickles_small_after_use_too() -> None:
    policy = make_policy()
    before = len(pickle.dumps(policy))
    actions = policy.act(make_states(5))
    copy = pickle.loads(pickle.dumps(policy))
    assert len(pickle.dumps(policy)) < 1.1 * before
    np.testing.assert_array_equal(copy.act(make_states(5)), actions)


@pytest.mark.parametrize("name", ["policy.json", "actor.safetensors", "items.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    make_policy().save(str(tmp_path / "policy"))
    (tmp_path / "policy" / name).unlink()
    with pytest.raises(UserError, match=rf"policy/{name}: no such file"):
        Policy.load(str(tmp_path / "policy"))


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "policy")
    make_policy().save(path)
    file = storage.join(path, "policy.json")
    storage.write_json(file, {**storage.read_json(file), "schema_version": 3})
    with pytest.raises(UserError, match=r"policy\.json: found schema version 3; expected 4 for this version"):
        Policy.load(path)


@pytest.mark.parametrize("key", ["actor", "normaliser"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    path = str(tmp_path / "policy")
    make_policy().save(path)
    file = storage.join(path, "policy.json")
    storage.write_json(file, {k: v for k, v in storage.read_json(file).items() if k != key})
    with pytest.raises(UserError, match=rf"policy\.json: key '{key}' is missing"):
        Policy.load(path)


def test_weights_of_another_policy_are_refused(tmp_path: Path) -> None:
    make_policy().save(str(tmp_path / "a"))
    make_policy(hidden=(5,)).save(str(tmp_path / "b"))
    (tmp_path / "b" / "actor.safetensors").replace(tmp_path / "a" / "actor.safetensors")
    with pytest.raises(
        UserError, match=r"a/actor\.safetensors: arrays 'layers\.2\.bias', 'layers\.2\.weight' are missing"
    ):
        Policy.load(str(tmp_path / "a"))


@pytest.mark.parametrize("content", [b"no archive at all", b""])
def test_a_broken_actor_is_one_line(tmp_path: Path, content: bytes) -> None:
    make_policy().save(str(tmp_path / "policy"))
    (tmp_path / "policy" / "actor.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"actor\.safetensors: not a file of plain arrays"):
        Policy.load(str(tmp_path / "policy"))


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    make_policy().save(str(tmp_path / "policy"))
    arrays = {f"layers.{i}.{n}": np.array([print], dtype=object) for i in range(3) for n in ("weight", "bias")}
    with open(tmp_path / "policy" / "actor.safetensors", "wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(UserError, match=r"actor\.safetensors: not a file of plain arrays"):
        Policy.load(str(tmp_path / "policy"))


def test_mistakes_of_the_maker_are_one_line() -> None:
    policy = make_policy()
    parts = (STATE, policy.normaliser, policy.items)
    layers = policy.actor.net.layers
    narrow = Mlp.from_layers([(layers[0][0][:, :-1], layers[0][1]), *layers[1:]])
    with pytest.raises(UserError, match=rf"takes {STATE.width - 1} numbers, its states have {STATE.width}"):
        Policy(DeterministicActor(narrow, LOW, HIGH), *parts)
    with pytest.raises(UserError, match="gives 8 numbers, its bounds have 3 and 3"):
        DeterministicActor(Mlp.from_layers(layers[:2]), LOW, HIGH)
    with pytest.raises(UserError, match="neither a critic nor the density of its actor scores items"):
        make_policy(serving=ServingSettings())
    with pytest.raises(UserError, match=rf"states of shape \[2, 5\]; expected \[n, {STATE.width}\]"):
        policy.act(np.zeros((2, 5), np.float32))


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    with pytest.raises(UserError, match="already exists"):
        make_policy().save(str(tmp_path / "policy"))
    assert not list((tmp_path / "policy").iterdir())


def make_critic(seed: int, networks: int = 2) -> Critic:
    rng = np.random.default_rng((seed, 1))
    sizes = [STATE.width + 3, 9, 5, 1]

    def layers() -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            (rng.normal(size=(b, a)).astype(np.float32), rng.normal(size=b).astype(np.float32))
            for a, b in pairwise(sizes)
        ]

    return Critic([QFunction(Mlp.from_layers(layers()), (), 3) for _ in range(networks)])


def read_by_answers(critic: Critic, kinds: int = 2) -> Critic:
    torch.manual_seed(0)
    answers = ExpectedFeedback.random(STATE.width, 3, [6], [[3, 4, 5]], kinds).requires_grad_(False)
    return replace(critic, answers=answers, worth=np.linspace(-1, 1, kinds, dtype=np.float32))


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_effects_of_kinds_weigh_as_much_beside_expected_feedback_as_beside_q(scale: float) -> None:
    """The scale of Q is arbitrary, and effects have it."""
    states, items = make_states(40), np.random.default_rng(2).uniform(-1, 1, (30, 3)).astype(np.float32)
    candidates = np.broadcast_to(items, (40, 30, 3))
    critic = read_by_answers(make_critic(0))
    ratios = []
    for by in (1.0, scale):
        scaled = replace(critic, networks=[one.scaled(by) for one in critic.networks]).with_worth(states, items)
        scores = scaled.by_feedback.scores(states, candidates)
        ratios.append(scores.std(axis=1).mean() / scaled.scores(states, candidates).std(axis=1).mean())
    assert ratios[1] == pytest.approx(ratios[0], rel=1e-3)
    assert 0 < ratios[0] <= 1


def plain_q(critic: Critic, state: np.ndarray, action: np.ndarray) -> float:
    values = []
    for network in critic.networks:
        hidden = np.concatenate([state, action]).astype(np.float64)
        for i, (weight, bias) in enumerate(network.net.layers):
            hidden = weight.astype(np.float64) @ (np.maximum(hidden, 0) if i else hidden) + bias
        values.append(float(hidden[0]))
    return float(np.mean(values))


def test_q_of_a_policy_is_the_critic_s_whatever_answers_explain() -> None:
    critic, states = read_by_answers(make_critic(0)), make_states(5)
    policy = make_policy(critic=critic)
    actions = policy.items.embeddings[:5]
    expected = [plain_q(critic, state, action) for state, action in zip(states, actions, strict=True)]
    np.testing.assert_allclose(policy.q(states, actions), expected, rtol=1e-4)
    with pytest.raises(UserError, match="found no critic"):
        make_policy().q(states, actions)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), candidates=st.integers(1, 40))
def test_a_critic_chooses_the_best_of_the_candidates(seed: int, candidates: int) -> None:
    critic = make_critic(seed, networks=1 + seed % 3)
    proposing, states = make_policy(seed), make_states(5, seed)
    policy = replace(proposing, critic=critic, serving=nearest(candidates))
    everything = proposing.serve(states, 40).items
    near = everything[:, :candidates]
    whole = policy.serve(states, 40).items
    for k in {1, candidates, min(candidates + 1, 40), 33}:  # however many are wanted, the same come first
        np.testing.assert_array_equal(policy.serve(states, k).items, whole[:, :k])
    np.testing.assert_array_equal(whole[:, candidates:], everything[:, candidates:])  # no candidates: by distance
    chosen = whole[:, :candidates]
    for state, action, ids, best_first in zip(states, policy.act(states), near, chosen, strict=True):
        embeddings = policy.items.embeddings[policy.items.rows(ids)]
        scores = np.array([plain_q(critic, state, embedding) for embedding in embeddings])
        assert best_first.tolist() == ids[np.argsort(-scores, kind="stable")].tolist()
        if candidates > 1:
            np.testing.assert_array_equal(action, embeddings[scores.argmax()])


def test_a_critic_travels_with_its_policy(tmp_path: Path) -> None:
    policy, states = make_policy(critic=make_critic(3), serving=nearest(7)), make_states(20)
    policy.save(str(tmp_path / "policy"))
    for again in (Policy.load(str(tmp_path / "policy")), pickle.loads(pickle.dumps(policy))):
        np.testing.assert_array_equal(again.act(states), policy.act(states))
        assert again.serve(states, 7).items.tolist() == policy.serve(states, 7).items.tolist()


def test_what_a_policy_with_a_critic_refuses() -> None:
    policy = make_policy(critic=make_critic(0), serving=nearest(4))
    for k in (0, 41):
        with pytest.raises(UserError, match=rf"found k = {k}; expected 1 to 40, the number of items"):
            policy.serve(make_states(2), k)
    narrow = Critic(
        [
            QFunction(
                Mlp.from_layers(
                    [(weight[:, 1:] if i == 0 else weight, bias) for i, (weight, bias) in enumerate(network.net.layers)]
                ),
                (),
                3,
            )
            for network in policy.critic.networks
        ]
    )
    with pytest.raises(UserError, match=f"critic takes {STATE.width + 2} numbers; expected {STATE.width + 3}"):
        replace(policy, critic=narrow)
    with pytest.raises(UserError, match="expected one or more, equal"):
        Critic([*policy.critic.networks, *narrow.networks])


@pytest.mark.parametrize("rescaled", [False, True])
def test_a_score_is_what_the_expected_answers_are_worth(rescaled: bool) -> None:
    critic, states = read_by_answers(make_critic(3), kinds=5), make_states(30)
    if rescaled:
        critic = critic.rescaled(np.stack([np.full(STATE.width, 0.5), np.full(STATE.width, 0.1)]).astype(np.float32))
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 7, 3)).astype(np.float32)
    expected = critic.expected(states, actions)
    assert expected.shape == (30, 7, 5)
    np.testing.assert_allclose(
        critic.by_feedback.scores(states, actions), expected @ critic.worth, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("same", [False, True])
def test_many_states_and_actions_score_as_each_by_itself(same: bool) -> None:
    """In chunks, for actions of each state and for the same ones in all."""
    critic, states, rng = make_critic(3), make_states(2_400), np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (300, 3)).astype(np.float32)
    actions = np.broadcast_to(actions, (2_400, 300, 3)) if same else actions[rng.integers(0, 300, (2_400, 300))]
    scores = critic.scores(states, actions)
    for row in (0, 71, 72, 2_303, 2_304, 2_399):
        np.testing.assert_allclose(scores[row], critic.scores(states[[row]], actions[[row]])[0], rtol=1e-4, atol=1e-5)
    assert np.ptp(scores[:, 0]) > 0.1


@pytest.mark.parametrize("rescaled", [False, True])
def test_expected_answers_travel_with_their_policy(tmp_path: Path, rescaled: bool) -> None:
    critic = read_by_answers(make_critic(3))
    if rescaled:
        critic = critic.rescaled(np.stack([np.full(STATE.width, 0.5), np.full(STATE.width, 0.1)]).astype(np.float32))
    policy, states = make_policy(critic=critic, serving=ServingSettings(scores="feedback")), make_states(20)
    policy.save(str(tmp_path / "policy"))
    rows = np.arange(20)
    chances = policy.probabilities(states, rows)
    assert not np.allclose(chances, policy.under(scores="q").probabilities(states, rows))
    for again in (Policy.load(str(tmp_path / "policy")), pickle.loads(pickle.dumps(policy))):
        np.testing.assert_array_equal(again.probabilities(states, rows), chances)
        assert again.serve(states, 7, seed=1).items.tolist() == policy.serve(states, 7, seed=1).items.tolist()


def test_scores_by_feedback_need_expected_feedback() -> None:
    with pytest.raises(UserError, match=r"found scores: feedback; expected a critic with expected feedback"):
        make_policy(critic=make_critic(0), serving=ServingSettings(scores="feedback"))


def test_answers_to_other_states_are_refused() -> None:
    answers = ExpectedFeedback.random(STATE.width + 1, 3, [6], (), 2).requires_grad_(False)
    with pytest.raises(UserError, match="expected one or more, equal"):
        replace(make_critic(0), answers=answers)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    """Neither written nor read: such a policy answers, with other items."""
    policy = make_policy()
    policy.save(str(tmp_path / "policy"))
    policy.actor.net.linear[1].weight[3, 2] = value
    with pytest.raises(UserError, match=r"'layers\.1\.weight' has numbers that are not finite \((nan|inf)\)"):
        policy.save(str(tmp_path / "diverged"))
    assert not (tmp_path / "diverged").exists()
    file = tmp_path / "policy" / "actor.safetensors"
    safetensors.save_file({**safetensors.load_file(file), "layers.1.weight": policy.actor.net.layers[1][0]}, file)
    with pytest.raises(UserError, match=r"actor\.safetensors: 'layers\.1\.weight' has numbers that are not finite"):
        Policy.load(str(tmp_path / "policy"))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, by the keys that lead to it; of lists of numbers the first and the last."""
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = [(i, value[i]) for i in sorted({0, len(value) - 1})] if isinstance(value, list) and value else []
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("fuzz") / "policy"
    make_policy(critic=read_by_answers(make_critic(3)), serving=nearest(7)).save(str(folder))
    (folder / "manifest.json").unlink()  # as of an earlier version
    return folder, json.loads((folder / "policy.json").read_text())


def edited(value: dict[str, Any], place: tuple[Any, ...], edit: Any) -> Any:
    """Return `value` with `edit` in this place; `GONE` removes the entry."""
    whole = {"": json.loads(json.dumps(value))}
    *before, last = ("", *place)
    parent = functools.reduce(operator.getitem, before, whole)
    parent[last] = edit
    if edit is GONE:
        del parent[last]
    return whole.get("")


GONE = object()
WRONG = [
    *(
        GONE,
        None,
        True,
        -1,
        0,
        1,
        2,
        10**6,
        10**30,
        0.5,
        -1e39,
        1e-300,
        1e300,
        float("nan"),
        float("inf"),
        "",
        "8",
        "nearest",
    ),
    *([], [[]], [None], [1, 2], ["a"], {}, {"a": 1}, {"layers": [3, 4]}, [[3, 4], [5]]),
]


@pytest.mark.parametrize("name", ["policy.json", "actor.safetensors", "critic.safetensors", "items.parquet"])
def test_a_bundle_is_made_of_regular_files(name: str, tmp_path: Path) -> None:
    """A pipe without a writer would be waited for until somebody writes."""
    make_policy(critic=make_critic(3)).save(str(tmp_path / "policy"))
    file = tmp_path / "policy" / name
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError, match=f"{name}: cannot be read .found a pipe, socket or device; expected a regular"):
        Policy.load(str(tmp_path / "policy"))


def test_items_that_no_file_of_this_size_can_hold_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million rows with the same values take a thousandth of the bytes; ids that differ take a byte each."""
    make_policy().save(str(tmp_path / "policy"))
    table = ItemTable(np.zeros(1, np.int64), np.zeros((1, 3), np.float32)).to_table().take(np.zeros(10**6, np.int64))
    file = tmp_path / "policy" / "items.parquet"
    file.write_bytes(seal_parquet(table))
    monkeypatch.setattr(pq, "read_table", lambda *_, **__: pytest.fail("the rows were read"))
    with pytest.raises(UserError, match=rf"parquet: found 1,000,000 rows in {file.stat().st_size:,} bytes; expected"):
        Policy.load(str(tmp_path / "policy"))


def test_scores_that_are_not_finite_are_not_served() -> None:
    """Each weight is finite, their products are not."""
    critic = make_critic(3)
    for network in critic.networks:
        for parameter in network.parameters():
            parameter.data.fill_(3e38)
    policy = make_policy(critic=critic, serving=ServingSettings(variety=0.0))
    with pytest.raises(UserError, match="policy: found a score that is not finite"):
        policy.serve(np.ones((1, STATE.width), np.float32), 1)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_wrong_policy_json_is_one_line(written: tuple[Path, dict[str, Any]], data: st.DataObject) -> None:
    """Whatever stands anywhere in it: it is a policy that acts, or refused by a line that names the file."""
    folder, value = written
    place = data.draw(st.sampled_from(places(value)))
    edit = data.draw(st.sampled_from(WRONG))
    (folder / "policy.json").write_text(json.dumps(edited(value, place, edit)))
    try:
        policy = Policy.load(str(folder))
        states = policy.tracker(2).states(np.array([1_700_000_000_000] * 2))
        assert np.isfinite(states).all()
        served = policy.serve(states, 3)
        assert served.items.shape == (2, 3)
        assert ((served.propensities > 0) & (served.propensities <= 1)).all()
        line = f"{folder}/read"
    except UserError as error:
        line = str(error)
    assert line.startswith(f"{folder}/")
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("place", "edit", "words"),
    [
        (("serving",), 3, "key 'serving': expected a mapping"),
        (("serving", "rule"), "dot", "key 'serving.rule': expected 'sample' or 'best', found 'dot'"),
        (
            ("serving", "temperature"),
            1e-300,
            "key 'serving.temperature': expected greater than or equal to 0.000001 or",
        ),
        (("serving", "temperature"), 1e300, "key 'serving.temperature': expected less than or equal to 1000000 or"),
        (
            ("serving", "variety"),
            1e300,
            "key 'serving.variety': expected less than or equal to 1000000 or 'auto', found",
        ),
        (("deviation",), 1e-300, "key 'deviation': expected greater than or equal to 0.000001, found 1e-300"),
        (("srving",), "dot", "key 'srving': unknown key; did you mean 'serving'"),
        (("provenance",), ["depth"], "key 'provenance': expected a mapping"),
        (("actor",), None, "key 'actor'"),
        (("actor", "kind"), "rnn", "actor of kind 'rnn'; expected one of "),
        (("actor", "kind"), ["mlp"], "key 'actor.kind': expected a text"),
        (("actor", "low", 0), "x", "key 'actor.low.0': expected a number"),
        (("actor", "low", 0), -1e39, "expected low < high, both in the range of float32"),
        (("actor", "low", 0), 7.0, "expected low < high, both in"),
        (("actor", "high"), None, "key 'actor.high': expected a list"),
        (("actor", "layer_sizes"), [3], "key 'actor.layer_sizes': expected a mapping"),
        (
            ("actor", "layer_sizes"),
            {"layers": [5]},
            "key 'actor.layer_sizes.layers': expected at least 2 entries",
        ),
        (("actor", "layer_sizes"), {"layers": [5, -2]}, "key 'actor.layer_sizes.layers.1': expected greater than 0"),
        (("state",), "state", "key 'state': expected a mapping"),
        (("state", "feedback"), "like", "key 'state.feedback': expected a list"),
        (("state", "feedback"), ["like"], rf"the actor takes {STATE.width} numbers, its states have "),
        (("state", "session_gap_ms"), 0, "key 'state.session_gap_ms': expected greater than or equal to 1"),
        (("state", "action_dim"), "3", "key 'state.action_dim': expected a whole number"),
        (("state", "action_dim"), 10**9, "the actor gives 3 numbers, its states hold 1000000000 of an item"),
        (("state", "feedback_half_lives"), [], "key 'state.feedback_half_lives'"),
        (("state", "item_half_lives", 0), -1, "key 'state.item_half_lives.0'"),
        (("state", "user_features", "country"), "de", "key 'state.user_features.country': expected a list"),
        (("normaliser",), [], "key 'normaliser': expected a mapping"),
        (("normaliser", "mean"), GONE, "key 'normaliser.mean' is missing"),
        (("normaliser", "mean"), [1.0], "key 'normaliser': found mean of shape"),
        (("normaliser", "std", 0), 0.0, "key 'normaliser': a mean or std is not finite in float32, or a std is not"),
        (("normaliser", "std", 0), 1e-300, "key 'normaliser': a mean or std is not finite in float32"),
        (("serving", "count"), True, "key 'serving.count': expected a whole number"),
        (("critic", "layer_sizes"), 5, "key 'critic.layer_sizes': expected a list"),
        (("critic", "answers", "layer_sizes"), [3], "key 'critic.answers.layer_sizes'"),
        (("critic", "answers", "worth"), GONE, "key 'critic.answers.worth' is missing"),
        (
            ("critic", "answers", "worth"),
            [1.0],
            "key 'critic.answers': worth: found 1 numbers; expected 2, one per kind of feedback",
        ),
    ],
)
def test_a_wrong_key_is_named(
    written: tuple[Path, dict[str, Any]], place: tuple[Any, ...], edit: Any, words: str
) -> None:
    folder, value = written
    (folder / "policy.json").write_text(json.dumps(edited(value, place, edit)))
    with pytest.raises(
        UserError,
        match=rf"policy/(policy\.json|actor\.safetensors(: actor of policy\.json)?): .*{words}",
    ):
        Policy.load(str(folder))


@pytest.mark.parametrize("name", ["policy.json", "actor.safetensors", "manifest.json"])
def test_a_changed_file_of_a_bundle_is_refused(tmp_path: Path, name: str) -> None:
    """For example a digit of a mean: the bundle would stay well-formed and serve other items."""
    folder = tmp_path / "policy"
    make_policy().save(str(folder))
    file = folder / name
    content = file.read_bytes()
    places = {"policy.json": content.find(b'"mean": [') + 20, "manifest.json": content.rfind(b"}") - 2}
    place = places.get(name, len(content) - 4)
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(
        UserError, match=rf"{folder}: {name} was changed after it was written; expected .* remove manifest\.json"
    ):
        Policy.load(str(folder))
    (folder / "manifest.json").unlink()
    Policy.load(str(folder))


@pytest.mark.parametrize("provenance", [{}, {"task": "clicks"}, {"task": ["depth"]}])
def test_a_task_that_provenance_does_not_say_is_one_line(provenance: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"^policy: provenance: key 'task': found .*; expected one of depth, frequency"):
        _ = make_policy(provenance=provenance).task
    assert make_policy(provenance={"task": "depth"}).task == "depth"


@pytest.mark.parametrize("name", ["items.parquet", "actor.safetensors"])
def test_a_manifest_without_a_file_of_the_bundle_is_refused(tmp_path: Path, name: str) -> None:
    """Otherwise the file could be replaced without a word."""
    folder = tmp_path / "policy"
    make_policy().save(str(folder))
    kept = (folder / name).read_bytes()
    (folder / name).unlink()
    seal(str(folder))
    (folder / name).write_bytes(kept)
    with pytest.raises(UserError, match=rf"{folder}: manifest\.json does not list {name}; expected the files"):
        Policy.load(str(folder))
