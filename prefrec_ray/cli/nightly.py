"""`prefrec nightly`: one night of the loop."""

from __future__ import annotations

from shlex import quote
from typing import Any

from prefrec_ray.cli.console import Config, console, made
from prefrec_ray.cli.progress import progress
from prefrec_ray.errors import UserError

NEEDED = ("prepare", "train", "loop")


def command(config: Config) -> None:
    """Make a policy from the newest log, and promote it if its verdict allows (sections prepare, train, loop)."""
    from prefrec_ray.nightly.run import run_night

    with progress(console()) as report:
        loop, work = open_loop(config, report)
        night = run_night(loop, work, work.digest, console().print)
    alias = f"{loop.folder.rstrip('/')}/current"
    page = f"{loop.folder.rstrip('/')}/nights/{night.night:04d}/report.html"
    then = f"prefrec serve {quote(alias)} --state FOLDER" if night.status == "promoted" else f"open {quote(page)}"
    made("night", page, then)


def open_loop(config: str, report: Any) -> tuple[Any, Any]:
    """Return the settings of the loop and the stages of its nights, from the YAML `config`.

    Raises `UserError` for a missing or invalid section, and for settings that prevent every promotion.
    """
    from prefrec_ray.cli.config import load_sections, parse_section
    from prefrec_ray.nightly.work import Stages

    sections = load_sections(config)
    for name in NEEDED:
        if name not in sections:
            raise UserError(f"{config}: section '{name}' is missing; expected {', '.join(NEEDED)}")
    settings = {name: parse_section(name, sections.get(name), config) for name in (*NEEDED, "evaluate")}
    loop = settings["loop"]
    if settings["train"].dataset is not None:
        raise UserError(
            f"{config}: train: key 'dataset': found a data set; expected none, because every night makes its own"
        )
    if loop.promote == "candidates" and "model" not in settings["evaluate"].estimators:
        raise UserError(
            f"{config}: evaluate: key 'estimators': expected model, which promotion requires (loop.promote)"
        )
    if loop.compact_days is not None and settings["prepare"].source.kind != "events":
        raise UserError(
            f"{config}: loop: key 'compact_days': found a value; expected it only with a source of kind events"
        )
    stages = {f"{name}_": settings[name] for name in ("prepare", "train", "evaluate")}
    return loop, Stages(**stages, where=config, progress=report)
