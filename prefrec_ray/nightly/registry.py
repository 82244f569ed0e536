"""The policies of a loop in the registry of MLflow: `champion` is the current policy, `canary` the canary.

Both aliases are made from current.json after every night and rollback. A repeated call sets the same aliases.
"""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Callable
from typing import Any

from prefrec_ray import storage
from prefrec_ray.nightly.folder import LoopFolder
from prefrec_ray.nightly.mlflow_model import save_model
from prefrec_ray.runs.tracking import TrackingSettings, limit_requests
from prefrec_ray.settings import parse

#: The section `tracking` of the last training, in the folder of the loop: `prefrec rollback` gets no YAML.
TRACKING = "tracking.json"


def set_aliases(folder: LoopFolder, say: Callable[[str], None]) -> None:
    """Set the aliases of the registered model in LOOP/tracking.json, if there is one.

    An alias without a policy is deleted. `say` gets one line if MLflow fails.
    """
    file = storage.join(folder.uri, TRACKING)
    if not storage.exists(file):
        return
    settings = parse(TrackingSettings, storage.read_json(file), file)
    if settings.model is None:
        return
    current = folder.record()
    served = {"champion": current.target, "canary": current.canary.target if current.canary else ""}
    try:
        client = _connect(settings)
        if not client.search_registered_models(f"name = '{settings.model}'"):
            client.create_registered_model(settings.model)
        for alias, target in served.items():
            if target:
                version = _version(client, settings, folder, target)
                client.set_registered_model_alias(settings.model, alias, version)
            else:
                client.delete_registered_model_alias(settings.model, alias)
    except Exception as error:  # of any kind: current.json is what decides
        reason = str(error).strip().partition("\n")[0][:200]
        say(f"tracking: MLflow fails ({type(error).__name__}: {reason}); the next night sets the aliases")


def _connect(settings: TrackingSettings) -> Any:
    limit_requests()
    from mlflow import MlflowClient

    return MlflowClient(settings.mlflow)


def _version(client: Any, settings: TrackingSettings, folder: LoopFolder, target: str) -> str:
    """Return the version of the model with the bundle `target` of the loop, which is uploaded first."""
    bundle = storage.join(folder.uri, target)
    versions = client.search_model_versions(f"name = '{settings.model}' and tags.bundle = '{bundle}'")
    if not versions:
        night = f"night {int(target.split('/')[1])}"
        group = settings.experiment or posixpath.basename(folder.uri)
        experiment = client.get_experiment_by_name(group)
        id_ = client.create_experiment(group) if experiment is None else experiment.experiment_id
        run = client.create_run(id_, run_name=f"{night}: policy").info
        with storage.fetched(bundle) as local, tempfile.TemporaryDirectory() as temporary:
            save_model(local, f"{temporary}/model")
            client.log_artifacts(run.run_id, f"{temporary}/model", "policy")
        client.set_terminated(run.run_id)
        tags = {"night": night, "bundle": bundle}
        versions = [client.create_model_version(settings.model, f"{run.artifact_uri}/policy", run.run_id, tags=tags)]
    return str(versions[0].version)
