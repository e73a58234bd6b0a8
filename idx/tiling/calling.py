"""A user's function on batches of tiles: what it returns is checked, and what goes wrong names the tile."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from idx._typing import Array, IntArray
from idx.errors import IdxError
from idx.tiling.planning import TileGrid
from idx.tiling.reading import tile_place
from idx.tiling.results import TileFailure, in_plan_order, is_frame, kind_of

if TYPE_CHECKING:
    import torch


class TileFunction:
    """A function of batches of tiles, called on no more tiles at a time than the device has memory for.

    Parameters
    ----------
    fn : callable
        As in :func:`idx.tiling.run`.
    is_recording : bool
        Whether a tile on which it fails becomes a :class:`TileFailure` instead of an exception.
    """

    def __init__(self, fn: Callable[[torch.Tensor], Any], *, is_recording: bool) -> None:
        self._fn = fn
        self._is_recording = is_recording
        self._most: int | None = None

    def __call__(self, batch: torch.Tensor, grid: TileGrid, tiles: IntArray) -> tuple[IntArray, Any, list[TileFailure]]:
        """Return the tiles that have a result, the results on the host, and the failures.

        Raises
        ------
        IdxError
            If the function fails (and nothing is recorded) or returns something of another length; the message gives the tiles' positions.
        """
        try:
            return tiles, self._called(batch, grid, tiles), []
        except _NotOneEach:
            raise
        except Exception as error:
            return self._one_by_one(batch, grid, tiles, error)

    def _called(self, batch: torch.Tensor, grid: TileGrid, tiles: IntArray) -> Any:
        """Results of the batch, in pieces where the device is too small for the whole."""
        import torch

        results, first = [], 0
        while first < len(tiles):
            last = len(tiles) if self._most is None else min(len(tiles), first + self._most)
            try:
                results.append(_checked(self._fn(batch[first:last]), grid, tiles[first:last]))
            except torch.OutOfMemoryError:
                if last - first == 1:
                    raise
                self._most = (last - first) // 2
                if batch.is_cuda:
                    torch.cuda.empty_cache()
                warnings.warn(
                    f"batches must fit the device's memory; {last - first} tiles did not and {self._most} are tried (slide '{grid.slide.name}'). "
                    f"Pass batch_size={self._most} to avoid the attempt.",
                    UserWarning,
                    stacklevel=2,
                )
                continue
            first = last
        return _joined(results)

    def _one_by_one(self, batch: torch.Tensor, grid: TileGrid, tiles: IntArray, error: Exception) -> tuple[IntArray, Any, list[TileFailure]]:
        """Find the tiles on which the function fails alone; where it fails on none of them, it does not run on batches."""
        good, results, failures = [], [], []
        for k, tile in enumerate(tiles.tolist()):
            try:
                results.append(_checked(self._fn(batch[k : k + 1]), grid, tiles[k : k + 1]))
                good.append(k)
            except Exception as alone:
                failures.append(TileFailure(tile, "compute", _failed_on(grid, tile, alone)))
                if not self._is_recording:
                    raise failures[0].error from alone
        if not failures:
            raise IdxError(
                f"the function must run on batches; got {type(error).__name__}: {error} (batch of {len(tiles)} from {tile_place(grid, int(tiles[0]))}), "
                "though it runs on each tile alone. Pass batch_size=1, or mend it."
            ) from error
        return tiles[good], _joined(results), failures


class _NotOneEach(IdxError):
    """A function returned something that cannot be told apart by tile: no tile is to blame."""


def _failed_on(grid: TileGrid, tile: int, error: Exception) -> IdxError:
    failed = IdxError(
        f"the function must run on every tile; got {type(error).__name__}: {error} ({tile_place(grid, tile)}). Try it on read_tiles(grid, [{tile}])."
    )
    failed.__cause__ = error
    return failed


def _checked(result: Any, grid: TileGrid, tiles: IntArray) -> Any:
    """A function's result for some tiles, on the host, with plan indices where it is a table."""
    if is_frame(result):
        if "tile" not in result:
            raise _NotOneEach(
                f"a table must have a column 'tile' that counts tiles within the batch; got {list(result.columns)[:8]} ({_place_of(grid, tiles)}). "
                "Add it, for example with table.assign(tile=...)."
            )
        position = result["tile"].to_numpy()
        if len(position) and not (np.issubdtype(position.dtype, np.integer) and position.min() >= 0 and position.max() < len(tiles)):
            raise _NotOneEach(
                f"column 'tile' must count tiles within the batch (0..{len(tiles) - 1}); got others ({_place_of(grid, tiles)}). "
                "Return the position in the batch."
            )
        return result.assign(tile=tiles[position.astype(np.int64)])
    parts = result if isinstance(result, tuple) else (result,)
    lengths = [_length(part) for part in parts]
    if not parts or any(length != len(tiles) for length in lengths):
        got = [type(part).__name__ if length is None else length for part, length in zip(parts, lengths, strict=True)]
        raise _NotOneEach(
            f"the function must return one result per tile ({len(tiles)}); got {got} ({_place_of(grid, tiles)}). "
            "Return tensors whose first axis is the batch, or a DataFrame with a column 'tile'."
        )
    return _on_host(result)


def _place_of(grid: TileGrid, tiles: IntArray) -> str:
    return f"batch from {tile_place(grid, int(tiles[0]))}"


def _length(part: Any) -> int | None:
    """Length along the first axis; None for what has none (None, a number, a tensor without axes)."""
    try:
        return len(part)
    except TypeError:
        return None


def _on_host(result: Any) -> Any:
    """Tensors as arrays at once: kept as they are, the results of a whole slide (and their gradients' graphs) would fill the device."""
    if isinstance(result, tuple):
        return tuple(_on_host(part) for part in result)
    if isinstance(result, list):
        return result
    array: Array = result.detach().cpu().numpy() if hasattr(result, "detach") else np.asarray(result)
    # A piece of the batch itself would hold the whole of it in memory.
    return array.copy() if array.base is not None else array


def _joined(results: list[Any]) -> Any:
    """Concatenate results of parts of a batch along the first axis; an empty list where there are none."""
    if len(results) <= 1:
        return results[0] if results else []
    kind = kind_of(results[0])
    if kind == "table":
        return in_plan_order(results)
    if kind == "tuple of arrays":
        return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))
    return [item for result in results for item in result] if kind == "list" else np.concatenate(results)
