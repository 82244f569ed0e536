"""Commands for serving: `serve`, `compare`, `plan-test`, `repair`, and of a loop `nightly`, `status` and `rollback`."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from prefrec_ray.cli.console import Config, Host, OwnConfig, Port, console, made, pasteable, progress
from prefrec_ray.errors import UserError, need

if TYPE_CHECKING:
    from prefrec_ray.guard_rails import GuardRail
    from prefrec_ray.mdp.items import ItemTable
    from prefrec_ray.serving.experiment.estimates import ArmEstimate
    from prefrec_ray.settings import Task

#: Sections of a loop from which a comparison takes the task, guard-rails, days, and policies of canaries.
_OF_CANARIES = ("train", "evaluate", "loop", "serve")
Loop = Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of the loop (`loop.folder`).")]
#: Sections of a night; `evaluate` may be missing.
NEEDED = ("prepare", "train", "loop")
#: Nights in the table of `prefrec status`.
_NIGHTS = 10


def serve(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="Policy bundle: RUN/policy, or an alias of one.")],
    state: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the event log and of user states.")],
    port: Port = 8080,
    host: Host = "127.0.0.1",
    config: OwnConfig = None,
) -> None:
    """Serve a policy over HTTP, and log impressions and feedback.

    Tokens: PREFREC_SERVE_TOKEN, or a file of clients in PREFREC_SERVE_CLIENTS.
    """
    from prefrec_ray.cli.config import open_section

    need("serve", "starlette", "uvicorn", "prometheus_client", where="prefrec serve")
    from prefrec_ray.serving.http import serve

    settings = open_section(config, "serve")
    serve(policy, state, settings, host, port, console().print)


def compare(
    events: Annotated[
        list[str], typer.Argument(metavar="EVENTS", help="Folders of `prefrec serve --state`, one per server.")
    ],
    days: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=366,
            show_default="loop.canary.days of the YAML, else 7",
            help="Days of a user that count, from the first session on.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG",
            help="YAML with the sections `train` (task), `evaluate` (guard-rails), and `loop` or `serve` (canaries).",
        ),
    ] = None,
    output: Annotated[str | None, typer.Option(metavar="FILE", help="JSON file to write as well.")] = None,
) -> None:
    """Compare canaries with the main arm: levels, depth and return, with intervals that are valid at any time."""
    from prefrec_ray import storage
    from prefrec_ray.cli.config import load_sections, parse_section
    from prefrec_ray.guard_rails import LOST, guard_rails
    from prefrec_ray.serving.experiment.compare import compare
    from prefrec_ray.serving.settings import MAIN

    settings = {}
    if config is not None:
        sections = load_sections(config)
        settings = {name: parse_section(name, sections[name], config) for name in _OF_CANARIES if name in sections}
    rails = guard_rails(settings["evaluate"].guard_rails) if "evaluate" in settings else []
    if days is None:
        days = settings["loop"].canary.days if "loop" in settings else 7.0
    task: Task = settings["train"].task if "train" in settings else "frequency"
    lost = settings["loop"].canary.lost if "loop" in settings else LOST
    comparison = compare(events, days, task, rails, _items_of(settings, rails), lost)
    by_canary = comparison.canaries
    if not by_canary:
        raise UserError(f"{events[0]}: found no canary; expected canaries (serve.canaries) to compare {MAIN} with")
    first = next(iter(by_canary.values()))
    table = Table("", f"{MAIN} ({first.users[MAIN]:,} users)", box=None, pad_edge=False)
    for arm, one in by_canary.items():
        table.add_column(f"{arm} ({one.users[arm]:,} users)")
        table.add_column("difference")
    for rows in zip(*(one.outcomes for one in by_canary.values()), strict=True):
        cells = [rows[0].name, _cell(rows[0].main)]
        for row in rows:
            cells += [_cell(row.canary), f"{_cell(row.difference, '+')} {row.difference.verdict}"]
        table.add_row(*cells)
    console().print(table)
    for arm, one in by_canary.items():
        for found in one.rails:
            note = f" ({found.note})" if found.note else ""
            console().print(f"{arm}: {found.rail}: {found.status}{note}")
    console().print(f"{comparison.waiting:,} users wait for the end of their {days:g} days and for late feedback")
    if comparison.moved:
        console().print(f"{comparison.moved:,} users do not count, as their arm changed in their days")
    if comparison.others:
        console().print(f"{comparison.others:,} users do not count, as they got no recommendation under these arms")
    if comparison.ahead:
        console().print(f"{comparison.ahead:,} rows do not count, as their clock is ahead of the log's last row")
    if output:
        storage.write_json(output, comparison.to_dict())
        made("comparison", output, pasteable("serve", "POLICY", "--state", events[0]))


def _items_of(settings: dict[str, Any], rails: list[GuardRail]) -> Callable[[str], ItemTable | None]:
    """Return a function from the name of a canary to the items of its policy, None if no guard-rail needs them."""
    from prefrec_ray import storage
    from prefrec_ray.nightly.folder import LoopFolder
    from prefrec_ray.policy import Policy

    bundles = {arm.name: arm.policy for arm in settings["serve"].canaries} if "serve" in settings else {}
    if "loop" in settings:
        folder = LoopFolder(storage.absolute(settings["loop"].folder))
        canary = folder.record().canary
        if canary is not None:
            bundles[canary.arm] = folder.bundle(canary)
    needed = any(not rail.relative for rail in rails)
    return lambda arm: Policy.load(bundles[arm]).items if needed and arm in bundles else None


def _cell(estimate: ArmEstimate, sign: str = "") -> str:
    from prefrec_ray.serving.experiment.estimates import RANGE_USERS

    if not estimate.users:
        return "no users yet"
    if not math.isfinite(estimate.low + estimate.high):
        return f"{estimate.value:{sign}.3g} (interval from {RANGE_USERS} users of the main arm on)"
    return f"{estimate.value:{sign}.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def plan_test(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="Prepared data set, or folder of `prefrec serve --state`.")
    ],
    task: Annotated[str, typer.Option(help="depth, frequency or mixture.")] = "frequency",
    gains: Annotated[str, typer.Option(metavar="LIST", help="Gains to be seen, in levels.")] = "0.1,0.2,0.5",
    shares: Annotated[str, typer.Option(metavar="LIST", help="Shares of the users in the canary.")] = "0.05,0.2,0.5",
    days: Annotated[float, typer.Option(min=0.01, max=366, help="Days of a user that count (loop.canary.days).")] = 3.0,
    power: Annotated[float, typer.Option(min=0.1, max=0.99, help="Probability that a gain is seen.")] = 0.8,
    rails: Annotated[int, typer.Option(min=0, help="Number of guard-rails (evaluate.guard_rails).")] = 0,
) -> None:
    """Show how many users and days a canary needs until a gain is seen, by simulation on the log."""
    from prefrec_ray import storage
    from prefrec_ray.dataset import PreparedDataset
    from prefrec_ray.engagement import MAX_LEVEL
    from prefrec_ray.logs.events.format import FILE
    from prefrec_ray.serving.experiment.history import read_sessions
    from prefrec_ray.serving.experiment.plan import MOST_USERS, outcomes_of_sessions, plan
    from prefrec_ray.settings import TASKS

    if task not in TASKS:
        raise UserError(f"--task: found {task}; expected one of {', '.join(TASKS)}")
    wanted = _numbers(gains, "--gains", 0.01, 5.0), _numbers(shares, "--shares", 0.001, 0.5)
    is_log = storage.exists(storage.join(dataset, FILE))
    sessions = read_sessions(dataset) if is_log else PreparedDataset.open(dataset).sessions()
    logged = outcomes_of_sessions(sessions, task, days)
    if len(logged.levels) < 2:
        raise UserError(f"{dataset}: found {len(logged.levels)} users with sessions in both halves; expected more")
    mean = logged.levels.mean()
    if mean + max(wanted[0]) >= MAX_LEVEL:
        most = MAX_LEVEL - mean
        raise UserError(
            f"--gains: found {max(wanted[0]):g}; expected less than {most:.2f}, {MAX_LEVEL} minus the mean level"
        )
    with progress(console()) as report:
        plans = plan(
            logged,
            *wanted,
            days,
            power,
            progress=lambda done, total: report("simulate experiments: gains times shares", done, total),
            rails=rails,
        )
    names = ("gain (levels)", "share", "users", "of them canary", "days")
    table = Table(*(Column(name, justify="right") for name in names), box=None, pad_edge=False)
    for one in plans:
        users = f"more than {MOST_USERS:,}" if one.users is None else f"{one.users:,}"
        canary = "" if one.users is None else f"{round(one.share * one.users):,}"
        when = "more users than the log has" if one.days is None else f"{one.days:.0f}"
        table.add_row(f"{one.gain:g}", f"{100 * one.share:g}%", users, canary, when)
    console().print(
        f"{task} level of {len(logged.levels):,} users in {days:g} days: mean {mean:.2f}, standard "
        f"deviation {logged.levels.std():.2f}; {logged.users:,} users in the log"
    )
    console().print(table)


def _numbers(text: str, option: str, low: float, high: float) -> list[float]:
    """Return the numbers of a comma-separated list. Raises `UserError` for another form or range."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(low <= number <= high for number in found):
        raise UserError(f"{option}: found {text!r}; expected numbers from {low:g} to {high:g}, separated by commas")
    return found


