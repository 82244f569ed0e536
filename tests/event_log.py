"""Description of an event log, as in its log.json."""

from typing import Any

ABOUT: dict[str, Any] = {
    "log_id": "0123abcd",
    "item_ids": "int64",
    "feedback": ["like"],
    "feedback_kinds": {},
    "user_features": {},
    "session_gap_ms": 1_800_000,
}
