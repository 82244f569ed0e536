"""Raw logs in, one canonical interaction table out."""

from __future__ import annotations

from prefrec_ray.logs.log import Log
from prefrec_ray.logs.sources import CompleteJourneySource, FilesSource, KuaiRandSource, SimulatorSource, Source

__all__ = ["CompleteJourneySource", "FilesSource", "KuaiRandSource", "Log", "SimulatorSource", "Source", "open_log"]


def open_log(source: Source, seed: int) -> Log:
    """The log that `source` describes; nothing but schemas and small tables is read yet.

    `seed` orders what the log leaves open (the lines of one basket). Raises `UserError` for a missing file or column
    and a wrong type; bad values in rows raise one when the interactions are read.
    """
    if isinstance(source, SimulatorSource):
        from prefrec_ray.logs.simulator import open_simulator

        return open_simulator(source)
    if isinstance(source, CompleteJourneySource):
        from prefrec_ray.logs.completejourney import open_complete_journey

        return open_complete_journey(seed)
    if isinstance(source, KuaiRandSource):
        from prefrec_ray.logs.kuairand import open_kuairand

        return open_kuairand(source)
    from prefrec_ray.logs.files import open_files

    return open_files(source)
