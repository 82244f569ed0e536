"""Schemas of the bodies of HTTP requests. Every value has a limit; the search stops at the first error of a list."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from prefrec_ray.serving.state.counted_feedback import MOST
from prefrec_ray.web.problems import Problem, of_validation

#: The end of the year 2099, ms.
LAST_TIME = 4_102_444_800_000
#: March 1973, ms. Smaller numbers are seconds of any year that matters.
_FIRST_TIME = 100_000_000_000
_INT64 = 2**63


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected an id without NUL")
    return text


def _in_ms(time: int) -> int:
    if time < _FIRST_TIME:
        raise ValueError("expected ms since 1970, which are seconds times 1,000")
    return time


Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain)]
Whole = Annotated[int, Field(ge=-_INT64, lt=_INT64, strict=True)]
Id = Whole | Text
Time = Annotated[int, Field(ge=0, le=LAST_TIME, strict=True), AfterValidator(_in_ms)]
# The limit keeps squares of numbers and their running sums finite in float32.
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)]
# exp(-1000) is 0 next to exp(0): wider priors would change nothing.
Prior = Annotated[float, Field(allow_inf_nan=False, ge=-1e3, le=1e3)]
Dwell = Annotated[float, Field(ge=0, le=3.1e12, allow_inf_nan=False)]
Values = Annotated[dict[Text, Number], Field(max_length=64)]
Position = Annotated[int, Field(ge=0, lt=MOST, strict=True)]
_Candidates = Field(max_length=10_000, fail_fast=True)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recommend(_Body):
    """POST /recommend. `timestamp` is by default the server's clock. `features` describe the user and are stored.

    `candidates`: the items that may be drawn, each with a prior that is added to its log weight (`draw_among` in
    policy/distribution.py) if the list has pairs. `pins`: positions, from 0, and the items that are placed there.
    `blocks`: values of kinds of items, whose items are excluded. `incumbent`: the items that the platform's own
    recommender would show, first k of them, for users without a policy.
    """

    user: Id
    k: Annotated[int, Field(ge=1, le=MOST, strict=True)] = 10
    exclude: Annotated[list[Id], Field(max_length=4096, fail_fast=True)] = []
    candidates: Annotated[list[Id], _Candidates] | Annotated[list[tuple[Id, Prior]], _Candidates] | None = None
    pins: Annotated[list[tuple[Position, Id]], Field(max_length=MOST, fail_fast=True)] = []
    blocks: Annotated[
        dict[Text, Annotated[list[Text], Field(max_length=256, fail_fast=True)]], Field(max_length=16)
    ] = {}
    timestamp: Time | None = None
    features: Annotated[dict[Text, Text | None], Field(max_length=64)] | None = None
    incumbent: Annotated[list[Id], Field(min_length=1, max_length=MOST, fail_fast=True)] | None = None

    @cached_property
    def priors(self) -> dict[int | str, float]:
        """Return the prior of each candidate, 0 if the candidates have none."""
        given: list[Any] = self.candidates or []
        return dict(given) if given and isinstance(given[0], tuple) else dict.fromkeys(given, 0.0)

    @property
    def parts(self) -> dict[str, Recommend]:
        """Return the request, by the prefix of its problems."""
        return {"": self}


class RecommendBatch(_Body):
    """POST /recommend for several users. All requests are replied to, or none."""

    requests: Annotated[list[Recommend], Field(min_length=1, max_length=64, fail_fast=True)]

    @property
    def parts(self) -> dict[str, Recommend]:
        """Return the requests, by the prefix of their problems."""
        return {f"requests.{place}.": body for place, body in enumerate(self.requests)}


class ItemFeedback(_Body):
    """Feedback on one item. Kinds of feedback that are not named count 0.

    `item` may be omitted if the recommendation had one item.
    """

    item: Id | None = None
    feedback: Values
    dwell_ms: Dwell | None = None


class Feedback(ItemFeedback):
    """POST /feedback on an item of a recommendation, or on any `item` of `user` under an id that the client made."""

    event_id: Text
    user: Id | None = None
    timestamp: Time | None = None

    @property
    def parts(self) -> dict[str, ItemFeedback]:
        """Return the feedback, by the prefix of its problems."""
        return {"": self}


class FeedbackBatch(_Body):
    """POST /feedback on several items of a page, in this order. All items are accepted, or none."""

    event_id: Text
    items: Annotated[list[ItemFeedback], Field(min_length=1, max_length=MOST, fail_fast=True)]
    user: Id | None = None
    timestamp: Time | None = None

    @property
    def parts(self) -> dict[str, ItemFeedback]:
        """Return the feedback on each item, by the prefix of its problems."""
        return {f"items.{place}.": body for place, body in enumerate(self.items)}


class PutItem(_Body):
    """An item with its embedding, made in the same way as in the item table of the policy, its categories, or both.

    `categories`: values of kinds of items, by kind. Without an embedding, the item gets one from them.
    """

    id: Id
    embedding: (
        Annotated[
            list[Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]],
            Field(min_length=1, max_length=1024, fail_fast=True),
        ]
        | None
    ) = None
    categories: Annotated[dict[Text, Text], Field(max_length=16)] = {}


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


def parse_recommend(content: bytes) -> Recommend | RecommendBatch:
    """Parse the body of POST /recommend. Raises `Problem` as `parse` does, and if a batch has a user twice."""
    command = parse(RecommendBatch if _has_key(content, "requests") else Recommend, content)
    users: set[int | str] = set()
    for prefix, body in command.parts.items():
        if body.user in users:  # the second page would repeat items of the first one
            raise Problem(422, f"{prefix}user: found {body.user!r} twice; expected each user once")
        users.add(body.user)
    return command


def parse_feedback(content: bytes) -> Feedback | FeedbackBatch:
    """Parse the body of POST /feedback. Raises `Problem` as `parse` does."""
    return parse(FeedbackBatch if _has_key(content, "items") else Feedback, content)


def _has_key(content: bytes, key: str) -> bool:
    """Return True if the JSON object `content` has this key. Most bodies without it are not parsed a second time."""
    if f'"{key}"'.encode() not in content:
        return False
    try:
        value = from_json(content)
    except ValueError:  # reported by `parse`
        return False
    return isinstance(value, dict) and key in value
