"""YAML is read into validated settings; every mistake is one line with the file, the key and the nearest valid key.

Here, too, are the words that settings choose among: tasks, splits, pairings and recipes.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefrec_ray import storage
from prefrec_ray.errors import UserError


class Settings(BaseModel):
    """Base of every settings model: immutable; unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


#: What a policy is to increase: the level of session depth, of frequency, or of their mixture (Eq. 11).
Task = Literal["depth", "frequency", "mixture"]
Split = Literal["train", "validation", "test"]
#: Which segments a teacher compares: of two different users, or of one.
Pairing = Literal["any_users", "within_user"]
#: Named sets of defaults (algorithms/settings.py).
Recipe = Literal["paper", "robust"]

TASKS: tuple[Task, ...] = get_args(Task)
#: A user's split is stored as an index into these.
SPLITS: tuple[Split, ...] = get_args(Split)
PAIRINGS: tuple[str, ...] = get_args(Pairing)
RECIPES: tuple[Recipe, ...] = get_args(Recipe)
#: No log is older than 1970 or newer than this: a number outside has another unit.
END_OF_TIME = 7_258_118_400  # 2200-01-01, s

#: A seed that NumPy, PyTorch and RLlib all accept.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
#: A number of users, rows, pairs, array elements ...
Count = Annotated[int, Field(ge=1, le=10**9)]
#: Values in a YAML file with its aliases expanded: a few aliases can stand for billions of values.
_MAX_VALUES = 100_000
_MAX_VALUE_LENGTH = 200  # characters of a value in an error

Model = TypeVar("Model", bound=Settings)


class _Loader(yaml.SafeLoader):
    def construct_document(self, node: yaml.Node) -> Any:
        if _count_values(node, {}) > _MAX_VALUES:
            problem = f"its aliases stand for more than {_MAX_VALUES:,} values"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
        return super().construct_document(node)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen and key.value != "<<":  # several maps may be merged
                problem = f"key '{key.value}' again; expected each once"
                raise yaml.composer.ComposerError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """How many values `node` holds with its aliases expanded. A node that holds itself is a `RecursionError`."""
    if id(node) not in counts and not isinstance(node, yaml.ScalarNode):
        children = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        counts[id(node)] = 1 + sum(_count_values(child, counts) for child in children)
    return counts.get(id(node), 1)


def read_yaml(text: str, where: str) -> Any:
    """The value of the YAML `text`. Raises `UserError`, which starts with `where`, for bad YAML."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{where}: {place}not YAML ({getattr(error, 'problem', error)})") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested too deeply, or an alias holds itself; expected settings") from error
    except ValueError as error:  # an impossible date, for example
        raise UserError(f"{where}: not YAML ({error})") from error


def load_yaml(uri: str) -> dict[str, Any]:
    """The mapping in the YAML file at `uri`. Raises `UserError` for a missing file, bad YAML or no mapping."""
    value = read_yaml(storage.read_text(uri), uri)
    if not isinstance(value, dict):
        raise UserError(f"{uri}: expected a mapping of sections, found {type(value).__name__}")
    return value


def parse(model: type[Model], value: Any, where: str, prefix: str = "") -> Model:
    """`value` as `model`. Raises `UserError`: `where` (file and section) starts its line, `prefix` starts its key."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_problem(model, value, error, prefix)}") from error


def nearest(key: str, valid: list[str]) -> str:
    """A hint for an unknown key: `did you mean 'gamma'?`, or the list of valid keys where nothing is close."""
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(sorted(valid))}"


def _first_problem(model: type[BaseModel], value: Any, error: ValidationError, prefix: str) -> str:
    problems = error.errors()
    problem = problems[0]
    path = _keys(problem["loc"], value)
    expected = _expected(problem)
    if path and _BRANCH.fullmatch(path[-1]):  # of a value of several kinds: each kind has a problem of its own
        kinds = [one for one in problems if one["loc"][:-1] == problem["loc"][:-1]]
        each = dict.fromkeys(_expected(one).removeprefix("expected ") for one in kinds)
        path, expected = path[:-1], f"expected {' or '.join(each)}"
    key = prefix + ".".join(path) or "(top)"
    if problem["type"] == "extra_forbidden":
        return f"key '{key}': unknown key; {nearest(path[-1], _valid_keys(model, path[:-1]))}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    return f"key '{key}': {expected}, found {_short(problem.get('input'))}"


def _keys(place: tuple[int | str, ...], value: Any) -> list[str]:
    """`place` in `value`, as pydantic names it, without the kinds that it puts after the keys of unions."""
    keys = []
    for part in place:
        if isinstance(value, dict) and part not in value and value.get("kind") == part:
            continue
        keys.append(str(part))
        value = value.get(part) if isinstance(value, dict) else None
    return keys


#: The last part of a place, where pydantic names one of the kinds that a value may be of.
_BRANCH = re.compile(r"(literal|constrained-|list\[).*|str")
#: First word of a pydantic error type -> what the field expects.
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "string": "a text",
    "dict": "a mapping",
    "model": "a mapping",
    "finite": "a finite number",
}


def _expected(problem: Any) -> str:
    kind, _, check = problem["type"].partition("_")
    if kind in _TYPES and check in ("type", "parsing", "from_float", "number"):
        return f"expected {_TYPES[kind]}"
    message = str(problem["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
    return message[0].lower() + message[1:]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}..."


def _valid_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Field names of the model at `path` (through lists, optionals and tagged unions)."""
    models: list[type[BaseModel]] = [model]
    for part in path:
        inner: list[type[BaseModel]] = []
        for candidate in models:
            if part in candidate.model_fields:
                inner += _models_in(candidate.model_fields[part].annotation)
        # A part that is no field is a list index or the tag of a union: the models stay the same.
        models = inner or models
    return sorted({name for candidate in models for name in candidate.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]
