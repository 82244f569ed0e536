"""A run at MLflow or at Weights & Biases."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pyarrow import fs

from prefrec_ray import storage
from prefrec_ray.tracking.settings import RunRecord, TrackingSettings, read_record, write_record

#: A server that is away must not delay training: MLflow would repeat each request for minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
#: Characters of the value of a parameter, and parameters in one request, that every version of the server accepts.
_LONGEST, _AT_ONCE = 500, 100


def connect(settings: TrackingSettings) -> Any:
    """Return a client of MLflow that gives up at once if the server does not answer."""
    for variable, value in _PATIENCE.items():
        os.environ.setdefault(variable, value)
    from mlflow import MlflowClient

    return MlflowClient(settings.mlflow)


class MlflowRun:
    """The run of `record`, whose folder is `run`. The id at MLflow is in RUN/tracking.json after the first contact."""

    name = "MLflow"

    def __init__(self, record: RunRecord, run: str) -> None:
        self._client: Any = None
        self._record, self._run = record, run
        self._id, self._last = "", 0

    def begin(self, params: Mapping[str, Any]) -> None:
        """Start the run with these parameters, or continue it after its last iteration."""
        self._client = connect(self._record.settings)
        from mlflow.entities import Param

        known = (read_record(self._run) or self._record).mlflow_id
        if known is None:
            known = self._client.create_run(self._experiment(), run_name=self._record.name).info.run_id
            write_record(self._record.model_copy(update={"mlflow_id": known}), self._run)
        self._client.update_run(known, "RUNNING")
        there = self._client.get_run(known).data
        self._id, self._last = known, int(there.metrics.get("training_iteration", 0))
        own = {_allowed(key): str(value)[:_LONGEST] for key, value in params.items()}
        missing = [Param(key, value) for key, value in own.items() if key not in there.params]
        for start in range(0, len(missing), _AT_ONCE):
            self._client.log_batch(known, params=missing[start : start + _AT_ONCE])

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._record.experiment)
        return self._client.create_experiment(self._record.experiment) if found is None else found.experiment_id

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an iteration in one request."""
        from mlflow.entities import Metric

        if step > self._last:
            now = int(1000 * time.time())
            batch = [Metric(_allowed(name), value, now, step) for name, value in metrics.items()]
            self._client.log_batch(self._id, metrics=batch)

    def attach(self, path: str) -> None:
        """Upload a file, or a policy bundle as a model."""
        if not Path(path).is_dir():
            self._client.log_artifact(self._id, path)
            return
        from prefrec_ray.tracking.model import save_model

        with tempfile.TemporaryDirectory() as temporary:
            save_model(path, f"{temporary}/model")
            self._client.log_artifacts(self._id, f"{temporary}/model", Path(path).name)

    def end(self, failed: bool) -> None:
        """Set the status of the run."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


class WandbRun:
    """The run of `record`, whose folder is `run`.

    If the server does not answer at the start, the run is offline: `wandb sync RUN/wandb/offline-*` uploads it.
    """

    name = "Weights & Biases"

    def __init__(self, record: RunRecord, run: str) -> None:
        system, path = storage.filesystem(run)
        self._folder = path if isinstance(system, fs.LocalFileSystem) else None
        self._record = record
        self._wandb: Any = None
        self._mode: Literal["offline"] | None = None

    def begin(self, params: Mapping[str, Any]) -> None:
        """Start the run with these parameters, or continue it."""
        import wandb

        entity, _, project = (self._record.settings.wandb or "").rpartition("/")
        try:
            self._wandb = self._wandb or wandb.init(
                entity=entity or None,
                project=project,
                id=self._record.wandb_id,
                name=self._record.name,
                group=self._record.experiment,
                config=dict(params) or None,
                dir=self._folder,
                mode=self._mode,
                resume="allow",
                reinit="create_new",
                settings=wandb.Settings(console="off", silent=True, init_timeout=15),
            )
        except Exception:
            self._mode = "offline"
            raise

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._wandb.log(dict(metrics), step=step)

    def attach(self, path: str) -> None:
        """Upload a file, or a policy bundle as a model."""
        import wandb

        is_bundle = Path(path).is_dir()
        artifact = wandb.Artifact(f"{Path(path).stem}-{self._record.wandb_id}", "model" if is_bundle else "file")
        (artifact.add_dir if is_bundle else artifact.add_file)(path)
        self._wandb.log_artifact(artifact)

    def end(self, failed: bool) -> None:
        """Finish the run."""
        self._wandb.finish(exit_code=int(failed))
        self._wandb = None


#: The run at one tracker. Each method may be called again after it failed.
Backend = MlflowRun | WandbRun


def _allowed(name: str) -> str:
    """Return a name of a parameter or metric with only the characters that MLflow allows."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
