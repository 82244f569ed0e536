"""Names of subjects, estimators and serving rules in the file of an evaluation, reports and tables."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prefrec_ray.errors import UserError

Role = Literal["policy", "placebo", "control"]

LOGGING_POLICY, IMITATION, CONSTANT, RANDOM_ITEMS = "behaviour", "imitation", "constant action", "random items"
#: The policy that serves now (`evaluate.current`).
CURRENT = "current policy"
#: Titles of subjects that have an older name in evaluation.json.
_SUBJECTS = {LOGGING_POLICY: "logging policy", IMITATION: "behavior cloning"}
#: Titles of estimators, in the order of tables.
TITLES = {
    "online": "true level",
    "model": "model of users",
    "dr": "doubly robust",
    "fqe": "fitted-Q",
    "preference": "preference",
    "weights": "importance weights",
    "sips": "SIPS",
    "rips": "RIPS",
    "iips": "IIPS",
    "ncis": "NCIS",
}
#: Titles of roles in tables and figures.
ROLES: dict[Role, str] = {"policy": "policy", "placebo": "negative control", "control": "control"}


@dataclass(frozen=True)
class Subject:
    """A subject of an evaluation: one line of its tables.

    `role`: "policy", "placebo" (a negative control, which should score the logging policy's value) or "control"
    (behavior cloning; weights by session length). `method`: the method of the policy, or of the policy behind a
    control.
    """

    name: str
    method: str
    role: Role


def shuffled(name: str) -> str:
    """Return the name of a policy's negative control with shuffled actions."""
    return f"shuffled:{name}"


def length_only(name: str) -> str:
    """Return the name of a policy's control with weights that depend only on session length."""
    return f"length only:{name}"


#: Negative controls that do not depend on the user. A policy's own shuffled actions still favor items that are good for
#: most users.
BLIND = (shuffled(IMITATION), CONSTANT, RANDOM_ITEMS)
#: Prefix of the name of a control made from another subject -> suffix of the title.
_MADE_FROM = {shuffled(""): ", actions shuffled", length_only(""): ", session length only"}


def subject_of(name: str) -> str:
    """Return the policy from which a control was made; any other name is returned unchanged."""
    for opening in _MADE_FROM:
        name = name.removeprefix(opening)
    return name


def is_control(name: str) -> bool:
    return name in (LOGGING_POLICY, IMITATION, CONSTANT, RANDOM_ITEMS, CURRENT) or name.startswith(tuple(_MADE_FROM))


def check_names(names: Iterable[str]) -> None:
    """Raise `UserError` for a policy with the name of a control."""
    for name in names:
        if is_control(name):
            raise UserError(f"policy name '{name}': a control has this name; expected another name")


def subject_title(name: str) -> str:
    """Return the subject's title in tables and figures."""
    policy = subject_of(name)
    made = (title for opening, title in _MADE_FROM.items() if name.startswith(opening))
    return _SUBJECTS.get(policy, policy) + next(made, "")


def short_names(descriptions: Sequence[Mapping[str, Any]], uris: Sequence[str]) -> list[str]:
    """Return a name for each run or policy, equal in every table and figure.

    A name consists of method and recipe, then task and seed if they differ. If names are still equal, the serving
    `rule` is added, then the penalties (`variety`, `repetition`), the `temperature`, and the part of the `uris` from
    the first difference on.
    """
    differing = [key for key in ("task", "seed") if len({str(d.get(key)) for d in descriptions}) > 1]
    keys = ["method", "recipe", *differing]
    for chosen in (
        keys,
        [*keys, "rule"],
        [*keys, "variety"],
        [*keys, "scores", "variety", "repetition", "temperature"],
    ):
        names = [" ".join(_text(key, d[key]) for key in chosen if d.get(key) is not None) for d in descriptions]
        if len(set(names)) == len(names):
            return names
    places = [str(uri).rstrip("/").split("/") for uri in uris]
    shared = posixpath.commonprefix([place[:-1] for place in places])  # of folders, not of letters
    return ["/".join(place[len(shared) :]) for place in places]


def _text(key: str, value: Any) -> str:
    if key in ("variety", "repetition", "temperature"):
        return f"{key} {value:g}"
    return f"seed {value}" if key == "seed" else str(value)


def serving_rule(provenance: Mapping[str, Any]) -> str:
    """Return the serving rule of a policy in words; temperature and penalties only if it draws its items."""
    window = ("repetition_window",) if provenance.get("repetition") else ()
    drawn = ("temperature", "variety", "repetition", *window)
    keys = ("rule", "scores", *(drawn if provenance.get("rule") == "sample" else ()))
    known = {key: provenance[key] for key in keys if provenance.get(key) is not None}
    return ", ".join(
        f"{key.replace('_', ' ')} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
        for key, value in known.items()
    )
