"""Atomic reads and writes of files on a disk or in an object store, by path or URI."""

from prefrec_ray.storage.alias import followed
from prefrec_ray.storage.arrays import Form, SlicedArray, read_arrays, write_arrays
from prefrec_ray.storage.claims import claimed, exchange, fetched, staged
from prefrec_ray.storage.files import (
    absolute,
    exists,
    filesystem,
    join,
    list_files,
    list_folders,
    make_folder,
    make_private,
    make_room,
    parse_json,
    private,
    read_bytes,
    read_json,
    read_text,
    read_versioned,
    remove,
    size,
    sync,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)
