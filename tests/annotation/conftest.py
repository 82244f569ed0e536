"""A small prepared data set with two teachers, and pairs of it to ask people about."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from people_answers import LENGTH, quiet

from prefrec_ray.annotation.questions import write_pairs
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.settings import parse

WITHIN = {"pairing": "within_user", "scoring": "mean"}
TEACHERS = [WITHIN, WITHIN | {"scoring": "sum"}]


def make_log() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for number in range(40):
        count = int(rng.integers(14, 50))
        seconds = 1_700_000_000 + rng.choice([30, 600, 1900, 40_000, 90_000], count).cumsum()
        parts.append(
            pd.DataFrame(
                {
                    "who": f"usér <{number}>",
                    "what": [f"видео & {k}" for k in rng.integers(0, 20, count)],
                    "when": seconds,
                    "like": rng.random(count).astype(np.float32),
                    "click": rng.integers(0, 2, count),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="session")
def log() -> pd.DataFrame:
    return make_log()


@pytest.fixture(scope="session")
def dataset(ray_session: None, tmp_path_factory: pytest.TempPathFactory, log: pd.DataFrame) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("people")
    log.to_parquet(folder / "log.parquet")
    value = {
        "source": {
            **{"kind": "files", "path": str(folder / "log.parquet"), "user": "who", "item": "what"},
            **{"time": "when", "time_unit": "s", "feedback": ["like", "click"]},
        },
        "action_dim": 2,
        "train_fraction": 0.6,
        "validation_fraction": 0.3,
        "partitions": 2,
        "preferences": {
            **{"pairs": 200, "validation_pairs": 40, "length": LENGTH, "min_requests": 11, "teachers": TEACHERS},
        },
    }
    return prepare(parse(PrepareSettings, value, "test"), str(folder / "dataset"))


@pytest.fixture(scope="session")
def question_folder(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions") / "pairs"
    write_pairs(dataset, str(folder), 60, 0.25, "within_user", LENGTH, 3, quiet)
    return folder
