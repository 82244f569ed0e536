"""YAML in, settings out: every file that cannot be read is one line."""

import itertools
import re
from pathlib import Path

import pytest

from prefrec_ray.cli.main import run
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.settings import load_yaml, parse, read_yaml
from prefrec_ray.simulator.settings import SimulateSettings

#: Each list holds the one before nine times.
LAUGHS = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise("abcdefghij")
)
SOURCE = {"source": {"kind": "simulator", "path": "logs"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS.encode(), "line 1: not YAML (its aliases stand for more than 100,000 values)"),
        (b"<<: &a {<<: *a}", "nested too deeply, or an alias contains itself"),
        (b"a: &a [*a]", "nested too deeply, or an alias contains itself"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b"a: 2024-02-31", "not YAML (day is out of range for month)"),
        (b"a: " + b"9" * 5000, "not YAML (Exceeds the limit"),
        (b"a: !!bool maybe", "not YAML ('maybe')"),
        (b"a: !!int ''", "not YAML (string index out of range)"),
        (b"a: !!timestamp abc", "not YAML ("),
        (b"a: 1" + b":1" * 300 + b".0", "not YAML ("),
        (b'a: "\\UFFFFFFFF"', "not YAML ("),
        ("a: 1".encode("utf-16"), "byte 1: not UTF-8"),
        (b"prepare: {}\ntrain: 1\n'train': 2", "line 3: not YAML (key 'train' again; expected each once)"),
        (b"a: [{b: 1, c: 2,\n  b: 1}]", "line 2: not YAML (key 'b' again; expected each once)"),
        (b"a: \0", "not YAML (found the control character 0x00)"),
        (None, "cannot be read ("),
    ],
)
def test_files_that_are_no_settings(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "config.yaml"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_yaml(str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_aliases_and_merges_are_welcome() -> None:
    text = "base: &base {a: 1}\nx: {<<: *base, b: 2}\ny: *base\n"
    assert read_yaml(text, "text") == {"base": {"a": 1}, "x": {"a": 1, "b": 2}, "y": {"a": 1}}
    assert read_yaml("x: &x {a: 1}\ny: &y {b: 2}\nz: {<<: *x, <<: *y, a: 3}", "text")["z"] == {"a": 3, "b": 2}


def test_a_file_that_may_not_be_read_or_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(uri: str) -> None:
        raise PermissionError(13, "Permission denied", uri)

    monkeypatch.setattr("prefrec_ray.cli.config.load_sections", refuse)
    assert run(["validate", "secret.yaml"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("model", [SimulateSettings, PrepareSettings, EvaluateSettings])
@pytest.mark.parametrize("seed", [2**70, 2**32, -1])
def test_seeds_that_no_generator_takes(model: type, seed: int) -> None:
    value = {"seed": seed} | (SOURCE if model is PrepareSettings else {})
    with pytest.raises(UserError, match="key 'seed': expected"):
        parse(model, value, "c.yaml")


@pytest.mark.parametrize("minutes", [".inf", ".nan", "0", "1e300"])
def test_gaps_that_are_no_time(minutes: str) -> None:
    value = {**SOURCE, "session_gap_minutes": read_yaml(minutes, "c.yaml")}
    with pytest.raises(UserError, match="key 'session_gap_minutes': expected"):
        parse(PrepareSettings, value, "c.yaml")


def test_numbers_that_are_not_finite_are_refused_everywhere() -> None:
    for value in ({"world": {"drift": float("inf")}}, {"world": {"tiring": float("nan")}}):
        with pytest.raises(UserError, match="expected a finite number"):
            parse(SimulateSettings, value, "c.yaml")


def test_a_long_value_is_cut_short() -> None:
    with pytest.raises(UserError) as caught:
        parse(SimulateSettings, {"users": ["x"] * 10_000}, "c.yaml")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (SimulateSettings, {"users": 2**70}),
        (SimulateSettings, {"world": {"tastes": 10**12}}),
        (SimulateSettings, {"world": {"tiring": 1e300}}),
        (PrepareSettings, {**SOURCE, "action_dim": 2**70}),
        (PrepareSettings, {**SOURCE, "preferences": {"pairs": 10**12}}),
        (EvaluateSettings, {"ncis": {"sigma": 1e-200}}),
    ],
)
def test_numbers_that_no_machine_counts_or_raises(model: type, value: dict[str, object]) -> None:
    """They passed, and then overflowed."""
    with pytest.raises(UserError, match=r"expected (less|greater) than or equal to"):
        parse(model, value, "c.yaml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"time_unt": "s"}, "key 'source.time_unt': unknown key; did you mean 'time_unit'?"),
        ({"time_unit": "h"}, "key 'source.time_unit': expected 's', 'ms', 'us' or 'ns', found 'h'"),
        ({"feedback": {"like": {"column": "like", "kin": 1}}}, "key 'source.feedback.like.kin': unknown key; did you"),
        ({"path": 3}, "key 'source.path': expected a text or a list, found 3"),
        ({"time_zone": "UTC", "time_unit": "s"}, "key 'source': time_zone is for times that are not numbers"),
    ],
)
def test_keys_are_those_of_the_file(change: dict[str, object], words: str) -> None:
    source = {"kind": "files", "path": "x", "user": "u", "item": "i", "time": "t", **change}
    with pytest.raises(UserError, match=re.escape(f"c.yaml: {words}")):
        parse(PrepareSettings, {"source": source}, "c.yaml")
    with pytest.raises(UserError, match=re.escape("c.yaml: key 'source.user' is missing")):
        parse(PrepareSettings, {"source": {"kind": "files", "path": "x", "item": "user", "time": "files"}}, "c.yaml")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("many", "expected a number or 'auto', found 'many'"),
        (-1, "expected greater than or equal to 0 or 'auto', found -1"),
    ],
)
def test_a_value_of_several_kinds_is_one_key_and_all_that_it_may_be(value: object, expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"a.yaml: serving: key 'variety': {expected}")):
        parse(ServingSettings, {"variety": value}, "a.yaml: serving")
