"""The package tree and the import layers, for docs/architecture.md.

`python docs/tree.py` prints them, and the site shows them (docs/pages.py). The layers are the contract that
import-linter checks in `make style` (pyproject.toml).
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def sentence(file: Path) -> str:
    """Return the first sentence of a module's docstring, up to a colon or semicolon."""
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return re.split(r"[.:;](?: |$)", " ".join(text.split("\n\n")[0].split()))[0]


def tree(folder: Path = ROOT / "prefrec_ray", depth: int = 1) -> list[str]:
    """Return one line per package and, at the top, per module."""
    lines = []
    for path in sorted(folder.iterdir()):
        indent = "  " * depth
        if (path / "__init__.py").is_file():
            lines.append(f"{indent}{path.name + '/':<{16 - len(indent)}}{sentence(path / '__init__.py')}")
            lines += tree(path, depth + 1)
        elif depth == 1 and path.suffix == ".py" and path.name != "__init__.py":
            lines.append(f"{indent}{path.stem:<{16 - len(indent)}}{sentence(path)}")
    return lines


def layers() -> list[str]:
    """Return the layers, highest first. A package imports only packages of lower layers."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = (one for one in settings["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    return [f"  {layer.replace(' | ', ', ')}" for layer in contract["layers"]]


if __name__ == "__main__":
    print("prefrec_ray/", *tree(), "", "layers, highest first", *layers(), sep="\n")
