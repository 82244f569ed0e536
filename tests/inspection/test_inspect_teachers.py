"""Diagnoses of teachers: rules against plain loops, and data sets whose truth is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefrec_ray.dataset import SCHEMA_VERSION, Metadata, PreparedDataset
from prefrec_ray.inspection.teachers import Diagnosis, between_share, diagnose, rule_accuracy
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.preferences import DRAWS, SCRIPTED, Sessions, find_scoring, label
from prefrec_ray.storage.parquet import write_parquet


@settings(deadline=None, max_examples=60)
@given(
    pairs=st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20
    )
)
def test_a_rule_is_right_where_it_prefers_what_was_preferred(pairs: list[tuple[float, int, int]]) -> None:
    hits = []
    for preferred, first, second in pairs:
        if preferred == 0.5:
            continue
        if first == second:
            hits.append(0.5)
        else:
            hits.append(float((second > first) == (preferred == 1.0)))
    accuracy = rule_accuracy(*(np.array(column) for column in zip(*pairs, strict=True)))
    if hits:
        assert accuracy == pytest.approx(np.mean(hits))
    else:
        assert accuracy is None


def test_the_share_between_users_is_the_one_that_made_the_numbers() -> None:
    rng = np.random.default_rng(0)
    for between, within in ((1.0, 1.0), (3.0, 1.0), (0.0, 1.0), (1.0, 0.0)):
        scores = np.sqrt(between) * rng.normal(size=(4000, 1)) + np.sqrt(within) * rng.normal(size=(4000, 8))
        assert between_share(scores) == pytest.approx(between / (between + within), abs=0.02)
    assert between_share(np.full((3, 4), 2.0)) == 0.0


def test_the_share_between_users_is_that_of_the_sums_of_squares() -> None:
    scores = pd.DataFrame([[1.0, 2.0, 4.0], [7.0, 5.0, 3.0], [9.0, 9.0, 6.0], [0.0, 1.0, 8.0]])
    grand = scores.to_numpy().mean()
    between = sum(3 * (row.mean() - grand) ** 2 for _, row in scores.iterrows()) / 3
    within = sum((value - row.mean()) ** 2 for _, row in scores.iterrows() for value in row) / 8
    assert between_share(scores.to_numpy()) == pytest.approx((between - within) / (between + 2 * within))


def diagnosed(folder: Path, depths: list[list[int]], levels: list[list[float]], length: int) -> dict[str, Diagnosis]:
    """Return the diagnoses of all scripted teachers for validation users with these sessions, after a test user."""
    users = [f"u{user}" for user, of_user in enumerate(depths) for _ in of_user]
    depth, level = np.concatenate(depths).astype(np.int64), np.concatenate(levels).astype(float)
    columns = {"user_id": users, "depth": depth, "level_depth": level, "level_frequency": level}
    table = pa.table({**columns, "split": ["validation"] * len(users)})
    test = pa.table({name: [value] for name, value in zip(columns, ("a", 500, 9.0, 9.0), strict=True)})
    rows = pa.concat_tables([test.append_column("split", pa.array(["test"])), table])
    (folder / "sessions").mkdir()
    (folder / "preferences" / "depth").mkdir(parents=True)
    write_parquet(rows, str(folder / "sessions" / "part-00000.parquet"))
    sessions = Sessions.from_table(table, "depth", 0.5)
    steps = np.array([sum(of_user) for of_user in depths])
    tables = []
    for name, teacher in SCRIPTED.items():
        pairs = DRAWS[teacher.pairing](np.random.default_rng(0), steps, length, 1000)
        score = find_scoring(teacher.scoring)(sessions, pairs.user.ravel(), pairs.start.ravel(), length)
        sides = {f"user_{side}": [f"u{user}" for user in pairs.user[:, side]] for side in (0, 1)}
        sides |= {f"start_{side}": pairs.start[:, side] for side in (0, 1)}
        about = {"length": [length] * len(pairs), "label": label(*score.reshape(-1, 2).T)}
        tables.append(pa.table({**sides, **about, "teacher": [name] * len(pairs)}))
    write_parquet(pa.concat_tables(tables), str(folder / "preferences" / "depth" / "validation.parquet"))
    sizes = {"state_dim": 1, "action_dim": 1, "action_low": -1, "action_high": 1, "seed": 0, "mixture_weight": 0.5}
    empty = {name: {} for name in ("counts", "normaliser", "settings")}
    state = StateDefinition(feedback=("like",), user_features={})
    metadata = Metadata(
        schema_version=SCHEMA_VERSION, state=state, **sizes, **empty, tasks=["depth"], teachers=list(SCRIPTED)
    )
    return {diagnosis.teacher: diagnosis for diagnosis in diagnose(PreparedDataset(str(folder), metadata))}


def test_users_that_differ_and_never_change(tmp_path: Path) -> None:
    # Every session of user u is u + 1 impressions deep and of level u: only the user matters, in any pair of segments.
    depths, levels = [[u + 1] * 60 for u in range(4)], [[float(u)] * 60 for u in range(4)]
    diagnoses = diagnosed(tmp_path, depths, levels, 12)
    mean = diagnoses["any_users_mean"]
    assert (mean.between_users, mean.user, mean.sessions, mean.ties) == (1.0, 1.0, 1.0, 0.0)
    assert not mean.prefers_more  # users of a higher level end fewer sessions in a segment
    within = diagnoses["within_user_mean"]
    assert (within.ties, within.sessions, within.user) == (1.0, None, None)


def test_equal_users_whose_sessions_change(tmp_path: Path) -> None:
    # One impression per session: every segment has the same number of ends, and users differ only by chance.
    rng = np.random.default_rng(1)
    levels = [list(rng.integers(0, 6, 400).astype(float)) for _ in range(60)]
    diagnoses = diagnosed(tmp_path, [[1] * 400] * 60, levels, 20)
    assert set(diagnoses) == set(SCRIPTED)
    for diagnosis in diagnoses.values():
        assert diagnosis.sessions == 0.5
        assert diagnosis.between_users < 0.1
    # The same number of sessions in every segment: the sum and the mean give the same order.
    assert diagnoses["any_users_sum"].ties == diagnoses["any_users_mean"].ties
    assert diagnoses["any_users_sum"].user == pytest.approx(0.5, abs=0.15)


def test_the_sum_of_equal_levels_counts_sessions(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    depths = [list(rng.integers(1, 9, 80)) for _ in range(10)]
    diagnoses = diagnosed(tmp_path, depths, [[1.0] * 80] * 10, 20)
    for pairing in ("any_users", "within_user"):
        counting = diagnoses[f"{pairing}_sum"]
        assert counting.sessions == 1.0
        assert counting.prefers_more
        assert 0 < counting.ties < 1
        assert diagnoses[f"{pairing}_mean"].ties == 1.0
