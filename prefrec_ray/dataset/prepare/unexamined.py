"""Separate the examined items of pages, which are impressions, from the items that users did not examine.

Only examined items are in states, transitions and preferences, because feedback on the others is unknown. A log says
which items were examined, or a click model infers it (mdp/examination.py). Importance weights need all items of a page:
a propensity is given the items before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from prefrec_ray.ids import codes, first_rows, places_in_runs
from prefrec_ray.mdp.examination import examined_items, positions
from prefrec_ray.mdp.pages import Pages

#: Columns of an unexamined item; `step` is its page, and `place` its place on the page, from 0.
_KEPT = ("user_id", "step", "place", "item_id", "propensity", "pinned", "split")


def separate(
    rows: pa.Table, split: np.ndarray, known: np.ndarray, feedback: Sequence[str], rng: np.random.Generator
) -> tuple[pa.Table, pa.Table, int]:
    """Return the rows of examined items, the unexamined items of their pages, and the number of all unexamined items.

    `rows` [N] are by page, and `split` int8 [N] is the split of their users. `known`: rows of pages whose items were
    all examined, except for rows that the column `examined` excludes. In other pages, any of the columns `feedback`
    above 0 shows an examination, and a click model of their training users (split 0) decides about the rest. A page
    without examined items does not count as a step.
    """
    pages, examined = Pages.from_table(rows), np.ones(len(rows), bool)
    if "examined" in rows.column_names:
        examined = rows["examined"].to_numpy()
        rows = rows.drop_columns(["examined"])
    if not known.all() and feedback and len(pages.first) < len(rows):
        reacted = np.any([rows[name].to_numpy() > 0 for name in feedback], axis=0)
        inferred = examined_items(pages, codes(rows["item_id"]), reacted, (split == 0) & ~known, rng)
        examined = examined & (known | inferred)
    if examined.all():
        return rows, rows.slice(0, 0), 0
    seen = pages.sums(examined.astype(np.int64)) > 0
    rows = rows.append_column("place", pa.array(positions(pages).astype(np.int32)))
    rows = rows.append_column("split", pa.array(split))
    user = codes(rows["user_id"])[pages.first]
    step = np.zeros(len(seen), np.int64)
    step[seen] = places_in_runs(first_rows(user[seen]), int(seen.sum()))
    rows = rows.set_column(rows.column_names.index("step"), "step", pa.array(step[pages.of_row]))
    others = rows.filter(pa.array(~examined & seen[pages.of_row]))
    others = others.select([name for name in _KEPT if name in rows.column_names])
    return rows.filter(pa.array(examined)).drop_columns(["place", "split"]), others, int((~examined).sum())
