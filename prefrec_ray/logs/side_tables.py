"""Settings of the tables of users (a row per user) and items (a row per item) of a log."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from prefrec_ray.settings import Settings

#: Names of columns; a single name is a list of one.
Columns = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class UsersTable(Settings):
    """A file with one row per user; the columns in `features` become part of the state, as categories."""

    path: str
    id: str = "user_id"
    features: Annotated[Columns, Field(min_length=1)]

    @property
    def columns(self) -> list[str]:
        """Return all columns to read."""
        return [self.id, *self.features]

    @model_validator(mode="after")
    def _check_features(self) -> Self:
        if "user_id" in self.features or len(set(self.features)) < len(self.features):
            raise ValueError("features: expected each feature once, and not the name user_id")
        if self.id in self.features:
            raise ValueError(f"features: '{self.id}' is the id; expected other columns")
        return self


class ItemsTable(Settings):
    """A file with one row per item.

    `embedding` is a column of lists of numbers, or a list of columns of numbers. Without it embeddings are learned from
    co-consumption and from `features`: columns of categories (A|B|C or a list: several) and of numbers. Each feature is
    also a kind of items (mdp/kinds.py). `title` is a column of text, a name for reports.
    """

    path: str
    id: str = "item_id"
    embedding: str | Annotated[list[str], Field(min_length=1)] | None = None
    features: Columns = Field(default_factory=list)
    title: str | None = None

    @model_validator(mode="after")
    def _something_of_each_item(self) -> Self:
        if self.id in self.features or len(set(self.features)) < len(self.features):
            raise ValueError(f"features: expected each column once, and not the id '{self.id}'")
        if not (self.embedding or self.features or self.title):
            raise ValueError("expected embedding, features or title")
        return self

    @property
    def embedding_columns(self) -> list[str]:
        """Return the columns of the embedding."""
        return [self.embedding] if isinstance(self.embedding, str) else self.embedding or []

    @property
    def columns(self) -> list[str]:
        """Return all columns to read, each once."""
        return list(dict.fromkeys([self.id, *self.embedding_columns, *self.features, *self.about.values()]))

    @property
    def about(self) -> dict[str, str]:
        """Return the columns for reports, by their names in the report."""
        return {"title": self.title} if self.title else {}
