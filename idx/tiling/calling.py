"""A user's function on batches of tiles: what it returns is checked, and what goes wrong names the tile."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from idx._typing import Array, IntArray
from idx.errors import IdxError
from idx.tiling.planning import TileGrid
from idx.tiling.reading import tile_place
from idx.tiling.results import TileFailure, check_alike, check_same_kind, in_plan_order, is_frame, kind_of, parts_of
from idx.tiling.ring import decode_ahead

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
            if len(tiles) == 1:
                return self._without(grid, int(tiles[0]), error)
            return self._one_by_one(grid, tiles, error, device=batch.device)

    def _called(self, batch: torch.Tensor, grid: TileGrid, tiles: IntArray) -> Any:
        """Results of the batch, in pieces where the device is too small for the whole."""
        import torch

        results: list[Any] = []
        first = 0
        while first < len(tiles):
            last = len(tiles) if self._most is None else min(len(tiles), first + self._most)
            writes = _n_writes(batch)
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
                if writes is None or writes != _n_writes(batch):
                    batch = _decoded_again(grid, tiles, batch.device)
                continue
            first = last
        return _joined(results, grid, tiles)

    def _without(self, grid: TileGrid, tile: int, error: Exception) -> tuple[IntArray, Any, list[TileFailure]]:
        """No result for a tile, but a failure; or the failure as an exception."""
        failure = TileFailure(tile, "compute", _failed_on(grid, tile, error))
        if not self._is_recording:
            raise failure.error from error
        return np.zeros(0, dtype=np.int64), [], [failure]

    def _one_by_one(self, grid: TileGrid, tiles: IntArray, error: Exception, *, device: torch.device) -> tuple[IntArray, Any, list[TileFailure]]:
        """Find the tiles on which the function fails alone; where it fails on none of them, it does not run on batches.

        They are decoded again: a function may write into the tensor it is given, and what it left there is not the slide.
        """
        good: list[IntArray] = []
        results: list[Any] = []
        failures: list[TileFailure] = []
        with closing(decode_ahead(((grid, tiles[k : k + 1]) for k in range(len(tiles))), device=device, workers=1)) as again:
            for one in again:
                failed = list(one.failures)
                if len(one.tiles):
                    try:
                        results.append(_checked(self._fn(one.pixels), grid, one.tiles))
                        good.append(one.tiles)
                    except _NotOneEach:
                        raise
                    except Exception as alone:
                        failed = self._without(grid, int(one.tiles[0]), alone)[2]
                if failed and not self._is_recording:
                    raise failed[0].error
                failures += failed
        if not failures:
            raise IdxError(
                f"the function must run on batches; got {type(error).__name__}: {error} (batch of {len(tiles)} from {tile_place(grid, int(tiles[0]))}), "
                "though it runs on each tile alone. Pass batch_size=1, or mend it."
            ) from error
        done = np.concatenate([np.zeros(0, dtype=np.int64), *good])
        return done, _joined(results, grid, done), failures


def _n_writes(batch: torch.Tensor) -> int | None:
    """How often a tensor was written into, as torch counts; None where it does not count (in inference mode)."""
    return None if batch.is_inference() else batch._version


def _decoded_again(grid: TileGrid, tiles: IntArray, device: torch.device) -> torch.Tensor:
    """Pixels of tiles that could be read before."""
    with closing(decode_ahead([(grid, tiles)], device=device, workers=1)) as again:
        batch = next(again)
    if batch.failures:
        raise batch.failures[0].error
    return batch.pixels


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
    found = [_on_host(item) if _is_tensor(item) else item for item in result] if isinstance(result, list) else tuple(map(_on_host, parts_of(result)))
    lengths = [len(found)] if isinstance(found, list) else [len(part) if part.ndim else None for part in found]
    if not lengths or any(length != len(tiles) for length in lengths):
        got = [type(part).__name__ if length is None else length for part, length in zip(parts_of(result), lengths, strict=True)]
        raise _NotOneEach(
            f"the function must return one result per tile ({len(tiles)}); got {got} ({_place_of(grid, tiles)}). "
            "Return tensors whose first axis is the batch, or a DataFrame with a column 'tile'."
        )
    return found if isinstance(result, list | tuple) else found[0]


def _place_of(grid: TileGrid, tiles: IntArray) -> str:
    return f"batch from {tile_place(grid, int(tiles[0]))}"


def _on_host(part: Any) -> Array:
    """A result as an array of its own.

    At once: kept as they are, the results of a whole slide (and their gradients' graphs) would fill the device. And copied: a piece of the batch would
    hold the whole of it in memory, and a function may return the same memory again and again.
    """
    if isinstance(part, list) or is_frame(part):
        raise _NotOneEach(f"a tuple must hold tensors or arrays; got a {type(part).__name__} in it (results of a function). Return that alone.")
    if not _is_tensor(part):
        return np.array(part)
    import torch

    if part.layout != torch.strided or part.is_meta:
        raise _NotOneEach(
            f"tensors must be dense and hold numbers; got {part.layout} on '{part.device}' (results of a function). "
            "Return dense ones of numbers, as tensor.to_dense() gives."
        )
    tensor: torch.Tensor = part.detach()
    if tensor.dtype == torch.bfloat16:  # numpy knows no such number; each is also one of 32 bits
        tensor = tensor.float()
    array: Array = tensor.to("cpu", copy=True).resolve_conj().resolve_neg().numpy()
    return array


def _is_tensor(part: Any) -> bool:
    """Whether a result is a tensor, asked without importing torch."""
    return hasattr(part, "detach") and hasattr(part, "layout")


def _joined(results: list[Any], grid: TileGrid, tiles: IntArray) -> Any:
    """Concatenate results of parts of a batch along the first axis; an empty list where there are none."""
    if len(results) <= 1:
        return results[0] if results else []
    kind = kind_of(results[0])
    for result in results[1:]:
        check_same_kind(kind, kind_of(result), grid, int(tiles[0]))
        if kind.endswith(("array", "arrays")):
            check_alike(parts_of(results[0]), parts_of(result), grid, int(tiles[0]))
    if kind == "table":
        return in_plan_order(results)
    if kind == "tuple of arrays":
        return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))
    return [item for result in results for item in result] if kind == "list" else np.concatenate(results)
