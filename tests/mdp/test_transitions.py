import numpy as np
import pytest

from prefrec_ray.mdp.bulk import transition_rows


@pytest.mark.parametrize("lengths", [[1], [5], [1, 1, 1], [3, 1, 4], [2, 2], [1, 6, 1]])
def test_rows_are_those_followed_by_the_same_user(lengths):
    user = np.repeat(np.arange(len(lengths)), lengths)
    expected = [i for i in range(len(user) - 1) if user[i] == user[i + 1]]
    assert transition_rows(np.cumsum([0, *lengths])[:-1], len(user)).tolist() == expected


def test_no_rows():
    assert transition_rows(np.zeros(0, dtype=np.int64), 0).tolist() == []
