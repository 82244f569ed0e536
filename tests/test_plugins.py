"""Plug-ins of installed packages: by name in a YAML, listed by `prefrec plugins`, and every mistake in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugin_template import ROOT, TEMPLATE, Declared, declared, install_template, write_metadata

from prefrec_ray.algorithms import PATHS, find_method
from prefrec_ray.bench.baselines import SUBMISSIONS
from prefrec_ray.cli.config import parse_section
from prefrec_ray.cli.main import run
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.settings import ESTIMATORS
from prefrec_ray.logs.sources import READERS
from prefrec_ray.plugins import KINDS, load
from prefrec_ray.preferences import SCORINGS
from prefrec_ray.runs.tuning.settings import SEARCHERS
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import load_world

CODE = """
from typing import Any

from prefrec_ray.algorithms.il import IL
from prefrec_ray.logs.sources import LogSource
from prefrec_ray.simulator.world import World


class Source(LogSource):
    kind: str
    path: str

    def open_log(self, seed: int, side: Any) -> Any:
        return f"the log at {self.path}"


class Own(IL):
    pass


class Platform(World):
    pass
"""
Install = Callable[[str, Declared], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that registers a package with the module `own_plugins`."""
    (tmp_path / "own_plugins.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_plugins", raising=False)
    find_method.cache_clear()
    return lambda package, entries: write_metadata(tmp_path, package, entries)


def test_the_declared_plug_ins_are_those_of_the_code() -> None:
    entries = declared(ROOT / "pyproject.toml")
    worlds = entries.pop("worlds")
    assert entries == {
        "estimators": ESTIMATORS,
        "methods": PATHS,
        "readers": READERS,
        "searchers": SEARCHERS,
        "submissions": SUBMISSIONS,
        "teachers": SCORINGS,
    }
    assert set(KINDS) == {*entries, "worlds"}
    for name, path in worlds.items():
        assert EntryPoint(name, path, "worlds").load()(SimulateSettings()).feedback
    for kind, names in entries.items():
        for name in names:
            assert callable(load(kind, name, "test", names))


def test_a_name_in_a_yaml_is_a_plug_in(install: Install) -> None:
    kinds = {"readers": "Source", "methods": "Own", "worlds": "Platform"}
    install("some-plugins", {kind: {"mine": f"own_plugins:{name}"} for kind, name in kinds.items()})
    prepare = parse_section("prepare", {"source": {"kind": "mine", "path": "here"}}, "my.yaml")
    assert prepare.source.open_log(0, None) == "the log at here"
    assert parse_section("prepare", prepare.model_dump(mode="json"), "my.yaml") == prepare
    assert parse_section("train", {"method": "mine"}, "my.yaml").method == "mine"
    assert find_method("mine").__name__ == "Own"
    world = load_world(parse_section("simulate", {"world": "mine"}, "my.yaml"))
    assert type(world).__name__ == "Platform"


def test_a_plug_in_is_imported_only_when_it_is_used(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("some-plugins", {"methods": {"broken": "no_such_module:Own"}, "searchers": {"grid": "own_plugins:Own"}})
    assert run(["plugins"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["methods", "broken", "some-plugins", "1.2", "no_such_module:Own"] in lines
    assert ["searchers", "grid", "some-plugins", "1.2", "own_plugins:Own"] in lines
    assert "own_plugins" not in sys.modules
    assert parse_section("train", {"method": "IL"}, "my.yaml").method == "IL"


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    (
        "train",
        {"method": "broken"},
        "my.yaml: train: key 'method': found 'broken' of the package some-plugins (cannot import no_such_module:Own: "
        "No module named 'no_such_module'); expected a package that can be imported",
    ),
    (
        "train",
        {"method": "twice"},
        "my.yaml: train: key 'method': found 'twice'; expected a name of one package, not of more-plugins and "
        "some-plugins",
    ),
    ("train", {"method": "IL"}, "found 'IL'; expected a name of one package, not of prefrec-ray and some-plugins"),
    ("train", {"method": "brokem"}, "found 'brokem'; did you mean 'broken'? (or module:Class)"),
    ("prepare", {"source": {"kind": "mine"}}, "key 'source': kind 'mine': key 'path' is missing"),
    ("prepare", {"source": {"kind": "mime"}}, "key 'source': kind: found 'mime'; did you mean 'mine'?"),
    ("prepare", {"source": {"kind": "loose"}}, "kind: found 'loose'; expected a subclass of LogSource"),
    ("evaluate", {"estimators": ["nciss"]}, "key 'estimators.0': did you mean 'ncis'? (or module:Class), found"),
    ("tune", {"searcher": "optune", "metric": "a"}, "key 'searcher': found 'optune'; did you mean 'optuna'?"),
]


@pytest.mark.parametrize(("section", "content", "message"), MISTAKES)
def test_a_mistake_is_one_line(install: Install, section: str, content: dict[str, Any], message: str) -> None:
    own = {"broken": "no_such_module:Own", "twice": "own_plugins:Own", "IL": "own_plugins:Own"}
    install("some-plugins", {"methods": own, "readers": {"mine": "own_plugins:Source", "loose": "own_plugins:Own"}})
    install("more-plugins", {"methods": {"twice": "own_plugins:Own"}})
    with pytest.raises(UserError) as caught:
        parse_section(section, content, "my.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Passed:
    """A plugin of pytest that counts the tests that passed."""

    count = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.count += report.when == "call" and report.passed


def test_the_template_is_found_by_its_entry_points_and_passes_its_tests(
    ray_session: None, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tests run every plug-in here, on the Ray of all tests, whose workers find the package too."""
    monkeypatch.syspath_prepend(str(site))
    options = ["--rootdir", str(TEMPLATE), "--import-mode", "importlib", "-q"]
    for name in ("cacheprovider", "faulthandler", "timeout", "xdist"):
        options += ["-p", f"no:{name}"]
    passed = Passed()
    assert pytest.main([*options, str(TEMPLATE / "tests")], plugins=[passed]) == pytest.ExitCode.OK
    assert passed.count == 5


def test_the_yaml_of_the_template_is_well_formed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_template(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    block = (TEMPLATE / "README.md").read_text("utf-8").partition("```yaml\n")[2].partition("```")[0]
    for name, value in yaml.safe_load(block).items():
        parse_section(name, value, "README.md")
