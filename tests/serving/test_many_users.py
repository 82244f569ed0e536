"""Many users in a snapshot: all requests wait while it is taken."""

from typing import Any

import numpy as np
import pytest

from prefrec_ray.serving.settings import ServeSettings
from prefrec_ray.serving.state.users import ServedUsers


@pytest.mark.parametrize("shown", [0, 3])
def test_what_users_have_seen_is_copied_in_one_piece(monkeypatch: pytest.MonkeyPatch, shown: int) -> None:
    users, rng = ServedUsers(ServeSettings()), np.random.default_rng(0)
    users.add(range(2_000))
    for row in range(len(users)):
        if row % 2:  # some have seen nothing
            users.see(row, rng.integers(0, 1000, rng.integers(0, shown + 1)).tolist())
    calls, made = [0], np.frombuffer

    def counted(*arguments: Any, **more: Any) -> np.ndarray:
        calls[0] += 1
        return made(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(np, "frombuffer", counted)
        described, arrays = users.save()
    assert calls[0] <= 2
    before = [users.seen(row).tolist() for row in range(len(users))]
    users.see(1, [7])  # what was saved does not change any more
    again = ServedUsers(ServeSettings())
    again.load(described, arrays)
    assert [again.seen(row).tolist() for row in range(len(again))] == before
