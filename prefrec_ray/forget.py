"""Deletion of users from event logs, snapshots, data sets and questions for annotators."""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from prefrec_ray import storage
from prefrec_ray.annotation.page.create import QUESTIONS
from prefrec_ray.annotation.page.store import FILE as VOTES
from prefrec_ray.annotation.page.store import Store
from prefrec_ray.annotation.questions import PAIRS, read_pairs
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset import removal as of_datasets
from prefrec_ray.errors import UserError
from prefrec_ray.ids import Mentions, present
from prefrec_ray.logs.events import segments as of_logs
from prefrec_ray.logs.events.format import FILE as LOG
from prefrec_ray.logs.events.format import SEGMENTS, read_about
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.serving.folder.snapshots import remove_snapshots
from prefrec_ray.storage.checksums import open_json, seal_json

_DATASET, _REQUESTS, _POLICY, _RUN, _LOOP = "metadata.json", "requests", "policy.json", "config.json", "nights.json"
#: Names of half-written outputs (storage/claims.py, storage/files.py). A user may have other names with this ending.
_PARTIAL = re.compile(r"(.+)\.[0-9a-f]{8}\.partial")
_EXPECTED = "an event log, a data set, questions for annotators, a run or a policy"
#: Splits of users that change the weights of a policy, or choose its checkpoint.
_TRAINING = {"train", "validation"}


@dataclass
class Places:
    """Absolute folders below some paths, by kind. `loops` may also be above a path."""

    logs: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    remains: list[str] = field(default_factory=list)  # half-written folders and files of killed commands

    @classmethod
    def find(cls, paths: Iterable[str]) -> Places:
        """Find all folders below `paths`. Raises `UserError` for a path that is not a folder or contains none."""
        places = cls()
        for path in dict.fromkeys(map(_folder, paths)):
            before = len(places.remains)
            places.remains += [near for near in glob.glob(f"{glob.escape(path)}.*") if _PARTIAL.fullmatch(near)]
            found = sum(places._add(*entry) for entry in places._walk(path))
            if not found and len(places.remains) == before:
                raise UserError(f"{path}: found nothing with data of users; expected {_EXPECTED}")
            places.loops += [str(parent) for parent in Path(path).parents if (parent / _LOOP).exists()]
        for name, folders in vars(places).items():
            setattr(places, name, list(dict.fromkeys(folders)))
        return places

    def _add(self, folder: str, folders: list[str], files: list[str]) -> bool:
        """Add `folder` if its contents show its kind, and return whether they do; clear `folders` if it is whole."""
        kinds = {_LOOP: self.loops, PAIRS: self.questions, _POLICY: self.policies, _RUN: self.policies}
        if LOG in files and SEGMENTS in folders:
            kinds = {LOG: self.logs}
            folders.clear()
        elif _DATASET in files and _REQUESTS in folders:
            kinds = {_DATASET: self.datasets}
            folders.clear()
        elif VOTES in files and not storage.exists(storage.join(folder, "pairs", PAIRS)):
            raise UserError(
                f"{folder}: found votes without pairs/{PAIRS}; expected the questions with the ids of users"
            )
        found = [of_kind for name, of_kind in kinds.items() if name in files]
        for of_kind in found:
            of_kind.append(folder)
        return bool(found)

    def _walk(self, path: str) -> Iterable[tuple[str, list[str], list[str]]]:
        """Yield the folders below `path` as `os.walk` does, without half-written ones, which become `remains`.

        So do half-written files with ids of users. Other files may be those of a training run that goes on.
        """
        for folder, folders, files in os.walk(path):
            halves = {name: half[1] for name in (*folders, *files) if (half := _PARTIAL.fullmatch(name))}
            wanted = (name for name, whole in halves.items() if name in folders or whole in (_LOOP, PAIRS))
            self.remains += [storage.join(folder, name) for name in sorted(wanted)]
            folders[:] = sorted(set(folders) - set(halves))
            yield folder, folders, files

    def claim(self, claims: ExitStack) -> dict[str, str]:
        """Keep other processes from these folders until `claims` ends. Return names for half-written data sets.

        Raises `UserError` if a server, a night or another command writes to one of them.
        """
        outputs = [half[1] for rest in self.remains if (half := _PARTIAL.fullmatch(rest))]
        writers = [*outputs, *self.loops, *self.logs, *(store_of(folder) or folder for folder in self.questions)]
        for folder in dict.fromkeys(folder for folder in writers if folder not in self.datasets):
            claims.enter_context(storage.claimed(folder))
        partials = {folder: claims.enter_context(storage.claimed(folder)) for folder in self.datasets}
        for folder in self.datasets:
            opened = PreparedDataset.open(folder)
            for name in opened.people():
                claims.enter_context(storage.claimed(opened.path("people", name)))
        return partials


@dataclass(frozen=True)
class Forgotten:
    """Numbers of removed rows by kind, and the ids that no log, data set, dropped row or question had."""

    removed: Counter[str]
    absent: list[str]


def forget(paths: Sequence[str], users: Sequence[str], say: Callable[[str], None]) -> Forgotten:
    """Remove `users`, whose ids are texts, from everything below `paths`.

    Remains of killed commands are removed as well. Calls `say` with each run and policy that was trained with data of
    the users, before anything changes: they stay as they are. Each file or data set changes in one step, and a second
    call after a kill removes the rest. Raises `UserError` as `Places.find` and `Places.claim` do, before anything
    changes, and for damaged files.
    """
    places = Places.find(paths)
    with ExitStack() as claims:
        partials = places.claim(claims)
        datasets = [PreparedDataset.open(folder) for folder in places.datasets]
        used = {one.uri for one in datasets if _TRAINING & of_datasets.splits_of(one, users)}
        for policy in _trained(places.policies, used):
            say(policy)
        found = _found(places, datasets, users)
        removed = Counter({"half-written outputs of killed commands": len(places.remains)})
        for rest in places.remains:
            storage.remove(rest)
        for folder in places.logs:
            removed += _remove_from_log(folder, users)
        for dataset in datasets:
            removed += of_datasets.remove_users(dataset, users, partials[dataset.uri])
        for folder in places.questions:
            removed += remove_questions(folder, users)
        for folder in places.loops:
            removed += _remove_from_nights(folder, Mentions(users))
    return Forgotten(+removed, [user for user in users if user not in found])


