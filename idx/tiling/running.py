"""Run a function over the tiles of slides: threads decode ahead while the function computes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, overload

import numpy as np

from idx._progress import progress_bar
from idx._typing import IntArray, PathLike
from idx.errors import GeometryError, IdxError
from idx.io.slides_tiatoolbox import as_slide
from idx.settings import current_settings, resolve_device
from idx.slide import Slide
from idx.tiling.calling import TileFunction
from idx.tiling.planning import TileGrid
from idx.tiling.results import DONE, Collected, TileBatch, TileFailure, TileResult
from idx.tiling.ring import decode_ahead
from idx.tiling.store import Stored

if TYPE_CHECKING:
    import torch

OnError = Literal["raise", "record"]


class Cancel(Protocol):
    """What can be asked whether to stop, such as a ``threading.Event``."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...


def stream(
    fn: Callable[[torch.Tensor], Any],
    slide: Slide,
    grid: TileGrid,
    *,
    device: str | torch.device | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool | None = None,
    on_error: OnError = "raise",
    cancel: Cancel | None = None,
) -> Iterator[TileBatch]:
    """Run ``fn`` over the tiles of a plan and yield the results batch by batch, in plan order; nothing is kept.

    For results that do not fit in memory. Arguments and errors are those of :func:`run`; a recorded failure stands in ``TileBatch.failures`` of
    the next batch. To stop early, close the iterator or leave the loop.

    Yields
    ------
    TileBatch
    """
    checked = _checked_grid(slide, grid)
    _check_options(batch_size, workers, on_error, checked.slide.name)
    job = [(checked, np.arange(len(checked)))]
    batches = _stream(fn, job, resolve_device(device), batch_size, workers=workers, progress=progress, on_error=on_error, cancel=cancel)
    return (batch for _, batch in batches)


@overload
def run(
    fn: Callable[[torch.Tensor], Any],
    slide: Slide,
    grid: TileGrid,
    *,
    device: str | torch.device | None = ...,
    batch_size: int = ...,
    workers: int | None = ...,
    progress: bool | None = ...,
    on_error: OnError = ...,
    out: PathLike | None = ...,
    resume: bool | TileResult = ...,
    cancel: Cancel | None = ...,
) -> TileResult: ...


@overload
def run(
    fn: Callable[[torch.Tensor], Any],
    slide: Sequence[Slide],
    grid: Sequence[TileGrid],
    *,
    device: str | torch.device | None = ...,
    batch_size: int = ...,
    workers: int | None = ...,
    progress: bool | None = ...,
    on_error: OnError = ...,
    out: PathLike | None = ...,
    resume: bool | Sequence[TileResult] = ...,
    cancel: Cancel | None = ...,
) -> list[TileResult]: ...


