"""Draws of a server before the first policy: exact propensities, popularity by the log, and the first promotion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from platform_desk import Desk, incumbent_settings, make_policy, with_server

from prefrec_ray.mdp.items import ItemTable
from prefrec_ray.serving.requests.bodies import DeleteItems, Feedback, PutItem, PutItems, Recommend
from prefrec_ray.serving.server import Server
from prefrec_ray.storage.alias import point

ITEMS = 6


def chances(weights: dict[int, float], drawn: list[int]) -> list[float]:
    """Return the probability of each drawn item given the items before it, from the weights of all allowed items."""
    left, found = dict(weights), []
    for item in drawn:
        found.append(left[item] / sum(left.values()))
        del left[item]
    return found


def begun(folder: Path, log_policy: str) -> Desk:
    """Return a server without a policy, with items 0 to 5."""
    settings = {**incumbent_settings(folder, list(range(ITEMS))), "rest_days": 0.0}
    point(str(folder / "current"), "", canary=None)
    return Desk(folder / "current", folder / "state", log_policy=log_policy, incumbent=settings)


def test_popularity_follows_positive_feedback_and_survives_restarts(tmp_path: Path) -> None:
    desk = begun(tmp_path, "popularity")
    liked = [0.0] * ITEMS
    for round_ in range(12):
        replies = desk.do(*(Recommend(user=user, k=3, exclude=[5]) for user in range(8)))
        for user, reply in enumerate(replies):
            body = reply.body
            weights = {item: 1 + count for item, count in enumerate(liked) if item != 5}
            np.testing.assert_allclose(body["propensities"], chances(weights, body["items"]))
            assert body["policy"] == "popularity"
            like = {"like": float((user + round_) % 3 == 0)}
            event = Feedback(event_id=body["event_id"], item=body["items"][0], feedback=like)
            replies[user].body["liked"] = event
        desk.do(*(reply.body["liked"] for reply in replies))
        for reply in replies:
            liked[reply.body["items"][0]] += reply.body["liked"].feedback["like"]
        if round_ in (3, 7):
            desk.stop(save=round_ == 7)
            desk = begun(tmp_path, "popularity")
    assert sum(liked) > 20
    desk.stop()


def test_random_items_come_again_after_the_rest_of_the_settings(tmp_path: Path) -> None:
    settings = {**incumbent_settings(tmp_path, list(range(ITEMS))), "rest_days": 0.5}
    point(str(tmp_path / "current"), "", canary=None)
    desk = Desk(tmp_path / "current", tmp_path / "state", log_policy="random", incumbent=settings)
    now, hour = 1_700_000_000_000, 3_600_000
    first = desk.one(Recommend(user=1, k=4), now)
    second = desk.one(Recommend(user=1, k=4), now + 11 * hour)
    assert (sorted(first["items"] + second["items"]), second["short"]) == ([*range(ITEMS)], 2)
    third = desk.one(Recommend(user=1, k=6), now + 12 * hour)
    assert (sorted(third["items"]), third["short"]) == (sorted(first["items"]), 2)
    np.testing.assert_allclose(third["propensities"], [1 / 4, 1 / 3, 1 / 2, 1])
    desk.stop()


def test_random_items_are_replaced_by_the_promoted_policy(tmp_path: Path) -> None:
    make_policy(items=ITEMS + 1, seed=1).save(str(tmp_path / "nights/1"))

    async def act(server: Server) -> None:
        shown = (await server.do(Recommend(user=1, k=4))).body
        np.testing.assert_allclose(shown["propensities"], [1 / 6, 1 / 5, 1 / 4, 1 / 3])
        assert (shown["policy"], shown["arm"]) == ("random", "main")
        embedding = make_policy(items=ITEMS + 1).items.embeddings[ITEMS].tolist()
        await server.put_items(PutItems(items=[PutItem(id=ITEMS, embedding=embedding)]))
        await server.delete_items(DeleteItems(ids=[0, 1]))
        shown = (await server.do(Recommend(user=1, k=10))).body
        assert sorted(shown["items"]) == [2, 3, 4, 5, 6]
        assert shown["propensities"] == pytest.approx([1 / left for left in (5, 4, 3, 2, 1)])
        feedback = Feedback(event_id=shown["event_id"], item=6, feedback={"like": 1})
        assert (await server.do(feedback)).outcomes == ["counted"]
        point(str(tmp_path / "current"), "nights/1", canary=None)
        assert (await server.reload())["changed"]
        assert len((await server.do(Recommend(user=1, k=2))).body["policy"]) == 12

    settings = {**incumbent_settings(tmp_path, list(range(ITEMS))), "rest_days": 0.0}
    point(str(tmp_path / "current"), "", canary=None)
    with_server(
        tmp_path / "current",
        tmp_path / "state",
        act,
        log_policy="random",
        incumbent=settings,
    )


def test_candidates_pins_and_exclusions_keep_propensities_exact(tmp_path: Path) -> None:
    desk = begun(tmp_path, "popularity")
    for user in range(3):
        desk.one(Feedback(event_id="own", user=user, item=2, feedback={"like": 1.0}))
    candidates = [(0, 0.5), (2, -0.5), (3, 0.0), (5, 1.0), (77, 0.0)]
    allowed = {0: np.exp(0.5), 2: 4 * np.exp(-0.5), 5: np.exp(1.0)}
    for user in range(20):
        body = desk.one(Recommend(user=user, k=4, candidates=candidates, exclude=[3], pins=[(1, 4)]))
        first, pinned, *rest = body["items"]
        assert (pinned, body["propensities"].pop(1), body["unknown"]) == (4, None, 1)
        np.testing.assert_allclose(body["propensities"], chances(allowed, [first, *rest]))


def test_pins_are_placed_among_items_of_the_platform(tmp_path: Path) -> None:
    desk = begun(tmp_path, "incumbent")
    body = desk.one(Recommend(user=1, k=3, incumbent=[3, 4, 5, 2], pins=[(0, 4)]))
    assert (body["items"], body["propensities"]) == ([4, 3, 5], [None] * 3)


def test_items_without_embeddings_are_served_by_their_features(tmp_path: Path) -> None:
    table = pa.table({"sku": ["a", "b", "c", "d"], "topic": ["news", "news|sport", "sport", "news"]})
    pa.csv.write_csv(table, tmp_path / "items.csv")
    items = {"path": str(tmp_path / "items.csv"), "id": "sku", "features": ["topic"]}
    settings = {"items": items, "feedback": {"like": "binary"}, "rest_days": 0.0}
    point(str(tmp_path / "current"), "", canary=None)
    for _ in range(2):  # also after a restart
        desk = Desk(tmp_path / "current", tmp_path / "state", log_policy="random", incumbent=settings)
        (reply,) = desk.do(Recommend(user="u", k=3, exclude=["c"]))
        assert set(reply.body["items"]) == {"a", "b", "d"}
        np.testing.assert_allclose(reply.body["propensities"], [1 / 3, 1 / 2, 1])
        # Item b has two topics, and the kind of the more frequent one.
        assert desk.one(Recommend(user="v", k=4, blocks={"topic": ["news"]}))["items"] == ["c"]
        desk.stop()
    embeddings = ItemTable.load(str(tmp_path / "state/items.parquet")).embeddings
    assert np.array_equal(embeddings[0], embeddings[3])
    assert len(np.unique(embeddings, axis=0)) == 3
