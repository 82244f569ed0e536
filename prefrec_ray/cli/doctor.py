"""`prefrec doctor`: checks whether a cluster is ready for a run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from prefrec_ray.cli.console import console
from prefrec_ray.cli.submit import Address, Env


def command(
    address: Address = "http://127.0.0.1:8265",
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", metavar="URI", help="Storage of data sets and runs; every node writes a test file there."
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="CONFIG", help="YAML whose resources the cluster must have.")
    ] = None,
    env: Env = None,
) -> int:
    """Check a cluster before a run: token, versions, clocks, storage, memory, resources."""
    from prefrec_ray.cli.config import load_sections, parse_section
    from prefrec_ray.cluster import doctor, placement
    from prefrec_ray.cluster.variables import variables

    sections = load_sections(config) if config is not None else {}
    settings = {name: parse_section(name, value, str(config)) for name, value in sections.items()}
    checks = doctor.examine(address, storage, placement.demands(settings), variables(env or ()))
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark = ("✓", "green") if check.good else ("✗", "red")
        console().print(Text.assemble(mark, f" {check.name:<{width}}  {check.text}"))
    return 0 if all(check.good for check in checks) else 2
