"""Validated settings from YAML. Every error is one line with the file, the key and the most similar valid key.

The module also defines the choices of settings: tasks, splits, pairings and recipes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from prefrec_ray import storage
from prefrec_ray.errors import UserError, first_problem


class Settings(BaseModel):
    """Base of every settings model: immutable, without unknown keys and infinite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


#: The objective of a policy: the level of session depth, of frequency, or of their mixture (Eq. 11).
Task = Literal["depth", "frequency", "mixture"]
Split = Literal["train", "validation", "test"]
#: The segments that a teacher compares come from two users (any_users) or from one (within_user).
Pairing = Literal["any_users", "within_user"]
#: Named sets of defaults (algorithms/settings.py).
Recipe = Literal["paper", "robust"]

TASKS: tuple[Task, ...] = get_args(Task)
#: A user's split is stored as an index into this tuple.
SPLITS: tuple[Split, ...] = get_args(Split)
PAIRINGS: tuple[str, ...] = get_args(Pairing)
RECIPES: tuple[Recipe, ...] = get_args(Recipe)
#: No log is older than 1970 or newer than this. A number outside of this range has another unit.
END_OF_TIME = 7_258_118_400  # 2200-01-01, s

#: A seed that NumPy, PyTorch and RLlib all accept.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
#: Number of users, rows, pairs, array elements ...
Count = Annotated[int, Field(ge=1, le=10**9)]


def _not_of_ray(resources: dict[str, float]) -> dict[str, float]:
    if not {"CPU", "GPU"}.isdisjoint(resources):
        raise ValueError("expected resources other than CPU and GPU")
    return resources


#: Amounts of Ray's custom resources by name.
CustomResources = Annotated[dict[str, PositiveFloat], AfterValidator(_not_of_ray)]
#: Largest number of values in a YAML file after expansion of aliases, of which a few can produce billions of values.
_MAX_VALUES = 100_000

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
            if (key.tag, key.value) in seen and key.value != "<<":  # several mappings may be merged
                problem = f"key '{key.value}' again; expected each once"
                raise yaml.composer.ComposerError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Count the values in `node` with its aliases expanded. Raises `RecursionError` if a node contains itself."""
    if id(node) not in counts and not isinstance(node, yaml.ScalarNode):
        children = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        counts[id(node)] = 1 + sum(_count_values(child, counts) for child in children)
    return counts.get(id(node), 1)


def read_yaml(text: str, where: str) -> Any:
    """Return the value of the YAML `text`. Raises `UserError`, prefixed by `where`, for bad YAML."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.reader.ReaderError as error:  # its text has several lines
        line = text.count("\n", 0, error.position) + 1
        found = f"found the control character {error.character:#04x}"
        raise UserError(f"{where}: line {line}: not YAML ({found})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{where}: {place}not YAML ({getattr(error, 'problem', error)})") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested too deeply, or an alias contains itself; expected settings") from error
    except (ValueError, LookupError, AttributeError, OverflowError) as error:  # a date or `!!bool` that is none
        raise UserError(f"{where}: not YAML ({error})") from error


def load_yaml(uri: str) -> dict[str, Any]:
    """Return the mapping in the YAML file at `uri`. Raises `UserError` for a missing file, bad YAML or no mapping."""
    value = read_yaml(storage.read_text(uri), uri)
    if value is None:
        raise UserError(f"{uri}: empty; expected a mapping of sections")
    if not isinstance(value, dict):
        raise UserError(f"{uri}: expected a mapping of sections, found {type(value).__name__}")
    return value


def parse(model: type[Model], value: Any, where: str, prefix: str = "") -> Model:
    """Return `value` as `model`.

    Raises `UserError` with the prefix `where` (file and section), and `prefix` of the key.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error, model, value, prefix)}") from error
