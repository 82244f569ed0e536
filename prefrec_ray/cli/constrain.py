"""`prefrec constrain`: the same networks under a serving rule with enough support by the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from prefrec_ray.cli.console import Dataset, console, made, pasteable
from prefrec_ray.cli.progress import loading, progress
from prefrec_ray.errors import UserError

if TYPE_CHECKING:
    from prefrec_ray.evaluation.selection.constrain import Constrained


def command(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="Policy bundle, RUN/policy.")],
    dataset: Dataset,
    output: Annotated[str, typer.Option("--output", metavar="FOLDER", help="New folder for the policy bundle.")],
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="CONFIG", help="YAML with the section `evaluate` (sizes of its model)."),
    ] = None,
) -> None:
    """Find a serving rule (temperature, diversity penalty) with enough support by the log, without training."""
    with loading(console()):
        from prefrec_ray import storage
        from prefrec_ray.cli.config import open_section
        from prefrec_ray.evaluation.selection.constrain import constrain
        from prefrec_ray.evaluation.settings import EvaluateSettings
        from prefrec_ray.policy import Policy

    if storage.exists(output):
        raise UserError(f"{output}: already exists; choose another output folder or remove this one")
    settings = open_section(config, "evaluate") if config else EvaluateSettings()
    loaded = Policy.load(policy)
    with progress(console()) as report:
        constrained = constrain(loaded, storage.absolute(dataset), report, policy, settings.model)
    constrained.policy.save(output)
    console().print(tried_table(constrained))
    made("policy", output, pasteable("evaluate", output, "--dataset", dataset, config=config))


def tried_table(constrained: Constrained) -> Table:
    """Return a table of the tried rules with support and level on validation users; the chosen rule is highlighted."""
    serving = constrained.policy.serving
    table = Table(box=None, pad_edge=False)
    for name in ("temperature", "variety", "support", "level"):
        table.add_column(name, justify="right")
    for one in sorted(constrained.tried, key=lambda one: (one.temperature, one.variety)):
        taken = (one.temperature, one.variety) == (serving.temperature, serving.variety)
        cells = (f"{one.temperature:g}", f"{one.variety:g}", f"{one.support:.0%}", f"{one.level:.2f}")
        table.add_row(*(Text(cell, "bold green" if taken else "") for cell in cells))
    return table
