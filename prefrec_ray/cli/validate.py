"""`prefrec validate`: checks of a YAML without running it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from prefrec_ray.cli.console import console


def command(file: Annotated[str, typer.Argument(metavar="FILE", help="YAML file or URI.")]) -> None:
    """Check every section of a YAML without running it, and the columns of its tables if they are on this machine."""
    from prefrec_ray.cli.config import load_sections, parse_section

    sections = load_sections(file)
    for name, value in sections.items():
        settings = parse_section(name, value, file)
        if name == "prepare":
            _check_tables(settings.source)
    console().print(f"{file}: well-formed (sections: {', '.join(sections)})")


def _check_tables(source: Any) -> None:
    from prefrec_ray import storage
    from prefrec_ray.logs.sources import ColumnsSource

    if not isinstance(source, ColumnsSource):
        return
    paths = [table.path for table in (source.users, source.items) if table]
    if paths and all("://" not in path and storage.exists(path) for path in paths):
        from prefrec_ray.logs.user_item_schemas import check_tables  # it imports pyarrow.parquet

        check_tables(source)
