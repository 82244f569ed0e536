"""Inputs of each training stage, as frozen, hashable specifications. Stages with equal inputs run once."""

from __future__ import annotations

from dataclasses import dataclass

from prefrec_ray.algorithms.settings import TrainingSettings
from prefrec_ray.dataset import PreparedDataset

#: Columns of the next state that a reward model sees; None: it sees state and action.
Columns = tuple[int, ...] | None
#: Settings on which `DataRequest` depends, in addition to the settings of the reward.
OF_DATA = ("reward_source", "replay_buffer_size", "transitions")


@dataclass(frozen=True)
class PreferenceRequest:
    """Pairs of `teachers`, pooled, with the columns of their segments that the reward model sees."""

    task: str
    teachers: tuple[str, ...]
    columns: Columns
    precision: str


@dataclass(frozen=True)
class DataRequest:
    """Data that a run reads from a data set."""

    dataset: str
    transitions: str  # "auto", "materialised" or "streaming"
    limit: int | None  # number of transitions; None: all
    preferences: PreferenceRequest | None

    @classmethod
    def from_settings(cls, settings: TrainingSettings, dataset: PreparedDataset) -> DataRequest:
        """Return the data inputs of a run."""
        preferences = None
        if settings.uses_preferences:
            columns = reward_columns(settings, dataset)
            preferences = PreferenceRequest(settings.task, settings.teacher_names, columns, settings.precision)
        limit, counts = settings.replay_buffer_size, dataset.metadata.counts.get("train")
        if limit is not None and counts and limit >= counts["transitions"]:
            limit = None
        return cls(dataset.uri, settings.transitions, limit, preferences)


@dataclass(frozen=True)
class RewardRequest:
    """All that the weights of a pre-trained reward depend on."""

    dataset: str
    preferences: PreferenceRequest
    seed: int
    hidden_sizes: tuple[int, ...]
    lr: float
    batch_size: int  # pairs
    epochs: float
    most: int | None = None  # updates
    members: int = 1

    @classmethod
    def from_settings(cls, settings: TrainingSettings, dataset: PreparedDataset) -> RewardRequest | None:
        """Return the inputs of pre-training in a run; None if it pre-trains no reward."""
        preferences = DataRequest.from_settings(settings, dataset).preferences
        if preferences is None or not settings.pretrain_epochs > 0:
            return None
        return cls(
            dataset.uri,
            preferences,
            settings.seed,
            settings.hidden_sizes,
            settings.reward_lr,
            settings.preference_batch_size,
            settings.pretrain_epochs,
            settings.pretrain_updates,
            settings.reward_members,
        )


@dataclass(frozen=True)
class LabelRequest:
    """Reward labels that look `horizon` impressions ahead; `reward` None: from the data set's reward column."""

    dataset: str
    horizon: int
    reward: RewardRequest | None

    @classmethod
    def from_settings(cls, settings: TrainingSettings, dataset: PreparedDataset) -> LabelRequest | None:
        """Return the inputs of labeling; None if labels do not look ahead, or the reward model is fine-tuned."""
        if not settings.looks_ahead:
            return None
        if not settings.uses_preferences:
            return cls(dataset.uri, settings.reward_horizon, None)
        reward = RewardRequest.from_settings(settings, dataset)
        if reward is None or settings.finetune_reward:
            return None
        return cls(dataset.uri, settings.reward_horizon, reward)


def reward_columns(settings: TrainingSettings, dataset: PreparedDataset) -> Columns:
    """Return the columns of the next state that the reward model sees; None if it sees state and action."""
    if settings.reward_input == "state_action":
        return None
    state = dataset.state
    left_out = {i for group in settings.reward_leave_out for i in range(*state.groups[group].indices(state.width))}
    return tuple(i for i in range(state.width) if i not in left_out)


def embedding_columns(dataset: PreparedDataset) -> tuple[tuple[int, int], list[list[float]], list[list[float]]]:
    """Return the range of the state's columns that are means of embeddings, and their mean and deviation [P, A].

    They are the adjacent groups `items` and `tastes`. The range is first and last + 1.
    """
    state, scale = dataset.state, dataset.normaliser
    first, last = state.groups["items"].start, state.groups["tastes"].stop
    mean, std = (part[first:last].reshape(-1, state.action_dim) for part in (scale.mean, scale.std))
    return (first, last), mean.tolist(), std.tolist()
