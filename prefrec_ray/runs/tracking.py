"""The section `tracking` of a YAML, and Ray's callbacks that report runs and trials to MLflow and Weights & Biases."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs
from pydantic import Field

from prefrec_ray import storage
from prefrec_ray.errors import UserError, need
from prefrec_ray.settings import Settings

#: Seconds after a failed call in which a tracker is not called, and the most to wait for uploads at the end.
PAUSE = 60
#: A server that does not respond must not delay training: MLflow would repeat each request for minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


class TrackingSettings(Settings):
    """Trackers of the runs of `train`, `tune` and `nightly`. Credentials are environment variables of the trackers."""

    mlflow: str | None = Field(default=None, description="tracking URI of MLflow, as `http://host:5000`")
    wandb: str | None = Field(default=None, description="project of Weights & Biases: PROJECT or ENTITY/PROJECT")
    experiment: str | None = Field(
        default=None,
        description="experiment of MLflow, group of Weights & Biases; null: the name of the sweep or loop, `prefrec` "
        "for a single run",
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
    if settings.wandb is not None:
        need("wandb", "wandb", where=where)
    return settings


def limit_requests() -> None:
    """Let requests to MLflow fail at once if its server does not respond."""
    for variable, value in _PATIENCE.items():
        os.environ.setdefault(variable, value)


@dataclass(eq=False)
class TrackedRun:
    """A single run, with the attributes of a Tune trial that Ray's callbacks read."""

    name: str
    config: Mapping[str, Any]
    experiment_dir_name: str
    trial_id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    local_path: str = field(default_factory=tempfile.gettempdir)

    def __str__(self) -> str:
        return self.name


class Tracking:
    """Trackers of a run, or of a sweep in the folder `output`. `say` gets one line if a tracker fails.

    `group` is the experiment unless the settings name one. As a context, runs that have not ended end with it, failed
    after an exception.
    """

    def __init__(
        self,
        settings: TrackingSettings = NO_TRACKING,
        output: str = "",
        group: str = "prefrec",
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._trackers: list[_Tracker] = []
        self._running: list[Any] = []
        self.group = group = settings.experiment or group
        if settings.mlflow is not None:
            self._trackers.append(_Tracker("MLflow", lambda: _mlflow(settings.mlflow, group), say))
        if settings.wandb is not None:
            self._trackers.append(_Tracker("Weights & Biases", lambda: _wandb(settings.wandb, group, output), say))

    def start(self, trial: Any) -> None:
        """Start a `TrackedRun` or a trial of Tune with its settings, or continue it."""
        if trial not in self._running:
            self._running.append(trial)
        for tracker in self._trackers:
            tracker.call(trial)

    def log(self, trial: Any, row: Mapping[str, Any]) -> None:
        """Log a row of progress.csv. Texts and None are ignored."""
        row = {name: value for name, value in row.items() if value is not None}
        for tracker in self._trackers:
            tracker.call(trial, "log_trial_result", row["training_iteration"], trial, row)

    def end(self, trial: Any, failed: bool = False) -> None:
        """End a run."""
        if trial in self._running:
            self._running.remove(trial)
            for tracker in self._trackers:
                tracker.call(trial, "log_trial_end", trial, failed)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for trial in list(self._running):
            self.end(trial, failed=kind is not None)
        for tracker in self._trackers:
            tracker.close()


class _Tracker:
    """A callback of Ray. After an error it is not called for `PAUSE` seconds: an error must not stop training."""

    def __init__(self, name: str, create: Callable[[], Any], say: Callable[[str], None]) -> None:
        self._name, self._create, self._say = name, create, say
        self._callback: Any = None
        self._started: set[Any] = set()
        self._again, self._warned = 0.0, False

    def call(self, trial: Any, hook: str = "", *arguments: Any) -> None:
        """Call the `hook`, after the set-up of the callback and the start of the trial if these are missing."""
        if time.monotonic() < self._again:
            return
        try:
            if self._callback is None:
                callback = self._create()
                callback.setup()
                self._callback = callback
            if trial not in self._started:
                self._callback.log_trial_start(trial)
                self._started.add(trial)
            if hook:
                getattr(self._callback, hook)(*arguments)
        except Exception as error:  # of any kind: training is worth more than its curves
            self._again = time.monotonic() + PAUSE
            if not self._warned:
                reason = str(error).strip().partition("\n")[0][:200]
                self._say(f"tracking: {self._name} fails ({type(error).__name__}: {reason}); training continues")
            self._warned = True

    def close(self) -> None:
        """Wait for uploads."""
        if self._callback is not None:
            self._callback.on_experiment_end(trials=[])


def _mlflow(uri: str | None, group: str) -> Any:
    limit_requests()
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    return MLflowLoggerCallback(uri, experiment_name=group)


def _wandb(path: str | None, group: str, output: str) -> Any:
    from ray.air.integrations.wandb import WandbLoggerCallback

    entity, _, project = (path or "").rpartition("/")
    system, folder = storage.filesystem(output)
    return WandbLoggerCallback(
        project,
        group,
        upload_timeout=PAUSE,
        entity=entity or None,
        dir=folder if isinstance(system, fs.LocalFileSystem) else None,
        mode=os.environ.get("WANDB_MODE"),  # the process of Ray that reports may have another environment
        resume="allow",  # a resumed sweep has the same trials
    )
