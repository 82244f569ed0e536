"""The tables of docs/settings.md: every key of every section of a YAML, from its pydantic field.

`python docs/settings.py` prints them; pages.py puts them into the page of the site.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from prefrec_ray.algorithms import SETTINGS
from prefrec_ray.algorithms.settings import TrainingSettings, recipe_defaults
from prefrec_ray.annotation.page.desk import LabelSettings
from prefrec_ray.dataset.prepare.settings import PrepareSettings
from prefrec_ray.evaluation.settings import EvaluateSettings, FqeSettings, ModelSettings, NcisSettings
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.nightly.settings import CanarySettings, LoopSettings
from prefrec_ray.preferences import PreferenceSettings, TeacherSettings
from prefrec_ray.runs.tracking import TrackingSettings
from prefrec_ray.serving.settings import Arm, IncumbentSettings, ServeSettings
from prefrec_ray.settings import RECIPES
from prefrec_ray.simulator.settings import SimulateSettings, WorldSettings

TRAIN = """## train: every method

Keys of `config` in the section `train`, and of `base` and `search` in `tune`; `recipe`, `task` and `seed` are keys of
the section itself. Of two defaults the first belongs to `paper`, the second to `robust` ([recipes](recipe.md)).

"""
SERVING = """## train: serving

Keys of [`serving`](serving.md), as in `serving: {rule: best}`; missing keys have the recipe's values.
"""
#: Sections in the order of a project, after `train`: title and settings.
AFTER: dict[str, type[BaseModel]] = {
    "evaluate": EvaluateSettings,
    "evaluate.model": ModelSettings,
    "evaluate.ncis": NcisSettings,
    "evaluate.fqe": FqeSettings,
    "serve": ServeSettings,
    "serve.canaries": Arm,
    "serve.incumbent": IncumbentSettings,
    "loop": LoopSettings,
    "loop.canary": CanarySettings,
    "label": LabelSettings,
    "tracking": TrackingSettings,
    "simulate": SimulateSettings,
    "simulate.world": WorldSettings,
}
REQUIRED = object()
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
TABLE = "| key | default; values | meaning |\n|---|---|---|\n"


def tables() -> str:
    """Return the tables: `prepare`, the settings of methods, then the other sections."""
    return "\n".join(
        [
            section("prepare", PrepareSettings),
            section("prepare.preferences", PreferenceSettings),
            TRAIN + TABLE + rows(TrainingSettings, recipe_defaults(TrainingSettings, "paper")),
            SERVING,
            serving_table(),
            "## train: single methods\n",
            single_methods(),
            *(section(name, settings) for name, settings in AFTER.items()),
        ]
    )


def section(name: str, settings: type[BaseModel]) -> str:
    """Return a heading and one row per key."""
    return f"## {name}\n\n{TABLE}{rows(settings)}"


def serving_table() -> str:
    """Return one row per key of `serving`."""
    recipes = {recipe: recipe_defaults(TrainingSettings, recipe)["serving"].model_dump() for recipe in RECIPES}
    return TABLE + rows(ServingSettings, recipes["paper"], recipes["robust"])


def single_methods() -> str:
    """Return one row per setting of single methods, with the names of its methods."""
    text, done = "", set(TrainingSettings.model_fields)
    for settings in dict.fromkeys(SETTINGS.values()):
        own = set(settings.model_fields) - done
        methods = ", ".join(name for name, used in SETTINGS.items() if own <= set(used.model_fields))
        text += rows(settings, recipe_defaults(settings, "paper"), without=done, before=f"{methods}: ")
        done |= own
    return TABLE + text


def rows(
    settings: type[BaseModel],
    paper: Mapping[str, Any] = {},
    robust: Mapping[str, Any] = {},
    without: Collection[str] = (),
    before: str = "",
) -> str:
    """Return one row per field of `settings` that is not in `without`; `before` starts each meaning.

    A field that is not in `paper` or `robust` has its own default there.
    """
    properties, text = settings.model_json_schema()["properties"], ""
    for name, field in settings.model_fields.items():
        if name not in without:
            default = robust.get(name, _default(field))
            defaults = list(dict.fromkeys([value(paper.get(name, default)), value(default)]))
            text += f"| `{name}` | {defaults_and_values(defaults, properties[name])} | {before}{field.description} |\n"
    return text


def _default(field: FieldInfo) -> Any:
    """Return the default, or a word if the key is required."""
    return REQUIRED if field.is_required() else field.get_default(call_default_factory=True)


def defaults_and_values(defaults: list[str], schema: dict[str, Any]) -> str:
    """Return the defaults, then the other values that a JSON schema allows."""
    text = " / ".join(defaults)
    if {"$ref", "oneOf"} & schema.keys() or schema.get("type") == "boolean":
        return text
    choices = [value(choice) for choice in schema.get("enum", [])]
    others = ", ".join(choice for choice in choices if choice not in defaults) if choices else values(schema)
    return f"{text}; {others}" if others else text


def values(schema: dict[str, Any], plural: str = "") -> str:
    """Return the values that a JSON schema allows, in words; `plural` is appended to the word for a type."""
    if "$ref" in schema:
        return f"mapping{plural}"
    if "anyOf" in schema:
        return " or ".join(map(values, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(map(value, schema.get("enum", [schema.get("const")])))
    kind = schema["type"]
    if "prefixItems" in schema:
        return f"{len(schema['prefixItems'])} {values(schema['prefixItems'][0], 's')}"
    if kind == "array":
        return f"list of {values(schema['items'], 's')}" + (", not empty" if "minItems" in schema else "")
    if kind == "object":
        return f"mapping to {values(schema['additionalProperties'], 's')}"
    word, range_ = "name" if kind == "string" else kind, limits(schema)
    return range_ if kind == "number" and range_ and not plural else f"{word}{plural} {range_}".strip()


def limits(schema: dict[str, Any]) -> str:
    """Return the range of a number: one bound, or an interval (a square bracket includes the end)."""
    if not {"minimum", "exclusiveMinimum"} & schema.keys() or not {"maximum", "exclusiveMaximum"} & schema.keys():
        return ", ".join(f"{sign} {value(schema[bound])}" for bound, sign in _BOUNDS.items() if bound in schema)
    low = f"[{value(schema['minimum'])}" if "minimum" in schema else f"({value(schema['exclusiveMinimum'])}"
    high = f"{value(schema['maximum'])}]" if "maximum" in schema else f"{value(schema['exclusiveMaximum'])})"
    return f"{low}, {high}"


def value(default: Any) -> str:
    """Return a value in YAML."""
    if isinstance(default, bool) or default is None:
        return {None: "null", True: "true", False: "false"}[default]
    if default is REQUIRED:
        return "required"
    if isinstance(default, tuple | list):
        return f"[{', '.join(map(value, default))}]"
    if isinstance(default, dict):
        return "{}"
    if isinstance(default, BaseModel):
        return value(default.name) if isinstance(default, TeacherSettings) else "below"
    if default in (10**9, 2**32):
        return {10**9: "10^9", 2**32: "2^32"}[default]
    return f"`{default}`" if isinstance(default, str) else f"{default}".replace("e-0", "e-").removesuffix(".0")


if __name__ == "__main__":
    print(tables(), end="")
