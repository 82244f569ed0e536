"""Registration of packages with plug-ins as an installer does it, among them the template in examples/plugin."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "examples" / "plugin"
#: Entry points of kind, name, and object path.
Declared = dict[str, dict[str, str]]


def declared(pyproject: Path) -> Declared:
    """Return the entry points of a pyproject.toml."""
    groups = tomllib.loads(pyproject.read_text("utf-8"))["project"]["entry-points"]
    return {group.removeprefix("prefrec_ray."): names for group, names in groups.items()}


def write_metadata(folder: Path, package: str, entries: Declared) -> None:
    """Write the folder with which an installer registers a package."""
    metadata = folder / f"{package.replace('-', '_')}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    lines = [f"[prefrec_ray.{kind}]\n" + "".join(f"{k} = {v}\n" for k, v in e.items()) for kind, e in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines))


def install_template(folder: Path) -> None:
    """Copy the package of the template into `folder`, and register it there."""
    shutil.copytree(TEMPLATE / "genres", folder / "genres", ignore=shutil.ignore_patterns("__pycache__"))
    write_metadata(folder, "prefrec-genres", declared(TEMPLATE / "pyproject.toml"))
