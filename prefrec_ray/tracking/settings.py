"""The section `tracking` of a YAML, and the record of a tracked run.

By RUN/tracking.json a resumed run continues at its trackers, and files that are made later, such as an evaluation,
belong to it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.errors import UserError, need
from prefrec_ray.settings import Settings, parse

RECORD = "tracking.json"


class TrackingSettings(Settings):
    """Trackers of the runs of `train`, `tune` and `nightly`. Credentials are environment variables of the trackers."""

    mlflow: str | None = Field(default=None, description="tracking URI of MLflow, as `http://host:5000`")
    wandb: str | None = Field(default=None, description="project of Weights & Biases: PROJECT or ENTITY/PROJECT")
    experiment: str | None = Field(
        default=None,
        description="experiment of MLflow, group of Weights & Biases; null: the name of the sweep or loop, `prefrec` "
        "for a single run",
    )
    model: str | None = Field(
        default=None,
        description="registered model of MLflow, with the aliases `champion` and `canary` of a loop; null: none",
    )


#: Nothing is tracked.
NO_TRACKING = TrackingSettings()


def checked(settings: TrackingSettings, where: str) -> TrackingSettings:
    """Return `settings`. Raises `UserError`, prefixed by `where`, for a URI with a password and a missing package."""
    if settings.mlflow is not None:
        try:
            place = urlsplit(settings.mlflow).netloc
        except ValueError as error:
            raise UserError(f"{where}: key 'mlflow': found an invalid URI; expected http://HOST:PORT") from error
        if "@" in place:  # not shown, because it may be a secret
            raise UserError(
                f"{where}: key 'mlflow': found a URI with a user name or password; expected them in the environment "
                "variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        need("mlflow", "mlflow", where=where)
    elif settings.model is not None:
        raise UserError(f"{where}: key 'mlflow' is missing; expected the tracking URI of the registered 'model'")
    if settings.wandb is not None:
        need("wandb", "wandb", where=where)
    return settings


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

    def with_settings(self, settings: TrackingSettings) -> RunRecord:
        """Return the record with other settings. At another server or experiment of MLflow it is a new run."""
        same = (settings.mlflow, settings.experiment) == (self.settings.mlflow, self.settings.experiment)
        return self.model_copy(update={"settings": settings, "mlflow_id": self.mlflow_id if same else None})


def read_record(run: str) -> RunRecord | None:
    """Return the record of a tracked run, None for other folders."""
    file = storage.join(run, RECORD)
    return parse(RunRecord, storage.read_json(file), file) if storage.exists(file) else None


def write_record(record: RunRecord, run: str) -> None:
    storage.write_json(storage.make_room(storage.join(run, RECORD)), record.model_dump(mode="json"))
