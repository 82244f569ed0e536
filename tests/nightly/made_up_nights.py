"""Made-up nights: a loop whose steps write small files and a real policy, without Ray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from made_records import made_record
from platform_desk import make_policy

from prefrec_ray.evaluation.results.records import Evaluation, ItemShare, ServedItems, Support
from prefrec_ray.evaluation.results.verdict import verdicts
from prefrec_ray.guard_rails import GuardRail
from prefrec_ray.nightly.check import FeedbackStatistics, NightCounts, Spans
from prefrec_ray.nightly.folder import LoopFolder, Night
from prefrec_ray.nightly.run import run_night
from prefrec_ray.nightly.settings import CanarySettings, LoopSettings
from prefrec_ray.serving.experiment.compare import CanaryComparison, GuardRailResult
from prefrec_ray.serving.experiment.estimates import ArmEstimate
from prefrec_ray.serving.settings import Canary
from prefrec_ray.storage import followed

NAME = "PrefRec"
#: The steps of a night with work to do, in their order, if there is no canary; the last one, `release`, follows.
STEPS = ("check", "prepare", "train", "evaluate", "report")
#: Positions of the first log, and of the second.
RANGES = ((0, 999_999), (1_000_000, 1_999_999))


class Killed(BaseException):
    """An end like a kill: nothing in the product catches it."""


def save_policy(bundle: Path) -> None:
    """Save a small policy that a server can load."""
    if not bundle.exists():
        make_policy(items=3).save(str(bundle))


def evaluation(gain: float, states: float = 0.95, top: float = 0.02) -> Evaluation:
    """Evaluate a policy with this gain and support, whose most served item has the share `top`."""
    half = math.hypot(0.1, 2 * (1 - states) * gain)
    bounds = {"gain_ci_low": gain - half, "gain_ci_high": gain + half}
    settings = {"relative_error": 2 * (1 - states)}
    records = (
        made_record(NAME, 1.0 + gain, estimator="model", reaches_end=False, settings=settings, **bounds),
        made_record("random items", 1.01, role="control", estimator="model"),
    )
    shares = {NAME: top, "behaviour": 0.02}
    served = {
        name: ServedItems(requests=1000, distinct_items=500, top_items=(ItemShare(item_id=1, share=share),))
        for name, share in shares.items()
    }
    support = {NAME: Support(states=states)}
    outcome = Evaluation(records=records, served=served, support=support)
    return outcome.model_copy(update={"verdicts": verdicts(outcome)})


def several(bundle: str) -> Evaluation:
    """Evaluate two policies: the night's own without support, and the policy `bundle`, a candidate."""
    own, other = evaluation(0.5, states=0.5), evaluation(0.4)
    name = f"{NAME} variety 6"
    record = other.records[0].model_copy(update={"subject": name, "bundle": bundle})
    outcome = own.model_copy(
        update={
            "records": (*own.records[1:], record),
            "served": {**own.served, name: other.served[NAME]},
            "support": {**own.support, name: other.support[NAME]},
        }
    )
    return outcome.model_copy(update={"verdicts": verdicts(outcome)})


def made_comparison(value: float, half: float = 0.2, days: float = 5.0, **rails: float) -> CanaryComparison:
    """Compare 100 users of any canary with 1,900 others, with this difference and half its interval.

    `rails`: margin of a guard-rail `feedback.NAME >= -2 %`.
    """
    found = []
    for name, margin in rails.items():
        rail, low, high = GuardRail.from_text(f"feedback.{name} >= -2 %"), margin - 0.01, margin + 0.01
        found.append(GuardRailResult(rail, low, high, rail.status(low, high)))
    users = {"main": 1900, **{f"night-{night}": 100 for night in range(1, 30)}}
    middle = 0.0 if math.isnan(value) else value
    objective = ArmEstimate(value, middle - half, middle + half, 2000)
    return CanaryComparison(users, 0, days, objective, found, [])


