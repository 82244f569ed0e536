"""Files of submissions: their scores, tables, mistakes in one line, and the worlds that a resumed run skips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefrec_ray.bench import run as bench
from prefrec_ray.bench.results import Estimate, Estimates, Levels, Submission, read_submission, write_tables
from prefrec_ray.bench.run import BenchRun, read_seeds, run_bench
from prefrec_ray.bench.worlds import sections_of
from prefrec_ray.errors import UserError


def levels(world: str, submitted: float, seed: int = 0) -> Levels:
    controls = {"behaviour": 1.0, "random items": 0.5, "popular items": 2.0, "best known": 3.0}
    return Levels(world=world, seed=seed, seconds=4, levels={**controls, "submission": submitted}, gain_ci=(0, 1))


def submission(name: str, *results: Any, **about: Any) -> Submission:
    kind = "estimator" if isinstance(results[0], Estimates) else "policy"
    return Submission.model_validate(
        {"name": name, "kind": kind, "seeds": "public", "version": "1", "results": results, **about}
    )


def table(folder: Path) -> dict[str, list[str]]:
    """Return the cells of the rows of results.md by name."""
    lines = Path(write_tables(str(folder))).read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|") and "---" not in line]
    return {name: cells for name, *cells in rows}


def test_policies_are_ordered_by_their_mean_share_of_the_best_known_gain(tmp_path: Path) -> None:
    submission("poor", levels("a", 0.8), levels("b", 1.4)).write(str(tmp_path / "poor.json"))
    submission("good", levels("a", 2.6), levels("b", 3.4), levels("c", 0.0)).write(str(tmp_path / "good.json"))
    rows = table(tmp_path)
    assert list(rows) == ["submission", "good", "popular items (control)", "poor", "random items (control)"]
    # World c has one submission only. Scores .8 and 1.2; t of one degree of freedom is 12.71.
    assert rows["good"] == ["1.00 [-1.54, 3.54]", "0.00 [-5.08, 5.08]", "0 of 2", "4", "0.80", "1.20"]
    assert rows["poor"][2] == "1 of 2"
    assert rows["random items (control)"][:3] == ["-0.25 [-0.25, -0.25]", "2.50 [2.50, 2.50]", "2 of 2"]


def test_estimators_are_compared_with_true_gains(tmp_path: Path) -> None:
    cells = [(1.0, 1.5, (0.5, 2.5)), (-0.5, 0.5, (0.25, 0.75)), (-1.0, -1.0, (-2.0, 0.0)), (0.3, None, None)]
    rows = [Estimate(subject=str(k), true_gain=t, gain=g, interval=i) for k, (t, g, i) in enumerate(cells)]
    result = Estimates(world="a", seed=0, seconds=2, estimates=tuple(rows))
    submission("mine", result).write(str(tmp_path / "mine.json"))
    assert table(tmp_path)["mine"] == ["2 of 3", "1.50", "0.50", "1 of 2", "1 of 4", "2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"results": [{"world": "a"}]}, "results"),
        ({"kind": "both"}, "key 'kind'"),
        ({"more": 1}, "key 'more': unknown key"),
        ({"schema_version": 2}, "key 'schema_version'"),
    ],
)
def test_a_file_of_another_form_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({**submission("mine", levels("a", 2.0)).model_dump(), **changes}))
    with pytest.raises(UserError) as caught:
        read_submission(str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_a_world_without_a_known_gain_is_refused() -> None:
    about = levels("a", 2.0).model_dump()
    for change, message in (({"best known": 1.0}, "no gain of the best known"), ({"submission": None}, "submission")):
        changed = {name: value for name, value in {**about["levels"], **change}.items() if value is not None}
        with pytest.raises(ValueError, match=message):
            Levels.model_validate({**about, "levels": changed})


def test_results_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results"):
        write_tables(str(tmp_path))
    submission("one", levels("a", 2.0)).write(str(tmp_path / "one.json"))
    submission("other", levels("a", 2.0), seeds="abc").write(str(tmp_path / "other.json"))
    with pytest.raises(UserError, match="key 'seeds': found abc and public"):
        write_tables(str(tmp_path))
    submission("other", levels("b", 2.0)).write(str(tmp_path / "other.json"))
    with pytest.raises(UserError, match="without a common world"):
        write_tables(str(tmp_path))


def test_a_killed_run_goes_on_with_the_next_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, ran = tmp_path / "seeds.txt", []
    seeds.write_text("17\n4\n")
    file = tmp_path / "b.yaml"
    file.write_text(json.dumps(sections_of("stable")))

    def open_world(world: str, name: str, number: int, seed: int, *rest: Any) -> tuple[str, int]:
        ran.append((name, seed))
        if len(ran) == 3:
            raise KeyboardInterrupt
        return name, number

    monkeypatch.setattr(bench, "_open", open_world)
    monkeypatch.setattr(bench, "_levels", lambda opened, *rest: levels(opened[0], 2.0, opened[1]))
    run = BenchRun("random", ["topics", str(file)], str(tmp_path / "out"), seeds=str(seeds))
    with pytest.raises(KeyboardInterrupt):
        run_bench(run)
    assert len(read_submission(run.file).results) == 2
    done = run_bench(run)
    assert ran == [("topics", 17), ("b", 17), ("topics", 4), ("topics", 4), ("b", 4)]
    assert read_submission(run.file) == done
    assert [(one.world, one.seed) for one in done.results] == [("topics", 0), ("b", 0), ("topics", 1), ("b", 1)]
    # The seeds are private: the file has only their digest.
    assert "17" not in json.loads(Path(run.file).read_text()).values()
    seeds.write_text("18\n")
    with pytest.raises(UserError, match="key 'seeds'"):
        run_bench(run)


@pytest.mark.parametrize(
    ("worlds", "seeds", "message"),
    [
        (["topics", "wearot"], "1", "--worlds: found 'wearot'; did you mean 'wearout'?"),
        (["eu/shop.yaml", "us/shop.yaml"], "1", "--worlds: found two worlds named 'shop'; expected one"),
        (["topics", "eu/shop.yaml"], "1", "eu/shop.yaml: no such file"),
        (["topics"], "", "key 'seeds'"),
    ],
)
def test_a_mistake_is_found_before_the_first_world(tmp_path: Path, worlds: list[str], seeds: str, message: str) -> None:
    (tmp_path / "seeds.txt").write_text(seeds)
    with pytest.raises(UserError) as caught:
        run_bench(BenchRun("random", worlds, str(tmp_path / "out"), seeds=str(tmp_path / "seeds.txt")))
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_two_laws_of_one_package_are_two_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_open", lambda world, name, number, *rest: (name, number))
    monkeypatch.setattr(bench, "_levels", lambda opened, *rest: levels(opened[0], 2.0, opened[1]))
    done = run_bench(BenchRun("random", ["mine.laws:First", "mine.laws:Second"], str(tmp_path)))
    assert [one.world for one in done.results] == ["mine.laws.First", "mine.laws.Second"]


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "seeds.txt"
    bad.write_text("1\nx\n")
    with pytest.raises(UserError, match=r"seeds\.txt: key 'seeds\.1'"):
        read_seeds(str(bad))
    with pytest.raises(UserError, match="--submission: found 'populer'; did you mean 'popular'"):
        run_bench(BenchRun("populer", ["topics"], str(tmp_path)))
    with pytest.raises(UserError, match="did you mean 'ncis'"):
        run_bench(BenchRun("nciss", ["topics"], str(tmp_path), estimator=True))
