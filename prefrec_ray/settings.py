"""YAML in, validated settings out; every mistake is one line with the file, the key and the nearest valid key."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from prefrec_ray import storage
from prefrec_ray.errors import UserError


class Settings(BaseModel):
    """Base of every settings model: unknown keys are refused, values are fixed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=Settings)


def load_yaml(uri: str) -> dict[str, Any]:
    """The mapping in the YAML file at `uri`. Raises `UserError` for a missing file, bad YAML or no mapping."""
    try:
        value = yaml.safe_load(storage.read_text(uri))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{uri}: {place}not YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(value, dict):
        raise UserError(f"{uri}: expected a mapping of sections, found {type(value).__name__}")
    return value


def parse(model: type[Model], value: Any, where: str, prefix: str = "") -> Model:
    """`value` as `model`; `where` (file and section) opens the one line of a `UserError`, `prefix` its key."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_problem(model, error, prefix)}") from error


def nearest(key: str, valid: list[str]) -> str:
    """A hint for an unknown key: `did you mean 'gamma'?`, or the list of valid keys where nothing is close."""
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(sorted(valid))}"


def _first_problem(model: type[BaseModel], error: ValidationError, prefix: str) -> str:
    problem = error.errors()[0]
    path = [str(part) for part in problem["loc"]]
    key = prefix + ".".join(path) or "(top)"
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'; {nearest(path[-1], _valid_keys(model, path[:-1]))}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    found = problem.get("input")
    return f"key '{key}': {problem['msg'][0].lower()}{problem['msg'][1:]}, found {found!r}"


def _valid_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Field names of the model that `path` leads to (through lists, optionals and tagged unions)."""
    models: list[type[BaseModel]] = [model]
    for part in path:
        inner: list[type[BaseModel]] = []
        for candidate in models:
            if part in candidate.model_fields:
                inner += _models_in(candidate.model_fields[part].annotation)
        # A part that is no field is a list index or the tag of a union: it stays at the same models.
        models = inner or models
    return sorted({name for candidate in models for name in candidate.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in _models_in(argument)]
