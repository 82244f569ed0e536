"""The page docs/settings.md: every setting of the methods and of the simulator, from its pydantic field.

`python docs/settings.py` prints it; a test compares it with the page.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from prefrec_ray.algorithms.methods import SETTINGS
from prefrec_ray.algorithms.settings import TrainingSettings, recipe_defaults
from prefrec_ray.labeling.settings import LabelSettings
from prefrec_ray.mdp.serving import ServingSettings
from prefrec_ray.settings import Settings
from prefrec_ray.simulator.settings import SimulateSettings, WorldSettings
from prefrec_ray.terms import RECIPES

HEAD = """# Settings

Keys of `config` in the section `train`, and of `base` and `search` in `tune`. `recipe`, `task` and `seed` are keys of
the section itself. The columns `paper` and `robust` are the defaults of the two recipes ([training](training.md)); the
losses are in [methods](methods.md). The last tables are of the sections `simulate` ([simulator](simulator.md)) and
`label` ([label](label.md)).
The page is made from the code: `python docs/settings.py > docs/settings.md`.
"""
SERVING = """## Serving

Keys of `serving`, as in `serving: {rule: best}`: those that are not given stay as the recipe has them
([serving](serving.md)).
"""
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def page() -> str:
    """A table of the settings of every method, then one for each group of methods with settings of its own."""
    parts = [HEAD, "## Every method\n", table(TrainingSettings, {}), SERVING, serving_table()]
    done: set[str] = set(TrainingSettings.model_fields)
    for settings in dict.fromkeys(SETTINGS.values()):
        own = set(settings.model_fields) - done
        if own:
            methods = [name for name, used in SETTINGS.items() if own <= set(used.model_fields)]
            parts += [f"## {', '.join(methods)}\n", table(settings, done)]
            done |= own
    parts += ["## simulate\n", plain_table(SimulateSettings), "## simulate.world\n", plain_table(WorldSettings)]
    parts += ["## label\n", plain_table(LabelSettings)]
    return "\n".join(parts)


def plain_table(settings: type[BaseModel]) -> str:
    """One row per field of settings that have one default."""
    properties = settings.model_json_schema()["properties"]
    lines = ["| key | type | range | default | meaning |", "|---|---|---|---|---|"]
    for name, field in settings.model_fields.items():
        schema = properties[name]
        cells = [f"`{name}`", type_of(schema), range_of(schema), value(field.default), field.description]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def table(settings: type[TrainingSettings], without: Any) -> str:
    """One row per field of `settings` that is not in `without`."""
    return rows(settings, recipe_defaults(settings, "paper"), {}, without)


def serving_table() -> str:
    """One row per key of `serving`."""
    recipes = {recipe: recipe_defaults(TrainingSettings, recipe)["serving"].model_dump() for recipe in RECIPES}
    return rows(ServingSettings, recipes["paper"], recipes["robust"], {})


def rows(settings: type[Settings], paper: dict[str, Any], robust_values: dict[str, Any], without: Any) -> str:
    """The table; a field that is not in `paper` or `robust_values` has its own default there."""
    properties = settings.model_json_schema()["properties"]
    lines = ["| key | type | range | `paper` | `robust` | meaning |", "|---|---|---|---|---|---|"]
    for name, field in settings.model_fields.items():
        if name not in without:
            schema = properties[name]
            robust = robust_values.get(name, field.get_default(call_default_factory=True))
            kind, limits, meaning = type_of(schema), range_of(schema), field.description
            cells = [f"`{name}`", kind, limits, value(paper.get(name, robust)), value(robust), meaning]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def type_of(schema: dict[str, Any]) -> str:
    """The type in words, from a JSON schema."""
    if "$ref" in schema:
        return "mapping"
    if "anyOf" in schema:
        return " or ".join(map(type_of, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return "choice"
    kind = schema["type"]
    if "prefixItems" in schema:
        return f"{len(schema['prefixItems'])} {type_of(schema['prefixItems'][0])}s"
    if kind == "array":
        return f"list of {type_of(schema['items'])}s"
    if kind == "object":
        return f"mapping to {type_of(schema['additionalProperties'])}s"
    return {"string": "name", "boolean": "true or false"}.get(kind, kind)


def range_of(schema: dict[str, Any]) -> str:
    """The values that are allowed, from a JSON schema."""
    if "enum" in schema or "const" in schema:
        return ", ".join(value(choice) for choice in schema.get("enum", [schema.get("const")]))
    limits = [f"{sign} {schema[bound]}" for bound, sign in _BOUNDS.items() if bound in schema]
    limits += ["not empty"] if "minItems" in schema and "prefixItems" not in schema else []
    inner = [*schema.get("anyOf", []), *(schema[key] for key in ("items", "additionalProperties") if key in schema)]
    return ", ".join(filter(None, [*limits, *map(range_of, inner)]))


def value(default: Any) -> str:
    """A value as YAML has it."""
    if isinstance(default, bool) or default is None:
        return {None: "null", True: "true", False: "false"}[default]
    if isinstance(default, tuple | list):
        return f"[{', '.join(map(value, default))}]"
    if isinstance(default, dict):
        return "{}"
    if isinstance(default, BaseModel):
        return "below"
    return f"`{default}`" if isinstance(default, str) else f"{default}".replace("e-0", "e-").removesuffix(".0")


if __name__ == "__main__":
    print(page(), end="")
