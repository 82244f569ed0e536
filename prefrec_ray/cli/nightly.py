"""Commands of a loop: `prefrec nightly`, `status` and `rollback`."""

from __future__ import annotations

import shlex
import time
from typing import Annotated

import typer
from rich.table import Table

from prefrec_ray.cli.console import Config, console, made, pasteable, progress
from prefrec_ray.errors import UserError

Loop = Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of the loop (`loop.folder`).")]
#: Sections of a night; `evaluate` may be missing.
NEEDED = ("prepare", "train", "loop")
#: Nights in the table of `prefrec status`.
_NIGHTS = 10


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
    if loop.release == "canary" and not has_events:
        raise UserError(
            f"{config}: loop: key 'release': found canary; expected promote or none with a source of kind "
            f"{prepare.source.kind}, or a source of kind events, in which arms can be compared"
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
        console().print(f"canary:  night {record.canary.night}, {record.canary.share:.0%} of the users, since {began}")
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
    from prefrec_ray.nightly.registry import set_aliases

    loop = LoopFolder(storage.absolute(folder))
    withdrawn = loop.withdraw()
    if withdrawn is not None:
        set_aliases(loop, console().print)
        made("withdrawn", f"the canary of night {withdrawn}", "POST /reload to the server of `current`")
        return
    done = loop.back()
    set_aliases(loop, console().print)
    for why in done.skipped:
        console().print(f"skipped {why}")
    made("rolled back", f"from night {done.before} to night {done.after}", "POST /reload to the server of `current`")
