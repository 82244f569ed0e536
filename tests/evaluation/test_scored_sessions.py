import numpy as np
import pyarrow as pa
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.sessions import Sessions, session_columns, session_rows

SESSIONS = pa.table(
    {
        "user_id": ["a", "a", "b"],
        "session_index": [0, 1, 0],
        "depth": [1, 3, 2],
        "level_depth": [0.0, 1.0, 1.0],
        "level_frequency": [2.0, None, None],
    }
)
#: In a mixed order; the comment is the place in time.
REQUESTS = pa.table(
    {
        "user_id": ["b", "a", "a", "b", "a", "a"],
        "session_index": [0, 1, 0, 0, 1, 1],
        "step": [1, 3, 0, 0, 1, 2],  # 5, 3, 0, 4, 1, 2
    }
)


def test_rows_go_to_their_sessions_in_the_order_of_time() -> None:
    order, first = session_rows(REQUESTS, SESSIONS, "file")
    assert order.tolist() == [2, 4, 5, 1, 3, 0]
    assert first.tolist() == [0, 1, 4]


def test_columns_of_sessions() -> None:
    found = session_columns(SESSIONS, np.zeros((3, 1)))
    assert found.user.tolist() == [0, 0, 1]
    assert found.relative_depth.tolist() == [0.5, 1.5, 1.0]
    np.testing.assert_array_equal(found.frequency_level, [2, np.nan, np.nan])


def test_an_empty_file_among_others() -> None:
    order, first = session_rows(REQUESTS.slice(0, 0), SESSIONS.slice(0, 0), "file")
    assert (len(order), len(first)) == (0, 0)
    some = session_columns(SESSIONS, np.zeros((3, 1)))
    none = session_columns(SESSIONS.slice(0, 0), np.zeros((0, 1)))
    joined = Sessions.concatenate([none, some, none, some])
    assert joined.user.tolist() == [0, 0, 1, 2, 2, 3]
    assert some.user.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "requests",
    [
        REQUESTS.slice(1),  # a session is shorter than its depth
        pa.concat_tables([REQUESTS, pa.table({"user_id": ["c"], "session_index": [0], "step": [0]})]),  # a stranger
        REQUESTS.slice(0, 0),
    ],
)
def test_requests_of_other_sessions_are_refused(requests: pa.Table) -> None:
    with pytest.raises(UserError, match="part-7: its sessions are not those"):
        session_rows(requests, SESSIONS, "part-7")
