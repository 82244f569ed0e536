"""Raw logs, converted to one canonical table of interactions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from prefrec_ray.logs.sources import (
    CompleteJourneySource,
    EventsSource,
    FilesSource,
    KuaiRandSource,
    RayDataSource,
    SimulatorSource,
    Source,
)

if TYPE_CHECKING:  # settings import this module for its sources, and Ray Data takes seconds to import
    from prefrec_ray.logs.contract import Side
    from prefrec_ray.logs.log import Log


def open_log(source: Source, seed: int, side: Side | None = None) -> Log:
    """Return the log that `source` describes; only schemas and small tables are read yet.

    `seed` orders rows if the log does not order them (the lines of a basket). Raises `UserError` for a missing file or
    column and for a wrong type. Rows that break the contract go to `side` when they are read; without `side` the first
    such row is a `UserError`.
    """
    reader = import_module(f"prefrec_ray.logs.readers.{source.kind}")
    log: Log = reader.open_log(source, seed, side)
    return log
