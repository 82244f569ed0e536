"""Schemas of the bodies of HTTP requests. Every value has a limit; the search stops at the first error of a list."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from prefrec_ray.serving.state.counted_feedback import MOST
from prefrec_ray.web.problems import of_validation

#: The end of the year 2099, ms.
LAST_TIME = 4_102_444_800_000
_INT64 = 2**63


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected an id without NUL")
    return text


Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain)]
Whole = Annotated[int, Field(ge=-_INT64, lt=_INT64, strict=True)]
Id = Whole | Text
Time = Annotated[int, Field(ge=0, le=LAST_TIME, strict=True)]
# The limit keeps squares of numbers and their running sums finite in float32.
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recommend(_Body):
    """POST /recommend. `timestamp` is by default the server's clock. `features` describe the user and are stored.

    `incumbent`: the items that the platform's own recommender would show, first k of them, for users without a policy.
    """

    user: Id
    k: Annotated[int, Field(ge=1, le=MOST, strict=True)] = 10
    exclude: Annotated[list[Id], Field(max_length=4096, fail_fast=True)] = []
    timestamp: Time | None = None
    features: Annotated[dict[Text, Text | None], Field(max_length=64)] | None = None
    incumbent: Annotated[list[Id], Field(min_length=1, max_length=MOST, fail_fast=True)] | None = None


class Feedback(_Body):
    """POST /feedback on an item of a recommendation, or on any `item` of `user` under an id that the client made.

    `item` may be omitted if the recommendation had one item. Kinds of feedback that are not named count 0.
    """

    event_id: Text
    feedback: Annotated[dict[Text, Number], Field(max_length=64)]
    item: Id | None = None
    user: Id | None = None
    timestamp: Time | None = None
    dwell_ms: Annotated[float, Field(ge=0, le=3.1e12, allow_inf_nan=False)] | None = None


class PutItem(_Body):
    """An item and its embedding, made in the same way as in the item table of the policy."""

    id: Id
    embedding: Annotated[
        list[Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]],
        Field(min_length=1, max_length=1024, fail_fast=True),
    ]


class PutItems(_Body):
    """PUT /items."""

    items: Annotated[list[PutItem], Field(min_length=1, max_length=10_000, fail_fast=True)]


class DeleteItems(_Body):
    """DELETE /items."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=10_000, fail_fast=True)]


def parse(model: type[Any], content: bytes) -> Any:
    """Parse `content` as `model`. Raises `Problem`: 400 for invalid JSON, 422 if it does not match the model."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise of_validation(error, model) from None
