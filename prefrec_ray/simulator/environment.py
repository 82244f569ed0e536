"""The platform as Gymnasium environment `prefrec_ray/Platform-v1`, single and vectorized; this module registers it.

A step shows one item to a user. Arguments of `gymnasium.make` and `gymnasium.make_vec`:

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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import gymnasium
import numpy as np
import pyarrow as pa
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

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
        self.definition = StateDefinition(tuple(self.world.feedback), self.world.categories, width)
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

    def means(self, users: np.ndarray) -> np.ndarray:
        """Return depth and revisit time in ms of an average session in the log, float64 [n, 2]; NaN if unknown."""
        for block in np.unique(users // BLOCK).tolist():
            if block not in self._means:
                _, history = logged_history(self.world, block)
                user, _ = history.made.nonzero()
                table = session_table(user, history.time_ms[history.made], history.session[history.made])
                values = (table.depth.astype(np.float64), table.revisit_ms)
                means = [user_means(table.user, value, len(history.made)) for value in values]
                self._means[block] = np.stack(means, axis=1)
        return np.stack([self._means[user // BLOCK][user % BLOCK] for user in users.tolist()])


class _Users:
    """Users of a platform, drawn without replacement if possible, from their first impressions on, in lock-step."""

    def __init__(self, platform: _Platform, count: int, rng: np.random.Generator) -> None:
        self.platform, settings = platform, platform.settings
        users = np.sort(rng.choice(settings.users, count, replace=count > settings.users))
        self.crowd = platform.world.crowd(users, rng)
        features = self.crowd.features or count
        self.tracker = StateTracker(platform.definition, platform.normaliser, platform.items, features)
        self.means = platform.means(users)
        self.depth = np.zeros(count, dtype=np.int64)  # of the open session

    def states(self) -> np.ndarray:
        """Return the state vectors before the next impressions, float32 [n, width]."""
        return self.tracker.states(self.crowd.time_ms)

    def mask(self) -> np.ndarray | None:
        """Return the allowed items, int8 [n, items]; None if all are allowed, or if actions are embeddings."""
        excluded = self.crowd.excluded()
        discrete = isinstance(self.platform.actions, gymnasium.spaces.Discrete)
        return None if excluded is None or not discrete else (~excluded).astype(np.int8)

    def show(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Show the items of `actions` [n] or [n, A]; return their rows int64 [n], and rewards float64 [n]."""
        platform, now = self.platform, self.crowd.time_ms
        rows = self._allowed(actions)
        response = self.crowd.show(rows)
        feedback = dict(zip(platform.world.feedback, response.feedback.T, strict=True))
        self.tracker.observe(now, rows, feedback)
        self.depth += 1
        away = np.where(self.crowd.gone, np.inf, np.maximum(self.crowd.time_ms - now, 1))
        depth, frequency = level_of(self.depth / self.means[:, 0]), level_of(self.means[:, 1] / away)
        level = task_levels(platform.task, depth, frequency, _WEIGHT)
        self.depth[response.leaves] = 0
        return rows, np.where(response.leaves, np.nan_to_num(level), 0.0)

    def _allowed(self, actions: np.ndarray) -> np.ndarray:
        """Return the rows of the items to show. Raises `UserError` if all items are excluded."""
        excluded, items = self.crowd.excluded(), self.platform.items
        if excluded is not None and excluded.all(axis=1).any():
            raise UserError("impressions: found a user with no items left; expected fewer impressions, or more items")
        wanted = items.embeddings[actions] if actions.ndim == 1 else actions
        if actions.ndim == 1 and (excluded is None or not excluded[np.arange(len(actions)), actions].any()):
            return actions.astype(np.int64)
        return items.nearest(wanted, 1, None if excluded is None else ExcludedItems.from_mask(excluded))[:, 0]


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
        self.platform = _Platform(world, actions, task, impressions)
        self.observation_space, self.action_space = self.platform.observations, self.platform.actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a user. Return the first state and `info`."""
        super().reset(seed=seed)
        self.users, self.made = _Users(self.platform, 1, self.np_random), 0
        return self.users.states()[0], self._info()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Show one item. Return state, reward, True if the user has left for good, True at the end, and `info`."""
        rows, rewards = self.users.show(np.asarray(action)[None])
        self.made += 1
        ended = self.made >= self.platform.impressions
        info = {"item": int(rows[0]), **self._info()}
        return self.users.states()[0], float(rewards[0]), bool(self.users.crowd.gone[0]), ended, info

    def _info(self) -> dict[str, Any]:
        mask = self.users.mask()
        return {} if mask is None else {"action_mask": mask[0]}


class PlatformVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` users at a time, in a few array operations per step; a user is replaced in the step after the end."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        world: Mapping[str, Any] | str | None = None,
        actions: Actions = "items",
        task: Task = "frequency",
        impressions: int | None = None,
    ) -> None:
        self.num_envs, self.platform = num_envs, _Platform(world, actions, task, impressions)
        self.single_observation_space, self.single_action_space = self.platform.observations, self.platform.actions
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw all users. Return the first states, float32 [n, width], and `info`."""
        super().reset(seed=seed)
        self._groups: list[_Group] = []
        self._made, self._ended = np.zeros(self.num_envs, np.int64), np.ones(self.num_envs, dtype=bool)
        observations, *_, info = self.step(np.zeros(self.action_space.shape, self.action_space.dtype))
        return observations, info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Show one item to each user; where an episode has ended, draw a user instead.

        Returns states, rewards, masks of users who have left for good and of ended episodes, and `info`.
        """
        count, platform = self.num_envs, self.platform
        observations = np.empty(self.observation_space.shape, np.float32)
        rewards, items, gone = np.zeros(count), np.full(count, -1), np.zeros(count, dtype=bool)
        for group in self._groups:
            rows, reward = group.users.show(np.asarray(actions)[group.places])
            at, live = group.places[group.live], group.live
            rewards[at], items[at], gone[at] = reward[live], rows[live], group.users.crowd.gone[live]
        self._made = np.where(self._ended, 0, self._made + 1)
        if self._ended.any():
            drawn = np.flatnonzero(self._ended)
            users = _Users(platform, len(drawn), self.np_random)
            self._groups.append(_Group(drawn, users, np.ones(len(drawn), dtype=bool)))
        info: dict[str, Any] = {"item": items, "_item": items >= 0}
        for group in self._groups:
            at = group.places[group.live]
            observations[at] = group.users.states()[group.live]
            mask = group.users.mask()
            if mask is not None:
                info.setdefault("action_mask", np.ones((count, len(platform.items)), np.int8))[at] = mask[group.live]
        truncated = self._made >= platform.impressions
        self._ended = gone | truncated
        for group in self._groups:
            group.live &= ~self._ended[group.places]
        self._groups = [group for group in self._groups if group.live.any()]
        return observations, rewards, gone, truncated, info


@dataclass
class _Group:
    """Users who were drawn in one step, and their places in the vector; `live`: users whose episodes have not ended."""

    places: np.ndarray  # int64 [n]
    users: _Users
    live: np.ndarray  # bool [n]


def _item_table(items: pa.Table) -> ItemTable:
    """Return the items of a world. Without embeddings each category is a coordinate, 0 or 1."""
    if "embedding" in items.column_names:
        return ItemTable.from_table(items.select(["item_id", "embedding"]))
    columns = [np.asarray(items[name]) for name in items.column_names[1:]]
    one_hot = [column[:, None] == np.unique(column) for column in columns]
    return ItemTable(np.asarray(items["item_id"]), np.concatenate(one_hot, axis=1).astype(np.float32))


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point=f"{__name__}:PlatformEnv", vector_entry_point=f"{__name__}:PlatformVectorEnv")
