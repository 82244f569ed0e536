"""The notebooks of examples/notebooks: their imports exist, their outputs are whole, and by hand they run.

test_docs.py checks links and commands, together with the links and commands of the pages.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples" / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def kinds(cells: list[dict[str, Any]]) -> list[set[str]]:
    """Output types and MIME types of each cell: texts on stdout, pictures, errors."""
    return [
        {kind for output in cell["outputs"] for kind in (output["output_type"], *output.get("data", ()))}
        for cell in cells
    ]


def test_the_notebooks_are_found() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first_policy", "method_and_sweep", "verdict_to_canary"]


@each_notebook
def test_every_import_of_a_notebook_exists(notebook: Path) -> None:
    names = []
    for cell in code_cells(notebook):
        source = re.sub(r"^%%writefile .*\n", "", "".join(cell["source"]))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names += [f"{node.module}:{alias.name}" for alias in node.names]
    assert any(name.startswith("prefrec_ray") for name in names)
    for name in names:
        resolve_name(name)


@each_notebook
def test_the_outputs_of_a_notebook_are_of_one_whole_run_and_name_no_machine(notebook: Path) -> None:
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    found = set().union(*kinds(cells))
    assert "image/png" in found
    assert "error" not in found
    for cell in cells:
        for output in cell["outputs"]:
            assert output.get("name") != "stderr", output["text"]
            text = "".join(output.get("text") or output["data"]["text/plain"])
            assert not re.search(r"(?<![\w./])/\w|://", text), text


@pytest.mark.slow
@pytest.mark.ray
@each_notebook
def test_a_notebook_runs(notebook: Path) -> None:
    """To the end, with outputs of the same kinds."""
    nbclient = pytest.importorskip("nbclient", reason="the extra notebooks is not installed")
    nbformat = pytest.importorskip("nbformat", reason="the extra notebooks is not installed")
    ran = nbclient.NotebookClient(nbformat.read(notebook, 4), timeout=280, kernel_name="python3").execute()
    assert kinds([cell for cell in ran.cells if cell.cell_type == "code"]) == kinds(code_cells(notebook))
