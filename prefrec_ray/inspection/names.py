"""Names of columns as words, and the vocabulary for users, items and sessions."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Words in platforms' names of these columns, likelier first.
USER = (
    *("user", "member", "visitor", "customer", "household", "client", "subscriber", "viewer", "listener", "reader"),
    *("player", "account", "person", "profile", "consumer", "shopper", "device", "cookie", "uid"),
)
ITEM = (
    *("item", "video", "movie", "track", "song", "product", "article", "news", "photo", "post", "clip", "content"),
    *("episode", "book", "game", "sku", "asset", "recipe", "ad", "creative", "stream", "show", "page", "iid", "artist"),
)
SESSION = ("session", "basket", "visit", "sid")
#: Words of ids of any kind.
ID = ("id", "ids", "key", "code", "hash", "uuid", "guid", "index", "idx")


def words(name: str) -> list[str]:
    """Split a column's name into words in lower case: `visitorId`, `visitor_id` and `visitorid` are visitor and id."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    split: list[str] = []
    for part in (part.lower() for part in parts):
        stem = part.removesuffix("id")
        split += [stem, "id"] if stem != part and stem in (*USER, *ITEM, *SESSION) else [part]
    return split


def is_plain(name: str, vocabulary: Sequence[str]) -> bool:
    """Return whether a name has only words of `vocabulary` and of ids: `user` and `visitorId`, but not `user_age`."""
    of_name = words(name)
    return bool(set(of_name) & set(vocabulary)) and set(of_name) <= {*vocabulary, *ID}


def rank(name: str, vocabulary: Sequence[str]) -> tuple[int, int]:
    """Return the order of names that have a word of `vocabulary`, the likelier first: plain ones before `user_name`."""
    of_name = words(name)
    places = [vocabulary.index(word) for word in of_name if word in vocabulary]
    extra = [word for word in of_name if word not in vocabulary and word not in ID]
    return len(extra), min(places, default=len(vocabulary))
