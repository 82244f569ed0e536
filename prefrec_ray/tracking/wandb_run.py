"""A run at Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pyarrow import fs

from prefrec_ray import storage
from prefrec_ray.tracking.record import RunRecord


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
        """Log the metrics of an iteration."""
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
