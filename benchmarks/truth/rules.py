"""What a trained policy is worth under other serving rules: in truth, and as far as the log can say.

    python -m benchmarks rules DATASET POLICY [--users 180] [--requests 300] [--task frequency]

Rolls the policy out under each rule of RULES, in the simulator and in a model of users (`prefrec evaluate`'s `model`),
with the same users. Score: (value - logging policy) / (nutrition - logging policy), of true levels; gains are over the
logging policy, in levels of the task; support is the share of states that the log vouches for. No training is done.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from benchmarks.harness import markdown
from benchmarks.truth.scores import pick
from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.evaluation.clone import fit_clone
from prefrec_ray.evaluation.modelled import model_all, model_scores, supports
from prefrec_ray.evaluation.online import RollOut, evaluate_online
from prefrec_ray.evaluation.request import EvaluationRequest
from prefrec_ray.evaluation.settings import EvaluateSettings, ModelSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runtime import start_ray
from prefrec_ray.terms import TASKS, Task, silent

RULES: dict[str, dict[str, Any]] = {
    "largest Q of the 64 nearest": {"rule": "best", "candidates": "nearest", "variety": 0.0},
    **{
        f"sample, {temperature}, variety {variety:g}": {"temperature": temperature, "variety": variety}
        for variety in (0.0, 5.0, 10.0)
        for temperature in (0.25, 0.5, 0.75, 1.0)
    },
}


def main(dataset: Path, policy: Path, users: int = 180, requests: int = 300, task: str = "frequency") -> dict[str, Any]:
    """Prints the scores of all tasks, and true and estimated gains of one."""
    start_ray()
    trained, data = Policy.load(str(policy)), PreparedDataset.open(storage.absolute(str(dataset)))
    rules = {name: replace(trained, serving=type(trained.serving)(**rule)) for name, rule in RULES.items()}
    how = RollOut(users=users, requests=requests)
    records = [record.model_dump() for record in evaluate_online(data, rules, how=how)]
    settings = EvaluateSettings(estimators=("model",), model=ModelSettings(users=users, requests=requests))
    chosen = cast(Task, task)
    request = EvaluationRequest(data, rules, [chosen], fit_clone(data), settings)
    modelled = model_all(request, silent)
    support = {name: one.states for name, one in supports(request, modelled).items()}
    # Estimates without support too: to see what they are worth.
    estimates = {r.subject: r.gain for r in model_scores(request, chosen, modelled, threshold=0.0).records(seed=0)}
    rows = []
    for name in rules:
        scores = []
        for each in TASKS:
            value = {r["subject"]: r["value"] for r in pick(records, task=each)}
            scores.append((value[name] - value["behaviour"]) / (value["nutrition"] - value["behaviour"]))
            if each == task:
                gain = value[name] - value["behaviour"]
        shown = f"{gain:+.2f}", f"{estimates[name]:+.2f}", f"{support[name]:.0%}"
        rows.append([name, *(f"{score:.2f}" for score in scores), *shown])
    print(markdown(("serving rule", *TASKS, f"gain, {task}", "estimated", "support"), rows))
    return {"records": records, "estimates": estimates, "support": support}
