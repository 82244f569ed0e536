"""Mistakes that `prepare` detects: one line with found and expected values, and nothing left behind.

tests/cli/test_cli_errors.py has mistakes in single rows, columns and files.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from prefrec_ray.dataset.prepare.run import PrepareSettings, prepare
from prefrec_ray.errors import UserError
from prefrec_ray.settings import parse

COLUMNS = {"kind": "files", "user": "user", "item": "item", "time": "time", "time_unit": "s", "feedback": ["like"]}
FRACTIONS = {"train_fraction": 0.5, "validation_fraction": 0.25}
PREFERENCES = {"pairs": 20, "validation_pairs": 10, "length": 3, "min_requests": 7}


def frame(users: int = 20, requests: int = 12, gaps: tuple[int, ...] = (60, 4000, 9000)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    count = users * requests
    return pd.DataFrame(
        {
            "user": np.repeat(np.arange(users), requests),
            "item": rng.integers(0, 30, count),
            "time": rng.choice(gaps, count).cumsum(),
            "like": rng.random(count),
        }
    )


def run(data: pd.DataFrame | None, folder: Path, name: str = "log.csv", **changes: Any) -> str:
    """Return the message of the `UserError`, after a check that nothing is left behind."""
    path = folder / name
    if data is not None:
        data.to_csv(path, index=False) if path.suffix == ".csv" else data.to_parquet(path)
    before = sorted(folder.rglob("*"))
    value = {"source": {**COLUMNS, "path": str(path)}, "preferences": PREFERENCES, "action_dim": 2}
    with pytest.raises(UserError) as caught:
        prepare(parse(PrepareSettings, value | FRACTIONS | changes, "c.yaml: prepare"), str(folder / "dataset"))
    assert type(caught.value) is UserError
    assert sorted(folder.rglob("*")) == before
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_empty_log(ray_session: None, tmp_path: Path, kind: str) -> None:
    message = run(frame().head(0), tmp_path, f"log{kind}")
    assert message == f"{tmp_path}/log{kind}: the log is empty; expected interactions"


def test_nobody_has_enough_requests(ray_session: None, tmp_path: Path) -> None:
    message = run(frame(), tmp_path, preferences=PREFERENCES | {"min_requests": 12})
    assert message.startswith("preferences: 0 of ")
    assert "train users have more than 12 steps, pages or impressions (the largest number is 12)" in message
    assert "expected at least 2: lower preferences.length and preferences.min_requests" in message


def test_all_preferences_tied(ray_session: None, tmp_path: Path) -> None:
    message = run(frame(gaps=(60,)), tmp_path)  # one session each: none ends inside a segment
    assert message.startswith("preferences: all 20 pairs of teacher any_users_sum for task depth are tied")
    assert "expected segments that differ" in message


def test_nobody_to_train_on(ray_session: None, tmp_path: Path) -> None:
    message = run(frame(users=1), tmp_path)
    assert message.startswith("none of the 1 users falls into the split")


def test_users_of_another_log(ray_session: None, tmp_path: Path) -> None:
    """Their features would be unknown of all, without a word."""
    users = tmp_path / "users.csv"
    pd.DataFrame({"id": range(100, 120), "age": ["a", "b"] * 10}).to_csv(users, index=False)
    table = {"path": str(users), "id": "id", "features": ["age"]}
    message = run(frame(), tmp_path, source={**COLUMNS, "path": str(tmp_path / "log.csv"), "users": table})
    assert message == (
        f"{users}: column 'id': found none of the log's 20 users; expected ids as in the log's column 'user'"
    )


def test_a_table_of_other_items(ray_session: None, tmp_path: Path) -> None:
    """Without embeddings a table may lack some items of the log, but not all."""
    items = tmp_path / "items.csv"
    pd.DataFrame({"item_id": range(100, 120), "title": "x"}).to_csv(items, index=False)
    table = {"path": str(items), "title": "title"}
    message = run(frame(), tmp_path, source={**COLUMNS, "path": str(tmp_path / "log.csv"), "items": table})
    assert message == (
        f"{items}: column 'item_id': found none of the log's 30 items; expected ids as in the log's column 'item'"
    )


def test_items_that_the_table_lacks(ray_session: None, tmp_path: Path) -> None:
    items = pd.DataFrame({"item_id": range(29), "x": 0.5, "y": -0.5})
    items.to_csv(tmp_path / "items.csv", index=False)
    table = {"path": str(tmp_path / "items.csv"), "embedding": ["x", "y"]}
    source = {**COLUMNS, "path": str(tmp_path / "log.csv"), "items": table}
    message = run(frame(), tmp_path, source=source)
    first = int(np.flatnonzero(frame().item == 29)[0]) + 1
    assert message.startswith(f"{tmp_path}/log.csv: column 'item_id', row {first}: found 29; ")
    assert "expected an item of the item table (29 items)" in message
    message = run(frame(), tmp_path, source=source, action_dim=8)
    assert message == "action_dim: found 8; expected 2 as in the log's embeddings (or omit it)"


def test_too_few_items_to_embed(ray_session: None, tmp_path: Path) -> None:
    message = run(frame(), tmp_path, action_dim=40)
    assert message.startswith("item embeddings: ")
    assert message.endswith("expected 42 for an `action_dim` of 40, or `items` with an embedding or features")


def test_sessions_too_short_to_embed_items(ray_session: None, tmp_path: Path) -> None:
    """Each user always gets the same item."""
    log = frame()
    message = run(log.assign(item=log.user), tmp_path)
    assert message.startswith("item embeddings: no session of a training user has 3 different items; expected `items`")


def test_output_exists(ray_session: None, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    assert "dataset: already exists" in run(frame(), tmp_path)


def test_no_log_folder(ray_session: None, tmp_path: Path) -> None:
    message = run(None, tmp_path, source={"kind": "simulator", "path": str(tmp_path / "logs")})
    assert message == f"{tmp_path}/logs: no log folder (log.json is missing); make one by `prefrec simulate`"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sede": 1}, "key 'sede': unknown key; did you mean 'seed'?"),
        ({"source": {"kind": "fils"}}, "found"),
        ({"preferences": {"length": 100, "min_requests": 150}}, "at least 200"),
        ({"preferences": {"teachers": [{"pairing": "within_users", "scoring": "sum"}]}}, "within_user"),
        ({"train_fraction": 0.9, "validation_fraction": 0.2}, "must be less than 1"),
        ({"source": {**COLUMNS, "path": "x", "feedback": {"": "click"}}}, "feedback: found a name without characters"),
    ],
)
def test_settings(changes: dict[str, Any], words: str) -> None:
    value = {"source": {**COLUMNS, "path": "x"}}
    with pytest.raises(UserError) as caught:
        parse(PrepareSettings, value | changes, "c.yaml: prepare")
    message = str(caught.value)
    assert message.startswith("c.yaml: prepare: ")
    assert words in message
    assert "\n" not in message
