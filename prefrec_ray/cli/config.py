"""The YAML of a command: one section for each stage, parsed to its settings, and `key=value` overrides."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from prefrec_ray.errors import UserError, nearest
from prefrec_ray.settings import Settings, load_yaml, parse, read_yaml

#: Module and class of the settings of each section, imported on demand, since imports of Ray and PyTorch take seconds.
SECTIONS = {
    "simulate": ("prefrec_ray.simulator.settings", "SimulateSettings"),
    "prepare": ("prefrec_ray.dataset.prepare.settings", "PrepareSettings"),
    "train": ("prefrec_ray.runs.settings", "TrainSettings"),
    "evaluate": ("prefrec_ray.evaluation.settings", "EvaluateSettings"),
    "label": ("prefrec_ray.annotation.page.desk", "LabelSettings"),
    "serve": ("prefrec_ray.serving.settings", "ServeSettings"),
    "loop": ("prefrec_ray.nightly.settings", "LoopSettings"),
    "tune": ("prefrec_ray.runs.tuning.settings", "TuneSettings"),
    "tracking": ("prefrec_ray.runs.tracking", "TrackingSettings"),
}


def load_sections(uri: str) -> dict[str, Any]:
    """Return the sections of the YAML file at `uri`. Raises `UserError` for an unknown section or an empty file."""
    sections = load_yaml(uri)
    for name in sections:
        if name not in SECTIONS:
            raise UserError(f"{uri}: unknown section '{name}'; {nearest(str(name), list(SECTIONS))}")
    if not sections:
        raise UserError(f"{uri}: empty; expected one or more of the sections {', '.join(SECTIONS)}")
    return sections


def parse_section(name: str, value: Any, where: str) -> Any:
    """Return the settings of the section `name` from its YAML `value`; an empty section has the defaults."""
    settings: Any = parse(_model(name), {} if value is None else value, f"{where}: {name}")
    if name in ("tune", "tracking"):
        return import_module(SECTIONS[name][0]).checked(settings, f"{where}: {name}")
    return settings


def open_section(uri: str | None, name: str, overrides: Sequence[str] = ()) -> Any:
    """Return the settings of the section `name` in the file at `uri`, with `key=value` overrides.

    Without a file all settings have their defaults.
    """
    if uri is None:
        return _model(name)()
    sections = load_sections(uri)
    if name not in sections:
        raise UserError(f"{uri}: section '{name}' is missing; found {', '.join(sections)}")
    value = sections[name]
    if overrides and isinstance(value, dict | None):  # `parse_section` refuses anything else
        value = override(name, value or {}, overrides)
    return parse_section(name, value, uri)


def open_tracking(uri: str) -> Any:
    """Return the settings of the section `tracking` in the file at `uri`; without it nothing is tracked."""
    return parse_section("tracking", load_sections(uri).get("tracking"), uri)


def dataset_of(given: str | None, settings: Any, where: str) -> str:
    """Return the data set of an option, else of the settings. Raises `UserError`, prefixed by `where`, without one."""
    dataset = given or settings.dataset
    if dataset is None:
        raise UserError(f"{where}: key 'dataset' is missing; name the data set there or by --dataset DATASET")
    return dataset


def override(name: str, section: dict[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `section` with the values of `texts`, each `key=value` with a value in YAML.

    Keys that the section does not have are set in its `config`, unless this is not a mapping. Raises `UserError` for a
    text without a key or `=`.
    """
    fields = _model(name).model_fields
    values: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UserError(f"'{text}': expected key=value, as in gamma=0.95")
        values[key] = _scalar(value, f"'{text}'")
    changed = {**section, **{key: value for key, value in values.items() if key in fields}}
    config = changed.get("config")
    if isinstance(config, dict | None):
        changed["config"] = {**(config or {}), **{key: value for key, value in values.items() if key not in fields}}
    return changed


def _model(name: str) -> type[Settings]:
    module, model = SECTIONS[name]
    return getattr(import_module(module), model)


def _scalar(text: str, where: str) -> Any:
    """Return a YAML value. `1e-4` is a number here; in YAML 1.1 it is a text, and only `1.0e-4` is a number."""
    value = read_yaml(text, where)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
