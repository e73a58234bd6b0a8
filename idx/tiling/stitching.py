"""Objects found in overlapping tiles, kept once each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from idx._typing import Array, BoolArray, FloatArray
from idx.errors import GeometryError
from idx.tiling.grid import TileGrid
from idx.tiling.objects import StitchedObjects, joined, outlined
from idx.tiling.resolving import Objects, together
from idx.tiling.results import TileBatch, TileResult
from idx.tiling.seams import SeamSweep
from idx.tiling.windows import Windows, in_plan_order


def in_core(grid: TileGrid, position_px: Array) -> BoolArray:
    """Whether positions (n, 2) (x, y) within any tile lie in its core.

    The core is the half-open box from ``halo - 0.5`` to ``halo + core - 0.5`` (integers are pixel centres): the cores of a plan hold each
    position of the slide exactly once.
    """
    position = np.asarray(position_px, dtype=np.float64).reshape(-1, 2)
    low = grid.halo_px - 0.5
    return np.asarray(((position >= low) & (position < low + grid.core_px)).all(axis=1))


def stitch(grid: TileGrid, tile: Array, centroid_px: Array) -> tuple[BoolArray, FloatArray]:
    """Keep each object once: in the tile whose core holds its centroid.

    Parameters
    ----------
    grid : TileGrid
        The halo (half of ``overlap_px``) must be at least as wide as the largest object, so that the owner sees the whole of it.
    tile : array (n,) of int
        Tile in which each object was found.
    centroid_px : array (n, 2)
        Its centroid (x, y) in that tile's pixels, halo included.

    Returns
    -------
    keep : array (n,) of bool
        Objects that their tile owns.
    centroid_um : array (n, 2)
        Centroids of all n objects in the slide's frame.

    Raises
    ------
    GeometryError
        If lengths differ or a tile is not in the plan.

    Notes
    -----
    An object whose tile is not in the plan (its core lies outside ``within``) is kept by none.
    """
    tiles = np.asarray(tile, dtype=np.int64).ravel()
    centroids = np.asarray(centroid_px, dtype=np.float64).reshape(-1, 2)
    if len(tiles) != len(centroids) or (len(tiles) and not (tiles.min() >= 0 and tiles.max() < len(grid))):
        raise GeometryError(
            f"tile and centroid_px must have one entry per object and point into the plan of {len(grid)} tiles; got {len(tiles)} tiles, "
            f"{len(centroids)} centroids (slide '{grid.slide.name}'). Pass the column 'tile' of the run's result."
        )
    return in_core(grid, centroids), grid.to_um(tiles, centroids)


def stitch_labels(batches: Iterable[TileBatch] | TileResult, grid: TileGrid, *, classes: Sequence[str] = (), margin_px: int = 0) -> StitchedObjects:
    """Outline the objects of the label images of overlapping tiles, each exactly once.

    Parameters
    ----------
    batches : iterable of TileBatch, or TileResult
        From :func:`idx.tiling.stream`, or a result. Values are label images, int (m, y, x) of ``size_px - 2 * margin_px`` pixels a side, in
        which each tile numbers its objects itself (0 is background); or a tuple of label images and class images: int (m, y, x), 0 for no class,
        k for ``classes[k - 1]``. Tiles that failed may be missing.
    grid : TileGrid
        The plan. Half of its overlap, less the margin, should be as wide as the largest object; larger ones are put together from parts.
    classes : sequence of str
        Names of classes; an object gets the one that most of its pixels have.
    margin_px : int
        Pixels that the function cut off each side of a tile.

    Returns
    -------
    StitchedObjects
        From top to bottom by centroid. They depend neither on the size of the batches nor, where tiles agree on them, on the size of the tiles.

    Raises
    ------
    GeometryError
        If the label images have another size, or tiles do not come in the order of the plan.

    Notes
    -----
    Outlines run along the edges of pixels, so that their area is exactly the number of pixels times their size; holes are kept. They are those of
    an object's largest 4-connected part.

    An object belongs to the tile whose half-open core holds its centroid. Near seams this is not enough: an object may be cut by the border of the
    tile, or two tiles may see it so differently that both own it or none does. There, objects are compared in what both tiles see, by intersection
    over union, and each counts once (:func:`idx.tiling.resolving.resolve`). One that no tile sees whole is the union of its parts. Where a tile failed, its
    neighbours' views of its objects stand in for it; objects whose centroid lies in a core that is not in the plan are left out. What lies beyond
    the slide's border is not looked at.

    Objects near seams are held as runs of pixels until no tile to come can see them: about two rows of tiles, besides the outlines that are returned.

    Examples
    --------
    >>> grid = idx.tiling.plan(slide, size_px=512, overlap_px=128)  # doctest: +SKIP
    >>> nuclei = idx.tiling.stitch_labels(idx.tiling.stream(segment, slide, grid), grid)  # doctest: +SKIP
    >>> nuclei.contours.areas_um2.mean()  # doctest: +SKIP
    """
    pieces = list(iter_stitched(batches, grid, classes=classes, margin_px=margin_px))
    everything = joined(pieces)
    # A millionth of a um: the same object may get other last digits from another tile.
    rounded = np.round(everything.centroid_um, 6)
    return everything.select(np.lexsort((everything.object_id, rounded[:, 0], rounded[:, 1])))


def iter_stitched(batches: Iterable[TileBatch] | TileResult, grid: TileGrid, *, classes: Sequence[str] = (), margin_px: int = 0) -> Iterator[StitchedObjects]:
    """Yield stitched objects in pieces, as soon as they are finished: about one row of tiles at a time, so that a million never lie in memory.

    Parameters, meaning and errors are those of :func:`stitch_labels`; at least one piece comes, which may be empty.
    """
    first_id = 1
    for objects in finished_objects(batches, grid, n_classes=len(classes), margin_px=margin_px):
        yield outlined(objects, grid, classes=classes, first_id=first_id)
        first_id += len(objects)


def finished_objects(batches: Iterable[TileBatch] | TileResult, grid: TileGrid, *, n_classes: int, margin_px: int) -> Iterator[Objects]:
    """Yield objects as runs of pixels in the lattice, about one row of tiles at a time; see :func:`stitch_labels`."""
    windows = Windows.of(grid, margin_px=margin_px)
    sweep = SeamSweep(windows, n_classes=n_classes)
    rows_to_come = windows.first_rows_to_come()
    resolved_to, found = 0, []
    for tile, values, place in in_plan_order(batches, grid):
        labels, classes = _label_image(values, place, windows.size, n_classes=n_classes, margin_px=margin_px, where=f"tile {tile} of '{grid.slide.name}'")
        found.append(sweep.add(tile, labels, classes))
        if rows_to_come[tile] > resolved_to:
            resolved_to = int(rows_to_come[tile])
            yield together([*found, sweep.finish(resolved_to)])
            found = []
    yield together([*found, sweep.finish()])


def _label_image(values: Any, place: int, size: int, *, n_classes: int, margin_px: int, where: str) -> tuple[Array, Array | None]:
    """Label image of one tile as int32 and, where there are classes, its class image."""
    parts = values if isinstance(values, tuple) else (values,)
    if len(parts) != 1 + (n_classes > 0):
        wanted = "label images and class images, as a tuple," if n_classes else "label images alone"
        raise GeometryError(f"values must be {wanted} with {n_classes} classes named; got {len(parts)} parts ({where}). Pass classes=(...) with class images.")
    images = [np.asarray(part[place]) for part in parts]
    for image in images:
        if image.shape != (size, size) or image.dtype.kind not in "iu":
            raise GeometryError(
                f"label images must be whole numbers of {size} x {size} px (tiles less a margin of {margin_px} px); got {image.dtype} {image.shape} ({where}). "
                "Pass margin_px=... for what the function cuts off."
            )
    labels = images[0]
    least, greatest = int(labels.min()), int(labels.max())
    if least < 0 or greatest > np.iinfo(np.int32).max:
        raise GeometryError(
            f"labels must be 0 for background and positive below 2^31; got {least}..{greatest} ({where}). Number the objects of each tile from 1."
        )
    return labels.astype(np.int32, copy=False), images[1] if n_classes else None
