"""`run_bench`: one submission in each world, with true levels from roll-outs in the world's law.

OUTPUT/worlds/WORLD-SEED/logs, /dataset    simulated and prepared once, for all submissions
OUTPUT/work/SUBMISSION/WORLD-SEED          files of a submission
OUTPUT/SUBMISSION.json                     results, written at the end of each world
"""

from __future__ import annotations

import hashlib
import posixpath
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Any

from pydantic import Field

from prefrec_ray import __version__, plugins, storage
from prefrec_ray.bench.baselines import SUBMISSIONS, Given, MakeServer, PrefRec, popular
from prefrec_ray.bench.results import BEST_KNOWN, POPULAR, SUBMITTED, Estimate, Estimates, Levels, Submission, resumed
from prefrec_ray.bench.worlds import WORLDS, is_file, one_log, public_sections, sections_of
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import prepare
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.errors import UserError, error_line, find_user_error
from prefrec_ray.evaluation.behavior import fit_clone
from prefrec_ray.evaluation.estimators.evaluate import evaluate
from prefrec_ray.evaluation.estimators.request import EvaluationRequest
from prefrec_ray.evaluation.online import Maker, evaluate_online, levels_of_logged_items
from prefrec_ray.evaluation.results.names import CONSTANT, IMITATION, RANDOM_ITEMS
from prefrec_ray.evaluation.results.records import Record
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.policy import Policy
from prefrec_ray.runtime.progress import Report, silent, step
from prefrec_ray.settings import Seed, Settings, Task, parse
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import load_world
from prefrec_ray.simulator.write import simulate

#: Task of all true levels.
TASK: Task = "frequency"
PUBLIC_SEEDS = (0,)


class _Seeds(Settings):
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]


@dataclass(frozen=True)
class BenchRun:
    """Inputs of `run_bench`. `submission`: a name, or module:function. `seeds`: file with one seed per line, if any."""

    submission: str
    worlds: Sequence[str]
    output: str
    estimator: bool = False
    seeds: str | None = None

    @property
    def file(self) -> str:
        return storage.join(self.output, f"{self.submission.replace(':', '.')}.json")


@dataclass(frozen=True)
class _BenchWorld:
    """A simulated and prepared world: its name, the number of its seed, and its true law."""

    name: str
    number: int
    folder: str
    law: SimulateSettings
    dataset: PreparedDataset  # without the law

    @property
    def known(self) -> PreparedDataset:
        """Return the data set with the law."""
        metadata = self.dataset.metadata.model_copy(update={"world": self.law.model_dump(mode="json")})
        return replace(self.dataset, metadata=metadata)

    def given(self, folder: str, progress: Report) -> Given:
        return Given(self.dataset, storage.join(self.folder, "logs"), TASK, self.number, folder, progress)

    def roll_out(
        self, policies: dict[str, Policy], servers: dict[str, Maker], progress: Report, clone: Policy | None = None
    ) -> dict[str, Record]:
        """Return the record of every subject, with its true level."""
        controls = {} if clone is None else {IMITATION: clone}
        records = evaluate_online(self.known, policies, [TASK], controls=controls, progress=progress, servers=servers)
        return {record.subject: record for record in records}


def run_bench(run: BenchRun, progress: Report = silent) -> Submission:
    """Run the submission in every world that its file lacks, and return the content of the file.

    Raises `UserError`: an unknown submission or world, two worlds with one name, a missing or wrong file of a world,
    pages of several items for an estimator, a file of another submission or of other seeds, an error of the submission,
    a world in which no known policy is better than the logging policy.
    """
    seeds, digest = read_seeds(run.seeds)
    names = _names_of(run)
    fresh = Submission(
        name=run.submission, kind="estimator" if run.estimator else "policy", seeds=digest, version=__version__
    )
    if run.estimator:
        parse(EvaluateSettings, {"estimators": [run.submission]}, "--submission")
        make = None
    else:
        make = plugins.load("submissions", run.submission, "--submission", SUBMISSIONS)
    with storage.claimed(run.file):
        submission = resumed(fresh, run.file)
        for number, world in product(range(len(seeds)), run.worlds):
            name = names[world]
            if submission.has(name, number):
                continue
            opened = _open(world, name, number, seeds[number], run.output, progress)
            work = storage.join(run.output, "work", posixpath.basename(run.file).removesuffix(".json"))
            folder = storage.join(work, f"{name}-{number}")
            found = _estimates(opened, run, progress) if make is None else _levels(opened, make, folder, run, progress)
            submission = submission.model_copy(update={"results": (*submission.results, found)})
            submission.write(run.file)
    return submission


