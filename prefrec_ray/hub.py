"""Policies and data sets on the Hugging Face Hub: upload with a card, and download.

A policy is a model repository, hf://NAME/REPOSITORY, and a data set hf://datasets/NAME/REPOSITORY. New repositories are
private, since data sets contain user ids. HF_TOKEN is the access token, HF_ENDPOINT another Hub.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from prefrec_ray import storage
from prefrec_ray.dataset import PEOPLE, PreparedDataset
from prefrec_ray.errors import UserError, need
from prefrec_ray.evaluation.results.records import evaluation_files, read_evaluation
from prefrec_ray.evaluation.results.rules import coverage
from prefrec_ray.policy import Policy

CARD = "README.md"
_DATASETS = "datasets/"
#: Single votes of annotators in a data set (annotation/labels.py).
_VOTES = "votes.parquet"


def push(source: str, target: str) -> None:
    """Upload the policy bundle or data set in the local folder `source` to the repository `target`, with its card.

    Votes and names of annotators stay here. Raises `UserError` for another source or target, and if the Hub refuses.
    """
    repository, kind = _repository(target)
    source = storage.followed(source)
    if not storage.exists(source):
        raise UserError(f"{source}: no such folder; expected a policy or a data set")
    is_policy = storage.exists(storage.join(source, "policy.json"))
    if is_policy is (kind == "dataset"):
        raise UserError(f"{target}: found a {kind}; expected hf://NAME/REPO for a policy, hf://datasets/... for data")
    with tempfile.TemporaryDirectory() as folder, _hub(target) as hub:
        links = Path(folder) / "links"
        ignored = shutil.ignore_patterns(CARD, _VOTES, PEOPLE)
        shutil.copytree(storage.absolute(source), links, ignore=ignored, copy_function=os.symlink)
        for file in Path(storage.absolute(source)).rglob(PEOPLE):
            about = storage.read_json(str(file))
            named = [{**one, "annotator": str(number)} for number, one in enumerate(about.get("annotators", []), 1)]
            to = links / file.relative_to(storage.absolute(source))
            storage.write_json(str(to), {**about, "annotators": named})
        (links / CARD).write_text(_policy_card(source) if is_policy else _dataset_card(source), "utf-8")
        hub.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
        hub.upload_folder(
            repo_id=repository, folder_path=links, repo_type=kind, commit_message="Upload by prefrec push"
        )


def pull(source: str, output: str) -> None:
    """Download the repository `source` to the new folder `output`.

    Raises `UserError` for a repository that the Hub does not show to this user, and if `output` exists.
    """
    repository, kind = _repository(source)
    with storage.staged(output, CARD) as folder, _hub(source) as hub:
        if kind == "dataset":  # it contains ids of users
            storage.make_private(folder)
        hub.snapshot_download(repository, repo_type=kind, local_dir=storage.absolute(folder))
        storage.remove(storage.join(folder, ".cache"))


def _policy_card(uri: str) -> str:
    """Return the card of a policy: recipe, verdict of the evaluation next to it, and limits."""
    policy = Policy.load(uri)
    # The path of the data set belongs to this machine.
    about = {key: value for key, value in policy.provenance.items() if key != "dataset" and not isinstance(value, dict)}
    verdicts = [
        f"Evaluation: **{judged.verdict.replace('_', ' ')}**. {' '.join(judged.reasons)}"
        for evaluation in map(read_evaluation, evaluation_files(uri))
        for name, judged in sorted(evaluation.verdicts.items())
        if name in evaluation.policies_in(uri)
    ]
    feedback = ", ".join(policy.state.feedback) or "of no column"
    return _card(
        f"{about.get('method', 'Policy')} for {about.get('task', 'recommendation')}",
        about | {"items": len(policy.items), "serving": policy.serving.model_dump(mode="json")},
        *(verdicts or ["No evaluation of this policy was found."]),
        f"{coverage()} An estimate from a log does not replace an A/B test.",
        f"Limits: it serves only the items of its table, and needs states with the feedback {feedback}.",
    )


def _dataset_card(uri: str) -> str:
    """Return the card of a data set: its numbers of users, sessions and impressions, tasks and limits."""
    about = PreparedDataset.open(uri).metadata
    return _card(
        "Data set of prefrec_ray",
        {**about.counts, "tasks": ", ".join(about.tasks), "teachers": ", ".join(about.teachers)},
        "Limits: it contains the user ids and user features of its log, and labels of annotators without their names "
        "and single votes. Its items were chosen by the logging policy of one platform.",
    )


def _card(title: str, table: dict[str, Any], *texts: str) -> str:
    header = yaml.safe_dump({"library_name": "prefrec-ray", "tags": ["recommender-systems", "prefrec"]})
    rows = "".join(f"| {key} | {value} |\n" for key, value in table.items())
    return "\n\n".join([f"---\n{header}---", f"# {title}", f"| | |\n|---|---|\n{rows}".rstrip(), *texts]) + "\n"


def _repository(uri: str) -> tuple[str, str]:
    """Return name and kind of the repository at `uri`."""
    path = uri.removeprefix("hf://").rstrip("/")
    name = path.removeprefix(_DATASETS)
    if not uri.startswith("hf://") or name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"{uri}: expected hf://NAME/REPOSITORY, or hf://datasets/NAME/REPOSITORY")
    return name, "dataset" if path.startswith(_DATASETS) else "model"


@contextmanager
def _hub(uri: str) -> Iterator[Any]:
    """Yield the client; an error of the Hub becomes a `UserError`."""
    need("hub", "huggingface_hub", where=uri)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        with warnings.catch_warnings():  # a policy contains a table of items, which looks like a data set
            warnings.simplefilter("ignore", UserWarning)
            yield HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, HFValidationError) as error:
        raise UserError(f"{uri}: the Hub refuses ({str(error).splitlines()[0]})") from error
