"""What is wrong with a request, as RFC 9457 says it: application/problem+json."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError

from prefrec_ray.errors import first_problem

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """Answers a request with `status` and one line that says what was found and what was expected."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, " ".join(detail.split())

    def body(self) -> dict[str, Any]:
        """The members of a problem; its type is that of the status alone."""
        title = HTTPStatus(self.status).phrase
        return {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}


def of_validation(error: ValidationError, model: type[BaseModel]) -> Problem:
    """400 for what is no JSON, 422 for JSON that is no `model`: the first thing that is wrong."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Problem(400, first["msg"])
    return Problem(422, first_problem(error, model, {}))
