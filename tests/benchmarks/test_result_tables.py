"""Tables of result pages match their files of figures."""

from __future__ import annotations

import csv
import json
import re
from decimal import ROUND_HALF_UP, Decimal
from statistics import mean

from benchmarks.results import RESULTS
from prefrec_ray.bench.results import Submission, policy_table
from prefrec_ray.evaluation.results.rules import coverage


def table(page: str, first: str) -> list[list[str]]:
    """The cells of the rows of the table whose first head is `first`, without its heads."""
    lines = (RESULTS / f"{page}.md").read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip(" *`") for cell in line.strip().strip("|").split("|")])
    return rows


def short(number: str) -> str:
    """Return a mean, or a mean ± half-width, with two digits as on the pages: .52 ± .11."""
    parts = [str(Decimal(part).quantize(Decimal("0.01"), ROUND_HALF_UP)) for part in number.split(" ± ")]
    return " ± ".join(re.sub(r"^(-?)0\.", r"\1.", part) for part in parts)


def test_days_of_a_loop() -> None:
    """Looks that decide, their users, and the levels that the text names."""
    with (RESULTS / "loop_habit.csv").open(newline="") as file:
        days = list(csv.DictReader(file))
    decided = {row["day"]: (row["look"], row["users"]) for row in days if row["look"] in ("promote", "withdraw")}
    found = {
        night: (re.search(r": (promote|withdraw)", look), users) for night, _, look, users, _ in table("loop", "night")
    }
    assert {night: (look[1], users) for night, (look, users) in found.items() if look} == decided
    loop, logging, best = ([float(row[name].split(" ± ")[0]) for row in days] for name in ("loop", "logging", "best"))
    page = (RESULTS / "loop.md").read_text("utf-8")
    last = (sum(loop[-3:]) - sum(logging[-3:])) / (sum(best[-3:]) - sum(logging[-3:]))
    assert f"share of {short(str(last))} is of the last three days" in page
    assert f"the last one has {short(str((loop[-1] - logging[-1]) / (best[-1] - logging[-1])))}" in page
    assert all(ours > theirs for ours, theirs in zip(loop, logging, strict=True))


def test_days_of_a_canary() -> None:
    """Days, looks that decide, and levels against the logging policy and the best known one."""
    worlds: dict[str, list[dict[str, str]]] = {}
    with (RESULTS / "loop_withdrawn.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            worlds.setdefault(row["world"], []).append(row)
    for name, days, looks, share, lowest in table("loop", "world"):
        rows = worlds.pop(name.replace("`", "").removesuffix(" (validation)"))
        decided = [row for row in rows if row["look"] in ("withdraw", "promote")]
        assert re.findall(r"(withdraw|promote).*?: (\[.*?\]), (\d+)", looks) == [
            (row["look"], f"[{row['low']}, {row['high']}]".replace("0.", "."), row["users of the canary"])
            for row in decided
        ]
        loop, logging, best = (
            [float(row[column].split(" ± ")[0]) for row in rows] for column in ("loop", "logging policy", "best known")
        )
        against = min(ours / theirs - 1 for ours, theirs in zip(loop, logging, strict=True))
        assert share == short(str((loop[-1] - logging[-1]) / (best[-1] - logging[-1])))
        assert (days, lowest) == (str(len(rows)), f"{100 * against:.0f} %")
    assert not worlds


def test_crowd() -> None:
    """Share of labels on the true side, and the mean accuracy over seeds after the last epoch."""
    labels = json.loads((RESULTS / "crowd.json").read_text("utf-8"))["labels"]
    rows = table("labeling", "labels")
    assert len(rows) == len(labels)
    for name, right, accuracy in rows:
        votes, _, way = name.replace("`", "").partition(" votes per pair, ")
        measured = labels["truth" if name == "truth" else f"{way}_{votes}_votes"]
        assert accuracy == f"{100 * mean(seed[-1] for seed in measured['accuracy']):.1f} %"
        assert right == (f"{100 * measured['aggregated']:.1f} %" if "aggregated" in measured else "")


def test_bench() -> None:
    """The tables of the command, without submissions that are controls."""
    kept: list[str] = []
    for name in ("bench", "bench_worlds"):
        submissions = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))["submissions"]
        printed = policy_table([Submission.model_validate(one) for one in submissions]).splitlines()
        kept += [line for line in printed if not line.startswith(("| random |", "| popular |"))]
    page = (RESULTS / "bench.md").read_text("utf-8").splitlines()
    assert [line for line in page if line.startswith("|")] == kept


def test_every_log_of_the_bench_of_rules_is_on_a_page() -> None:
    """Scores, gains and verdicts of all worlds, in the tables of two pages."""
    laws, truth, rules = (
        (RESULTS / name).read_text("utf-8").replace("-0.00", "0.00").splitlines()
        for name in ("laws.md", "truth.md", "truth_rules.csv")
    )
    figures = {
        (
            row["world"],
            row["score"],
            row["score of the best rule"],
            row["random items"],
            row["true gain over logged items"],
            f"{row['estimated gain']} [{row['low']}, {row['high']}]",
            row["verdict"].replace("_", " "),
        )
        for row in csv.DictReader(rules)
    }
    found = {
        (row[0], *row[2:])
        for line in (*laws, *truth)
        if len(row := [cell.strip(" *`") for cell in line.strip("|").split("|")]) == 8 and "[" in row[6]
    }
    assert figures <= found


def test_the_measured_coverage_is_the_one_of_the_file_and_on_every_page_that_names_it() -> None:
    """Reports, cards and pages name logs whose interval contains the true gain over the logged items shown again."""
    with (RESULTS / "truth_rules.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    def counted(logs: list[dict[str, str]]) -> str:
        covered = [float(row["low"]) <= float(row["true gain over logged items"]) <= float(row["high"]) for row in logs]
        return f"{sum(covered)} of {len(covered)}"

    every, candidates = counted(rows), counted([row for row in rows if row["verdict"] == "candidate"])
    assert f"In {every} simulated logs" in coverage()
    assert f"In {candidates} simulated logs with a candidate" in coverage("candidates")
    for page in ("../evaluation", "truth", "laws"):
        text = " ".join((RESULTS / f"{page}.md").read_text("utf-8").split())
        assert f"{every} simulated logs" in text, page
        assert f"{candidates} with a candidate" in text, page
