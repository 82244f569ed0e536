"""The tables of what varieties are worth, and of what logs say, from rows made by hand."""

from __future__ import annotations

from pathlib import Path

from benchmarks.truth import answers, bench, histories, rules, tiring


def test_rules_are_averaged_over_tasks_and_the_least_is_said() -> None:
    names = [*(f"{v:g}" for v in rules.VARIETIES), rules.SAID]
    rows = [
        {"world": world, "task": task, "temperature": t, "variety": name, "said": 6.4, "score": score + number / 100}
        for world, score in (("stable", 0.5), ("tiring", 0.1))
        for task in ("depth", "frequency")
        for t in rules.TEMPERATURES
        for number, name in enumerate(names)
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in rules.table(rows).splitlines()]
    by_name = {line[0]: line[1:] for line in lines}
    assert by_name["stable"] == ["6.4", "0.50", "0.51", "0.52", "0.53", "0.54", "0.55", "0.56"]
    assert by_name["all, temperature 0.3"][1] == "0.30 (0.10)"
    assert by_name["all, temperature 0.15"][-1] == "0.36 (0.16)"


def test_what_logs_say_is_listed_by_users_and_an_empty_answer_is_none() -> None:
    rows = [
        {"world": "tiring", "log": 3, "users": 900, "tiring": 3.0, "variety": 7.9, "error": 0.1, "half_life": 20.0},
        {"world": "tiring", "log": 4, "users": 900, "tiring": 3.0, "variety": 7.1, "error": 0.3, "half_life": 20.0},
        {"world": "stable", "log": 3, "users": 900, "tiring": 0.0, "variety": 1.0, "error": 0.7, "half_life": 20.0},
        {"world": "stable", "log": 3, "users": 300, "tiring": 0.0, "variety": ""},
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tiring.table(rows).splitlines()]
    assert lines[2:] == [["tiring", "yes", "7.9, 7.1 (0.2)", ""], ["stable", "no", "1 (0.7)", ""]]


def test_what_logs_of_each_size_say_stands_on_a_line() -> None:
    rows = [
        {"world": "tiring", "users": 60, "requests": 240, "seed": seed, "variety": 6.0 + seed, "error": 0.5}
        for seed in (0, 1)
    ]
    rows += [{"world": "stable", "users": 60, "requests": 240, "seed": 0}]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in histories.table(rows).splitlines()]
    assert lines[0] == ["users, requests of each", "tiring", "stable"]
    assert ["60 of 240", "6.0 (0.5), 7.0 (0.5)", ""] in lines
    assert len(lines) == 2 + len(histories.SIZES)


def test_only_what_is_missing_of_logs_that_are_done_is_run(tmp_path: Path) -> None:
    for log in ("stable/log0", "stable/log1", "tiring/log0", "drift/log0"):
        (tmp_path / log).mkdir(parents=True)
        if log != "stable/log1":  # it was stopped before
            (tmp_path / log / "evaluation.json").write_text("{}")
    rows = [{"world": "stable", "log": "log0", "task": "depth"}]
    rows += [{"world": "tiring", "log": "log0", "task": task} for task in ("depth", "frequency")]

    def unfinished(worlds: list[str] | None) -> dict[str, list[str]]:
        missing = bench.missing_tasks(tmp_path, rows, worlds, ["depth", "frequency"])
        return {str(folder.relative_to(tmp_path)): tasks for folder, tasks in missing}

    assert unfinished(None) == {"drift/log0": ["depth", "frequency"], "stable/log0": ["frequency"]}
    assert unfinished(["stable", "tiring"]) == {"stable/log0": ["frequency"]}


def test_q_and_answers_stand_side_by_side() -> None:
    rows = [
        {"world": "tiring", "log": log, "task": "depth", "rule": rule, "by": by, "served": "answers", "score": score}
        for log, more in (("log0", 0.0), ("log1", 0.2))
        for rule, by, score in (
            ("sample", "answers", 0.7 + more),
            ("sample", "q", 0.5),
            ("best", "q", 0.1 + more),
            ("best", "answers", 0.9),
        )
    ]
    head, _, line = answers.table(rows).splitlines()
    assert [cell.strip() for cell in head.split("|")[3:-1]] == [
        f"depth {way}" for way in ("best q", "best answers", "sample q", "sample answers")
    ]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == ["tiring", "answers", "0.20", "0.90", "0.50", "0.80"]
