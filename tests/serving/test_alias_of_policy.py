"""A server with an alias: each reload follows the alias again and reads one complete policy."""

import threading
from pathlib import Path

from platform_desk import make_policy

from prefrec_ray.policy import Policy
from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.serving.state.policies import load_policies
from prefrec_ray.storage.alias import point


def test_it_is_followed_anew_each_time(tmp_path: Path) -> None:
    digests = {}
    for name, seed in (("a", 0), ("b", 1)):
        make_policy(seed).save(f"{tmp_path}/{name}")
        point(f"{tmp_path}/current", name)
        (loaded,) = load_policies(f"{tmp_path}/current", ServeSettings())
        (plain,) = load_policies(f"{tmp_path}/{name}", ServeSettings())
        assert loaded.digest == plain.digest
        digests[name] = loaded.digest
    assert len(set(digests.values())) == 2


def test_a_policy_is_never_put_together_from_two(tmp_path: Path) -> None:
    """Two policies of other widths: a mixture would not load."""
    for name, items in (("a", 40), ("b", 41)):
        make_policy(items, items=items).save(f"{tmp_path}/{name}")
    policies = {items: make_policy(items, items=items) for items in (40, 41)}
    point(f"{tmp_path}/current", "a")
    done = threading.Event()

    def swap() -> None:
        turn = 0
        while not done.is_set():
            point(f"{tmp_path}/current", "ab"[turn := 1 - turn])

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(40):
            loaded = Policy.load(f"{tmp_path}/current")
            mean = policies[len(loaded.items)].normaliser.mean
            assert (loaded.normaliser.mean == mean).all()
    finally:
        done.set()
        swapper.join()
