"""`prefrec validate`: checks a YAML without running it."""

from __future__ import annotations

from typing import Annotated

import typer

from prefrec_ray.cli.console import console


def command(file: Annotated[str, typer.Argument(metavar="FILE", help="YAML file or URI.")]) -> None:
    """Check every section of a YAML without running it."""
    from prefrec_ray.cli.config import load_sections, parse_section

    sections = load_sections(file)
    for name, value in sections.items():
        parse_section(name, value, file)
    console().print(f"{file}: well-formed (sections: {', '.join(sections)})")
