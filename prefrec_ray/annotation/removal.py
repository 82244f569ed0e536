"""Removal of users from questions for annotators, and from the store of the votes on them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from prefrec_ray import storage
from prefrec_ray.annotation.page.create import QUESTIONS
from prefrec_ray.annotation.page.store import FILE, Store
from prefrec_ray.annotation.questions import PAIRS, read_pairs


def store_of(questions: str) -> str | None:
    """Return the store whose questions are in the folder `questions`, None for questions without a store."""
    store, _, name = storage.absolute(questions).rpartition("/")
    return store if name == QUESTIONS and storage.exists(storage.join(store, FILE)) else None


def remove_users(questions: str, users: Sequence[str]) -> Counter[str]:
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
        store = Store(folder)
        try:
            removed["questions of label stores"], removed["votes of label stores"] = store.remove(sorted(gone))
        finally:
            store.close()
    kept = [f"{line}\n" for line in lines if json.loads(line)["pair_id"] not in gone]
    storage.write_text(file, "".join(kept))
    removed["questions for annotators"] = len(gone)
    return removed