def _found(places: Places, datasets: Sequence[PreparedDataset], users: Sequence[str]) -> set[str]:
    """Return the `users` with a row of a log, an impression, a dropped row or a question."""
    found: set[str] = set()
    for folder in places.logs:
        names = ["user", "user_number"]
        for table in of_logs.read_tables(of_logs.list_segments(folder), read_about(folder).columns, names=names):
            found |= {user for name in names for user in present(table[name], users)}
    for dataset in datasets:
        found |= of_datasets.users_of(dataset, users)
    for folder in places.questions:
        if storage.read_text(storage.join(folder, PAIRS)).strip():
            pairs = read_pairs(folder)
            found |= {user for name in ("user_0", "user_1") for user in present(pairs[name], users)}
    return found


def _remove_from_nights(folder: str, mentions: Mentions) -> Counter[str]:
    """Remove texts of errors that mention a user from nights.json; other nights have a verdict and its numbers."""
    file = storage.join(folder, _LOOP)
    lines, changed = [], 0
    for line in storage.read_text(file).split("\n"):
        night = open_json(line, file) if line else None
        if isinstance(night, dict) and night.get("status") == "failed" and mentions.find(str(night.get("why"))):
            line = seal_json({**night, "why": "an error with a value of a removed user"})
            changed += 1
        lines.append(line)
    if changed:
        storage.write_text(file, "\n".join(lines))
    return Counter({"errors of nights": changed})


def _folder(path: str) -> str:
    """Return the absolute path of a folder. Raises `UserError` for anything else."""
    if "://" in path:
        raise UserError(f"{path}: found a store; expected a folder on a local disk")
    folder = storage.absolute(path)
    if not os.path.isdir(folder) or os.path.islink(folder):
        found = "a link" if os.path.islink(folder) else "no folder"
        raise UserError(f"{path}: found {found}; expected a folder with {_EXPECTED}")
    return folder


def _trained(policies: Sequence[str], used: set[str]) -> list[str]:
    """Return the runs and policies that were trained on a data set in `used`; of a run and its policies the run."""
    trained: list[str] = []
    for folder in sorted(policies):
        inside = any(folder.startswith(f"{run}/") for run in trained)
        if not inside and not used.isdisjoint(_origins(folder)):
            trained.append(folder)
    return trained


def _origins(folder: str) -> set[str]:
    """Return the data sets of a run or policy; also the one in the same night, in case the loop was moved."""
    origins: set[str] = set()
    for name in (_POLICY, _RUN):
        file = storage.join(folder, name)
        if storage.exists(file):
            value = storage.read_json(file)
            about = value.get("provenance", value) if isinstance(value, dict) else {}
            origins |= {str(about.get("dataset")), *map(str, about.get("averaged") or ())}
    night = {str(parent / "dataset") for parent in (Path(folder).parent, Path(folder).parent.parent)}
    return {os.path.abspath(origin) for origin in origins} | night


def _remove_from_log(folder: str, users: Sequence[str]) -> Counter[str]:
    """Remove users from an event log and its snapshots; return numbers of removed rows and files by kind."""
    removed: Counter[str] = Counter()
    chosen = of_logs.of_users(users)
    log = EventLog(folder, read_about(folder).item_type)  # moves an unfinished record out of the last file
    try:
        # Always: a snapshot also has users whose first row could not be written.
        removed["snapshots of servers"] = remove_snapshots(folder)
        if of_logs.any_row(folder, chosen):
            log.commit([of_logs.removal()])
            log.begin_file()
    finally:
        log.close()
    removed["rows of event logs"] = of_logs.remove_rows(folder, chosen)
    removed["damaged records of event logs"] = of_logs.remove_damaged(folder, of_logs.with_bytes_of(users))
    return removed


def store_of(questions: str) -> str | None:
    """Return the store whose questions are in the folder `questions`, None for questions without a store."""
    store, _, name = storage.absolute(questions).rpartition("/")
    return store if name == QUESTIONS and storage.exists(storage.join(store, VOTES)) else None


def remove_questions(questions: str, users: Sequence[str]) -> Counter[str]:
    """Remove all questions with a segment of `users`, whose ids are texts, with their votes.

    Return the numbers of removed questions and votes by kind. Each file changes in one step, the file of questions
    last, so that a second call after a kill removes the rest. The caller holds the claim on the store. Raises
    `UserError` for damaged files.
    """
    file = storage.join(questions, PAIRS)
    lines = [line for line in storage.read_text(file).split("\n") if line]
    if not lines:  # an earlier call removed all
        return Counter()
    table = read_pairs(questions)
    names = set(users)
    gone = {row["pair_id"] for row in table.to_pylist() if str(row["user_0"]) in names or str(row["user_1"]) in names}
    removed: Counter[str] = Counter()
    if not gone:
        return removed
    folder = store_of(questions)
    if folder is not None:
        with closing(Store(folder)) as store:
            removed["questions of label stores"], removed["votes of label stores"] = store.remove(sorted(gone))
    kept = [f"{line}\n" for line in lines if json.loads(line)["pair_id"] not in gone]
    storage.write_text(file, "".join(kept))
    removed["questions for annotators"] = len(gone)
    return removed
