"""What `prefrec constrain` makes of policies that the log cannot vouch for, judged and true.

    python -m benchmarks constrained OUTPUT [--worlds stable ...] [--tasks frequency depth]

OUTPUT is that of `python -m benchmarks truth`. PrefRec's policies of each log, under their own serving rule and the one
that `constrain` finds, are judged and rolled out in the simulator with test users. Share: of the way from the logging
policy to `nutrition`. OUTPUT/constrained.csv has a row per policy and rule, and what is in it already is not done
again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import markdown
from benchmarks.truth.bench import extended, trained_bundle
from prefrec_ray.evaluation.run import EvaluationRun, run_evaluation
from prefrec_ray.evaluation.selection.constrain import constrain
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.policy import Policy

Row = dict[str, Any]


def main(
    output: Path, worlds: Sequence[str] | None = None, tasks: Sequence[str] = ("frequency", "depth", "mixture")
) -> dict[str, Any]:
    """Judges what is missing, then prints all rows."""
    rows = extended(output, "constrained.csv", of_policy, worlds, tasks)
    print(markdown(rows[0], [row.values() for row in rows]))
    return {"rows": rows}


def of_policy(folder: Path, task: str) -> Iterator[Row]:
    """A row for the policy of one log and task, and one for what `constrain` makes of it, where that is another."""
    own = trained_bundle(folder, task)
    dataset, policies = str(folder / "dataset"), {str(own): Policy.load(str(own))}
    constrained = constrain(policies[str(own)], dataset).policy
    if constrained.serving != policies[str(own)].serving:
        policies[str(folder / "constrained" / task)] = constrained
        constrained.save(str(folder / "constrained" / task))
    run = EvaluationRun(
        list(policies),
        dataset,
        EvaluateSettings(estimators=("model",)),
        online=True,
        output=str(folder / "constrained" / f"{task}.json"),
    )
    evaluation = run_evaluation(run)
    true = {record.subject: record for record in evaluation.records if record.estimator == "online"}
    estimated = {record.bundle: record for record in evaluation.records if record.estimator == "model"}
    best = true["nutrition"].gain
    for uri, policy in policies.items():
        (name,) = (record.subject for record in true.values() if record.bundle == uri and record.role == "policy")
        yield {
            "world": folder.parent.name,
            "log": folder.name,
            "task": task,
            "temperature": policy.serving.temperature,
            "variety": policy.serving.variety,
            "support": round(evaluation.support[name].states, 3),
            "verdict": evaluation.verdicts[name].verdict,
            "estimated gain": round(estimated[uri].gain, 3) if uri in estimated else "",
            "true gain": round(true[name].gain, 3),
            "share": round(true[name].gain / best, 3),
        }
