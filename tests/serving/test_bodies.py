"""Malformed bodies: the error line, and its low cost."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from prefrec_ray.serving.requests.bodies import DeleteItems, Feedback, PutItems, Recommend, parse
from prefrec_ray.web.problems import Problem


@pytest.mark.parametrize(
    ("model", "body", "line"),
    [
        (Recommend, b'{"user": true}', "key 'user': expected a whole number or a text, found True"),
        (
            Recommend,
            b'{"user": "a\\u0000"}',
            "key 'user': expected a whole number or an id without NUL, found 'a\\x00'",
        ),
        (
            Recommend,
            b'{"user": 1, "exclude": [2, 1.5]}',
            "key 'exclude.1': expected a whole number or a text, found 1.5",
        ),
        (Recommend, b'{"user": 1, "features": 3}', "key 'features': expected a mapping, found 3"),
        (Recommend, b"[1]", "key '(top)': expected a mapping, found [1]"),
        (
            Feedback,
            b'{"event_id": "a-1", "feedback": {"click": "x"}}',
            "key 'feedback.click': expected a number, found 'x'",
        ),
        (Feedback, b'{"event_id": "a-1", "feedbak": {}}', "key 'feedback' is missing"),
        (Feedback, b'{"event_id": "a-1", "feedback": {}, "dwell": 3}', "unknown key; did you mean 'dwell_ms'?"),
        (PutItems, b'{"items": [{"id": 1}]}', "key 'items.0.embedding' is missing"),
        (
            PutItems,
            b'{"items": [{"id": 1, "embedding": [2]}]}',
            "'items.0.embedding.0': expected less than or equal to 1",
        ),
        (DeleteItems, b'{"ids": 3}', "key 'ids': expected a list, found 3"),
    ],
)
def test_a_body_of_another_form_is_one_line_with_key_expected_and_found(model: type, body: bytes, line: str) -> None:
    with pytest.raises(Problem) as caught:
        parse(model, body)
    assert caught.value.status == 422
    assert line in caught.value.detail


def test_what_is_no_json_is_400() -> None:
    with pytest.raises(Problem) as caught:
        parse(Recommend, b"[1")
    assert caught.value.status == 400
    assert caught.value.detail.startswith("Invalid JSON")


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (PutItems, b'{"items": [%s]}' % b",".join([b'{"id": 1, "embedding": [2, 2, 2]}'] * 100)),
        (DeleteItems, b'{"ids": [%s]}' % b",".join([b"1.5"] * 100)),
        (Recommend, b'{"user": 1, "exclude": [%s]}' % b",".join([b"1.5"] * 100)),
    ],
)
def test_only_the_first_of_many_mistakes_is_looked_for(model: type, body: bytes) -> None:
    """A million numbers in another unit were a million problems in memory: 1.7 GB for a body of 2 MB."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(body)  # type: ignore[attr-defined]
    assert caught.value.error_count() <= 2  # both kinds that an id may be of
