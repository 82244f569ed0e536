"""Pages of items: the checks of their requests, and the draw of their items by the policy of the user's arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.mdp.plackett_luce import plackett_luce
from prefrec_ray.policy.distribution import Candidates, Drawn
from prefrec_ray.serving.requests.bodies import Recommend
from prefrec_ray.serving.settings import INCUMBENT, LOG_POLICIES
from prefrec_ray.serving.state.policies import Codes, ItemId, Shelf
from prefrec_ray.serving.state.state import ServedState
from prefrec_ray.web.problems import Problem


class Page(NamedTuple):
    """Items in their order, and the propensity of each, NaN for items that were not drawn.

    `unknown` is the number of candidates that the policy does not know; None without candidates.
    """

    items: list[ItemId]
    propensities: list[float]
    unknown: int | None = None


def check_page(state: ServedState, body: Recommend) -> None:
    """Check the features, items, pins and blocks of a request. Raises `Problem`."""
    known = state.policy.state.user_features
    for name in body.features or ():
        if name not in known:
            raise Problem(422, f"features.{name}: unknown feature; expected some of {', '.join(known) or 'none'}")
    if state.loaded[0].digest == INCUMBENT:
        if body.incumbent is None:
            raise Problem(422, "incumbent: missing; expected items: no policy of the main arm is promoted yet")
        check_type("incumbent", body.incumbent, state.codes)
        check_once("incumbent", "item", body.incumbent)
    if len(body.priors) < len(body.candidates or ()):
        check_once("candidates", "item", [one[0] if isinstance(one, tuple) else one for one in body.candidates or ()])
    check_type("candidates", body.priors, state.codes)
    _check_pins(body, state.codes)
    for one, shelf in zip(state.loaded, state.shelves, strict=True):
        if one.digest != INCUMBENT:  # in all arms, so that the same requests are refused in each
            try:
                shelf.find_values(body.blocks)
            except UserError as error:
                raise Problem(422, f"blocks: {error}") from error


def _check_pins(body: Recommend, codes: Codes) -> None:
    positions, items = [position for position, _ in body.pins], [item for _, item in body.pins]
    if positions and max(positions) >= body.k:
        raise Problem(422, f"pins: found position {max(positions)}; expected 0 to {body.k - 1}, as k is {body.k}")
    check_once("pins", "position", positions)
    check_once("pins", "item", items)
    check_type("pins", items, codes)


def check_type(name: str, items: Iterable[ItemId], codes: Codes) -> None:
    """Raise `Problem` if an id has another type than the ids of all items."""
    kind = int if codes.whole else str
    if set(map(type, items)) - {kind}:
        wrong = next(item for item in items if type(item) is not kind)
        raise Problem(422, f"{name}: found {wrong!r}; expected {codes.kind}, as for all items")


def check_once(name: str, what: str, values: Sequence[Hashable]) -> None:
    """Raise `Problem` if a value occurs twice."""
    if len(set(values)) < len(values):
        repeated = next(value for value, count in Counter(values).items() if count > 1)
        raise Problem(422, f"{name}: found {what} {repeated!r} twice; expected each {what} once")


def draw_pages(
    state: ServedState, bodies: Sequence[Recommend], rows: np.ndarray, now: np.ndarray, rng: np.random.Generator
) -> list[Page]:
    """Return a page for each of n requests that `check_page` accepts.

    `rows` int64 [n] are the rows of the users, `now` int64 [n] the times in ms. Pages are shorter than `k` if fewer
    items are left; pins behind the end then follow the last item.
    """
    pages = [Page([], [])] * len(bodies)
    arm = state.users.arm[rows]
    for number in np.unique(arm).tolist():
        mine = np.flatnonzero(arm == number)
        of_arm = [bodies[at] for at in mine.tolist()]
        if state.loaded[number].digest == INCUMBENT:
            drawn = [_of_incumbent(body) for body in of_arm]
        else:
            drawn = _draw(state, number, of_arm, rows[mine], now[mine], rng)
        for at, body, page in zip(mine.tolist(), of_arm, drawn, strict=True):
            pages[at] = _with_pins(page, body)
    return pages


def _of_incumbent(body: Recommend) -> Page:
    pinned = {item for _, item in body.pins}
    shown = [item for item in body.incumbent or [] if item not in pinned][: body.k - len(pinned)]
    return Page(shown, [float("nan")] * len(shown))


def _with_pins(page: Page, body: Recommend) -> Page:
    for position, item in sorted(body.pins, key=lambda pin: pin[0]):
        page.items.insert(position, item)
        page.propensities.insert(position, float("nan"))
    return page


def _draw(
    state: ServedState,
    number: int,
    bodies: Sequence[Recommend],
    rows: np.ndarray,
    now: np.ndarray,
    rng: np.random.Generator,
) -> list[Page]:
    """Return pages without pins, drawn by the policy of the arm `number`, or by weights before the first policy."""
    one, shelf, tracker = state.loaded[number], state.shelves[number], state.trackers[number]
    items = shelf.policy.items
    by_weight = one.digest in LOG_POLICIES
    log_weights = np.log(state.weights(number)) if by_weight else np.zeros(0)  # not used
    states = tracker.states(now, users=rows)
    recent = tracker.recent(rows) if shelf.policy.penalises_repetition else None

    def recent_of(at: np.ndarray) -> np.ndarray | None:
        return None if recent is None else recent[at]

    pages = [Page([], []) for _ in bodies]
    wanted = np.array([body.k - len(body.pins) for body in bodies])
    free, outs = [], []
    named = []  # requests with candidates
    for at, (body, row, time) in enumerate(zip(bodies, rows.tolist(), now.tolist(), strict=True)):
        ids = state.codes.array([*body.exclude, *(item for _, item in body.pins)])
        resting = state.users.resting(row, time, one.policy.serving.rest_ms())
        out = shelf.excluded(np.concatenate([resting, state.codes.find(ids)]), body.blocks)
        unknown = None
        if body.candidates is not None:
            among, unknown = _candidates(state.codes, shelf, body, out)
        elif by_weight:
            left = np.setdiff1d(np.arange(len(items)), out)
            among = Candidates(left, np.zeros(len(left)))
        else:
            free.append(at)
            outs.append(out)
            continue
        k, drawn = min(int(wanted[at]), len(among.rows)), Drawn(np.zeros((1, 0), np.int64), np.zeros((1, 0)))
        if k and not by_weight:
            named.append((at, k, among, unknown, int(rng.integers(2**63))))
            continue
        if k:
            columns, chances = plackett_luce((log_weights[among.rows] + among.prior)[None], k, rng)
            drawn = Drawn(among.rows[columns], chances)
        pages[at] = _page(items, drawn, unknown)
    if named:
        places, ks, candidates, unknowns, seeds = zip(*named, strict=True)
        users = np.array(places)
        each = shelf.policy.draw_among(states[users], candidates, ks, seeds, recent_of(users))
        for at, drawn, unknown in zip(places, each, unknowns, strict=True):
            pages[at] = _page(items, drawn, unknown)
    if not free or not len(items):
        return pages
    users, excluded = np.array(free), ExcludedItems.from_rows(outs)
    left = shelf.policy.left(excluded)
    # A short draw is the beginning of a long one. So all states draw the same number at once, and are cut off; states
    # with fewer items left draw separately.
    k = int(wanted[users].max())
    few = np.flatnonzero((left < k) & (left > 0))
    for group in (np.flatnonzero(left >= k), *few[:, None]):
        if len(group) and k:
            mine, most, seed = users[group], min(k, int(left[group].min())), int(rng.integers(2**63))
            drawn = shelf.policy.draw(states[mine], most, excluded.take(group), seed, recent_of(mine))
            for at, ids, chances in zip(
                mine.tolist(), items.ids[drawn.rows].tolist(), drawn.propensities.tolist(), strict=True
            ):
                pages[at] = Page(ids[: wanted[at]], chances[: wanted[at]])
    return pages


def _page(items: ItemTable, drawn: Drawn, unknown: int | None) -> Page:
    """Return the page of a request that was drawn separately."""
    return Page(items.ids[drawn.rows[0]].tolist(), drawn.propensities[0].tolist(), unknown)


def _candidates(codes: Codes, shelf: Shelf, body: Recommend, out: np.ndarray) -> tuple[Candidates, int]:
    """Return the candidates of a request that are not excluded (`out`: rows), and the number of unknown ones."""
    ids = codes.typed(body.priors)  # their type is checked by `check_page`
    order = np.argsort(ids)  # thousands of ids in order are found in a third of the time
    code = codes.find(ids[order])
    unknown = (code < 0) | ~shelf.known[code]
    rows = np.where(unknown, -1, shelf.rows[code])
    kept = (rows >= 0) & ~shelf.are_in(rows, out)
    prior = np.fromiter(body.priors.values(), np.float64, len(rows))[order]
    return Candidates(rows[kept], prior[kept]), int(unknown.sum())
