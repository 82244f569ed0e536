"""Errors of HTTP requests in the format of RFC 9457, application/problem+json."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError

from prefrec_ray.errors import first_problem

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """Error reply with `status` and one line: `found X; expected Y`."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, " ".join(detail.split())

    def body(self) -> dict[str, Any]:
        """Return the members of the JSON object. The type adds nothing to the status."""
        title = HTTPStatus(self.status).phrase
        return {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}


def of_validation(error: ValidationError, model: type[BaseModel]) -> Problem:
    """Return the first error of a body: 400 for invalid JSON, 422 for JSON that does not match `model`."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Problem(400, first["msg"])
    return Problem(422, first_problem(error, model, {}))
