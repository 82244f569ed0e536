"""What all trials of a sweep share: the data, loaded once, and pre-trained rewards, one for each kind asked for.

The driver loads and owns everything before the first trial starts. A trial then starts no task of its own, and never
waits for a processor that other trials hold.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray

from prefrec_ray import storage
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.feed.load import LoadedData, buffer_limit, load_data
from prefrec_ray.algorithms.reward.labels import RewardFunction, label_transitions
from prefrec_ray.algorithms.reward.state import RewardState, pretrain, reward_key
from prefrec_ray.algorithms.settings import TrainSettings, build_config
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.terms import Progress
from prefrec_ray.tuning.settings import ResourceSettings

Key = tuple[Hashable, ...]


@dataclass(frozen=True)
class Shared:
    """References by key, owned by the driver."""

    data: dict[Key, LoadedData] = field(default_factory=dict)
    rewards: dict[Key, ray.ObjectRef] = field(default_factory=dict)
    labels: dict[Key, ray.ObjectRef] = field(default_factory=dict)

    def give(self, config: OfflineConfig) -> OfflineConfig:
        """`config` with its data and, where there are any, its pre-trained reward and the labels that it gives."""
        config.offline_data(loaded_data=self.data[data_key(config)])
        key = reward_key(config)
        if key in self.rewards:
            config.offline_data(pretrained_reward=ray.get(self.rewards[key]))
        labels = self.labels.get(label_key(config) or ())
        if labels is not None:
            config.offline_data(labels=labels)
        return config


def data_key(config: OfflineConfig) -> Key:
    """Equal for configs that read the same."""
    uri = str(config.input_)
    dataset = PreparedDataset.open(uri)
    limit = buffer_limit(config, dataset)
    if not config.uses_preferences:
        return (uri, limit)
    columns = config.reward_columns(dataset.state)
    seen = None if columns is None else tuple(columns)
    return (uri, limit, config.task, config.teacher_names, seen, config.precision)


def label_key(config: OfflineConfig) -> Key | None:
    """Equal for configs whose labels look ahead in the same way; None where none do or the reward is still learning."""
    if not config.looks_ahead:
        return None
    if not config.uses_preferences:
        return (str(config.input_), config.reward_horizon)
    key = reward_key(config)
    return None if key is None or config.finetune_reward else (*key, config.reward_horizon)


def share(
    runs: Sequence[TrainSettings],
    dataset: str,
    rewards_for: Sequence[TrainSettings],
    folder: str,
    resources: ResourceSettings,
    progress: Progress,
) -> Shared:
    """Loads what `runs` read and pre-trains the rewards of `rewards_for`; `folder` keeps these for a resumed sweep."""
    shared = Shared()
    configs = [build_config(run, dataset) for run in runs]
    asked = {data_key(config): config for config in configs}
    transitions: dict[Key, LoadedData] = {}  # by data set and limit
    for number, (key, config) in enumerate(asked.items()):
        progress("load", number, len(asked))
        shared.data[key] = load_data(config, transitions.get(key[:2]))
        transitions.setdefault(key[:2], shared.data[key])
    progress("load", len(asked), len(asked))

    wanted: dict[Key, TrainSettings] = {}
    for run in rewards_for:
        asks = reward_key(build_config(run, dataset))
        if asks is not None:
            wanted.setdefault(asks, run)
    pending: dict[Any, Key] = {}
    for key, run in wanted.items():
        kept = storage.join(folder, _name(key))
        if storage.exists(kept):
            shared.rewards[key] = ray.put(_read(kept))
        else:
            task = _pretrain.options(num_cpus=resources.cpus, num_gpus=resources.gpus, resources=resources.custom)
            alone = run.model_copy(update={"config": {**run.config, "num_learners": 0}})
            pending[task.remote(alone, dataset, shared.data[data_key(build_config(run, dataset))])] = key
    while pending:
        progress("rewards", len(shared.rewards), len(wanted))
        (ready,), _ = ray.wait(list(pending))
        key = pending.pop(ready)
        shared.rewards[key] = ready
        _write(storage.join(folder, _name(key)), ray.get(ready))
    if wanted:
        progress("rewards", len(wanted), len(wanted))
    _label(shared, configs, progress)
    return shared


def _label(shared: Shared, configs: Sequence[OfflineConfig], progress: Progress) -> None:
    """The labels that trials would each make of the same reward, once."""
    wanted = {key: config for config in configs if (key := label_key(config)) is not None}
    for number, (key, config) in enumerate(wanted.items()):
        progress("labels", number, len(wanted))
        dataset = PreparedDataset.open(str(config.input_))
        reward = None
        if config.uses_preferences:
            state = shared.rewards.get(reward_key(config) or ())
            if state is None:  # each trial trains its own
                continue
            reward = RewardFunction.of(config, dataset, ray.get(state))
        shared.labels[key] = label_transitions(dataset, reward, int(config.reward_horizon))
    if wanted:
        progress("labels", len(wanted), len(wanted))


@ray.remote
def _pretrain(run: TrainSettings, dataset: str, data: LoadedData) -> RewardState:
    return pretrain(build_config(run, dataset).offline_data(loaded_data=data))


def _name(key: Key) -> str:
    _, task, seed, *_ = key
    return f"{task}_{seed}_{zlib.crc32(repr(key).encode()):08x}"


def _write(folder: str, state: RewardState) -> None:
    arrays: dict[str, Any] = {f"weights/{name}": value for name, value in state.weights.items()}
    arrays |= {f"moments/{i}/{name}": value for i, kinds in state.moments.items() for name, value in kinds.items()}
    with storage.staged(folder, "reward.npz") as partial:
        system, path = storage.filesystem(storage.join(partial, "reward.npz"))
        with system.open_output_stream(path) as stream:
            content = io.BytesIO()
            np.savez(content, **arrays)
            stream.write(content.getvalue())


def _read(folder: str) -> RewardState:
    system, path = storage.filesystem(storage.join(folder, "reward.npz"))
    state = RewardState({}, {})
    with system.open_input_file(path) as stream, np.load(io.BytesIO(stream.read()), allow_pickle=False) as arrays:
        for name in arrays.files:
            kind, *parts = name.split("/")
            if kind == "weights":
                state.weights[parts[0]] = arrays[name]
            else:
                state.moments.setdefault(int(parts[0]), {})[parts[1]] = arrays[name]
    return state
