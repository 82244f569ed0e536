"""OpenAPI document of the server: its routes, and the schemas of their bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

import prefrec_ray
from prefrec_ray.serving.requests.bodies import (
    DeleteItems,
    Feedback,
    FeedbackBatch,
    PutItems,
    Recommend,
    RecommendBatch,
)

_BODIES: dict[tuple[str, str], tuple[type[Any], ...]] = {
    ("POST", "/recommend"): (Recommend, RecommendBatch),
    ("POST", "/feedback"): (Feedback, FeedbackBatch),
    ("PUT", "/items"): (PutItems,),
    ("DELETE", "/items"): (DeleteItems,),
}
_ABOUT = {
    "/recommend": "Items for users, with propensities.",
    "/feedback": "Feedback of a user on an item, or on the items of a page.",
    "/items": "Add or change items, or withdraw them.",
    "/reload": "Load the current policy again.",
    "/healthz": "State of the server, without a token.",
    "/metrics": "Metrics for Prometheus.",
    "/openapi.json": "This document.",
}


def document(methods: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a server.

    Args:
        methods: the methods of each path.

    Returns:
        A dictionary for JSON.
    """
    models = sorted({model for bodies in _BODIES.values() for model in bodies}, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "prefrec serve", "version": prefrec_ray.__version__},
        "paths": {
            path: {method.lower(): _operation(method, path) for method in names} for path, names in methods.items()
        },
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(method: str, path: str) -> dict[str, Any]:
    replies = {"200": {"description": "the reply"}, "4XX": {"description": "a JSON object with the problem"}}
    operation: dict[str, Any] = {"summary": _ABOUT[path], "responses": replies}
    models = _BODIES.get((method, path), ())
    if models:
        schema = {"anyOf": [{"$ref": f"#/components/schemas/{model.__name__}"} for model in models]}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation | ({"security": []} if path == "/healthz" else {})
