"""Run a function over the tiles of a slide: decoding threads keep a bounded queue full while the function computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from idx._progress import progress_bar
from idx._repr import card
from idx._typing import RGBArray
from idx.errors import GeometryError, IdxError
from idx.settings import current_settings, resolve_device
from idx.slide import Slide
from idx.tiling.planning import TileGrid
from idx.tiling.reading import read_into, tile_place

if TYPE_CHECKING:
    import torch

_TILES_PER_READ = 4
"""Tiles that one thread decodes at a time: few enough that the threads of a batch end together."""
_BATCHES_AHEAD = 2
"""Batches decoded or waiting beyond the one that is computed; this bound is the back-pressure on the readers."""


@dataclass(frozen=True, eq=False)
class TileResult:
    """What a function said about the tiles of a plan.

    Parameters
    ----------
    values : array, tuple of arrays, list or DataFrame
        Along the first axis in plan order. A DataFrame has a column ``tile`` that points into the plan and any number of rows per tile.
    grid : TileGrid
    """

    values: Any
    grid: TileGrid

    def __len__(self) -> int:
        return len(self.grid)

    def __repr__(self) -> str:
        return f"TileResult({_describe(self.values)} over {len(self.grid)} tiles of '{self.grid.slide.name}')"

    def _repr_html_(self) -> str:
        return card("TileResult", [("values", _describe(self.values)), ("tiles", f"{len(self.grid):,}"), ("slide", self.grid.slide.name)])


def run(
    fn: Callable[[torch.Tensor], Any],
    slide: Slide,
    grid: TileGrid,
    *,
    device: str | torch.device | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool | None = None,
) -> TileResult:
    """Run ``fn`` over all tiles of a plan.

    Parameters
    ----------
    fn : callable
        Gets a uint8 tensor (n, y, x, 3) on the device. Returns, for these n tiles: a tensor or array (n, ...); a tuple of them; a list of n
        objects; or a DataFrame with a column ``tile`` that counts tiles within the batch (any number of rows each).
    slide : Slide
        The slide that was planned, or one of the same levels and mpp (the same file opened again): its pixels are read.
    grid : TileGrid
        From :func:`idx.tiling.plan`.
    device : str, torch.device or None
        None means the setting.
    batch_size : int
        Most tiles per call; the last batch may be smaller.
    workers : int or None
        Decoding threads; None means the setting.
    progress : bool or None
        Whether to show a bar; None means the setting.

    Returns
    -------
    TileResult
        Results in plan order, tensors as numpy arrays. They do not depend on ``batch_size`` or ``workers`` as long as ``fn`` treats tiles one
        by one. Without tiles, ``fn`` is not called and the values are an empty list.

    Raises
    ------
    PixelAccessError
        If a tile cannot be decoded; the message gives its level-0 position.
    IdxError
        If ``fn`` fails or returns something of another length; the message gives the tiles' level-0 positions.
    GeometryError
        If the plan is of another slide.
    """
    if grid.slide is not slide and (grid.slide.levels, grid.slide.mpp) != (slide.levels, slide.mpp):
        raise GeometryError(f"grid must be a plan of the slide; got a plan of '{grid.slide.name}' for slide '{slide.name}'. Call plan(slide, ...) again.")
    if batch_size < 1:
        raise GeometryError(f"batch_size must be at least 1; got {batch_size} (slide '{slide.name}'). Pass for example batch_size=32.")
    if workers is not None and workers < 1:
        raise GeometryError(f"workers must be at least 1; got {workers} (slide '{slide.name}'). Pass workers=None for the setting.")
    # Two slides may have one plan (crops of one size): the pixels are those of the slide that was passed.
    grid = grid if grid.slide is slide else replace(grid, slide=slide)
    if len(grid) == 0:
        return TileResult([], grid)
    import torch

    target = resolve_device(device)
    results: list[Any] = []
    with progress_bar(len(grid), f"tiles of {slide.name}", shown=progress) as advance:
        for tiles, pixels in _batches(grid, batch_size, workers or current_settings().workers):
            batch = torch.from_numpy(pixels).to(target, non_blocking=True)
            results.append(_checked(fn, batch, grid, tiles))
            advance(len(tiles))
    return TileResult(_joined(results), grid)


def _batches(grid: TileGrid, batch_size: int, workers: int) -> Iterator[tuple[range, RGBArray]]:
    """Yield batches in plan order, decoded ahead of their use."""
    starts = iter(range(0, len(grid), batch_size))
    waiting: deque[tuple[range, RGBArray, list[Future[None]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="idx-decode") as pool:
        try:
            while True:
                while len(waiting) <= _BATCHES_AHEAD and (start := next(starts, None)) is not None:
                    tiles = range(start, min(start + batch_size, len(grid)))
                    pixels = np.empty((len(tiles), grid.size_px, grid.size_px, 3), dtype=np.uint8)
                    reads = [
                        pool.submit(read_into, pixels[k : k + _TILES_PER_READ], grid, tiles[k : k + _TILES_PER_READ])
                        for k in range(0, len(tiles), _TILES_PER_READ)
                    ]
                    waiting.append((tiles, pixels, reads))
                if not waiting:
                    return
                tiles, pixels, reads = waiting.popleft()
                for read in reads:
                    read.result()
                yield tiles, pixels
        finally:
            # After an error the reads that have not begun are dropped; those under way end before the pool closes.
            for _, _, reads in waiting:
                for read in reads:
                    read.cancel()


def _checked(fn: Callable[[torch.Tensor], Any], batch: torch.Tensor, grid: TileGrid, tiles: range) -> Any:
    try:
        result = fn(batch)
    except Exception as error:
        if len(tiles) > 1:
            raise _blamed(fn, batch, grid, tiles, error) from error
        raise IdxError(
            f"the function must run on every tile; got {type(error).__name__}: {error} ({tile_place(grid, tiles[0])}). "
            f"Try it on read_tiles(grid, [{tiles[0]}])."
        ) from error
    if _is_frame(result):
        if "tile" not in result:
            raise IdxError(
                f"a table must have a column 'tile' that counts tiles within the batch; got {list(result.columns)[:8]} "
                f"(batch from {tile_place(grid, tiles.start)}). Add it, for example with table.assign(tile=...)."
            )
        result = result.assign(tile=result["tile"].to_numpy() + tiles.start)
        if len(result) and not result["tile"].between(tiles.start, tiles.stop - 1).all():
            raise IdxError(
                f"column 'tile' must count tiles within the batch (0..{len(tiles) - 1}); got others (batch from {tile_place(grid, tiles.start)}). "
                "Return the position in the batch."
            )
        return result
    parts = result if isinstance(result, tuple) else (result,)
    lengths = [_length(part) for part in parts]
    if any(length != len(tiles) for length in lengths):
        got = [type(part).__name__ if length is None else length for part, length in zip(parts, lengths, strict=True)]
        raise IdxError(
            f"the function must return one result per tile ({len(tiles)}); got {got} (batch from {tile_place(grid, tiles.start)}). "
            "Return tensors whose first axis is the batch, or a DataFrame with a column 'tile'."
        )
    return _on_host(result)


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
    return result if isinstance(result, list) else _array(result)


def _blamed(fn: Callable[[torch.Tensor], Any], batch: torch.Tensor, grid: TileGrid, tiles: range, error: Exception) -> IdxError:
    """Error that names the first tile on which ``fn`` fails alone, or the batch where only the whole fails."""
    for k, tile in enumerate(tiles):
        try:
            fn(batch[k : k + 1])
        except Exception as alone:
            return IdxError(
                f"the function must run on every tile; got {type(alone).__name__}: {alone} ({tile_place(grid, tile)}). Try it on read_tiles(grid, [{tile}])."
            )
    return IdxError(
        f"the function must run on batches; got {type(error).__name__}: {error} (batch of {len(tiles)} from {tile_place(grid, tiles.start)}). "
        "Pass a smaller batch_size."
    )


def _joined(results: list[Any]) -> Any:
    """Concatenate results of batches along the first axis."""
    first = results[0]
    if _is_frame(first):
        import pandas as pd

        return pd.concat(results, ignore_index=True)
    if isinstance(first, tuple):
        return tuple(_joined([result[k] for result in results]) for k in range(len(first)))
    if isinstance(first, list):
        return [item for result in results for item in result]
    return np.concatenate(results)


def _array(values: Any) -> np.ndarray[Any, Any]:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _is_frame(values: Any) -> bool:
    return hasattr(values, "columns") and hasattr(values, "assign")


def _describe(values: Any) -> str:
    if isinstance(values, tuple):
        return ", ".join(_describe(value) for value in values)
    if _is_frame(values):
        return f"table of {len(values):,} rows x {len(values.columns)} columns"
    if isinstance(values, np.ndarray):
        return f"array {values.shape} {values.dtype}"
    return f"{len(values):,} objects"
