"""Figure 4 of the paper from a data set's sessions: which share of them lies at each level."""

from __future__ import annotations

import numpy as np

from prefrec_ray.dataset import PreparedDataset

LEVELS = 6  # 0 to 5 (Eq. 11)
#: For whoever reads a page of scores.
LEVEL = (
    "Level (Eq. 11): how a session compares with its own user's average, rounded down and kept between 0 and 5. Depth: "
    "its requests over the user's mean; frequency: the user's mean time to return over the time until the next "
    "session; mixture: a weighted mean of both. Higher is more engaged."
)


def level_shares(uri: str) -> dict[str, np.ndarray]:
    """Shares float64 [6] of the sessions of all users at levels 0 to 5, in "depth" and in "frequency".

    Counted file by file; a session without a revisit time has no frequency level and is left out there.
    """
    dataset = PreparedDataset.open(uri)
    counts = {name: np.zeros(LEVELS, dtype=np.int64) for name in ("depth", "frequency")}
    for file in dataset.files("sessions"):
        table = dataset.read(file, columns=[f"level_{name}" for name in counts])
        for name, count in counts.items():
            level = table[f"level_{name}"].to_numpy().astype(np.float64)
            count += np.bincount(level[np.isfinite(level)].astype(np.int64), minlength=LEVELS)
    return {name: count / max(1, count.sum()) for name, count in counts.items()}