def nightly(config: Config) -> None:
    """Decide on the canary, or train a policy on the newest log and release it (sections prepare, train, loop)."""
    from prefrec_ray.cli.config import load_sections, open_tracking, parse_section
    from prefrec_ray.logs.sources import events_of
    from prefrec_ray.nightly.run import run_night
    from prefrec_ray.nightly.work import Stages

    sections = load_sections(config)
    for name in NEEDED:
        if name not in sections:
            raise UserError(f"{config}: section '{name}' is missing; expected {', '.join(NEEDED)}")
    prepare, train, loop, evaluate = (parse_section(name, sections.get(name), config) for name in (*NEEDED, "evaluate"))
    if train.dataset is not None:
        raise UserError(
            f"{config}: train: key 'dataset': found a data set; expected none, because every night makes its own"
        )
    if loop.release != "none" and "model" not in evaluate.estimators:
        raise UserError(f"{config}: evaluate: key 'estimators': expected model, which loop.release requires")
    has_events = events_of(prepare.source) is not None
    if loop.release == "canary":
        if not has_events:
            raise UserError(
                f"{config}: loop: key 'release': found canary; expected promote or none with a source of kind "
                f"{prepare.source.kind}, or a source of kind events, in which arms can be compared"
            )
        kept, needed = parse_section("serve", sections.get("serve"), config).retention_days, loop.canary.logged_days
        if kept is not None and kept < needed:
            raise UserError(
                f"{config}: serve: key 'retention_days': found {kept:g}; expected at least {needed:g}, the days and "
                "the longest_days of loop.canary"
            )
    if loop.compact_days is not None and not has_events:
        raise UserError(
            f"{config}: loop: key 'compact_days': found a value; expected it only with a source of kind events"
        )
    with progress(console()) as report:
        tracking, say = open_tracking(config), console().print
        work = Stages(prepare, train, evaluate, where=config, tracking=tracking, progress=report, say=say)
        night = run_night(loop, work, console().print)
    folder = loop.folder.rstrip("/")
    page = f"{folder}/nights/{night.night:04d}/report.html"
    if night.status == "waiting":
        console().print(f"next: {pasteable('status', folder)}")
        return
    released = night.status in ("canary", "promoted")
    then = pasteable("serve", f"{folder}/current", "--state", "FOLDER") if released else f"open {shlex.quote(page)}"
    made("night", page, then)


