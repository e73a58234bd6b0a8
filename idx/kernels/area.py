"""Area averaging of uint8 pictures to a coarser lattice: one integer arithmetic, compiled for the CPU and in torch for devices.

A delivered pixel i covers ``[i * scale, (i + 1) * scale)`` of the stored axis, and a stored pixel weighs by the share of it that lies inside. Weights
are whole multiples of 2^-14 that sum to one and are computed from positions on the whole axis, and all sums are of integers: a pixel's value depends
neither on the tile it was read in, nor on the batch, the order of adding, or the device. It differs from the exact average by less than 0.51.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from idx._typing import IntArray, RGBArray
from idx.kernels.compiled import compiled

if TYPE_CHECKING:
    import torch

_WEIGHT_BITS = 14
_KEPT_BITS = 8
"""Bits after the point that are kept between the two axes."""
_WHITE = 255
SLIVER = 1e-3
"""Less of a pixel than this is rounding of the scale: it is neither read nor counted."""


def area_taps(start: IntArray, size: int, *, scale: float, first: IntArray, n_stored: int, n_level: int, offset: int = 0) -> tuple[IntArray, IntArray]:
    """Which stored pixels make each delivered pixel of one axis, and how much each weighs.

    Parameters
    ----------
    start : array (n,)
        First delivered pixel of each tile.
    size : int
        Delivered pixels of a tile.
    scale : float
        Stored pixels per delivered pixel, at least 1.
    first : array (n,)
        First stored pixel that was read for each tile.
    n_stored : int
        How many were read.
    n_level : int
        Length of the stored axis; what lies beyond weighs nothing.
    offset : int
        Stored pixel at which delivered pixel 0 begins.

    Returns
    -------
    begin : int32 array (n, size)
        First of the stored pixels, counted from ``first``.
    weights : int32 array (n, size, n_taps)
        Sum to 2^14, or to 0 where a pixel lies beyond the border (it is white).
    """
    low = (np.asarray(start)[:, None] + np.arange(size)) * scale + offset
    high = low + scale
    inside_low, inside_high = np.clip(low, 0.0, n_level), np.clip(high, 0.0, n_level)
    begin = np.floor(inside_low + SLIVER).astype(np.int64)
    edges = begin[..., None] + np.arange(int(np.ceil(scale)) + 2)
    covered = np.clip(edges, inside_low[..., None], inside_high[..., None]) - inside_low[..., None]
    # The first edge takes the sliver before it and the last what is left, so that the shares are of the whole.
    covered[..., 0] = 0.0
    total = inside_high - inside_low
    is_inside = total > SLIVER
    share = covered / np.where(is_inside, total, 1.0)[..., None]
    share[..., -1] = 1.0
    weights = np.diff(np.floor(share * (1 << _WEIGHT_BITS) + 0.5).astype(np.int32), axis=-1)
    weights[~is_inside] = 0
    begin = begin - np.asarray(first)[:, None]
    # Taps without weight may point beyond what was read.
    begin = np.clip(begin, 0, max(n_stored - 1, 0))
    return begin.astype(np.int32), weights


def area_average(stored: RGBArray, out: RGBArray, *, rows: tuple[IntArray, IntArray], columns: tuple[IntArray, IntArray]) -> None:
    """Average tiles (n, height, width, 3) uint8 down into ``out`` (n, y, x, 3) uint8 with the taps of both axes."""
    if len(stored):
        _average_tiles(stored, out, *rows, *columns)


@compiled()
def _average_tiles(stored, out, row_begin, row_weights, column_begin, column_weights):  # type: ignore[no-untyped-def]  # numba
    n_tiles, height, width, _ = stored.shape
    n_rows, n_columns = out.shape[1], out.shape[2]
    line = np.empty(width * 3, np.int32)
    for k in range(n_tiles):
        flat = stored[k].reshape(height, width * 3)
        for y in range(n_rows):
            line[:] = 1 << (_WEIGHT_BITS - _KEPT_BITS - 1)
            weighed = 0
            for t in range(row_weights.shape[2]):
                weight = row_weights[k, y, t]
                if weight:
                    weighed += weight
                    source = flat[row_begin[k, y] + t]
                    for i in range(width * 3):
                        line[i] += weight * np.int32(source[i])
            if weighed == 0:
                out[k, y] = _WHITE
                continue
            for i in range(width * 3):
                line[i] >>= _WEIGHT_BITS - _KEPT_BITS
            for x in range(n_columns):
                at = 3 * column_begin[k, x]
                red = green = blue = np.int32(1 << (_WEIGHT_BITS + _KEPT_BITS - 1))
                weighed = 0
                for t in range(column_weights.shape[2]):
                    weight = column_weights[k, x, t]
                    if weight:
                        weighed += weight
                        red += weight * line[at + 3 * t]
                        green += weight * line[at + 3 * t + 1]
                        blue += weight * line[at + 3 * t + 2]
                if weighed == 0:
                    out[k, y, x] = _WHITE
                    continue
                out[k, y, x, 0] = red >> (_WEIGHT_BITS + _KEPT_BITS)
                out[k, y, x, 1] = green >> (_WEIGHT_BITS + _KEPT_BITS)
                out[k, y, x, 2] = blue >> (_WEIGHT_BITS + _KEPT_BITS)


def area_average_on_device(stored: torch.Tensor, *, rows: tuple[IntArray, IntArray], columns: tuple[IntArray, IntArray]) -> torch.Tensor:
    """Average tiles (n, height, width, 3) uint8 on their device; the result (n, y, x, 3) uint8 is that of :func:`area_average` to the bit."""
    import torch

    by_row = _weighed(stored, *rows, axis=1)
    by_row = (by_row + (1 << (_WEIGHT_BITS - _KEPT_BITS - 1))) >> (_WEIGHT_BITS - _KEPT_BITS)
    both = _weighed(by_row, *columns, axis=2)
    both = (both + (1 << (_WEIGHT_BITS + _KEPT_BITS - 1))) >> (_WEIGHT_BITS + _KEPT_BITS)
    row_is_white, column_is_white = (torch.from_numpy(weights.sum(axis=-1) == 0).to(stored.device) for weights in (rows[1], columns[1]))
    is_white = row_is_white[:, :, None] | column_is_white[:, None, :]
    return both.masked_fill_(is_white[..., None], _WHITE).to(torch.uint8)


def _weighed(values: torch.Tensor, begin: IntArray, weights: IntArray, *, axis: int) -> torch.Tensor:
    """Weighed sums (int32) of the taps of one axis of tiles (n, y, x, 3)."""
    import torch

    first, weigh = torch.from_numpy(begin).to(values.device), torch.from_numpy(weights).to(values.device)
    tile = torch.arange(len(values), device=values.device)[:, None]
    shape = (*first.shape, 1, 1) if axis == 1 else (len(values), 1, first.shape[1], 1)
    total: torch.Tensor | None = None
    for t in range(weights.shape[-1]):
        at = (first + t).clamp_(max=values.shape[axis] - 1).long()
        picked = values[tile, at] if axis == 1 else values[tile, :, at].transpose(1, 2)
        part = picked.to(torch.int32) * weigh[..., t].reshape(shape)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total