@dataclass
class Steps:
    """Two logs: a number of requests a night, of which some have no clicks. `stop`: the step that is killed."""

    log: list[tuple[int, bool]]
    second: list[tuple[int, bool]] = field(default_factory=list)
    ranges: Spans = RANGES
    logs: tuple[str, ...] = ("a", "b")
    result: Evaluation = field(default_factory=lambda: evaluation(0.5))
    stop: str = ""
    leaves_out: bool = True
    digest: str = "same"
    calls: list[str] = field(default_factory=list)
    without: Spans = ()
    before: list[int] = field(default_factory=list)
    compared: CanaryComparison | None = field(default_factory=lambda: made_comparison(0.0))

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.stop == name:
            raise Killed

    def count(self, spans: Spans) -> NightCounts:
        if any(last == 999_999 for _, last in spans):  # parts of the night, and those refused, are counted again
            self._call("check")
        counted_spans, part = [], []
        for low, high in spans:
            base, log = (0, self.log) if high < 1_000_000 else (1_000_000, self.second)
            clicks = [broken for requests, broken in log for _ in range(requests)]
            high = min(high, base + len(clicks) - 1)
            if low <= high:
                counted_spans.append((low, high))
                part += clicks[low - base : high - base + 1]
        if not part:
            return NightCounts(spans=(), requests=0, users=0, feedback={})
        empty = all(part)
        column = FeedbackStatistics(low=0, high=0 if empty else 1, share=0 if empty else 0.5)
        requests = len(part)
        return NightCounts(
            spans=tuple(counted_spans), requests=requests, users=requests // 10, feedback={"click": column}
        )

    def prepare(self, dataset: str, without: Spans) -> None:
        self._call("prepare")
        self.without = without
        Path(dataset).mkdir(parents=True)
        Path(dataset, "metadata.json").write_text("{}")

    def train(self, dataset: str, run: str, current: str | None) -> None:
        self._call("train")
        assert Path(dataset, "metadata.json").exists()
        save_policy(Path(run, "policy"))

    def evaluate(self, dataset: str, run: str, before: Sequence[str], current: str | None) -> Evaluation:
        self._call("evaluate")
        self.before = [int(Path(one).parent.name) for one in before]
        return self.result

    def compare(self, canary: Canary, bundle: str, settings: CanarySettings) -> CanaryComparison | None:
        assert Path(bundle, "policy.json").exists()
        self._call(f"compare {canary.arm} {canary.share:g}")
        return self.compared

    def report(self, run: str, file: str) -> None:
        self._call("report")
        Path(file).write_text("page")

    def compact(self, before: float) -> None:
        self._call(f"compact {before / 86_400:g}")


@dataclass
class Loop:
    """A loop in a folder, whose log grows by `night`."""

    path: Path
    steps: Steps = field(default_factory=lambda: Steps([]))
    settings: dict[str, object] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)
    clock: float = 0.0

    @property
    def folder(self) -> LoopFolder:
        return LoopFolder(str(self.path))

    @property
    def served(self) -> str | None:
        """The bundle that a server of the alias loads, from the folder of the loop."""
        bundle = followed(str(self.path / "current"))
        return None if bundle == str(self.path / "current") else bundle.removeprefix(f"{self.path}/")

    @property
    def current(self) -> int | None:
        """The night whose policy is served."""
        return None if self.served is None else int(self.served.split("/")[1])

    @property
    def promoted(self) -> tuple[int, ...]:
        """The nights that were promoted and not rolled back."""
        return self.folder.record().promoted

    def night(
        self, gain: float = 0.5, requests: int = 1000, broken: bool = False, digest: str = "same", **more: float
    ) -> Night:
        self.steps.log.append((requests, broken))
        self.steps.result = evaluation(gain, **more)
        return self.again(digest)

    def again(self, digest: str = "same") -> Night:
        loop = LoopSettings.model_validate({"folder": str(self.path), "release": "promote", **self.settings})
        self.steps.digest = digest
        with mock.patch("time.time", return_value=self.clock):
            return run_night(loop, self.steps, self.printed.append)

    def statuses(self) -> list[str]:
        return [night.status for night in self.folder.nights()]