def run(
    fn: Callable[[torch.Tensor], Any],
    slide: Slide | Sequence[Slide],
    grid: TileGrid | Sequence[TileGrid],
    *,
    device: str | torch.device | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool | None = None,
    on_error: OnError = "raise",
    out: PathLike | None = None,
    resume: bool | TileResult | Sequence[TileResult] = False,
    cancel: Cancel | None = None,
) -> TileResult | list[TileResult]:
    """Run ``fn`` over all tiles of a plan, or of one plan for each of several slides.

    Parameters
    ----------
    fn : callable
        Gets a uint8 tensor (n, y, x, 3) on the device. Returns, for these n tiles: a tensor or array (n, ...); a tuple of them; a list of n
        objects; or a DataFrame with a column ``tile`` that counts tiles within the batch (any number of rows each).
    slide : Slide, or sequence of Slide
        The slide that was planned, or one of the same levels and mpp (the same file opened again): its pixels are read. A tiatoolbox
        ``WSIReader`` will do. Several slides are read one after the other without a pause between them; a batch never mixes slides.
    grid : TileGrid, or sequence of TileGrid
        From :func:`idx.tiling.plan`, one per slide.
    device : str, torch.device or None
        None means the setting.
    batch_size : int
        Most tiles per call; the last batch may be smaller, and batches that the device has no memory for are halved.
    workers : int or None
        Decoding threads; None means the setting.
    progress : bool or None
        Whether to show a bar; None means the setting.
    on_error : {"raise", "record"}
        What becomes of a tile that cannot be decoded, or on which ``fn`` fails: an exception that names it, or a row of ``TileResult.errors``.
    out : path or None
        Folder for the results (a zarr group, and Parquet for tables), which then need not fit in memory; what is finished survives a crash.
        With several slides, a folder of such folders, named after the slides.
    resume : bool or TileResult
        True goes on with what ``out`` holds; a result that is not complete is gone on with in memory. Failed tiles are tried again.
    cancel : object with ``is_set()`` or None
        Asked before each batch, such as a ``threading.Event`` that a button sets; when it is set, what is done so far is returned.

    Returns
    -------
    TileResult, or list of them for several slides
        Results in plan order, tensors as numpy arrays (zarr arrays with ``out``). They do not depend on ``batch_size`` or ``workers`` as long as
        ``fn`` treats tiles one by one. Without tiles, ``fn`` is not called and the values are an empty list.

    Raises
    ------
    PixelAccessError
        If a tile cannot be decoded; the message gives its level-0 position.
    IdxError
        If ``fn`` fails or returns something of another length; the message gives the tiles' level-0 positions. If ``out`` cannot take the results.
    GeometryError
        If the plan is of another slide.
    MissingDependency
        If a device was asked for that is not there.

    Examples
    --------
    >>> grid = idx.tiling.plan(slide, size_px=256, mpp=0.5)  # doctest: +SKIP
    >>> idx.tiling.run(lambda batch: batch.float().mean(dim=(1, 2)), slide, grid).values.shape  # doctest: +SKIP
    (1280, 3)
    """
    is_one = isinstance(grid, TileGrid)
    if not is_one and not isinstance(slide, Sequence):
        raise GeometryError(
            f"one slide must have one plan; got {type(grid).__name__} (slide '{getattr(slide, 'name', slide)}'). Pass run(fn, slide, plan(slide))."
        )
    slides = [cast("Slide", slide)] if is_one else list(cast("Sequence[Slide]", slide))
    plans = [cast("TileGrid", grid)] if is_one else list(cast("Sequence[TileGrid]", grid))
    if len(slides) != len(plans):
        raise GeometryError(
            f"each slide must have one plan; got {len(slides)} slides and {len(plans)} plans (run). Pass run(fn, slides, [plan(s) for s in slides])."
        )
    grids = [_checked_grid(*pair) for pair in zip(slides, plans, strict=True)]
    _check_options(batch_size, workers, on_error, grids[0].slide.name if grids else "none")
    target = resolve_device(device)
    collectors = _collectors(grids, out, resume, is_one=is_one)
    jobs = [(g, np.flatnonzero(collector.status != DONE)) for g, collector in zip(grids, collectors, strict=True)]
    try:
        with closing(_stream(fn, jobs, target, batch_size, workers=workers, progress=progress, on_error=on_error, cancel=cancel)) as batches:
            for number, batch in batches:
                collectors[number].put(batch)
    finally:
        results = [collector.close() for collector in collectors]
    return results[0] if is_one else results


def _checked_grid(slide: Slide, grid: TileGrid) -> TileGrid:
    """The plan, of the slide whose pixels are to be read: two slides may have one plan (crops of one size)."""
    slide = as_slide(slide)
    if grid.slide is slide:
        return grid
    if (grid.slide.levels, grid.slide.mpp) != (slide.levels, slide.mpp):
        raise GeometryError(f"grid must be a plan of the slide; got a plan of '{grid.slide.name}' for slide '{slide.name}'. Call plan(slide, ...) again.")
    return replace(grid, slide=slide)


