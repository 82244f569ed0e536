"""Attributes of KuaiRand's videos that exist before an impression: tags and author.

KuaiRand's statistics of videos are not read: they are averages over the month of the log and contain the future.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from prefrec_ray.logs.contract import Place
from prefrec_ray.logs.fragments import batches
from prefrec_ray.logs.log import Content
from prefrec_ray.logs.values import to_integers


@dataclass(frozen=True)
class VideoContent:
    """Content of videos, from three columns of the files `video_features_basic`, read batch by batch."""

    files: tuple[str, ...]

    def __call__(self, ids: np.ndarray) -> Content:
        """Return the content of `ids` (int64, ascending). Videos that are not in the files have no tags, no author."""
        maker = np.full(len(ids), -1, dtype=np.int64)
        rows, tags = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, file in enumerate(self.files):
            row = 0
            for table in batches(file, ["video_id", "author_id", "tag"], None):
                place = Place(file, number, row)
                video = to_integers(table["video_id"], place, "video_id")
                author = to_integers(table["author_id"], place, "author_id")
                item = np.searchsorted(ids, video).clip(max=len(ids) - 1)
                known = ids[item] == video
                maker[item[known]] = author[known]
                texts = pc.fill_null(table["tag"].filter(pa.array(known)), "")
                parts = pc.split_pattern(texts, ",").combine_chunks()
                flat = pc.utf8_trim_whitespace(parts.flatten())
                named = pc.not_equal(flat, "")
                owner = np.flatnonzero(known)[pc.list_parent_indices(parts).to_numpy()][named.to_numpy(False)]
                places = Place(file, number, rows=row + owner)
                rows.append(item[owner])
                tags.append(to_integers(pa.chunked_array([flat.filter(named)]), places, "tag"))
                row += table.num_rows
        names, column = np.unique(np.concatenate(tags), return_inverse=True)
        row_of = np.concatenate(rows)
        matrix = sparse.csr_array((np.ones(len(row_of), np.float32), (row_of, column)), shape=(len(ids), len(names)))
        matrix.data[:] = 1.0  # a repeated tag counts once
        return Content(matrix, maker)
