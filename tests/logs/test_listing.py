"""Files, folders, globs and lists."""

from pathlib import Path

import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.logs.listing import list_inputs
from prefrec_ray.logs.schemas import schema

FILES = [
    "2024/a.csv",
    "2024/deep/er/b.parquet",
    "2025/a.tsv",
    "2025/b.csv.gz",
    "2025/c[1].csv",
    "2025/_SUCCESS",
    "2025/_temporary/d.csv",
    "2025/.hidden.csv",
    "2025/notes.txt",
    "u.data",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ["2024/a.csv", "2024/deep/er/b.parquet", "2025/a.tsv", "2025/b.csv.gz", "2025/c[1].csv"]),
        ("2024", ["2024/a.csv", "2024/deep/er/b.parquet"]),
        ("u.data", ["u.data"]),
        ("*.data", ["u.data"]),
        ("2025/c[1].csv", ["2025/c[1].csv"]),
        ("20*/a.*", ["2024/a.csv", "2025/a.tsv"]),
        ("202[!4]/?.tsv", ["2025/a.tsv"]),
        ("**/*.parquet", ["2024/deep/er/b.parquet"]),
        ("**/*.csv", ["2024/a.csv", "2025/c[1].csv"]),
        ("2024/*", ["2024/a.csv", "2024/deep/er/b.parquet"]),
        (["2025/a.tsv", "2024", "20*/a.csv"], ["2025/a.tsv", "2024/a.csv", "2024/deep/er/b.parquet"]),
    ],
)
def test_paths(folder: Path, path: str | list[str], expected: list[str]) -> None:
    paths = [f"{folder}/{one}" for one in path] if isinstance(path, list) else f"{folder}/{path}"
    assert list_inputs(paths) == [f"{folder}/{name}" for name in expected]
    if "[1]" not in path and not isinstance(paths, list):  # in a URI a bracket is always a wildcard
        assert list_inputs(f"file://{paths}") == [f"file://{folder}/{name}" for name in expected]


def test_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert list_inputs("2024/*.csv") == [f"{folder}/2024/a.csv"]


@pytest.mark.parametrize("path", ["nowhere/*.csv", "2024/*.tsv", "2025/[b-a].csv", "2025/[!].csv"])
def test_a_glob_that_nothing_matches(folder: Path, path: str) -> None:
    with pytest.raises(UserError, match=r"\.[ct]sv: no file matches$"):
        list_inputs(f"{folder}/{path}")


@pytest.mark.parametrize("path", ["", ["a.csv", " "]])
def test_an_empty_path_is_not_this_folder(path: str | list[str]) -> None:
    with pytest.raises(UserError, match=r"found an empty path; expected a file, a folder or a glob"):
        list_inputs(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("[!a].csv", ["&.csv", "[.csv", "\\.csv", "b.csv"]),
        ("[\\a].csv", ["\\.csv", "a.csv"]),
        ("[[b].csv", ["[.csv", "b.csv"]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_signs_between_brackets_stand_for_themselves(tmp_path: Path, path: str, expected: list[str]) -> None:
    for name in "ab&[\\":
        (tmp_path / f"{name}.csv").write_text("")
    assert list_inputs(f"{tmp_path}/{path}") == [f"{tmp_path}/{name}" for name in expected]


def test_links_that_lead_back_end(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / "2024" / name).symlink_to(folder / "2024")
    assert list_inputs(f"{folder}/2024") == [f"{folder}/2024/a.csv", f"{folder}/2024/deep/er/b.parquet"]


def test_a_broken_link_is_an_error(folder: Path) -> None:
    (folder / "2024" / "z.csv").symlink_to(folder / "gone.csv")
    (file,) = set(list_inputs(f"{folder}/2024")) - {f"{folder}/2024/a.csv", f"{folder}/2024/deep/er/b.parquet"}
    with pytest.raises(UserError, match=r"/2024/z.csv: no such file$"):
        schema(file)


def test_a_file_counts_once_by_whatever_links(folder: Path) -> None:
    expected = list_inputs(str(folder))
    (folder / "2023-latest").symlink_to(folder / "2024")
    (folder / "zero.csv").symlink_to(folder / "2025" / "b.csv.gz")
    assert list_inputs(str(folder)) == expected
    # A linked folder counts at the position of the link.
    (folder / "2026").mkdir()
    (folder / "2026" / "here.csv").symlink_to(folder / "2024" / "a.csv")
    assert list_inputs(f"{folder}/2026") == [f"{folder}/2026/here.csv"]
