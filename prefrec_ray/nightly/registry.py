"""The policies of a loop in the registry of MLflow: `champion` is the current policy, `canary` the canary.

Both aliases are made from current.json after every night and rollback. A repeated call sets the same aliases.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

from prefrec_ray import storage
from prefrec_ray.nightly.folder import LoopFolder
from prefrec_ray.tracking.backends import connect
from prefrec_ray.tracking.settings import NO_TRACKING, read_record
from prefrec_ray.tracking.tracker import attach_to_run


def set_aliases(folder: LoopFolder, say: Callable[[str], None]) -> None:
    """Set the aliases of the registered model in the settings of the newest tracked night, if there is one.

    An alias without a policy, or with a policy that is not tracked, is deleted. `say` gets one line if MLflow fails.
    """
    records = (read_record(folder.path(night.night, "run")) for night in reversed(folder.nights()))
    settings = next((record.settings for record in records if record is not None), NO_TRACKING)
    if settings.model is None:
        return
    current = folder.record()
    served = {"champion": current.target, "canary": current.canary.target if current.canary else ""}
    try:
        client = connect(settings)
        if not client.search_registered_models(f"name = '{settings.model}'"):
            client.create_registered_model(settings.model)
        for alias, target in served.items():
            _set_alias(client, settings.model, alias, target and storage.join(folder.uri, target), say)
    except Exception as error:  # of any kind: current.json is what decides
        reason = str(error).strip().partition("\n")[0][:200]
        say(f"tracking: MLflow fails ({type(error).__name__}: {reason}); the next night sets the aliases")


def _set_alias(client: Any, model: str, alias: str, bundle: str, say: Callable[[str], None]) -> None:
    """Give `alias` to the version of the model with this bundle, which is registered first; delete it without one."""
    run = posixpath.dirname(bundle)
    record = read_record(run) if bundle else None
    if record is None or record.mlflow_id is None:
        client.delete_registered_model_alias(model, alias)
        return
    found = client.search_model_versions(f"name = '{model}' and run_id = '{record.mlflow_id}'")
    if not found:
        attach_to_run(run, bundle, say=say)
        source = f"{client.get_run(record.mlflow_id).info.artifact_uri}/{posixpath.basename(bundle)}"
        found = [client.create_model_version(model, source, record.mlflow_id, tags={"night": record.name})]
    client.set_registered_model_alias(model, alias, found[0].version)
