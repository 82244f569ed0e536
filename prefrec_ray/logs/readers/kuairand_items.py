"""What KuaiRand says of its videos before they are shown: tags and author.

Its statistics of videos are never read: they are averages over the month of the log, and so know its future.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from prefrec_ray.logs.contract import Place
from prefrec_ray.logs.fragments import batches
from prefrec_ray.logs.log import Labels
from prefrec_ray.logs.values import to_integers


@dataclass(frozen=True)
class VideoLabels:
    """Labels of videos from the files `video_features_basic`, of which only three columns are read, piece by piece."""

    files: tuple[str, ...]

    def __call__(self, ids: np.ndarray) -> Labels:
        """Labels of `ids` (int64, ascending). A video that the files do not hold has no tags and no author."""
        maker = np.full(len(ids), -1, dtype=np.int64)
        rows, tags = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, file in enumerate(self.files):
            row = 0
            for table in batches(file, ["video_id", "author_id", "tag"], None):
                place = Place(file, number, row)
                video = to_integers(table["video_id"], place, "video_id")
                author = to_integers(table["author_id"], place, "author_id")
                found = np.searchsorted(ids, video).clip(max=len(ids) - 1)
                known = ids[found] == video
                maker[found[known]] = author[known]
                texts = pc.fill_null(table["tag"].filter(pa.array(known)), "")
                parts = pc.split_pattern(texts, ",").combine_chunks()
                flat = pc.utf8_trim_whitespace(parts.flatten())
                given = pc.not_equal(flat, "")
                owner = np.flatnonzero(known)[pc.list_parent_indices(parts).to_numpy()][given.to_numpy(False)]
                of_tags = Place(file, number, rows=row + owner)
                rows.append(found[owner])
                tags.append(to_integers(pa.chunked_array([flat.filter(given)]), of_tags, "tag"))
                row += table.num_rows
        names, column = np.unique(np.concatenate(tags), return_inverse=True)
        row_of = np.concatenate(rows)
        matrix = sparse.csr_array((np.ones(len(row_of), np.float32), (row_of, column)), shape=(len(ids), len(names)))
        matrix.data[:] = 1.0  # a tag that is named twice counts once
        return Labels(matrix, maker)
