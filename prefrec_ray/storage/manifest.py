"""A folder that tells whether it is whole: its manifest names every other file with size and checksum, and itself."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from prefrec_ray.errors import UserError
from prefrec_ray.storage import files

MANIFEST = "manifest.json"


def seal(folder: str) -> None:
    """Writes the manifest of all that lies in a folder of this machine, below it too."""
    everything = (file for file in sorted(Path(folder).rglob("*")) if file.is_file())
    named = {str(file.relative_to(folder)): _fingerprint(file) for file in everything}
    named.pop(MANIFEST, None)
    files.write_json(files.join(folder, MANIFEST), {"files": named, "checksum": _checksum(named)})


def damage(folder: str) -> str | None:
    """What is wrong with a sealed folder of this machine, in a few words; None where nothing is."""
    try:
        manifest: Any = files.read_json(files.join(folder, MANIFEST))
    except UserError:
        return f"no readable {MANIFEST}"
    named = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(named, dict) or manifest.get("checksum") != _checksum(named):
        return f"{MANIFEST} is not as it was written"
    for name, expected in named.items():
        file = Path(folder, name)
        if not file.is_file():
            return f"{name} is missing"
        if _fingerprint(file) != expected:
            return f"{name} is not as it was written"
    return None


def _checksum(named: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(named, sort_keys=True).encode())


def _fingerprint(file: Path) -> list[int]:
    """Size in bytes, and CRC-32."""
    checksum = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return [file.stat().st_size, checksum]
