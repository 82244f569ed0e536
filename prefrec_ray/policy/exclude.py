"""Conversion of excluded items to rows of the item table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from prefrec_ray.errors import UserError
from prefrec_ray.mdp.excluded import ExcludedItems
from prefrec_ray.mdp.items import ItemTable

#: Excluded items: n arrays of ids, or bool [n, I].
Exclude: TypeAlias = Sequence[np.ndarray] | np.ndarray | None


def excluded_items(exclude: Exclude, items: ItemTable, n: int) -> ExcludedItems | None:
    """Return the excluded rows of `items` for each of n states; unknown ids are ignored.

    Raises `UserError` for a mask of another shape, and for another number of arrays.
    """
    if exclude is None:
        return None
    if isinstance(exclude, np.ndarray) and exclude.dtype == bool:
        if exclude.shape != (n, len(items)):
            raise UserError(
                f"exclude: found a mask of shape {list(exclude.shape)}; expected [{n}, {len(items)}], one "
                f"column per item in the order of policy.items.ids"
            )
        return ExcludedItems.from_mask(exclude)
    if len(exclude) != n:
        raise UserError(f"exclude: found {len(exclude)} arrays of ids; expected {n}, one for each state")
    lengths = [len(ids) for ids in exclude]
    if not any(lengths):
        return ExcludedItems.from_rows([np.zeros(0, np.int64)] * n)
    rows = items.find(np.concatenate([np.asarray(ids) for ids in exclude if len(ids)]))
    return ExcludedItems.from_rows(np.split(rows, np.cumsum(lengths)[:-1]))
