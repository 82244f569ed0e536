"""Figure 4 of the paper: the share of a data set's sessions at each level."""

from __future__ import annotations

import numpy as np

from prefrec_ray.dataset import PreparedDataset

LEVELS = 6  # 0 to 5 (Eq. 11)
#: Explanation of levels on pages.
LEVEL = (
    "A level (Eq. 11) compares a session with the average of its own user in the log: a ratio, rounded down, from 0 to "
    "5. Frequency: the user's average time away over the time until the next session, so 2 is back in half the usual "
    "time and 4 in a quarter. Depth: the items of the session over the user's average. Mixture: a weighted mean of "
    "both. Higher is more engaged. The average level is not always 1: one short time away counts up to 5, a long one 0."
)


def level_shares(uri: str) -> dict[str, np.ndarray]:
    """Return the shares float64 [6] of all sessions at levels 0 to 5, in "depth" and in "frequency".

    Sessions are counted file by file. A session without a revisit time has no frequency level and is excluded there.
    """
    dataset = PreparedDataset.open(uri)
    counts = {name: np.zeros(LEVELS, dtype=np.int64) for name in ("depth", "frequency")}
    for file in dataset.files("sessions"):
        table = dataset.read(file, columns=[f"level_{name}" for name in counts])
        for name, count in counts.items():
            level = table[f"level_{name}"].to_numpy().astype(np.float64)
            count += np.bincount(level[np.isfinite(level)].astype(np.int64), minlength=LEVELS)
    return {name: count / max(1, count.sum()) for name, count in counts.items()}
