"""The defaults in every world: `python -m benchmarks rules OUTPUT [--worlds NAME ...] [--logs 0 1 2] [--pages 1 5]`.

For each log: simulated, prepared, PrefRec trained by the defaults (`train` chooses the serving rule), and evaluated
with the true levels of test users. Then the best rule of the same networks is searched by true levels. OUTPUT/rules.csv
has a row per log, and what is in it already is not done again.

Score: (true level - logging policy) / (best known - logging policy). Best known is the control with the true law, or
the best rule of the same networks if this is better. The true gain is over the logging policy rolled out anew. The
estimated gain is over the logged items shown again, and so is the true gain to compare it with (pages of one item).
With `--satisfaction`, in OUTPUT/satisfaction, networks learn from the true satisfaction instead of preferences, under a
fixed rule and without the estimate: what state and method reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.harness import one_thread, prefrec, rows_in
from benchmarks.truth.bench import FIRST_SEED, ON_SATISFACTION, prepared
from benchmarks.truth.scores import BEST
from prefrec_ray import storage
from prefrec_ray.bench.results import markdown
from prefrec_ray.bench.worlds import DEVELOPMENT, VALIDATION, WORLDS
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.online import RollOut, levels_of_logged_items, true_level
from prefrec_ray.evaluation.results.names import LOGGING_POLICY, RANDOM_ITEMS
from prefrec_ray.evaluation.results.records import Evaluation, Record, read_evaluation
from prefrec_ray.evaluation.selection.serving_rule import Grid, Rule, Tried, search
from prefrec_ray.policy import Policy
from prefrec_ray.settings import Task

TASK: Task = "frequency"
FIXED_RULE = {"scores": "q", "temperature": 0.15, "variety": 0, "repetition": 0}


def main(
    output: Path,
    worlds: Sequence[str] | None = None,
    logs: Sequence[int] = (0,),
    pages: Sequence[int] = (1,),
    satisfaction: bool = False,
) -> dict[str, Any]:
    """Run what is missing, and print the table."""
    output = output / "satisfaction" if satisfaction else output
    file = output / "rules.csv"
    rows: list[dict[str, Any]] = rows_in(file)
    own = (*DEVELOPMENT, *VALIDATION)
    names = worlds or [*own, *(name for name in WORLDS if name not in own)]
    for log, name, page in product(logs, names, pages):
        if (name, str(log), str(page)) not in {(row["world"], str(row["log"]), str(row["page"])) for row in rows}:
            rows.append(row_of(name, log, page, output / name / f"log{log}_page{page}", satisfaction))
            storage.write_csv(str(file), rows)
    print(markdown(rows[0], [list(row.values()) for row in rows]))
    return {"rows": rows}


def row_of(name: str, log: int, page: int, folder: Path, satisfaction: bool = False) -> dict[str, Any]:
    """Run one log of a world, with pages of `page` items, in `folder`, and return its row."""
    run = folder / "run"
    train: dict[str, Any] = {"method": "PrefRec", "task": TASK, "seed": FIRST_SEED + log}
    if satisfaction:
        train["config"] = {**ON_SATISFACTION, "serving": FIXED_RULE}
    world, dataset = prepared(name, log, folder, page, train=train)
    if not (run / "policy").exists():
        resume = ["--resume"] if run.exists() else []
        prefrec("train", str(world), "--dataset", str(dataset), "--output", str(run), *resume)
    evaluation = folder / "evaluation.json"
    if not evaluation.exists():
        only = ("--estimators", "ncis" if satisfaction else "model", "--online", "--output", str(evaluation))
        prefrec("evaluate", str(run / "policy"), "--dataset", str(dataset), *only)
    scores = scored(read_evaluation(str(evaluation)), Policy.load(str(run / "policy")), dataset, page)
    return {"world": name, "split": split_of(name), "log": log, "page": page, **scores}


def scored(evaluation: Evaluation, policy: Policy, dataset: Path, page: int) -> dict[str, Any]:
    """Return the scores, gains and verdict of a policy, and of the best rule of its networks."""
    ((name, verdict),) = evaluation.verdicts.items()
    true = {record.subject: record for record in evaluation.select(TASK, "online")}
    logged = true[LOGGING_POLICY].value
    best, more = best_rule_of(policy, dataset)
    best_level = true[name].value + more
    best_known = max([best_level, *(true[control].value for control in BEST if control in true)])
    estimate: Record | None = next((r for r in evaluation.select(TASK, "model") if r.subject == name), None)
    support = evaluation.support.get(name)
    over_logged = ""
    if page == 1:
        over_logged = f"{true[name].value - levels_of_logged_items(PreparedDataset.open(str(dataset)))[TASK]:+.2f}"

    def score(level: float) -> str:
        return f"{(level - logged) / (best_known - logged):.2f}"

    return {
        "score": score(true[name].value),
        "rule": in_words(Rule.from_policy(policy)),
        "score of the best rule": score(best_level),
        "best rule": in_words(best),
        "random items": score(true[RANDOM_ITEMS].value),
        "true gain": f"{true[name].value - logged:+.2f}",
        "true gain over logged items": over_logged,
        "estimated gain": "" if estimate is None else f"{estimate.gain:+.2f}",
        "low": "" if estimate is None else f"{estimate.gain_ci_low:+.2f}",
        "high": "" if estimate is None else f"{estimate.gain_ci_high:+.2f}",
        "support": "" if support is None else f"{support.states:.0%}",
        "verdict": verdict.verdict,
    }


def best_rule_of(policy: Policy, dataset: Path) -> tuple[Rule, float]:
    """Return the best rule of the policy's networks by true levels of test users, and its gain over the policy's rule.

    The search is the one of `train`, with shorter roll-outs of fewer users than in the evaluation.
    """
    data, how = PreparedDataset.open(str(dataset)), RollOut("test", users=40, requests=100)
    one_thread()

    def attempt(rules: Sequence[Rule]) -> list[Tried]:
        levels = [true_level(data, policy.under(**rule._asdict()), TASK, how) for rule in rules]
        return [Tried(rule, support=1.0, gain=level, low=level) for rule, level in zip(rules, levels, strict=True)]

    own = Rule.from_policy(policy)
    tried = search(attempt, own, Grid())
    return tried[0].rule, tried[0].gain - next(one.gain for one in tried if one.rule == own)


def in_words(rule: Rule) -> str:
    """Return scores, temperature : diversity penalty, and the repetition penalty with its window."""
    repetition = f" : {rule.repetition:g} in {rule.repetition_window}" if rule.repetition else ""
    return f"{rule.scores} {rule.temperature:g} : {rule.variety:g}{repetition}"


def split_of(name: str) -> str:
    """Return development, validation, or known law (of the project's own simulator)."""
    return "development" if name in DEVELOPMENT else "validation" if name in VALIDATION else "known law"
