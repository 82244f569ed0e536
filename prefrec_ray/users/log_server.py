"""Servers that show users what the log showed them: its items, or its pins at their places."""

from __future__ import annotations

import numpy as np

from prefrec_ray.users.roll_out import Platform, Server, Visit


def server_of_log(platform: Platform) -> Server:
    """Return a server of each user's logged items in their order, from the start again after the last one.

    Pages of other lengths than the typical one are divided or joined.
    """
    return lambda visit: platform.data.row[_logged_page(platform, visit)]


def _logged_page(platform: Platform, visit: Visit) -> np.ndarray:
    """Return the positions in the log of the impressions that the log has at a visit, int64 [n, page]."""
    starts, lengths = platform.data.starts[platform.users], platform.data.lengths[platform.users]
    number = (visit.step + np.arange(visit.page)) % lengths[:, None]
    return np.tile(starts[:, None] + number, (len(visit.states) // len(starts), 1))


def with_pins(platform: Platform, server: Server) -> Server:
    """Return the server with the log's pins at their places, as every policy shows them. A short log repeats."""
    data, pins = platform.data, platform.data.pins
    if pins is None:
        return server

    def pinned(visit: Visit) -> np.ndarray:
        at = _logged_page(platform, visit)
        seen = np.zeros((len(at), len(platform.items)), bool) if visit.seen is None else visit.seen.copy()
        user, place = np.nonzero(pins[at])
        seen[user, data.row[at][user, place]] = True
        page = server(visit._replace(seen=seen)).reshape(at.shape)
        drawn = np.maximum(np.cumsum(~pins[at], axis=1) - 1, 0)
        return np.where(pins[at], data.row[at], np.take_along_axis(page, drawn, axis=1))

    return pinned
