"""Settings of a column of feedback."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from prefrec_ray.settings import Settings

#: Names of the canonical columns (logs/log.py) and of the columns that `prepare` adds; feedback may not use them.
RESERVED = (
    *("user_id", "item_id", "timestamp", "order", "session_id", "dwell_ms", "reward", "row_hash", "propensity"),
    *("page", "position", "examined", "pinned", "session", "split", "step"),
)
FeedbackKind = Literal["number", "binary", "count", "seconds", "ratio"]
#: Values of each kind other than `number`, for error messages.
EXPECTED = {
    "binary": "0 or 1",
    "count": "a whole number of at least 0",
    "seconds": "at least 0 seconds",
    "ratio": "a ratio of at least 0",
}


def _texts(value: object) -> object:
    """Return one value, or several, as text, as CSV has them."""
    values = value if isinstance(value, list) else [value]
    return [str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in values]


class FeedbackColumn(Settings):
    """A column of feedback, and the kind that decides its checks and scale. `missing` replaces empty cells and NaN.

    `equals`, for a column of text or integers: the feedback is 1 in rows with this value, or one of these values.
    """

    column: str
    kind: FeedbackKind = "number"
    missing: Annotated[float, Field(allow_inf_nan=False)] | None = None
    equals: Annotated[list[str], BeforeValidator(_texts), Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _binary(cls, value: Any) -> Any:
        return {"kind": "binary", **value} if isinstance(value, dict) and "equals" in value else value

    @model_validator(mode="after")
    def _equals_alone(self) -> Self:
        if self.equals is not None and (self.kind != "binary" or self.missing is not None):
            raise ValueError("equals: makes the feedback binary, with 0 for empty cells; remove `kind` and `missing`")
        return self
