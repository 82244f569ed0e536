"""Costs of the stages on one machine: the file that `prefrec plan --calibrate` writes."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveInt

from prefrec_ray.settings import Settings

#: Name of the tasks that read the log. Ray Data names them after several functions.
READ = "read"
#: Functions of the tasks of `prepare` with one task per bucket of users.
BUCKET_TASKS = (READ, "_write", "_bucket_scores", "_bucket_items", "_bucket_gram", "_state_moments", "_write_requests")
#: Functions with one task per data set.
SINGLE_TASKS = ("_embeddings", "feedback_network_of", "repeats_of")
#: Function with one task per shard of transitions.
SHARD_TASK = "write_shard"


class Cost(Settings):
    """Processor seconds of a task and private memory of its process in bytes, each at the start and per impression."""

    start: NonNegativeFloat
    row: NonNegativeFloat
    memory: NonNegativeFloat
    row_memory: NonNegativeFloat


class Costs(Settings):
    """Costs for states of `width` numbers and users with `requests` impressions on average.

    tasks: by the name of the task's function. evaluate: processor seconds per model of users, without the pass over the
    split. dispatch: seconds of the driver per task. pair, update, label: processor seconds per pair of pre-training,
    per transition and per look-ahead label. driver, learner: bytes of memory. stored: bytes per impression, by folder
    of the data set, of the log, and of the narrow rows of `prepare`.
    """

    cores: PositiveInt
    width: PositiveInt
    requests: NonNegativeFloat
    tasks: dict[str, Cost]
    evaluate: NonNegativeFloat
    dispatch: NonNegativeFloat
    pair: NonNegativeFloat
    update: NonNegativeFloat
    label: NonNegativeFloat
    driver: NonNegativeFloat
    learner: NonNegativeFloat
    stored: dict[str, NonNegativeFloat]
