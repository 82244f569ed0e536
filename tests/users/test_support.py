"""Support by the log: the range of logged histories."""

from dataclasses import replace

import numpy as np
import pytest
from logged_users import ITEMS, histories, inputs_of

from prefrec_ray.mdp.exposure import exposures
from prefrec_ray.users import WARM
from prefrec_ray.users.ensemble import WITHIN, LoggedPasts
from prefrec_ray.users.roll_out import KEPT_EVERY


def test_other_users_of_the_log_are_supported_and_a_corner_of_the_catalogue_is_not() -> None:
    data = histories()
    inputs, made = inputs_of(data)
    pasts = LoggedPasts.from_histories(data, inputs, made)
    fresh = histories(seed=3)
    late = np.tile(np.arange(60) >= WARM, 300)
    own = pasts.share(inputs.logged(fresh)[late])
    assert own == pytest.approx(WITHIN, abs=0.015)
    few = np.random.default_rng(0).integers(0, 3, len(fresh.row))
    corner = replace(fresh, row=few, action=ITEMS.embeddings[few], exposure=exposures(fresh.starts, few, ITEMS.kinds))
    assert pasts.share(inputs.logged(corner)[late]) < 0.1
    others = replace(fresh, feedback=1 - fresh.feedback)  # feedback is not the policy's choice
    assert pasts.share(inputs.logged(others)[late]) == own
    assert pasts.share(made[:0]) == 1.0


def test_exactly_the_wanted_share_of_late_impressions_is_within_the_ranges() -> None:
    data = histories(users=600, requests=WARM + 3 * KEPT_EVERY)
    inputs, made = inputs_of(data)
    step = np.arange(len(made)) % (WARM + 3 * KEPT_EVERY)
    late = np.isin(step, [WARM, WARM + KEPT_EVERY, WARM + 2 * KEPT_EVERY])
    made[~late] = 40.0  # earlier and intermediate impressions do not count
    pasts = LoggedPasts.from_histories(data, inputs, made)
    assert WITHIN <= pasts.share(made[late]) < 1.0
    assert pasts.share(made[~late]) == 0.0
    first = histories(users=50, requests=WARM)  # none is as late: all count
    inputs, made = inputs_of(first)
    assert LoggedPasts.from_histories(first, inputs, made).share(made) >= WITHIN
