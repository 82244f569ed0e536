"""Training on people's labels, on teachers that err, and on a mix."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import ray
import torch
from people_answers import LENGTH, quiet, write_answers

from prefrec_ray.algorithms import IL, PrefRecConfig
from prefrec_ray.algorithms.base.algorithm import on_first_learner
from prefrec_ray.algorithms.base.policy import reward_of
from prefrec_ray.algorithms.feed.load import load_data
from prefrec_ray.algorithms.requests import reward_columns
from prefrec_ray.annotation.labels import import_labels
from prefrec_ray.annotation.questions import read_pairs, write_pairs
from prefrec_ray.dataset import PreparedDataset, tensor
from prefrec_ray.errors import UserError
from prefrec_ray.runs.export import load_reward


def config(dataset: PreparedDataset, *teachers: str, **settings: Any) -> PrefRecConfig:
    small = {
        "task": "frequency",
        "hidden_sizes": (8,),
        "preference_batch_size": 16,
        "pretrain_epochs": 2,
        "num_epochs": 1,
    }
    small |= {"train_batch_size_per_learner": 64, "teachers": teachers}
    return PrefRecConfig().offline_data(input_=dataset.uri).debugging(seed=0).training(**{**small, **settings})


@pytest.fixture(scope="module")
def crowd(question_folder: Path, dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("answers") / "a.jsonl"
    write_answers(question_folder, file)
    import_labels(str(file), str(question_folder), dataset.uri, "crowd", "mean", False)
    return "crowd"


def test_scripted_teachers_label_the_same_pairs(dataset: PreparedDataset) -> None:
    pairs = dataset.read(dataset.path("preferences", "frequency", "train.parquet")).to_pandas()
    mean, total = (group.reset_index(drop=True) for _, group in pairs.groupby("teacher", sort=False))
    assert [mean.teacher[0], total.teacher[0]] == dataset.metadata.teachers == ["within_user_mean", "within_user_sum"]
    segments = ["user_0", "start_0", "user_1", "start_1"]
    assert total[segments].equals(mean[segments])
    assert not np.allclose(total.score_0, mean.score_0)
    held_out = dataset.read(dataset.path("preferences", "frequency", "validation.parquet")).to_pandas()
    scripted = {f"{pairing}_{scoring}" for pairing in ("any_users", "within_user") for scoring in ("mean", "sum")}
    assert set(held_out.teacher) == scripted
    difference = held_out.score_1 - held_out.score_0
    assert (held_out.label == np.where(difference.abs() < 1e-9, 0.5, difference > 0)).all()


def test_a_mix_pools_pairs_and_keeps_who_said_what(dataset: PreparedDataset, crowd: str) -> None:
    loaded = load_data(config(dataset, "within_user_sum", crowd).data_request)
    learned, held_out = ray.get(loaded.preferences), ray.get(loaded.held_out)
    people = dataset.read(dataset.people_path(crowd, "train"))
    script = dataset.read(dataset.path("preferences", "frequency", "train.parquet"))
    script = script.filter(pc.equal(script["teacher"], "within_user_sum"))
    assert learned.teacher.tolist() == ["within_user_sum"] * len(script) + [crowd] * len(people)
    np.testing.assert_array_equal(learned.label, np.concatenate([t["label"].to_numpy() for t in (script, people)]))
    assert set(learned.label) - {0.0, 0.5, 1.0}  # soft labels stay soft
    assert set(held_out.teacher) == {"any_users_sum", "within_user_sum", crowd}
    # The rows of a pair are the rows of its segments.
    columns = reward_columns(config(dataset).settings, dataset)
    row = people.slice(0, 1).to_pylist()[0]
    for side in (0, 1):
        for file in dataset.files("requests", "train"):
            table = dataset.read(file)
            mine = np.flatnonzero(table["user_id"].to_numpy(zero_copy_only=False) == row[f"user_{side}"])
            if len(mine):
                first = mine[0] + row[f"start_{side}"] + 1  # a reward of the next state
                expected = tensor(table["state"])[first : first + LENGTH, columns]
        place = learned.first[len(script), side]
        np.testing.assert_array_equal(learned.inputs[place : place + LENGTH], expected)


def test_people_alone_are_measured_on_their_own_held_out_pairs(dataset: PreparedDataset, crowd: str) -> None:
    held_out = ray.get(load_data(config(dataset, crowd).data_request).held_out)
    assert set(held_out.teacher) == {crowd}
    assert len(held_out) == len(dataset.read(dataset.people_path(crowd, "validation")))


def test_people_who_judged_no_held_out_pair(question_folder: Path, dataset: PreparedDataset, tmp_path: Path) -> None:
    train = read_pairs(str(question_folder)).to_pylist()[:20]
    rows = [{"pair_id": pair["pair_id"], "annotator": "anna", "label": "second"} for pair in train]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_labels(str(tmp_path / "a.jsonl"), str(question_folder), dataset.uri, "anna", "mean", False)
    loaded = load_data(config(dataset, "anna").data_request)
    assert loaded.held_out is None
    assert loaded.pairs == 20


def test_rewards_are_shared_by_those_who_learn_from_the_same_teachers(dataset: PreparedDataset) -> None:
    one, same, scripted, both = (
        config(dataset, *teachers, **settings)
        for teachers, settings in (
            (("within_user_sum",), {}),
            (("within_user_sum",), {"gamma": 0.5}),
            ((), {}),
            (("within_user_sum", "within_user_mean"), {}),
        )
    )
    assert (one.reward_request, one.data_request) == (same.reward_request, same.data_request)
    for other in (scripted, both):
        assert one.reward_request != other.reward_request
        assert one.data_request != other.data_request


def test_an_unknown_teacher(dataset: PreparedDataset) -> None:
    with pytest.raises(
        UserError, match=r"teachers: unknown teacher 'within_user_som'; did you mean 'within_user_sum'\?"
    ):
        config(dataset, "within_user_som").build_algo()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairing": "any_users"}, "pairing and scoring: unknown teacher 'any_users_mean'"),
        ({"reward_source": "column"}, "reward_source: found 'column'; expected a reward column"),
        ({"lr": 0.5}, "lr: found 0.5; expected actor_lr and critic_lr"),
    ],
)
def test_settings_that_the_data_set_or_training_does_not_have(
    dataset: PreparedDataset, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        config(dataset, **settings).validate()


def test_settings_of_the_reward_have_no_effect_on_cloning(dataset: PreparedDataset) -> None:
    cloning = (
        IL.get_default_config().offline_data(input_=dataset.uri).training(reward_source="column", hidden_sizes=(8,))
    )
    algorithm = cloning.training(train_batch_size_per_learner=64).build_algo()
    try:
        assert algorithm.train()["phase"] == "train"
    finally:
        algorithm.stop()


def test_segments_of_other_lengths_do_not_mix(dataset: PreparedDataset, tmp_path: Path) -> None:
    write_pairs(dataset, str(tmp_path / "short"), 10, 0.0, "within_user", 3, 0, quiet)
    write_answers(tmp_path / "short", tmp_path / "a.jsonl")
    import_labels(str(tmp_path / "a.jsonl"), str(tmp_path / "short"), dataset.uri, "short", "mean", False)
    assert load_data(config(dataset, "short").data_request).pairs == 9
    with pytest.raises(
        UserError, match=r"found pairs of 3 and 5 impressions \(within_user_sum and short\); expected one length"
    ):
        load_data(config(dataset, "within_user_sum", "short").data_request)


def test_a_trained_reward_is_read_from_its_checkpoint(dataset: PreparedDataset, crowd: str, tmp_path: Path) -> None:
    algorithm = config(dataset, "within_user_mean", crowd).build_algo()
    try:
        accuracy = algorithm.train()["reward"]["accuracy_by"]
        algorithm.save_to_path(str(tmp_path / "checkpoint"))
        weights = on_first_learner(algorithm.learner_group, lambda learner: reward_of(learner.net)).weights
    finally:
        algorithm.stop()
    assert sorted(accuracy) == ["any_users_mean", crowd, "within_user_mean"]
    assert all(0 <= share <= 1 for share in accuracy.values())
    reward = load_reward(str(tmp_path / "checkpoint"))
    assert reward.columns == tuple(reward_columns(config(dataset).settings, dataset))
    for name, value in reward.net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), weights[name])
    transitions = dataset.arrays("transitions")
    seen = torch.from_numpy(transitions["next_obs"][:, list(reward.columns)])
    np.testing.assert_array_equal(reward(transitions), reward.net(seen).detach().numpy())


def test_a_reward_that_was_not_learned_here_is_refused(dataset: PreparedDataset, tmp_path: Path) -> None:
    made = IL.get_default_config().training(train_batch_size_per_learner=64)
    algorithm = made.offline_data(input_=dataset.uri).build_algo()
    try:
        algorithm.save_to_path(str(tmp_path / "IL"))
    finally:
        algorithm.stop()
    with pytest.raises(UserError, match="IL: no learned reward; expected a run with a reward from preferences"):
        load_reward(str(tmp_path / "IL"))
