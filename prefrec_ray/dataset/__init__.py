"""The prepared data set on disk: made from a log, opened by its metadata, checked for completeness, read by file."""

from prefrec_ray.dataset.metadata import SCHEMA_VERSION, Metadata
from prefrec_ray.dataset.prepared import PreparedDataset
from prefrec_ray.dataset.tables import (
    read_table,
    stored,
    tensor,
    tensor_array,
    write_table,
)

__all__ = [
    "SCHEMA_VERSION",
    "Metadata",
    "PreparedDataset",
    "read_table",
    "stored",
    "tensor",
    "tensor_array",
    "write_table",
]
