"""The expected result of `prepare`, computed with plain pandas loops that share no code with the package."""

import itertools
import math

import numpy as np
import pandas as pd


def sessions_of(log: pd.DataFrame, gap_ms: int) -> pd.DataFrame:
    """One row a session of `log` (user, ms, in the order of the log), with levels (Eq. 11)."""
    rows = []
    for user, requests in log.groupby("user", sort=False):
        times = requests.sort_values("ms", kind="stable").ms.tolist()
        groups = [[times[0]]]
        for before, now in itertools.pairwise(times):
            if now - before > gap_ms:
                groups.append([])
            groups[-1].append(now)
        revisits = [max(1, b[0] - a[-1]) for a, b in itertools.pairwise(groups)]
        mean_depth = len(times) / len(groups)
        for number, group in enumerate(groups):
            revisit = revisits[number] if number < len(revisits) else math.nan
            ratio = np.mean(revisits) / revisit if number < len(revisits) else math.nan
            rows.append(
                {
                    "user_id": user,
                    "session_index": number,
                    "start": group[0],
                    "exit": group[-1],
                    "depth": len(group),
                    "revisit_ms": revisit,
                    # A mean is a rounded quotient: a ratio of a whole number must not fall below it.
                    "level_depth": min(5, math.floor(len(group) / mean_depth + 1e-9)),
                    "level_frequency": math.nan if math.isnan(ratio) else min(5, math.floor(ratio + 1e-9)),
                }
            )
    return pd.DataFrame(rows).sort_values(["user_id", "session_index"]).reset_index(drop=True)


def requests_of(log: pd.DataFrame, gap_ms: int) -> pd.DataFrame:
    """user_id, session_index, step, timestamp, item_id of every request, by user and time, ties as in the log."""
    ordered = log.sort_values(["user", "ms"], kind="stable").reset_index(drop=True)
    opens = (ordered.ms.diff() > gap_ms) & (ordered.user == ordered.user.shift())
    return pd.DataFrame(
        {
            "user_id": ordered.user,
            "session_index": opens.groupby(ordered.user).cumsum().astype(int),
            "step": ordered.groupby("user").cumcount(),
            "timestamp": ordered.ms,
            "item_id": ordered.item,
        }
    )


def score(sessions: pd.DataFrame, user: object, start: int, length: int, task: str, scoring: str) -> float:
    """The levels of the sessions whose last request is one of [start, start + length), summed or averaged."""
    own_sessions = sessions[sessions.user_id == user]
    last = own_sessions.depth.cumsum() - 1
    inside = own_sessions[(last >= start) & (last < start + length)]
    level = {
        "depth": inside.level_depth,
        "frequency": inside.level_frequency,
        "mixture": 0.5 * inside.level_depth + 0.5 * inside.level_frequency,
    }[task].fillna(0.0)
    if scoring == "sum":
        return float(level.sum())
    return float(level.mean()) if len(level) else 0.0
