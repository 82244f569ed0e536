"""A night after the deletion of a user equals, bit for bit, a night of a loop whose log never had the user."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_log import ABOUT as PLAIN
from small_platform import NETWORKS

from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.results.records import Evaluation
from prefrec_ray.evaluation.settings import EvaluateSettings
from prefrec_ray.forget import forget
from prefrec_ray.logs.events.format import About, Event, Kind, write_about
from prefrec_ray.logs.events.log import EventLog
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.nightly.run import run_night
from prefrec_ray.nightly.settings import LoopSettings
from prefrec_ray.nightly.work import Stages
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.serving.folder.opened import save_items

USERS, ITEMS, HOUR, START = 40, 20, 3_600_000, 1_700_000_000_000
ABOUT = {**PLAIN, "feedback_kinds": {"like": "binary"}, "user_features": {"country": ["de", "fr"]}}
PREPARE = {
    "source": {"kind": "events", "path": "state"},
    "train_fraction": 0.6,
    "validation_fraction": 0.2,
    "partitions": 2,
    "preferences": {"pairs": 64, "validation_pairs": 32, "length": 5, "min_requests": 10},
}
TRAIN = {"validation": None, "config": {**NETWORKS, "num_epochs": 0.5, "updates_per_iteration": 4}}


class Steps(Stages):
    """The steps of a night without evaluation and report, which do not change data sets and weights."""

    def evaluate(self, dataset: str, run: str, before: Sequence[str], current: str | None) -> Evaluation:
        return Evaluation(records=())

    def report(self, run: str, file: str) -> None:
        return None


def log_of_days(days: range, without: set[int]) -> None:
    """Append the visits of all users on some days; each user's depends only on user and day."""
    log = EventLog("state", About.model_validate(ABOUT).item_type)
    for day in days:
        rows: list[Event] = []
        for user in set(range(USERS)) - without:
            rng = np.random.default_rng((day, user))
            item, now = int(rng.integers(ITEMS)), START + 24 * HOUR * day + int(rng.integers(20 * HOUR))
            for step in range(int(rng.integers(4, 8))):
                common: dict[str, Any] = {"user_number": user, "received": now, "policy": "p", "arm": "main"}
                event_id, at = f"0123abcd-{log.next + len(rows):x}", now + 60_000 * step
                note = '{"country": "de"}' if user % 2 else '{"country": "fr"}'
                shown = {"items": [item, (item + 1) % ITEMS], "propensities": [0.5, 0.25], "note": note}
                answer = {"items": [item], "propensities": [0.5], "position": 0, "known": True}
                feedback = [float(rng.random() < 0.3)]
                rows.append(Event(Kind.RECOMMENDED, at, event_id, **common, **shown))
                rows.append(Event(Kind.FEEDBACK, at, event_id, **common, **answer, feedback=feedback))
                item = (item + int(rng.integers(1, 4))) % ITEMS
        log.commit(rows)
    log.close()


def two_nights(folder: Path, monkeypatch: pytest.MonkeyPatch, without: set[int], forgotten: set[int]) -> list[str]:
    """Run two nights in `folder`, and remove users between them. Return the runs that were trained with them."""
    (folder / "state").mkdir(parents=True)
    monkeypatch.chdir(folder)
    write_about("state", About.model_validate(ABOUT))
    save_items("state", ItemTable(np.arange(ITEMS), np.random.default_rng(1).uniform(-1, 1, (ITEMS, 3))))
    steps = Steps(
        PrepareSettings.model_validate(PREPARE), TrainSettings.model_validate(TRAIN), EvaluateSettings(), "loop.yaml"
    )
    loop, trained = LoopSettings(folder="loop", release="none"), []
    log_of_days(range(4), without)
    run_night(loop, steps)
    if forgotten:
        removed = forget(["state", "loop"], [str(user) for user in forgotten], trained.append).removed
        assert removed["rows of event logs"] > 0
        assert removed["impressions of data sets"] > 0
    log_of_days(range(4, 7), without | forgotten)
    run_night(loop, steps)
    return trained


def contents(night: Path) -> dict[str, bytes]:
    """Return the files of the data set and the weights of the policy."""
    files = [*(night / "dataset").rglob("*"), *(night / "run/policy").glob("*.safetensors")]
    return {str(file.relative_to(night)): file.read_bytes() for file in files if file.is_file()}


def test_the_next_night_is_the_one_without_the_users(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {3, 8, 21}
    trained = two_nights(tmp_path / "with", monkeypatch, set(), gone)
    two_nights(tmp_path / "without", monkeypatch, gone, set())
    assert trained == [str(tmp_path / "with/loop/nights/0001/run")]
    first, second = (tmp_path / name / "loop/nights/0001" for name in ("with", "without"))
    assert contents(first)["run/policy/actor.safetensors"] != contents(second)["run/policy/actor.safetensors"]
    after, never = (contents(tmp_path / name / "loop/nights/0002") for name in ("with", "without"))
    assert after.keys() == never.keys()
    assert [name for name in after if after[name] != never[name]] == []
    assert {"run/policy/actor.safetensors", "run/policy/critic.safetensors", "dataset/metadata.json"} < after.keys()
