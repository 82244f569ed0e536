"""Policies and data sets on the Hugging Face Hub: upload with a card, and download.

A policy is a model repository, hf://NAME/REPOSITORY, and a data set hf://datasets/NAME/REPOSITORY. New repositories are
private, since data sets contain user ids. HF_TOKEN is the access token, HF_ENDPOINT another Hub.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
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
#: Names in cards of the counts in metadata.json, if they differ.
_NAMES = {"requests": "impressions"}


def push(source: str, target: str) -> None:
    """Upload the policy bundle or data set in the local folder `source` to the repository `target`, with its card.

    All files are one commit. Raises `UserError` for another source or target, and if the Hub refuses.
    """
    repository, kind = _repository(target)
    source = storage.followed(source)
    if not storage.exists(source):
        raise UserError(f"{source}: no such folder; expected a policy or a data set")
    is_policy = storage.exists(storage.join(source, "policy.json"))
    if is_policy is (kind == "dataset"):
        raise UserError(f"{target}: found a {kind}; expected hf://NAME/REPO for a policy, hf://datasets/... for data")
    card = policy_card(source) if is_policy else dataset_card(source)
    with _hub(target) as hub:
        from huggingface_hub import CommitOperationAdd

        folder = Path(storage.absolute(source))
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        added = [
            CommitOperationAdd(str(file.relative_to(folder)), _without_annotators(file) or file)
            for file in files
            if file != folder / CARD and file.name != _VOTES
        ]
        added.append(CommitOperationAdd(CARD, card.encode()))
        hub.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
        hub.create_commit(repository, added, commit_message="Upload by prefrec push", repo_type=kind)


def _without_annotators(file: Path) -> bytes | None:
    """Return people.json with numbers in place of the names of annotators; None for another file."""
    if file.name != PEOPLE:
        return None
    about = storage.read_json(str(file))
    named = [{**one, "annotator": str(number)} for number, one in enumerate(about.get("annotators", []), 1)]
    return json.dumps({**about, "annotators": named}).encode()


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


def policy_card(uri: str) -> str:
    """Return the card of a policy: recipe, verdict of the evaluation next to it, and limits."""
    policy = Policy.load(uri)
    # The path of the data set belongs to this machine.
    about = {key: value for key, value in policy.provenance.items() if key != "dataset" and not isinstance(value, dict)}
    lines = [f"Evaluation: {line}" for line in _verdict(uri)] or ["No evaluation of this policy was found."]
    table = {**about, "items": len(policy.items), "numbers in a state": policy.state.width}
    return _card(
        f"{about.get('method', 'Policy')} for {about.get('task', 'recommendation')}",
        table | {f"serving: {key}": value for key, value in policy.serving.model_dump(mode="json").items()},
        [*lines, f"{coverage()} An estimate from a log does not replace an A/B test."],
        "It serves only the items of its table, and needs states with the feedback "
        f"{', '.join(policy.state.feedback) or 'of no column'}. Load it by `prefrec_ray.Policy.load`.",
        "reinforcement-learning",
    )


def dataset_card(uri: str) -> str:
    """Return the card of a data set: numbers of users, sessions and impressions, its tasks, and limits."""
    about = PreparedDataset.open(uri).metadata
    counts = {f"{split}: {_NAMES.get(name, name)}": n for split, own in about.counts.items() for name, n in own.items()}
    return _card(
        "Data set of prefrec_ray",
        {**counts, "tasks": ", ".join(about.tasks), "teachers": ", ".join(about.teachers)},
        ["Open it by `prefrec_ray.PreparedDataset.open`, or train on it by `prefrec train`."],
        "It contains the user ids and user features of its log, and labels of annotators without their names and "
        "single votes. Its items were chosen by the logging policy of one platform.",
        "tabular-regression",
    )


def _verdict(uri: str) -> Iterator[str]:
    """Yield the verdicts on a policy."""
    for file in evaluation_files(uri):
        evaluation = read_evaluation(file)
        for name in sorted(evaluation.policies_in(uri) & evaluation.verdicts.keys()):
            judged = evaluation.verdicts[name]
            yield f"**{judged.verdict.replace('_', ' ')}**. {' '.join(judged.reasons)}"


def _card(title: str, table: Mapping[str, Any], texts: list[str], limits: str, tag: str) -> str:
    header = yaml.safe_dump({"library_name": "prefrec-ray", "tags": ["recommender-systems", "prefrec", tag]})
    rows = "".join(f"| {key} | {value} |\n" for key, value in table.items())
    return (
        f"---\n{header}---\n\n# {title}\n\n| | |\n|---|---|\n{rows}\n"
        + "\n\n".join([*texts, f"Limits: {limits}"])
        + "\n"
    )


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
