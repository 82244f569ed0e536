"""The platform as Gymnasium environment `prefrec_ray/Platform-v1`, which this module registers.

`gymnasium.make("prefrec_ray.simulator.environment:prefrec_ray/Platform-v1")` imports the module first. A
step shows one item to a user. Arguments of `gymnasium.make` and `gymnasium.make_vec`:

- `world`: keys of the section `simulate`, the name of a plug-in, or `module:Class`; None: the defaults.
- `actions`: "items" (rows of the catalogue) or "embeddings" (the nearest item is shown). An item that the rules of the
  world exclude is replaced by the nearest allowed item.
- `task`: the engagement in the reward: "depth", "frequency" or "mixture".
- `impressions`: length of an episode; None: the world's `requests`. A user who leaves for good ends it earlier.

The observation is the state vector of `StateTracker`, scaled by the log of the first users. The reward is 0 within a
session, and the level of the session (Eq. 11) after its last impression: relative to the user's mean in the log, 0
without a mean. `info` has the shown `item`, and the `action_mask` of the next step for actions "items" in a world with
rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal, get_args

import gymnasium
import numpy as np
import pyarrow as pa

from prefrec_ray.engagement import level_of, session_table, task_levels, user_means
from prefrec_ray.errors import UserError, nearest
from prefrec_ray.ids import first_rows
from prefrec_ray.mdp.bulk import HistoryRows, raw_states
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.normaliser import CLIP, Moments
from prefrec_ray.mdp.state import StateDefinition
from prefrec_ray.mdp.tracker import StateTracker
from prefrec_ray.settings import TASKS, Task, parse
from prefrec_ray.simulator.law import SimulatedCrowd
from prefrec_ray.simulator.rollout import History, logged_history
from prefrec_ray.simulator.settings import BLOCK, SimulateSettings
from prefrec_ray.simulator.world import load_world

ID = "prefrec_ray/Platform-v1"
Actions = Literal["items", "embeddings"]
#: Weight of depth in the task "mixture": the default of `prepare.mixture_weight`.
_WEIGHT = 0.5


class _Platform:
    """Parts that all users share: the world, its items, the definition and scale of states, means in the log."""

    def __init__(
        self, world: Mapping[str, Any] | str | None, actions: Actions, task: Task, impressions: int | None
    ) -> None:
        for name, value, expected in (("task", task, TASKS), ("actions", actions, get_args(Actions))):
            if value not in expected:
                raise UserError(f"{name}: found '{value}'; {nearest(value, list(expected))}")
        self.settings = parse(SimulateSettings, {"world": world} if isinstance(world, str) else world or {}, "world")
        if self.settings.page > 1:
            raise UserError(f"world: found page: {self.settings.page}; expected 1, as an action is one item")
        self.world, self.task = load_world(self.settings), task
        self.impressions = self.settings.requests if impressions is None else impressions
        self.items = _item_table(self.world.items())
        width = self.items.embeddings.shape[1]
        self.definition = StateDefinition(
            feedback=tuple(self.world.feedback), user_features=self.world.categories, action_dim=width
        )
        self._means: dict[int, np.ndarray] = {}
        crowd, history = logged_history(self.world, 0)
        moments = Moments.zero(self.definition.width)
        moments.add(raw_states(self.definition, self._rows(crowd, history)))
        self.normaliser = moments.normaliser(one_hot=self.definition.groups["profile"])
        self.observations = gymnasium.spaces.Box(-CLIP, CLIP, (self.definition.width,), np.float32)
        self.actions: gymnasium.Space[Any] = gymnasium.spaces.Discrete(len(self.items))
        if actions == "embeddings":
            self.actions = gymnasium.spaces.Box(-1.0, 1.0, (width,), np.float32)

    def _rows(self, crowd: SimulatedCrowd, history: History) -> HistoryRows:
        user, _ = history.made.nonzero()
        return HistoryRows(
            starts=first_rows(user),
            timestamp=history.time_ms[history.made],
            session=history.session[history.made],
            feedback=history.feedback[history.made],
            embeddings=self.items.embeddings[history.rows[history.made]],
            profile=self.definition.one_hot(crowd.features or len(crowd.time_ms)),
        )

    def means(self, user: int) -> np.ndarray:
        """Return depth and revisit time in ms of an average session in the log, float64 [2]; NaN if unknown."""
        block = user // BLOCK
        if block not in self._means:
            _, history = logged_history(self.world, block)
            row, _ = history.made.nonzero()
            table = session_table(row, history.time_ms[history.made], history.session[history.made])
            values = (table.depth.astype(np.float64), table.revisit_ms)
            means = [user_means(table.user, value, len(history.made)) for value in values]
            self._means[block] = np.stack(means, axis=1)
        return self._means[block][user % BLOCK]


@cache
def _platform(world: str, actions: Actions, task: Task, impressions: int | None) -> _Platform:
    """Return the platform that all environments with these arguments share; `world` is JSON."""
    return _Platform(json.loads(world), actions, task, impressions)


class PlatformEnv(gymnasium.Env[np.ndarray, Any]):
    """One user per episode, drawn at each reset."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        world: Mapping[str, Any] | str | None = None,
        actions: Actions = "items",
        task: Task = "frequency",
        impressions: int | None = None,
    ) -> None:
        self.platform = _platform(json.dumps(world), actions, task, impressions)
        self.observation_space, self.action_space = self.platform.observations, self.platform.actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a user. Return the first state and `info`."""
        super().reset(seed=seed)
        platform = self.platform
        user = self.np_random.choice(platform.settings.users, 1)
        self.crowd = platform.world.crowd(user, self.np_random)
        features = self.crowd.features or 1
        self.tracker = StateTracker(platform.definition, platform.normaliser, platform.items, features)
        self.mean_depth, self.mean_revisit_ms = platform.means(int(user[0]))
        self.depth = self.made = 0  # impressions of the open session, and of the episode
        return self.tracker.states(self.crowd.time_ms)[0], self._info()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Show one item. Return state, reward, True if the user has left for good, True at the end, and `info`."""
        platform, crowd, now = self.platform, self.crowd, self.crowd.time_ms
        rows = self._allowed(np.asarray(action)[None])
        response = crowd.show(rows)
        self.tracker.observe(now, rows, dict(zip(platform.world.feedback, response.feedback.T, strict=True)))
        self.made, self.depth, reward, gone = self.made + 1, self.depth + 1, 0.0, bool(crowd.gone[0])
        if response.leaves[0]:
            away = np.inf if gone else max(crowd.time_ms[0] - now[0], 1)
            depth, frequency = level_of(np.array([self.depth / self.mean_depth, self.mean_revisit_ms / away]))
            reward = float(np.nan_to_num(task_levels(platform.task, depth, frequency, _WEIGHT)))
            self.depth = 0
        info = {"item": int(rows[0]), **self._info()}
        return self.tracker.states(crowd.time_ms)[0], reward, gone, self.made >= platform.impressions, info

    def _info(self) -> dict[str, Any]:
        excluded = self.crowd.excluded()
        if excluded is None or not isinstance(self.action_space, gymnasium.spaces.Discrete):
            return {}
        return {"action_mask": (~excluded[0]).astype(np.int8)}

    def _allowed(self, actions: np.ndarray) -> np.ndarray:
        """Return the row of the item to show, int64 [1]. Raises `UserError` if all items are excluded."""
        excluded, items = self.crowd.excluded(), self.platform.items
        if excluded is not None and excluded.all():
            raise UserError("impressions: found a user with no items left; expected fewer impressions, or more items")
        if actions.ndim == 1 and (excluded is None or not excluded[0, actions[0]]):
            return actions.astype(np.int64)
        wanted = items.embeddings[actions] if actions.ndim == 1 else actions
        return items.nearest(wanted, 1, None if excluded is None else ExcludedItems.from_mask(excluded))[:, 0]


def _item_table(items: pa.Table) -> ItemTable:
    """Return the items of a world. Without embeddings each category is a coordinate, 0 or 1."""
    if "embedding" in items.column_names:
        return ItemTable.from_table(items.select(["item_id", "embedding"]))
    columns = [np.asarray(items[name]) for name in items.column_names[1:]]
    one_hot = [column[:, None] == np.unique(column) for column in columns]
    return ItemTable(np.asarray(items["item_id"]), np.concatenate(one_hot, axis=1).astype(np.float32))


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point=f"{__name__}:PlatformEnv")