def _names_of(run: BenchRun) -> dict[str, str]:
    """Check the worlds, and return the name of each in folders and results."""
    names: dict[str, str] = {}
    for world in dict.fromkeys(run.worlds):
        if world not in WORLDS and not is_file(world):
            plugins.check("worlds", world, "--worlds", dict.fromkeys(WORLDS, ""))
        name = world.replace(":", ".") if ":" in world else posixpath.basename(world).partition(".")[0]
        if name in names.values():
            raise UserError(f"--worlds: found two worlds named '{name}'; expected one")
        names[world] = name
    for world in names:
        page = parse(SimulateSettings, sections_of(world)["simulate"], f"{world}: simulate").page
        if run.estimator and page > 1:
            raise UserError(f"{world}: key 'simulate.page': found {page}; expected 1 for an estimator's true gains")
    return names


def read_seeds(file: str | None) -> tuple[tuple[int, ...], str]:
    """Return the seeds, and `public` or the SHA-256 of their file. Raises `UserError` for a line that is not a seed."""
    if file is None:
        return PUBLIC_SEEDS, "public"
    text = storage.read_text(file)
    return parse(_Seeds, {"seeds": text.split()}, file).seeds, hashlib.sha256(text.encode()).hexdigest()


def _open(world: str, name: str, number: int, seed: int, output: str, progress: Report) -> _BenchWorld:
    """Simulate and prepare a world, as far as its folder lacks it."""
    folder = storage.join(storage.absolute(output), "worlds", f"{name}-{number}")
    logs, dataset, about = (storage.join(folder, part) for part in ("logs", "dataset", "world.json"))
    sections = one_log(public_sections(world), seed, logs)
    law = parse(SimulateSettings, sections["simulate"], f"{world}: simulate")
    if storage.exists(about) and storage.read_json(about) != sections:
        raise UserError(f"{about}: found another size or seed; expected a new output folder")
    storage.write_json(storage.make_room(about), sections)
    if not storage.exists(logs):
        simulate(law, logs, progress)
    if not storage.exists(dataset):
        prepare(parse(PrepareSettings, sections["prepare"], f"{world}: prepare"), dataset, progress)
    # Submissions see neither the law nor its seed.
    for file in (storage.join(logs, "log.json"), storage.join(dataset, "metadata.json")):
        storage.write_json(file, {**storage.read_json(file), "world": None})
    return _BenchWorld(name, number, folder, law, PreparedDataset.open(dataset))


def _levels(world: _BenchWorld, make: Any, folder: str, run: BenchRun, progress: Report) -> Levels:
    """Return the true levels of a policy and of the controls."""
    where, began = f"submission '{run.submission}': world {world.name}", time.monotonic()
    given = world.given(folder, progress)
    try:
        made = make(given)
    except Exception as error:  # a package's code may raise anything
        if find_user_error(error) is not None:
            raise
        raise UserError(f"{where}: found {type(error).__name__} ({error_line(error)}); expected a policy") from error
    seconds = time.monotonic() - began
    if not (isinstance(made, Policy) or callable(made)):
        raise UserError(f"{where}: found {type(made).__name__}; expected a Policy or a maker of servers")
    policies = {SUBMITTED: made} if isinstance(made, Policy) else {}
    servers = {POPULAR: _maker(popular(given))} | ({} if policies else {SUBMITTED: _maker(made)})
    records = world.roll_out(policies, servers, progress)
    levels = {subject: record.value for subject, record in records.items()}
    levels[BEST_KNOWN] = max(levels[name] for name in load_world(world.law).controls)
    value = {"levels": levels, "gain_ci": records[SUBMITTED].gain_interval}
    return parse(Levels, {"world": world.name, "seed": world.number, "seconds": seconds, **value}, where)


def _maker(make: MakeServer) -> Maker:
    return lambda crowd, rng: make(crowd.features, rng)


def _estimates(world: _BenchWorld, run: BenchRun, progress: Report) -> Estimates:
    """Return true and estimated gains of controls, and of PrefRec under three serving rules."""
    logged = levels_of_logged_items(world.known)[TASK]
    policy = PrefRec(world.given(world.folder, progress))
    greedy = policy.under(temperature=0.05, variety=0.0, repetition=0.0)
    policies = {"PrefRec": policy, "greedy": greedy, "spread": policy.under(temperature=1.0)}
    with step(progress, "fit the behavior clone"):
        clone = fit_clone(world.dataset, world.number)
    began = time.monotonic()
    settings = EvaluateSettings(estimators=(run.submission,), seed=world.number)
    evaluation = evaluate(EvaluationRequest(world.dataset, policies, [TASK], clone, settings), progress)
    seconds = time.monotonic() - began
    estimated = {record.subject: record for record in evaluation.select(TASK, run.submission)}
    true = world.roll_out(policies, {}, progress, clone.policy)
    rows = []
    for name in (*policies, IMITATION, CONSTANT, RANDOM_ITEMS):
        row = Estimate(subject=name, true_gain=true[name].value - logged)
        if (one := estimated.get(name)) is not None:
            row = row.model_copy(update={"gain": one.gain, "interval": one.gain_interval})
        rows.append(row)
    return Estimates(world=world.name, seed=world.number, seconds=seconds, estimates=tuple(rows))
