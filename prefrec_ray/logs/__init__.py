"""Raw logs, converted to one canonical table of interactions."""

from __future__ import annotations

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

__all__ = [
    "CompleteJourneySource",
    "EventsSource",
    "FilesSource",
    "KuaiRandSource",
    "RayDataSource",
    "SimulatorSource",
    "Source",
    "open_log",
]

if TYPE_CHECKING:  # settings import this module for its sources, and Ray Data takes seconds to import
    from prefrec_ray.logs.contract import SideFiles
    from prefrec_ray.logs.log import Log


def open_log(source: Source, seed: int, side: SideFiles | None = None) -> Log:
    """Return the log that `source` describes; only schemas and small tables are read yet.

    `seed` orders rows if the log does not order them (the lines of a basket). Raises `UserError` for a missing file or
    column and for a wrong type. Rows that break the contract go to `side` when they are read; without `side` the first
    such row is a `UserError`.
    """
    if isinstance(source, SimulatorSource):
        from prefrec_ray.logs.readers.simulator import open_simulator

        return open_simulator(source, side)
    if isinstance(source, CompleteJourneySource):
        from prefrec_ray.logs.readers.completejourney import open_complete_journey

        return open_complete_journey(seed)
    if isinstance(source, KuaiRandSource):
        from prefrec_ray.logs.readers.kuairand import open_kuairand

        return open_kuairand(source, side)
    if isinstance(source, EventsSource):
        from prefrec_ray.logs.readers.events import open_events

        return open_events(source)
    if isinstance(source, RayDataSource):
        from prefrec_ray.logs.readers.ray_data import open_ray_data

        return open_ray_data(source, side)
    from prefrec_ray.logs.readers.files import open_files

    return open_files(source, side)
