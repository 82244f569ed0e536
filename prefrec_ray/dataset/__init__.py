"""The prepared data set on disk: metadata, completeness check and access by file."""

from prefrec_ray.dataset.prepared import (
    PEOPLE,
    SCHEMA_VERSION,
    Metadata,
    PreparedDataset,
    check_complete,
    file_rows,
    floats,
    read_table,
    stored,
    tensor,
    tensor_array,
    write_table,
)