def _check_options(batch_size: int, workers: int | None, on_error: str, name: str) -> None:
    if batch_size < 1:
        raise GeometryError(f"batch_size must be at least 1; got {batch_size} (slide '{name}'). Pass for example batch_size=32.")
    if workers is not None and workers < 1:
        raise GeometryError(f"workers must be at least 1; got {workers} (slide '{name}'). Pass workers=None for the setting.")
    if on_error not in ("raise", "record"):
        raise IdxError(f"on_error must be 'raise' or 'record'; got {on_error!r} (slide '{name}'). Pass on_error='record' to go on after a bad tile.")


def _collectors(
    grids: Sequence[TileGrid], out: PathLike | None, resume: bool | TileResult | Sequence[TileResult], *, is_one: bool
) -> Sequence[Collected | Stored]:
    """Where the results of each slide go."""
    if out is None:
        return [Collected(grid, partial) for grid, partial in zip(grids, _partial_results(grids, resume), strict=True)]
    if not isinstance(resume, bool):
        raise IdxError(f"resume must be True or False where there is an out; got {type(resume).__name__} ({out}). Its folder holds the results so far.")
    folder = Path(out)
    if is_one:
        return [Stored(grids[0], folder, resume=resume)]
    names = [Path(grid.slide.name).stem for grid in grids]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise IdxError(f"slides that are run into one folder must have names of their own; got '{twice}' twice ({folder}). Run them one by one.")
    return [Stored(grid, folder / name, resume=resume) for grid, name in zip(grids, names, strict=True)]


def _partial_results(grids: Sequence[TileGrid], resume: bool | TileResult | Sequence[TileResult]) -> Sequence[TileResult | None]:
    if resume is False:
        return [None] * len(grids)
    if resume is True:
        raise IdxError("resume=True must have an out to go on with; got out=None (run). Pass out=..., or resume=result to go on in memory.")
    partial = [resume] if isinstance(resume, TileResult) else list(resume)
    if [r.grid.fingerprint for r in partial] != [g.fingerprint for g in grids]:
        raise GeometryError(f"a run must be resumed with the plan that it was begun with; got another (slide '{grids[0].slide.name}'). Pass result.grid.")
    return partial


def _stream(
    fn: Callable[[torch.Tensor], Any],
    jobs: Sequence[tuple[TileGrid, IntArray]],
    device: torch.device,
    batch_size: int,
    *,
    workers: int | None,
    progress: bool | None,
    on_error: OnError,
    cancel: Cancel | None,
) -> Generator[tuple[int, TileBatch]]:
    """Yield (number of the job, its next results)."""
    called = TileFunction(fn, is_recording=on_error == "record")
    pieces = [(number, grid, tiles[k : k + batch_size]) for number, (grid, tiles) in enumerate(jobs) for k in range(0, len(tiles), batch_size)]
    n_tiles = sum(len(tiles) for _, tiles in jobs)
    name = f"tiles of {jobs[0][0].slide.name}" if len(jobs) == 1 else f"tiles of {len(jobs)} slides"
    decoded = decode_ahead(((grid, tiles) for _, grid, tiles in pieces), device=device, workers=workers or current_settings().workers)
    with closing(decoded), progress_bar(n_tiles, name, shown=progress) as advance:
        for number, _, tiles in pieces:
            if cancel is not None and cancel.is_set():
                return
            batch = next(decoded)
            if batch.failures and on_error == "raise":
                raise batch.failures[0].error
            yield number, _computed(called, batch.grid, batch.tiles, batch.pixels, batch.failures)
            advance(len(tiles))


def _computed(called: TileFunction, grid: TileGrid, tiles: IntArray, pixels: torch.Tensor, unread: tuple[TileFailure, ...]) -> TileBatch:
    if len(tiles) == 0:
        return TileBatch(tiles, [], unread)
    good, values, failures = called(pixels, grid, tiles)
    return TileBatch(good, values, (*unread, *failures))
