"""Arrays on disk as Zarr v3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from idx._typing import Array, PathLike
from idx.errors import FormatError

if TYPE_CHECKING:
    import zarr

T = TypeVar("T")
CHUNK_BYTES = 1 << 24
"""A chunk holds whole slices of about this size: a slice is read without its neighbours, and a volume is a handful of files."""


def write_array(values: Array, path: PathLike) -> None:
    """Write an array as a Zarr v3 array (Zstandard), in chunks of whole slices of the first axis.

    Raises
    ------
    FormatError
        If something is at ``path`` already.
    """
    import zarr
    from zarr.codecs import ZstdCodec

    values = np.asarray(values)
    slices = max(1, CHUNK_BYTES // max(1, values[0].nbytes)) if values.ndim > 1 else values.shape[0]
    array = zarr.create_array(
        store=_new_folder(path),
        shape=values.shape,
        dtype=values.dtype,
        chunks=(min(values.shape[0], slices), *values.shape[1:]),
        compressors=ZstdCodec(level=3, checksum=True),
        zarr_format=3,
        # A chunk of zeros that is left out cannot be told from one that was lost.
        config={"write_empty_chunks": True},
    )
    array[...] = values


def read_array(path: PathLike) -> Array:
    """Read a whole Zarr array into memory.

    Raises
    ------
    FormatError
        If it is absent, damaged, or lacks a chunk.
    """
    return _decoded(path, lambda array: np.asarray(array[...]))


def open_array(path: PathLike) -> zarr.Array[Any]:
    """Open a Zarr array whose values stay on the disk until they are sliced.

    Raises
    ------
    FormatError
        If it is absent, or lacks a chunk (which Zarr would silently fill with zeros). What is damaged within a chunk is found when it is read.
    """
    return _decoded(path, lambda array: array)


def _decoded(path: PathLike, take: Callable[[zarr.Array[Any]], T]) -> T:
    import zarr

    folder = Path(path)
    try:
        array = zarr.open_array(folder, mode="r", zarr_format=3)
        present, wanted = array.nchunks_initialized, array.nchunks
        if present == wanted:
            return take(array)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FormatError(f"array must be a readable Zarr v3 folder; got {type(error).__name__}: {error} ('{folder}'). Restore it from a copy.") from error
    raise FormatError(f"array must have all its chunks; got {present} of {wanted} ('{folder}'). Restore it from a copy.")


def _new_folder(path: PathLike) -> Path:
    folder = Path(path)
    if folder.exists():
        raise FormatError(f"array must be written to a new folder; got '{folder}', which exists. Choose another path or remove it.")
    return folder
