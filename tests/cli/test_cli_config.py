from pathlib import Path

import pytest

from prefrec_ray.cli.config import load_sections, open_section, override
from prefrec_ray.errors import UserError


def written(folder: Path, text: str) -> str:
    file = folder / "config.yaml"
    file.write_text(text)
    return str(file)


def test_sections_are_parsed_and_an_empty_one_holds_the_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, "simulate:\n  users: 7\nevaluate:\n")
    assert list(load_sections(file)) == ["simulate", "evaluate"]
    assert open_section(file, "simulate").users == 7
    assert open_section(file, "evaluate").split == "test"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("simulat:\n  users: 7\n", "unknown section 'simulat'; did you mean 'simulate'?"),
        ("{}\n", "empty; expected one or more of the sections simulate, prepare, train, evaluate"),
        ("# later\n", "empty; expected a mapping of sections"),
        ("a:\n  b: \x07\n", "line 2: not YAML (found the control character 0x07)"),
        ("- 1\n", "expected a mapping of sections, found list"),
        ("a: [1\n", "line 2: not YAML"),
        ("evaluate:\n", "section 'simulate' is missing; found evaluate"),
        ("simulate:\n  user: 7\n", "simulate: key 'user': unknown key; did you mean 'users'?"),
        ("simulate:\n  users: many\n", "simulate: key 'users': expected a whole number"),
        ("simulate:\n  world:\n    taste: 3\n", "simulate: key 'world.taste': unknown key; did you mean 'tastes'?"),
    ],
)
def test_each_mistake_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        open_section(file, "simulate")
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_reach_the_section_or_its_config(tmp_path: Path) -> None:
    section = {"task": "depth", "config": {"gamma": 0.5, "tau": 0.1}}
    texts = ["task=mixture", "seed=3", "gamma=0.95", "actor_lr=1e-4", "hidden_sizes=[64, 64]", "finetune_reward=false"]
    assert override("train", section, texts) == {
        "task": "mixture",
        "seed": 3,
        "config": {
            "gamma": 0.95,
            "tau": 0.1,
            "actor_lr": 1e-4,
            "hidden_sizes": [64, 64],
            "finetune_reward": False,
        },
    }
    assert section == {"task": "depth", "config": {"gamma": 0.5, "tau": 0.1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gamma", "'gamma': expected key=value"),
        ("=1", "'=1': expected key=value"),
        ("gamma=[1", "'gamma=[1': line 1: not YAML"),
        ("gama=0.9", "train: key 'config.gama': unknown key; did you mean 'gamma'?"),
        ("gamma=much", "train: key 'config.gamma': expected a number, found 'much'"),
        ("task=depht", "train: key 'task': expected 'depth', 'frequency' or 'mixture', found 'depht'"),
        ("recipe=robst", "train: key 'recipe': expected 'paper' or 'robust', found 'robst'"),
    ],
)
def test_a_bad_override_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        open_section(written(tmp_path, "train:\n"), "train", [text])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "text", "message"),
    [
        ("hello", "gamma=0.9", "train: key '(top)': expected a mapping, found 'hello'"),
        ("0", "gamma=0.9", "train: key '(top)': expected a mapping, found 0"),
        ("{config: [1]}", "gamma=0.9", "train: key 'config': expected a mapping, found [1]"),
        ("{config: 0}", "task=depth", "train: key 'config': expected a mapping, found 0"),
        ("{}", "config=5", "train: key 'config': expected a mapping, found 5"),
    ],
)
def test_what_is_no_mapping_is_one_line_with_overrides_too(
    tmp_path: Path, section: str, text: str, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        open_section(written(tmp_path, f"train: {section}\n"), "train", [text, "tau=0.1"])
    assert str(caught.value).endswith(message)


def test_an_error_of_several_keys_does_not_repeat_the_section(tmp_path: Path) -> None:
    source = "source: {kind: files, path: a.csv, user: u, item: i, time: t, position: p}"
    for text, message in (
        (f"{source}", "key 'source': position: found no page; expected a column of pages, or page: time"),
        (
            "source: {kind: simulator, path: x}, train_fraction: 0.9, validation_fraction: 0.3",
            "train_fraction + validation_fraction must be less than 1: the rest are test users",
        ),
    ):
        file = written(tmp_path, f"prepare: {{{text}}}\n")
        with pytest.raises(UserError) as caught:
            open_section(file, "prepare")
        assert str(caught.value) == f"{file}: prepare: {message}"
