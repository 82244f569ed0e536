"""Logged items shown again, in the simulator."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.dataset.prepared import Metadata
from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.online import levels_of_logged_items
from prefrec_ray.mdp.normaliser import Normaliser
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.simulator.catalogue import CATEGORIES
from prefrec_ray.simulator.crowd import FEEDBACK
from prefrec_ray.simulator.servers import LoggedItems
from prefrec_ray.simulator.settings import SimulateSettings
from prefrec_ray.simulator.world import World
from prefrec_ray.simulator.write import log_block

SETTINGS = SimulateSettings(users=256, requests=150, items=300, seed=2, regimes=False)
DEFINITION = StateDefinition(feedback=FEEDBACK, user_features=CATEGORIES)


def prepared(folder: Path, items: dict[int, int] | None = None, page: int = 1) -> PreparedDataset:
    """Write the parts of a data set that are read, with all users in the test split. `items` replaces logged items."""
    log = log_block(World(SETTINGS), 0).to_pandas()
    late = log.groupby("user_id").timestamp.diff() > 1_800_000
    log["session_index"] = late.groupby(log.user_id).cumsum()
    visits = log.groupby(["user_id", "session_index"]).timestamp.agg(["min", "max", "size"]).reset_index()
    visits["revisit_ms"] = visits.groupby("user_id")["min"].shift(-1) - visits["max"]
    visits = visits.rename(columns={"size": "depth"}).assign(split="test", level_depth=0.0, level_frequency=0.0)
    if items is not None:
        log["item_id"] = log.user_id.map(items)
    for kind, table in (("requests/test", log), ("sessions", visits)):
        (folder / kind).mkdir(parents=True)
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), folder / kind / "part-0.parquet")
    metadata = Metadata(
        schema_version=1,
        counts={},
        state_dim=DEFINITION.width,
        action_dim=8,
        action_low=-1,
        action_high=1,
        state=DEFINITION,
        normaliser=Normaliser(np.zeros(DEFINITION.width), np.ones(DEFINITION.width)).to_dict(),
        settings={},
        seed=0,
        tasks=["depth"],
        teachers=[],
        mixture_weight=0.25,
        world={**SETTINGS.model_dump(mode="json"), "page": page},
    )
    storage.write_json(str(folder / "metadata.json"), metadata.model_dump())
    return PreparedDataset.open(str(folder))


def test_logged_items_come_in_their_order_and_again_at_the_end() -> None:
    server = LoggedItems([np.array([5, 3, 4]), np.array([9, 8])])
    shown = [server.serve(np.zeros(2), None).rows.tolist() for _ in range(5)]
    assert shown == [[5, 9], [3, 8], [4, 9], [5, 8], [3, 9]]


def test_what_each_user_was_shown_is_what_the_level_is_of(tmp_path: Path) -> None:
    """Among logs that differ only in their items, the log of the best item has the highest level."""
    levels = []
    clickbait = World(SETTINGS).clickbait[0]
    for name, item in (("own", None), ("best", clickbait.argmin()), ("worst", clickbait.argmax())):
        items = None if item is None else dict.fromkeys(range(256), int(item))
        levels.append(levels_of_logged_items(prepared(tmp_path / name, items))["frequency"])
    own, best, worst = levels
    assert best > own + 1 > worst + 1
    assert own == pytest.approx(0.8, abs=0.25)


def test_pages_of_several_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"key 'world.page': found 5; expected 1"):
        levels_of_logged_items(prepared(tmp_path / "pages", page=5))
