import subprocess
import sys
from pathlib import Path

import pytest

from prefrec_ray.cli.main import run

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "tune_configs").glob("*.yaml"))


def test_it_names_the_sections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("simulate:\nevaluate:\n  split: validation\n")
    assert run(["validate", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: well-formed (sections: simulate, evaluate)\n"


def test_it_checks_every_section(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("simulate:\nevaluate:\n  ncis:\n    mode: densty\n")
    assert run(["validate", str(file)]) == 2
    assert "evaluate: key 'ncis.mode': expected 'density', 'kernel' or 'ratio'" in capsys.readouterr().err


def test_it_checks_the_keys_of_the_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("train:\n  config:\n    expectle: 0.7\n")
    assert run(["validate", str(file)]) == 2
    assert "train: key 'config.expectle': unknown key; did you mean 'expectile'?" in capsys.readouterr().err


def test_there_are_shipped_configs() -> None:
    assert SHIPPED


@pytest.mark.parametrize("file", [*SHIPPED, ROOT / "prefrec_ray/cli/quickstart.yaml"], ids=lambda file: file.name)
def test_a_shipped_config_opens_with_its_command_and_is_well_formed(file: Path) -> None:
    first = file.read_text("utf-8").splitlines()[0]
    assert first.startswith("# prefrec ")
    assert run(["validate", str(file)]) == 0


def test_sections_of_data_and_evaluation_need_neither_ray_nor_torch(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    source = "{kind: files, path: x, user: u, item: i, time: t}"
    file.write_text(f"simulate:\nprepare:\n  source: {source}\nevaluate:\n")
    code = (
        f"import sys; from prefrec_ray.cli.main import run; assert run(['validate', {str(file)!r}]) == 0; "
        "print(sorted({'ray', 'torch', 'pandas', 'scipy', 'pyarrow.parquet'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
