"""Positions of the batches in one file of the log."""

from __future__ import annotations

from array import array
from bisect import bisect_right

import pyarrow as pa

from prefrec_ray.logs.events.records import header_end, read_pieces


class FileIndex:
    """First row and bytes of each batch of a file; `end` is the byte after the last batch."""

    def __init__(self) -> None:
        self.rows = self.end = 0
        self._firsts, self._begins, self._ends = array("q"), array("q"), array("q")

    @classmethod
    def from_content(cls, content: pa.Buffer, columns: pa.Schema) -> FileIndex:
        """Return the index of the batches before the first damaged or unfinished batch."""
        index = cls()
        index.end = header_end(content, columns)
        for piece in read_pieces(content, columns):
            index.add(piece.batch.num_rows, piece.begin, piece.end)
        return index

    def add(self, rows: int, begin: int, end: int) -> None:
        """Add the next batch."""
        for of, value in ((self._firsts, self.rows), (self._begins, begin), (self._ends, end)):
            of.append(value)
        self.rows, self.end = self.rows + rows, end

    def place(self, row: int) -> tuple[int, int, int]:
        """Return the bytes of the batch that contains a row of the file, and the number of rows before the batch.

        Raises `IndexError` if no batch contains it.
        """
        if row >= self.rows:
            raise IndexError(row)
        number = bisect_right(self._firsts, row) - 1
        return self._begins[number], self._ends[number], self._firsts[number]
