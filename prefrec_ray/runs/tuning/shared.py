"""Shared inputs of the trials of a sweep: data, pre-trained rewards and reward labels, each computed once.

The driver computes and owns all of them before the first trial starts. A trial therefore starts no tasks, and never
waits for a CPU of another trial.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from prefrec_ray import storage
from prefrec_ray.algorithms.base.config import OfflineConfig
from prefrec_ray.algorithms.feed.load import LoadedData, load_data
from prefrec_ray.algorithms.feed.shards import RewardLabels
from prefrec_ray.algorithms.requests import DataRequest, LabelRequest, RewardRequest
from prefrec_ray.algorithms.reward.labels import RewardFunction, label_transitions
from prefrec_ray.algorithms.reward.model import RewardState, pretrain
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.tuning.settings import ResourceSettings
from prefrec_ray.runtime.progress import Progress
from prefrec_ray.runtime.tasks import run_tasks


@dataclass(frozen=True)
class Shared:
    """References by specification, owned by the driver."""

    data: dict[DataRequest, LoadedData] = field(default_factory=dict)
    rewards: dict[RewardRequest, ray.ObjectRef] = field(default_factory=dict)
    labels: dict[LabelRequest, RewardLabels] = field(default_factory=dict)

    def give(self, config: OfflineConfig) -> OfflineConfig:
        """Return `config` with its data and, if available, its pre-trained reward and reward labels."""
        reward, labels = config.reward_request, LabelRequest.from_settings(config.settings, config.dataset)
        config.offline_data(loaded_data=self.data[config.data_request])
        if reward in self.rewards:
            config.offline_data(pretrained_reward=ray.get(self.rewards[reward]))
        if labels in self.labels:
            config.offline_data(labels=self.labels[labels])
        return config


def share(
    runs: Sequence[TrainSettings],
    dataset: str,
    rewards_for: Sequence[TrainSettings],
    folder: str,
    resources: ResourceSettings,
    progress: Progress,
) -> Shared:
    """Load the data of `runs` and pre-train the rewards of `rewards_for`, saved in `folder` for a resumed sweep."""
    shared, opened = Shared(), PreparedDataset.open(dataset)
    requests = list(dict.fromkeys(DataRequest.from_settings(run.training(), opened) for run in runs))
    transitions: dict[DataRequest, LoadedData] = {}
    for number, request in enumerate(requests):
        progress("load transitions: data sets", number, len(requests))
        transitions_only = replace(request, preferences=None)
        shared.data[request] = load_data(request, transitions.get(transitions_only))
        transitions.setdefault(transitions_only, shared.data[request])
    progress("load transitions: data sets", len(requests), len(requests))
    _pretrain_all(shared, rewards_for, opened, folder, resources, progress)
    _label_all(shared, runs, opened, progress)
    return shared


def _pretrain_all(
    shared: Shared,
    runs: Sequence[TrainSettings],
    dataset: PreparedDataset,
    folder: str,
    resources: ResourceSettings,
    progress: Progress,
) -> None:
    data_of: dict[RewardRequest, DataRequest] = {}
    for run in runs:
        settings = run.training()
        request = RewardRequest.from_settings(settings, dataset)
        if request is not None:
            data_of.setdefault(request, DataRequest.from_settings(settings, dataset))
    saved = {request: storage.join(folder, _name(request)) for request in data_of}
    missing = [request for request, place in saved.items() if not storage.exists(place)]
    options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "resources": resources.custom}
    device = "cuda" if resources.gpus else "cpu"

    def submit(request: RewardRequest) -> ray.ObjectRef:
        data = shared.data[data_of[request]]
        return _pretrain.options(**options).remote(saved[request], request, data, device)

    run_tasks(submit, missing, "pre-train rewards: rewards", progress, (len(saved) - len(missing), len(saved)))
    shared.rewards.update({request: ray.put(_read(place)) for request, place in saved.items()})


def _label_all(shared: Shared, runs: Sequence[TrainSettings], dataset: PreparedDataset, progress: Progress) -> None:
    """Compute once the labels of rewards that several trials share."""
    unique = dict.fromkeys(LabelRequest.from_settings(run.training(), dataset) for run in runs)
    requests = [request for request in unique if request is not None]
    for number, request in enumerate(requests):
        progress("label transitions: rewards", number, len(requests))
        reward = None
        if request.reward is not None:
            if request.reward not in shared.rewards:  # each trial trains its own reward
                continue
            reward = RewardFunction.from_state(request.reward, ray.get(shared.rewards[request.reward]))
        shared.labels[request] = label_transitions(dataset, reward, request.horizon)
    if requests:
        progress("label transitions: rewards", len(requests), len(requests))


@ray.remote
def _pretrain(folder: str, request: RewardRequest, data: LoadedData, device: str) -> None:
    _write(folder, pretrain(request, data, device))


def _name(request: RewardRequest) -> str:
    return f"{request.preferences.task}_{request.seed}_{zlib.crc32(repr(request).encode()):08x}"


def _write(folder: str, state: RewardState) -> None:
    arrays: dict[str, Any] = {f"weights/{name}": value for name, value in state.weights.items()}
    arrays |= {f"moments/{i}/{name}": value for i, kinds in state.moments.items() for name, value in kinds.items()}
    with storage.staged(folder, "reward.npz") as partial:
        storage.write_arrays(storage.join(partial, "reward.npz"), arrays)


def _read(folder: str) -> RewardState:
    state = RewardState({}, {})
    for name, array in storage.read_arrays(storage.join(folder, "reward.npz")).items():
        kind, *parts = name.split("/")
        if kind == "weights":
            state.weights[parts[0]] = array
        else:
            state.moments.setdefault(int(parts[0]), {})[parts[1]] = array
    return state
