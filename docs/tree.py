"""The tree of docs/architecture.md: every package and root module with the start of its docstring.

`python docs/tree.py` prints it; a test compares it with the page.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1] / "prefrec_ray"


def sentence(file: Path) -> str:
    """The first sentence of a module's docstring, up to a colon or semicolon."""
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return re.split(r"[.:;](?: |$)", " ".join(text.split("\n\n")[0].split()))[0]


def tree(folder: Path = ROOT, depth: int = 1) -> list[str]:
    """A line a package and, at the top, a line a module."""
    lines = []
    for path in sorted(folder.iterdir()):
        indent = "  " * depth
        if (path / "__init__.py").is_file():
            lines.append(f"{indent}{path.name + '/':<{16 - len(indent)}}{sentence(path / '__init__.py')}")
            lines += tree(path, depth + 1)
        elif depth == 1 and path.suffix == ".py" and path.name != "__init__.py":
            lines.append(f"{indent}{path.stem:<{16 - len(indent)}}{sentence(path)}")
    return lines


if __name__ == "__main__":
    print("prefrec_ray/", *tree(), sep="\n")
