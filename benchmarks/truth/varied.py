"""What nights make of policies that the log cannot vouch for: the same networks with more variety, judged and true.

    python -m benchmarks varied OUTPUT [--worlds stable ...] [--tasks frequency depth]

OUTPUT is that of `python -m benchmarks truth`. PrefRec's policies of each log are judged as a night judges them
(prefrec_ray/nightly), and rolled out in the simulator with test users. Share: of the way from the logging policy to
`nutrition`. OUTPUT/varied.csv has a row per policy and variety, and what is in it already is not done again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import markdown, rows_in
from benchmarks.truth.bench import missing_tasks
from prefrec_ray import storage
from prefrec_ray.evaluation.run import EvaluationRun, run_evaluation
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.nightly.vary import vary
from prefrec_ray.policy import Policy

Row = dict[str, Any]


def main(
    output: Path, worlds: Sequence[str] | None = None, tasks: Sequence[str] = ("frequency", "depth", "mixture")
) -> dict[str, Any]:
    """Judges what is missing, then prints all rows."""
    file = output / "varied.csv"
    rows: list[Row] = rows_in(file)
    for folder, missing in missing_tasks(output, rows, worlds, tasks):
        for task in missing:
            rows += of_policy(folder, task)
            storage.write_csv(str(file), rows)
    print(markdown(rows[0], [row.values() for row in rows]))
    return {"rows": rows}


def of_policy(folder: Path, task: str) -> Iterator[Row]:
    """A row for the policy of one log and task, and one for each larger variety."""
    (bundle,) = (folder / "robust" / "policies").glob(f"PrefRec_{task}_*")
    bundles = [str(bundle), *vary(str(bundle), str(folder / "varied" / task))]
    run = EvaluationRun(
        bundles,
        str(folder / "dataset"),
        EvaluateSettings(estimators=("model",)),
        online=True,
        output=str(folder / "varied" / f"{task}.json"),
    )
    evaluation = run_evaluation(run)
    true = {record.subject: record for record in evaluation.records if record.estimator == "online"}
    estimated = {record.bundle: record for record in evaluation.records if record.estimator == "model"}
    best = true["nutrition"].gain
    for uri in bundles:
        (name,) = (record.subject for record in true.values() if record.bundle == uri and record.role == "policy")
        yield {
            "world": folder.parent.name,
            "log": folder.name,
            "task": task,
            "variety": Policy.load(uri).serving.variety,
            "support": round(evaluation.support[name].states, 3),
            "verdict": evaluation.verdicts[name].verdict,
            "estimated gain": round(estimated[uri].gain, 3) if uri in estimated else "",
            "true gain": round(true[name].gain, 3),
            "share": round(true[name].gain / best, 3),
        }
