"""The steps of a night: calls of `prepare`, `train`, `evaluate` and `report` on Ray."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from prefrec_ray import runtime, storage
from prefrec_ray.dataset.prepare.run import prepare
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.evaluation.run import EvaluationRun, run_evaluation
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.guard_rails import guard_rails
from prefrec_ray.logs.contract import ROWS_OF_FILE
from prefrec_ray.logs.events.format import read_about
from prefrec_ray.logs.events.segments import compact
from prefrec_ray.logs.sources import EventsSource, JoinedSource, Source, events_of
from prefrec_ray.nightly.average import average
from prefrec_ray.nightly.check import ALL, NightCounts, Spans, count
from prefrec_ray.nightly.settings import CanarySettings
from prefrec_ray.policy import Policy
from prefrec_ray.reports.page import write_report
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.tracking import NO_TRACKING, Tracking, TrackingSettings
from prefrec_ray.runs.train import start_run
from prefrec_ray.runtime.progress import Report, silent, step
from prefrec_ray.serving.experiment.compare import CanaryComparison, compare_canary
from prefrec_ray.serving.settings import Canary


@dataclass(frozen=True)
class Stages:
    """The steps for the sections of the YAML `where`. Each may be called again after it was interrupted."""

    prepare_: PrepareSettings
    train_: TrainSettings
    evaluate_: EvaluateSettings
    where: str
    progress: Report = silent
    say: Callable[[str], None] = lambda line: None
    tracking: TrackingSettings = NO_TRACKING

    @property
    def log(self) -> Source:
        """Return the source of new impressions: the event log, also of a joined source; without one, all sources."""
        return events_of(self.prepare_.source) or self.prepare_.source

    @property
    def leaves_out(self) -> bool:
        """Return True for an event log: its rows cannot be repaired, so `prepare` excludes refused impressions."""
        return isinstance(self.log, EventsSource)

    @property
    def digest(self) -> str:
        """Return a digest of the settings of all steps."""
        parts = [settings.model_dump(mode="json") for settings in (self.prepare_, self.train_, self.evaluate_)]
        return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def ranges(self) -> Spans:
        """Return the possible positions in each log.

        In an event log a position is the number of a row, which only grows. In other sources it is a time. An
        impression that arrives late is used for training, but no night counts it.
        """
        if isinstance(self.log, EventsSource):
            return tuple((log * ROWS_OF_FILE, (log + 1) * ROWS_OF_FILE - 1) for log in range(len(self.log.paths)))
        return (ALL,)

    @property
    def logs(self) -> tuple[str, ...]:
        """Return the ids of the event logs, in their order."""
        return tuple(read_about(path).log_id for path in self.log.paths) if isinstance(self.log, EventsSource) else ()

    def count(self, spans: Spans) -> NightCounts:
        """Count the impressions in one pass over the log."""
        runtime.start_ray()
        with step(self.progress, "check the log"):
            return count(self.log, self.prepare_.seed, spans)

    def compare(self, canary: Canary, bundle: str, settings: CanarySettings) -> CanaryComparison | None:
        """Compare the canary, whose policy is `bundle`, with the current policy in the event logs.

        Returns None if the servers do not serve this canary now.
        """
        log, rails = self.log, guard_rails(self.evaluate_.guard_rails)
        assert isinstance(log, EventsSource)
        with step(self.progress, "compare the canary"):
            items = Policy.load(bundle).items if rails else None
            task = self.train_.task
            return compare_canary(log.paths, canary.arm, task, rails, settings.days, items, settings.lost)

    def prepare(self, dataset: str, without: Spans) -> None:
        """Run `prefrec prepare`."""
        settings = self.prepare_
        source = _excluding(settings.source, without)
        prepare(settings.model_copy(update={"source": source}), dataset, self.progress)

    def train(self, dataset: str, run: str, current: str | None) -> None:
        """Run `prefrec train`, from the last checkpoint if there is one.

        Items rest as long as under the `current` policy, unless their rest is set. The log of a server repeats items
        only after their rest. A rest measured in it would therefore grow from night to night.
        """
        where, settings = f"{self.where}: train", self.train_
        if current and settings.training().serving.rest_days == "auto":
            rest = Policy.load(storage.followed(current)).serving.rest_days
            serving = {**settings.config.get("serving", {}), "rest_days": rest}
            settings = settings.model_copy(update={"config": {**settings.config, "serving": serving}})
        resume = storage.exists(run)
        loop, _, night, _ = run.rsplit("/", 3)  # LOOP/nights/0003/run
        tracking = Tracking(self.tracking, run, posixpath.basename(loop), self.say)
        named = f"night {night}"
        start_run(settings, dataset, run, resume, self.progress, self.say, where, self.evaluate_, tracking, named)

    def evaluate(self, dataset: str, run: str, before: Sequence[str], current: str | None) -> Evaluation:
        """Run `prefrec evaluate` on the mean Q of the last nights, also against the `current` policy if not None."""
        own, *earlier = (storage.join(one, "policy") for one in (run, *before))
        bundle = average(own, earlier, dataset, storage.join(run, "averaged"))
        settings = self.evaluate_.model_copy(update={"current": current and storage.followed(current)})
        # The evaluation of a night that was killed is replaced. The logging policy contains the current one.
        file = storage.join(run, "evaluation.json")
        wanted = EvaluationRun([bundle], dataset, settings, output=file, replace=True, needs_current=False)
        return run_evaluation(wanted, self.progress)

    def report(self, run: str, file: str) -> None:
        """Run `prefrec report`."""
        write_report([run], file)

    def compact(self, before: float) -> None:
        if isinstance(self.log, EventsSource):
            for path in self.log.paths:
                compact(path, before)


def _excluding(source: Source, without: Spans) -> Source:
    """Return the source without impressions at these positions of its event log, if it has one."""
    if isinstance(source, JoinedSource):
        parts = tuple(_excluding(part, without) for part in source.sources)
        return source.model_copy(update={"sources": parts})
    return source.model_copy(update={"without": without}) if isinstance(source, EventsSource) else source
