"""The steps of a night, done by the stages of the product on Ray."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from prefrec_ray import runtime, storage
from prefrec_ray.dataset.prepare.run import prepare
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.constrain import constrain
from prefrec_ray.evaluation.records import Evaluation
from prefrec_ray.evaluation.run import EvaluationRun, run_evaluation
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.evaluation.validation import Judge
from prefrec_ray.logs import EventsSource
from prefrec_ray.logs.events.about import read_about
from prefrec_ray.logs.events.compact import compact
from prefrec_ray.nightly.average import average
from prefrec_ray.nightly.check import Counted
from prefrec_ray.nightly.count import count, ranges
from prefrec_ray.nightly.run import Spans
from prefrec_ray.policy import Policy
from prefrec_ray.reports.page import write_report
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import train
from prefrec_ray.runtime.progress import Progress, silent, step


@dataclass(frozen=True)
class Stages:
    """`nightly.run.Work` by the sections of a YAML, `where`. `judge_of`: who scores the run on a data set."""

    prepare_: PrepareSettings
    train_: TrainSettings
    evaluate_: EvaluateSettings
    where: str
    judge_of: Callable[[TrainSettings, str], Judge | None]
    progress: Progress = silent
    on_row: Callable[[dict[str, Any]], None] | None = None

    @property
    def leaves_out(self) -> bool:
        """Of an event log, which nobody can mend, requests are left out."""
        return isinstance(self.prepare_.source, EventsSource)

    @property
    def digest(self) -> str:
        """Equal for equal settings of the steps."""
        parts = [settings.model_dump(mode="json") for settings in (self.prepare_, self.train_, self.evaluate_)]
        return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def ranges(self) -> Spans:
        """By the rows of event logs, by the times of others."""
        return ranges(self.prepare_.source)

    @property
    def logs(self) -> tuple[str, ...]:
        """In their order."""
        source = self.prepare_.source
        return tuple(read_about(path).log_id for path in source.paths) if isinstance(source, EventsSource) else ()

    def count(self, spans: Spans) -> Counted:
        """One pass over the log."""
        runtime.start_ray()
        with step(self.progress, "check the log"):
            return count(self.prepare_.source, self.prepare_.seed, spans)

    def prepare(self, dataset: str, without: Spans) -> None:
        """`prefrec prepare`."""
        settings = self.prepare_
        if isinstance(settings.source, EventsSource):
            source = settings.source.model_copy(update={"without": without})
            settings = settings.model_copy(update={"source": source})
        prepare(settings, dataset, self.progress)

    def train(self, dataset: str, run: str, start: str | None) -> None:
        """`prefrec train`, from the last checkpoint where there is one."""
        runtime.start_ray()
        settings = self.train_ if start is None else self.train_.model_copy(update={"start": start})
        judge = self.judge_of(settings, dataset)
        train(settings, dataset, run, storage.exists(run), self.on_row, f"{self.where}: train", judge)

    def evaluate(self, dataset: str, run: str, before: Sequence[str]) -> Evaluation:
        """`prefrec evaluate`; where the log cannot vouch for the policy, again with what `prefrec constrain` makes."""
        own, *earlier = (storage.join(one, "policy") for one in (run, *before))
        bundle = average(own, earlier, dataset, storage.join(run, "averaged"))
        evaluation = run_evaluation(EvaluationRun([bundle], dataset, self.evaluate_), self.progress)
        supported = all(support.supported for support in evaluation.support.values())
        constrained = storage.join(run, "constrained")
        if not supported and self._constrain(bundle, dataset, constrained):
            evaluation = run_evaluation(EvaluationRun([bundle, constrained], dataset, self.evaluate_), self.progress)
        return evaluation

    def _constrain(self, bundle: str, dataset: str, output: str) -> bool:
        """Whether there is a serving rule that the log can vouch for; the policy under it is in `output` then."""
        if storage.exists(storage.join(output, "policy.json")):  # written before a kill
            return True
        storage.remove(output)  # in a store: objects that arrived before a kill
        try:
            constrained = constrain(Policy.load(bundle), dataset, self.progress)
        except UserError:  # of this policy: the night ends with the verdict that it has
            return False
        constrained.policy.save(output)
        return True

    def report(self, run: str, file: str) -> None:
        """`prefrec report`."""
        write_report([run], file)

    def compact(self, before: float) -> None:
        """Of event logs."""
        if isinstance(self.prepare_.source, EventsSource):
            for path in self.prepare_.source.paths:
                compact(path, before)
