"""The record of a tracked run, RUN/tracking.json.

By it a resumed run continues at its trackers, and files that are made later, such as an evaluation, belong to it.
"""

from __future__ import annotations

from prefrec_ray import storage
from prefrec_ray.settings import Settings, parse
from prefrec_ray.tracking.settings import TrackingSettings

FILE = "tracking.json"


class RunRecord(Settings):
    """The file tracking.json: settings, and the ids of the run at the trackers (`mlflow` after the first contact)."""

    settings: TrackingSettings
    group: str
    name: str
    wandb_id: str
    mlflow_id: str | None = None

    @property
    def experiment(self) -> str:
        """Return the experiment of MLflow and group of Weights & Biases."""
        return self.settings.experiment or self.group


def read_record(run: str) -> RunRecord | None:
    """Return the record of a tracked run, None for other folders."""
    file = storage.join(run, FILE)
    return parse(RunRecord, storage.read_json(file), file) if storage.exists(file) else None


def write_record(record: RunRecord, run: str) -> None:
    """Write the record of a run."""
    storage.write_json(storage.make_room(storage.join(run, FILE)), record.model_dump(mode="json"))
