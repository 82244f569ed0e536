"""Small logs of other shapes: as MovieLens, Last.fm and a shop's clickstream write them."""

from pathlib import Path

import numpy as np
import pandas as pd


def moments(rng: np.random.Generator, count: int, start: int = 1_600_000_000) -> np.ndarray:
    """Seconds of one user's requests: minutes apart, with pauses of hours and days."""
    return start + rng.choice([40, 300, 900, 5000, 90_000], count, p=[0.5, 0.25, 0.1, 0.1, 0.05]).cumsum()


def movielens(users: int = 160, seed: int = 0) -> pd.DataFrame:
    """userId, movieId, rating, timestamp (s)."""
    rng = np.random.default_rng(seed)
    parts = []
    for user in range(1, users + 1):
        count = int(rng.integers(25, 60))
        rating = rng.integers(1, 11, count) / 2
        movie = rng.choice(200, count, replace=False)
        columns = {"userId": user, "movieId": movie, "rating": rating, "timestamp": moments(rng, count)}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def lastfm(users: int = 40, seed: int = 1) -> pd.DataFrame:
    """Text ids, some not ASCII; ISO times with a Z, the latest first; names next to ids, some of them empty."""
    rng = np.random.default_rng(seed)
    parts = []
    for user in range(users):
        count = 1 if user % 10 == 0 else int(rng.integers(10, 40))
        track = rng.integers(0, 60, count)
        time = pd.to_datetime(moments(rng, count), unit="s").strftime("%Y-%m-%dT%H:%M:%SZ")
        parts.append(
            pd.DataFrame(
                {
                    "userid": f"usér_{user:06d}",
                    "timestamp": time,
                    "artist_id": [f"a{k % 9}" for k in track],
                    "artist_name": [f"Björk {k % 9}" for k in track],
                    "track_id": [f"t{k}" for k in track],
                    "track_name": [None if k % 7 == 0 else f"歌 {k}" for k in track],
                }
            )[::-1]
        )
    return pd.concat(parts, ignore_index=True)


def clickstream(users: int = 50, seed: int = 2) -> pd.DataFrame:
    """Visitors of a shop: ms, sessions of its own, seconds watched, a value that is mostly missing."""
    rng = np.random.default_rng(seed)
    parts = []
    for user in range(users):
        count = int(rng.integers(8, 40))
        time = moments(rng, count)
        session = np.append(0, np.diff(time) > 1800).cumsum()
        parts.append(
            pd.DataFrame(
                {
                    "timestamp": time * 1000,
                    "visitorid": 10_000 + user,
                    "sessionId": [f"{user}-{k}" for k in session],
                    "event": rng.choice(["view", "addtocart"], count),
                    "itemid": rng.integers(0, 300, count),
                    "dwell_sec": rng.integers(0, 200, count),
                    "bought": rng.integers(0, 2, count),
                    "price": np.where(rng.random(count) < 0.8, np.nan, rng.random(count).round(2) * 90 + 9),
                    "weekday": pd.to_datetime(time, unit="s").dayofweek,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def write(frame: pd.DataFrame, path: Path, **options: object) -> Path:
    """Write CSV or Parquet, by the name of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, **options)
    return path
