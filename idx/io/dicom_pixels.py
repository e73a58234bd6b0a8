"""Pixels of DICOM slices, decoded in threads and rescaled slice by slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, pixel_array

from idx._progress import track
from idx._typing import Array, BoolArray
from idx.errors import FormatError, MissingDependency
from idx.io.dicom_headers import DAMAGED, SliceHeader
from idx.io.hounsfield import PADDING_HU, rescale, to_hu
from idx.settings import current_settings

_PREFERRED_PLUGIN = {
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
}
"""pydicom tries GDCM first; these decoders are faster and keep the sign of 16-bit pixels. The others serve where they are absent."""


def read_hu(slices: Sequence[SliceHeader]) -> tuple[npt.NDArray[np.int16], dict[int, int]]:
    """Decode slices to HU.

    Parameters
    ----------
    slices : sequence of SliceHeader
        Ordered, with a rescale each.

    Returns
    -------
    hu : int16 array (z, y, x)
        Voxels that the header declares as padding hold :data:`idx.io.hounsfield.PADDING_HU`.
    padding : dict
        Number of voxels by PixelPaddingValue.

    Raises
    ------
    FormatError
        If pixels are missing, cut off or broken.
    UnitError
        If HU do not fit in int16.
    MissingDependency
        If no installed decoder reads the transfer syntax.
    """
    padding: Counter[int] = Counter()
    lock = Lock()

    def convert(one: SliceHeader, stored: Array, ds: Dataset) -> npt.NDArray[np.int16]:
        values = _rescaled(one, stored)
        is_padding = _padding(stored, ds)
        if is_padding.any():
            values[is_padding] = PADDING_HU
            # Slices are converted in threads, and adding to a counter is a read and a write.
            with lock:
                padding[int(ds.PixelPaddingValue)] += int(np.count_nonzero(is_padding))
        return to_hu(values, where=str(one.file))

    return _decode(slices, convert, np.dtype(np.int16)), dict(padding)


def read_values(slices: Sequence[SliceHeader]) -> npt.NDArray[np.float32]:
    """Decode slices to float32 (z, y, x), rescaled where a header has a rescale; padding keeps its value.

    Raises
    ------
    FormatError
        If pixels are missing, cut off or broken.
    MissingDependency
        If no installed decoder reads the transfer syntax.
    """

    def convert(one: SliceHeader, stored: Array, ds: Dataset) -> npt.NDArray[np.float32]:
        return _rescaled(one, stored).astype(np.float32)

    return _decode(slices, convert, np.dtype(np.float32))


def stored_pixels(one: SliceHeader) -> Array:
    """Stored values (y, x) of one slice, before rescale."""
    return _stored(one, _open(one.file))


def _rescaled(one: SliceHeader, stored: Array) -> Array:
    """Stored values where the header has no rescale, as MR has none; for CT that was refused before decoding."""
    return rescale(stored, 1.0 if one.slope is None else one.slope, 0.0 if one.intercept is None else one.intercept)


Convert = Callable[[SliceHeader, Array, Dataset], Array]


def _decode(slices: Sequence[SliceHeader], convert: Convert, dtype: np.dtype) -> Array:
    out = np.empty((len(slices), *slices[0].shape), dtype=dtype)
    files = {one.file for one in slices}
    opened = {file: _open(file) for file in files} if len(files) < len(slices) else {}

    def work(index: int) -> int:
        one = slices[index]
        ds = opened.get(one.file) or _open(one.file)
        out[index] = convert(one, _stored(one, ds), ds)
        return index

    for _ in track(_in_threads(work, range(len(slices))), total=len(slices), description=f"Reading {len(slices)} slices"):
        pass
    return out


def _in_threads(work: Callable[[int], int], items: Iterable[int]) -> Iterator[int]:
    workers = max(1, current_settings().workers)
    if workers == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="idx-dicom")
    try:
        yield from pool.map(work, items)
    finally:
        # After an error the slices that wait are of no use.
        pool.shutdown(wait=True, cancel_futures=True)


def _open(file: Path) -> Dataset:
    try:
        ds = pydicom.dcmread(file, force=True)
    except DAMAGED as error:
        raise FormatError(_broken(file, error)) from error
    if "TransferSyntaxUID" not in ds.file_meta:
        implicit, _ = ds.original_encoding
        ds.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
    return ds


def _stored(one: SliceHeader, ds: Dataset) -> Array:
    syntax = ds.file_meta.TransferSyntaxUID
    read = partial(pixel_array, ds, index=one.frame if one.frame is not None else 0, raw=True)
    plugins = _plugins(syntax, one.file)
    try:
        pixels = read(decoding_plugin=plugins) if plugins else read()
    except (*DAMAGED, RuntimeError) as error:
        raise FormatError(_broken(one.file, error)) from error
    if pixels.shape != one.shape:
        raise FormatError(
            f"pixels must be one grey value each, {one.shape} (y, x); got {pixels.shape} ('{one.file}'). Remove the file: it is no slice of values."
        )
    return pixels


def _plugins(syntax: uid.UID, file: Path) -> str:
    """Plugin to use, or '' to let pydicom try all that are installed."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise FormatError(f"transfer syntax must be one that pydicom decodes; got {syntax.name} ('{file}'). Export the series uncompressed.") from error
    if not decoder.is_available:
        needs = "; ".join(decoder.missing_dependencies)
        raise MissingDependency(f"a decoder must be installed for {syntax.name}; got none ('{file}'). Install one of: {needs}.")
    wanted = _PREFERRED_PLUGIN.get(syntax, "")
    return wanted if wanted in decoder.available_plugins else ""


def _padding(stored: Array, ds: Dataset) -> BoolArray:
    """Pixels between PixelPaddingValue and PixelPaddingRangeLimit."""
    value = ds.get("PixelPaddingValue")
    if value in (None, ""):
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = ds.get("PixelPaddingRangeLimit")
    # Writers state the value as unsigned where pixels are signed, and the reverse: bring it to the pixels' own type.
    ends = [int(np.array(int(end) & 0xFFFF, dtype=np.uint16).astype(stored.dtype)) for end in (value, value if limit in (None, "") else limit)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _broken(file: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"pixels must be complete and decodable; got: {reason} ('{file}'): the file is cut off or damaged. Copy it again from its source."
