"""Clients of a server: their names, hashes of their tokens, and their rights.

A file of clients is YAML: `NAME: {sha256: HASH, rights: [recommend, feedback, admin]}`. Messages never contain a value
of the file, which may be a token by mistake.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from prefrec_ray.errors import UserError
from prefrec_ray.settings import load_yaml
from prefrec_ray.web.run import token_of_environment

RIGHTS = ("recommend", "feedback", "admin")
#: The client with the single token of the environment, which has all rights.
DEFAULT = "default"

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")


class Client(NamedTuple):
    """A client: `digest` is the SHA-256 hash of its token."""

    name: str
    digest: bytes
    rights: Collection[str]


class Clients:
    """The clients that a server replies to."""

    def __init__(self, clients: Collection[Client]) -> None:
        self._clients = clients

    @classmethod
    def from_environment(cls, token: str, file: str) -> Clients | None:
        """Return the clients of the environment variables `token` (a token) and `file` (a path); None without both.

        Raises `UserError` for a short token, and for a file that others may read or that lists no clients.
        """
        single, path = token_of_environment(token), os.environ.get(file)
        clients = [] if single is None else [Client(DEFAULT, sha256(single.encode()).digest(), RIGHTS)]
        if path:
            clients += _read(path)
        return cls(clients) if clients else None

    def find(self, headers: Mapping[bytes, bytes]) -> Client | None:
        """Return the client whose bearer token an HTTP request has, in constant time; None for another token."""
        scheme, _, sent = headers.get(b"authorization", b"").partition(b" ")
        digest = sha256(sent.strip()).digest()
        same = [client for client in self._clients if hmac.compare_digest(client.digest, digest)]
        return same[0] if same and scheme.lower() == b"bearer" else None


def _read(path: str) -> list[Client]:
    """Return the clients in a file."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError as error:
        raise UserError(f"{path}: found no readable file ({error.strerror}); expected a list of clients") from error
    if mode & 0o077:
        raise UserError(f"{path}: found mode {mode:04o}; expected 0600, so that other users cannot read it")
    try:
        entries = load_yaml(path)
    except UserError:
        entries = {}  # not the error: it quotes the file
    if not entries:
        raise UserError(
            f"{path}: found no client; expected YAML, NAME: {{sha256: HASH, rights: [{', '.join(RIGHTS)}]}}"
        )
    clients = [_client(str(name), about, path) for name, about in entries.items()]
    if len({client.digest for client in clients}) < len(clients):
        raise UserError(f"{path}: found the same sha256 twice; expected another token for each client")
    return clients


def _client(name: str, about: Any, path: str) -> Client:
    where = f"{path}: client '{name[:64]}'"
    if not _NAME.fullmatch(name) or name == DEFAULT:
        raise UserError(f"{where}: found this name; expected letters, digits, '_', '.' or '-', and not '{DEFAULT}'")
    if not isinstance(about, dict) or about.keys() != {"sha256", "rights"}:
        raise UserError(f"{where}: found other keys; expected sha256 and rights")
    rights = about["rights"]
    if not isinstance(rights, list) or not all(right in RIGHTS for right in rights):
        raise UserError(f"{where}: found other rights; expected a list of some of {', '.join(RIGHTS)}")
    if not isinstance(about["sha256"], str) or not _HASH.fullmatch(about["sha256"]):
        raise UserError(f"{where}: found no hash; expected sha256: 64 hexadecimal digits (sha256sum of the token)")
    return Client(name, bytes.fromhex(about["sha256"]), rights)
