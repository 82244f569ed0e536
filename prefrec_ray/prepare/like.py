"""`prepare.like`: a log is prepared like another data set, so that the policies learned there can be scored here."""

from __future__ import annotations

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset
from prefrec_ray.errors import UserError
from prefrec_ray.logs import Log
from prefrec_ray.prepare.settings import PrepareSettings

#: What users' splits, sessions, levels and actions rest on.
_INHERITED = (
    "seed",
    "session_gap_minutes",
    "train_fraction",
    "validation_fraction",
    "mixture_weight",
    "action_dim",
)


def open_like(settings: PrepareSettings) -> tuple[PrepareSettings, PreparedDataset | None]:
    """The data set that `settings.like` names, and the settings with what they take over from it.

    Raises `UserError` where there is none, and where the settings say something else themselves.
    """
    if settings.like is None:
        return settings, None
    like = PreparedDataset.open(storage.absolute(settings.like))
    theirs = {name: like.metadata.settings[name] for name in _INHERITED}
    for name, value in theirs.items():
        mine = getattr(settings, name)
        if name in settings.model_fields_set and mine != value:
            raise UserError(f"prepare.{name}: {mine}, but {value} in {settings.like} (like); leave it out")
    return settings.model_copy(update=theirs), like


def check_like(log: Log, like: PreparedDataset) -> None:
    """Raises `UserError` where states of `log` cannot be those of `like`."""
    if log.feedback != like.state.feedback:
        expected, found = (", ".join(names) or "none" for names in (like.state.feedback, log.feedback))
        raise UserError(f"feedback of the log: {found}; expected that of {like.uri}: {expected}")
    if log.given_sessions != like.metadata.given_sessions:
        raise UserError(f"sessions of the log and of {like.uri}: one has ids, the other pauses; expected the same")
    known = log.users.column_names if log.users else []
    for name in like.state.user_features:
        if name not in known:
            raise UserError(f"user features of the log: '{name}' is missing, which the states of {like.uri} hold")
