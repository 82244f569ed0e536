"""Sessions of a KuaiRand log and their levels, computed plainly with pandas; it shares no code with the package."""

import numpy as np
import pandas as pd

GAP_MS = 30 * 60 * 1000
COLUMNS = ("user_id", "depth", "start", "exit", "revisit_ms", "level_depth", "level_frequency")


def plain_sessions(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a session, by user and time, of rows without duplicates in the order of the files."""
    rows = rows.sort_values(["user_id", "time_ms"], kind="stable")
    same = rows.user_id == rows.user_id.shift()
    rows["number"] = (same & (rows.time_ms.diff() > GAP_MS)).groupby(rows.user_id).cumsum()
    session = rows.groupby(["user_id", "number"])
    table = session.agg(depth=("time_ms", "size"), start=("time_ms", "first"), last=("time_ms", "last"))
    table["exit"] = table["last"] + session.play_time_ms.last()
    table = table.reset_index()
    user = table.groupby("user_id")
    table["revisit_ms"] = (user.start.shift(-1) - table.exit).clip(lower=1)
    # Whole numbers: no rounding decides a level.
    table["level_depth"] = (table.depth * user.depth.transform("size") // user.depth.transform("sum")).clip(upper=5)
    revisits, known = user.revisit_ms.transform("sum"), user.revisit_ms.transform("count")
    table["level_frequency"] = (revisits // (known * table.revisit_ms)).clip(upper=5)
    return table


def check_sessions(sessions: pd.DataFrame, rows: pd.DataFrame) -> None:
    """`sessions` is the table of sessions of a data set made of `rows`."""
    sessions = sessions.sort_values(["user_id", "session_index"])
    expected = plain_sessions(rows)
    assert len(sessions) == len(expected)
    for name in COLUMNS:
        np.testing.assert_array_equal(sessions[name].to_numpy(np.float64), expected[name].to_numpy(np.float64), name)
