"""One label image of a slide from those of overlapping tiles."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from idx._typing import Array, IntArray, PathLike
from idx.errors import FormatError
from idx.io.pyramids_zarr import CHUNK_PX, Multiscale, new_multiscale, open_levels
from idx.kernels.blending import halved_labels
from idx.kernels.groups import counted
from idx.kernels.spans import END, ROW, START, draw_spans
from idx.tiling.grid import TileGrid
from idx.tiling.maps import COARSEST_PX
from idx.tiling.reducing import halved_sizes
from idx.tiling.resolving import Objects
from idx.tiling.results import TileBatch, TileResult
from idx.tiling.stitched_map import StitchedMap
from idx.tiling.stitching import finished_objects

_HELD_BYTES = 1 << 28
"""Blocks of a label image that are held in memory while objects are drawn into them."""


def stitch_label_image(
    batches: Iterable[TileBatch] | TileResult, grid: TileGrid, *, out: PathLike | None = None, name: str = "labels", margin_px: int = 0, overwrite: bool = False
) -> StitchedMap:
    """Put label images of overlapping tiles together to one of the slide, in which each object has one number.

    Parameters
    ----------
    batches : iterable of TileBatch, or TileResult
        Values are label images, as in :func:`idx.tiling.stitch_labels`.
    grid : TileGrid
        The plan.
    out : path or None
        ``.zarr``: OME-NGFF 0.5 pyramid, written while tiles come in. None: memory.
    name : str
    margin_px : int
        Pixels that the function cut off each side of a tile.
    overwrite : bool
        Whether ``out`` may replace a map that is there.

    Returns
    -------
    StitchedMap
        Values int32 (y, x) on the lattice of delivered pixels: 0 for background, otherwise ``object_id`` of the same object from
        :func:`idx.tiling.stitch_labels`, 1..n; all its pixels, also those that hang on by a corner.

    Raises
    ------
    GeometryError
        If the label images have another size, or tiles do not come in the order of the plan.
    FormatError
        If ``out`` does not end in ``.zarr`` or exists.

    Notes
    -----
    Which objects count, and what becomes of those that two tiles see differently, is described at :func:`idx.tiling.stitch_labels`; where two that
    count overlap, the pixels are those of the first. A coarser level has of 2 x 2 pixels the most frequent label, so that level k of scale
    ``s = 2^k`` has its pixel i at ``s*i + (s-1)/2`` of the finest.

    Examples
    --------
    >>> labels = idx.tiling.stitch_label_image(idx.tiling.stream(segment, slide, grid), grid, out="nuclei.zarr")  # doctest: +SKIP
    """
    objects = finished_objects(batches, grid, n_classes=0, margin_px=margin_px)
    plain = StitchedMap(None, grid, 1, name, np.zeros((0, 0)), (0.0, 1.0))
    width, height = plain.size_px
    sizes = halved_sizes(width, height, until_px=COARSEST_PX)
    if out is None:
        whole = np.zeros((height, width), np.int32)
        n = _draw_all(objects, _Memory(whole))
        preview = whole
        for _ in sizes[1:]:
            preview = halved_labels(preview)
        return replace(plain, values=whole, levels=(whole,), preview=_shown(preview), value_range=(0.0, float(max(n, 1))))
    path = Path(out)
    if path.suffix.lower() != ".zarr":
        raise FormatError(f"out must end in .zarr; got '{path}' (label image '{name}'). Label images are kept as numbers.")
    scale = Multiscale(sizes, None, np.int32, 0, plain.mpp, plain.origin_um, "mode")
    attributes = {"idx": {"fingerprint": grid.fingerprint}, "ome": {"image-label": {}}}
    with new_multiscale(path, scale, name=name, attributes=attributes, overwrite=overwrite) as levels:
        blocks = _Blocks(levels[0])
        n = _draw_all(objects, blocks)
        blocks.flush()
        for finer, coarser in pairwise(levels):
            _halve(finer, coarser)
    opened = open_levels(path)
    return replace(plain, values=opened[0], levels=opened, preview=_shown(np.asarray(opened[-1][...])), value_range=(0.0, float(max(n, 1))), path=path)


def _shown(labels: Array) -> Array:
    """Labels as a picture has them, with NaN for background."""
    return np.where(labels > 0, labels, np.nan)


def _draw_all(groups: Iterable[Objects], canvas: _Memory | _Blocks) -> int:
    """Draw objects as they come, numbered from 1; return how many there were."""
    n = 0
    for objects in groups:
        canvas.draw(objects.spans, np.arange(n + 1, n + len(objects) + 1, dtype=np.int32))
        n += len(objects)
    return n


class _Memory:
    """A label image in memory."""

    def __init__(self, whole: Array) -> None:
        self._whole = whole

    def draw(self, spans: IntArray, numbers: IntArray) -> None:
        """Draw spans in the numbers of their objects."""
        draw_spans(self._whole, spans, numbers)


class _Blocks:
    """A label image on disk; the blocks drawn into last are held, others are written and read again when an object that is finished late needs them."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self._held: OrderedDict[tuple[int, int], Array] = OrderedDict()

    def draw(self, spans: IntArray, numbers: IntArray) -> None:
        """Draw spans in the numbers of their objects."""
        pieces = _cut_at_columns(spans)
        at_row, at_column = pieces[:, ROW] // CHUNK_PX, pieces[:, START] // CHUNK_PX
        key = at_row.astype(np.int64) * (self._array.shape[1] // CHUNK_PX + 1) + at_column
        order = np.argsort(key, kind="stable")
        for chosen in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
            if len(chosen):
                row, column = int(at_row[chosen[0]]), int(at_column[chosen[0]])
                corner = np.array([0, row * CHUNK_PX, column * CHUNK_PX, column * CHUNK_PX], np.int32)
                draw_spans(self._block(row, column), pieces[chosen] - corner, numbers)

    def _block(self, row: int, column: int) -> Array:
        place = (row, column)
        if place not in self._held:
            self._held[place] = np.ascontiguousarray(self._array[self._region(place)])
        self._held.move_to_end(place)
        while len(self._held) > max(1, _HELD_BYTES // (CHUNK_PX * CHUNK_PX * 4)):
            self._write(*self._held.popitem(last=False))
        return self._held[place]

    def _region(self, place: tuple[int, int]) -> tuple[slice, slice]:
        row, column = place
        return slice(row * CHUNK_PX, (row + 1) * CHUNK_PX), slice(column * CHUNK_PX, (column + 1) * CHUNK_PX)

    def _write(self, place: tuple[int, int], block: Array) -> None:
        self._array[self._region(place)] = block

    def flush(self) -> None:
        """Write what is held."""
        while self._held:
            self._write(*self._held.popitem())


def _cut_at_columns(spans: IntArray) -> IntArray:
    """Spans cut where blocks begin."""
    first, last = spans[:, START] // CHUNK_PX, (spans[:, END] - 1) // CHUNK_PX
    at, offset = counted(last - first + 1)
    pieces = spans[at]
    column = (first[at] + offset) * CHUNK_PX
    pieces[:, START], pieces[:, END] = np.maximum(pieces[:, START], column), np.minimum(pieces[:, END], column + CHUNK_PX)
    return pieces


def _halve(finer: Any, coarser: Any) -> None:
    """Make a level from the one before, some rows at a time."""
    for row in range(0, coarser.shape[0], CHUNK_PX):
        coarser[row : row + CHUNK_PX] = halved_labels(np.asarray(finer[2 * row : 2 * (row + CHUNK_PX)]))