def status(folder: Loop) -> None:
    """Show the current policy, the canary with the last look at it, and the last nights."""
    from prefrec_ray import storage
    from prefrec_ray.nightly.folder import LoopFolder

    loop = LoopFolder(storage.absolute(folder))
    nights, record = loop.nights(), loop.record()
    if not nights:
        raise UserError(f"{folder}: no night yet; expected the folder of a loop with nights.json")
    last = next((night.look for night in reversed(nights) if night.look is not None), None)
    current = f"night {record.promoted[-1]} ({record.target})" if record.promoted else "none promoted yet"
    console().print(f"current: {current}")
    if record.canary is None:
        console().print("canary:  none")
    else:
        began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.canary.began / 1000))
        share = f"{100 * record.canary.share:g}% of the users"
        console().print(f"canary:  night {record.canary.night}, {share}, since {began}")
    if last is not None:
        console().print(f"last look: {last.line}")
        for rail, state in last.rails.items():
            console().print(f"  {rail}: {state}")
    table = Table("night", "began", "status", "why", box=None, pad_edge=False)
    for night in nights[-_NIGHTS:]:
        why = night.look.line if night.status == "waiting" and night.look is not None else night.why
        table.add_row(str(night.night), night.began, night.status, why)
    console().print(table)


def rollback(folder: Loop) -> None:
    """Withdraw the canary if there is one; otherwise return to the policy before the current one."""
    from prefrec_ray import storage
    from prefrec_ray.nightly.folder import LoopFolder

    loop = LoopFolder(storage.absolute(folder))
    withdrawn = loop.withdraw()
    if withdrawn is not None:
        made("withdrawn", f"the canary of night {withdrawn}", "POST /reload to the server of `current`")
        return
    done = loop.back()
    for why in done.skipped:
        console().print(f"skipped {why}")
    made("rolled back", f"from night {done.before} to night {done.after}", "POST /reload to the server of `current`")


def repair(
    state: Annotated[str, typer.Argument(metavar="STATE", help="Folder of a stopped server.")],
) -> None:
    """Repair a log whose checksums earlier versions put into texts of users."""
    from prefrec_ray.logs.events.repair import repair
    from prefrec_ray.serving.folder.snapshots import remove_snapshots

    records, rows = repair(state)
    if rows:
        remove_snapshots(state)  # they lack these rows
    what = f"{records:,} record{'s' * (records != 1)}, {rows:,} rows came back" if records else "nothing to repair"
    made("repaired" if records else "checked", what, pasteable("serve", "POLICY", "--state", state))
