import json

import numpy as np
import pyarrow as pa
import pytest

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.state import StateDefinition

FEATURES = {"age": ("young", "old"), "city": ("A", "B", "C")}


def test_width_is_66_and_13_a_feedback_and_the_categories():
    for feedback in (("a",), tuple("abcdef")):
        for features in ({}, FEATURES):
            definition = StateDefinition(feedback=feedback, user_features=features)
            expected = 66 + 13 * len(feedback) + sum(len(categories) + 1 for categories in features.values())
            assert definition.width == len(definition.names) == expected
            assert len(set(definition.names)) == expected


def test_groups_follow_one_another_and_hold_their_names():
    definition = StateDefinition(feedback=("click", "like"), user_features=FEATURES)
    of_requests = {"profile": 7, "feedback": 10, "items": 40, "tastes": 2 * 8}
    widths = {**of_requests, "sessions": 8, "time": 11, "recency": 4, "counts": 3}
    assert {name: group.stop - group.start for name, group in definition.groups.items()} == widths
    assert list(definition.groups) == list(widths)
    end = 0
    for name, group in definition.groups.items():
        assert group.start == end
        end = group.stop
        assert all(column.startswith(f"{name}/") for column in definition.names[group])
    assert end == definition.width
    assert definition.names[7:11] == ("feedback/click@0", "feedback/like@0", "feedback/click@5", "feedback/like@5")


def test_round_trip_through_json():
    definition = StateDefinition(
        feedback=("a", "b"), user_features=FEATURES, action_dim=4, session_gap_ms=5, item_half_lives=(0, 3)
    )
    again = StateDefinition.model_validate(json.loads(json.dumps(definition.model_dump(mode="json"))))
    assert again == definition
    assert again.names == definition.names


@pytest.mark.parametrize(
    "features",
    [
        {"age": np.array(["old", None, "ancient"], dtype=object), "city": np.array(["A", "C", "B"])},
        {"city": ["A", "C", "B"], "age": ["old", None, "ancient"], "other": [1, 2, 3]},
        pa.table({"user_id": [1, 2, 3], "age": ["old", None, "ancient"], "city": ["A", "C", "B"]}),
        pa.table({"age": pa.array(["old", None, "ancient"]).dictionary_encode(), "city": ["A", "C", "B"]}),
    ],
)
def test_one_hot_with_unknowns(features):
    one_hot = StateDefinition(feedback=("a",), user_features=FEATURES).one_hot(features)
    assert one_hot.dtype == np.float32
    assert one_hot.tolist() == [[0, 1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 1, 0, 0]]


def test_users_of_whom_nothing_is_known():
    assert StateDefinition(feedback=("a",), user_features=FEATURES).one_hot(2).tolist() == [[0, 0, 1, 0, 0, 0, 1]] * 2
    assert StateDefinition(feedback=("a",), user_features={}).one_hot(2).shape == (2, 0)
    assert StateDefinition(feedback=("a",), user_features={}).one_hot(pa.table({"user_id": [1, 2, 3]})).shape == (3, 0)


def test_missing_features_are_named():
    definition = StateDefinition(feedback=("a",), user_features=FEATURES)
    with pytest.raises(UserError, match="column 'city' is missing; found age"):
        definition.one_hot({"age": ["old"]})
    with pytest.raises(UserError, match="found no columns; expected one"):
        StateDefinition(feedback=("a",), user_features={}).one_hot({})
