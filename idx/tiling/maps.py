"""Dense maps of a slide, put together from overlapping tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from idx._typing import Array, Pair, PathLike, RGBArray
from idx.errors import FormatError, GeometryError
from idx.io.pyramids_zarr import CHUNK_PX, Multiscale, new_multiscale, open_levels
from idx.io.slides_writing import Compression, SlideToWrite, tile_encoder, whole_or_nothing
from idx.io.slides_writing_tiff import write_tiff
from idx.kernels.blending import plateau, pyramid_bands, ramp
from idx.settings import current_settings
from idx.tiling.coding import coded_in_threads
from idx.tiling.grid import TileGrid
from idx.tiling.map_codes import Codes
from idx.tiling.map_tiles import MapTiles, Rows, blended
from idx.tiling.reducing import halved_sizes
from idx.tiling.results import TileBatch, TileResult
from idx.tiling.stitched_map import StitchedMap
from idx.tiling.windows import in_plan_order

_TIFF_TILE_PX, _JPEG_QUALITY = 256, 90
_TIFF_SUFFIXES = (".tif", ".tiff")
COARSEST_PX = 512
"""A pyramid ends with the first level that is no larger."""
RowsOf = Callable[[tuple[int, int], int], Iterator[Rows]]
"""Gives the rows of a map of a size (width, height), a band of so many at a time."""
_BLENDS = {"ramp": ramp, "core": plateau}


def stitch_map(
    batches: Iterable[TileBatch] | TileResult,
    grid: TileGrid,
    *,
    out: PathLike | None = None,
    name: str = "map",
    channel: int | None = None,
    margin_px: int = 0,
    blending: str = "ramp",
    value_range: Pair | None = None,
    colours: str | None = None,
    compression: Compression | None = None,
    overwrite: bool = False,
) -> StitchedMap:
    """Put maps of overlapping tiles together to one map of the slide, in memory or as a pyramid on disk.

    Parameters
    ----------
    batches : iterable of TileBatch, or TileResult
        From :func:`idx.tiling.stream`, or a result. Values are maps (m, y, x) or (m, y, x, c) of tiles, at the tiles' resolution or at a whole
        fraction of it; or one value per tile, (m,) or (m, c), which makes a map of one pixel per core. NaN means no value. Tiles that failed may be
        missing.
    grid : TileGrid
        The plan.
    out : path or None
        ``.tif``: tiled pyramidal TIFF of 8 bits in RGB, which OpenSlide, QuPath, napari and :func:`idx.open_slide` open. ``.zarr``: OME-NGFF 0.5 with float
        values. None: memory.
    name : str
    channel : int or None
        Take this one of several channels.
    margin_px : int
        Delivered pixels that the function cut off each side of a tile.
    blending : str
        Where tiles overlap: "ramp" fades linearly from one to the next, weights summing to one; "core" takes each pixel from the tile whose core holds it
        (for numbers of classes, which have no mean).
    value_range : tuple of float or None
        Values shown as darkest and brightest. A TIFF clips to it, and without it takes 0 to 1 and refuses values beyond; elsewhere None is what there is.
    colours : str or None
        Name of a matplotlib colour map, for a TIFF and for notebooks; None keeps a TIFF grey.
    compression : str or None
        Of a TIFF: "deflate" (None stands for it), "jpeg" or "none".
    overwrite : bool
        Whether ``out`` may replace a map that is there.

    Returns
    -------
    StitchedMap

    Raises
    ------
    GeometryError
        If the values are of another size than the plan's tiles, or do not come in its order.
    FormatError
        If ``out`` is of another kind, a map cannot be shown in 8 bits, or a folder is there already.

    Notes
    -----
    Where one tile looked, or all agree, the map has their value to the last bit. Where no tile looked it is NaN; a TIFF has 0 there in grey and white in
    colour. In grey, 1 to 255 are ``low + (code - 1) / 254 * (high - low)``, as its description says too; uint8 values (grey or RGB) are kept as
    they are. A level's pixel is the mean of what is known of its 2 x 2 finer ones; level k of scale ``s = 2^k`` has its pixel i at ``s*i + (s-1)/2``
    of the finest. A TIFF is filled up to whole pixels of its coarsest level, as readers tell the scale of levels from their sizes.

    Rows are finished, averaged down and written as soon as no tile to come reaches them: memory holds about one row of tiles, eight bytes a pixel.

    Examples
    --------
    >>> tumour = idx.tiling.stitch_map(idx.tiling.stream(probability, slide, grid), grid, out="tumour.tif", colours="viridis")  # doctest: +SKIP
    """
    tiles = in_plan_order(batches, grid)
    first = next(tiles, None)
    if first is None:
        raise GeometryError(f"a map must have at least one tile; got none (slide '{grid.slide.name}'). See result.errors, or plan more tiles.")
    if blending not in _BLENDS:
        raise GeometryError(f"blending must be one of {', '.join(_BLENDS)}; got {blending!r} (slide '{grid.slide.name}'). Choose one of these.")
    if value_range is not None and not value_range[0] < value_range[1]:
        raise GeometryError(f"value_range must be (low, high); got {value_range} (map '{name}'). Pass for example (0.0, 1.0).")
    layout = MapTiles.of(first, grid, channel=channel, margin_px=margin_px)

    def rows(size_px: tuple[int, int], band: int) -> Iterator[Rows]:
        return blended(chain([first], tiles), grid, layout, weights=_BLENDS[blending], size_px=size_px, band=band)

    path = None if out is None else Path(out)
    kind = None if path is None else path.suffix.lower()
    if compression is not None and kind not in _TIFF_SUFFIXES:
        raise FormatError(f"compression must be given for a .tif only; got {compression!r} for '{path}' (map '{name}'). Leave it out.")
    plain = StitchedMap(None, grid, layout.factor, name, np.zeros((0, 0)), value_range or (0.0, 1.0), colours, (), path)
    if kind is None:
        made = _in_memory(rows, plain, layout)
    elif kind in _TIFF_SUFFIXES:
        codes = Codes(layout.n_channels, layout.is_exact, value_range, colours, name)
        return _to_tiff(rows, replace(plain, value_range=codes.shown_range), codes, compression or "deflate", overwrite=overwrite)
    elif kind == ".zarr":
        made = _to_zarr(rows, plain, layout, value_range, overwrite=overwrite)
    else:
        raise FormatError(f"out must end in .tif or .zarr; got '{path}' (map '{name}'). A .tif shows 8 bits, a .zarr keeps values.")
    return made if value_range else replace(made, value_range=(0.0, 255.0) if layout.is_exact else _range_of(made.preview))


def _range_of(values: Array) -> Pair:
    """Least and greatest known value; a unit apart where there is but one."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return low, high if high > low else low + 1.0


class _Pyramid:
    """Bands of all levels of a map, of which the coarsest is kept as a preview while they pass."""

    def __init__(self, rows: RowsOf, sizes: Sequence[tuple[int, int]], band: int) -> None:
        self._rows, self._n_levels, self._band = rows(sizes[0], band), len(sizes), band
        self._coarsest: list[Array] = []

    def __iter__(self) -> Iterator[tuple[int, Array, Array]]:
        for level, values, weight in pyramid_bands(self._rows, n_levels=self._n_levels, band=self._band):
            if level == self._n_levels - 1:
                self._coarsest.append(unknown_as_nan(values, weight))
            yield level, values, weight

    @property
    def preview(self) -> Array:
        """Coarsest level (y, x, c)."""
        return np.concatenate(self._coarsest)


def unknown_as_nan(values: Array, weight: Array) -> Array:
    """Values (y, x, c) with NaN where nothing is known."""
    return np.where(weight[..., None] > 0, values, np.array(np.nan, values.dtype))


def _in_memory(rows: RowsOf, plain: StitchedMap, layout: MapTiles) -> StitchedMap:
    width, height = plain.size_px
    whole = np.empty((height, width, layout.n_channels), layout.dtype)
    pyramid = _Pyramid(rows, halved_sizes(width, height, until_px=COARSEST_PX), CHUNK_PX)
    done = 0
    for level, values, weight in pyramid:
        if level == 0:
            whole[done : done + len(values)] = unknown_as_nan(values, weight)
            done += len(values)
    values = layout.squeezed(whole)
    return replace(plain, values=values, levels=(values,), preview=layout.squeezed(pyramid.preview))


def _to_zarr(rows: RowsOf, plain: StitchedMap, layout: MapTiles, value_range: Pair | None, *, overwrite: bool) -> StitchedMap:
    assert plain.path is not None
    sizes = halved_sizes(*plain.size_px, until_px=COARSEST_PX)
    scale = Multiscale(sizes, layout.n_channels if layout.has_channels else None, layout.dtype, np.nan, plain.mpp, plain.origin_um, "mean")
    pyramid = _Pyramid(rows, sizes, CHUNK_PX)
    with new_multiscale(plain.path, scale, name=plain.name, attributes=_attributes(plain, layout, value_range), overwrite=overwrite) as levels:
        done = [0] * len(sizes)
        for level, values, weight in pyramid:
            here = slice(done[level], done[level] + len(values))
            known = unknown_as_nan(values, weight)
            levels[level][..., here, :] = np.moveaxis(known, -1, 0) if layout.has_channels else known[..., 0]
            done[level] = here.stop
    opened = open_levels(plain.path)
    return replace(plain, values=opened[0], levels=opened, preview=layout.squeezed(pyramid.preview))


def _attributes(plain: StitchedMap, layout: MapTiles, value_range: Pair | None) -> dict[str, Any]:
    """Metadata beside the geometry: the plan, and how viewers may show each channel. A slide's name may be a patient's: it is not in it."""
    attributes: dict[str, Any] = {"idx": {"fingerprint": plain.grid.fingerprint}}
    if value_range is not None:
        low, high = (float(limit) for limit in value_range)
        labels = [f"{plain.name} {c}" for c in range(layout.n_channels)] if layout.has_channels else [plain.name]
        window = {"min": low, "max": high, "start": low, "end": high}
        attributes["ome"] = {"omero": {"channels": [{"label": label, "color": "FFFFFF", "active": True, "window": window} for label in labels]}}
    return attributes


def _to_tiff(rows: RowsOf, plain: StitchedMap, codes: Codes, compression: Compression, *, overwrite: bool) -> StitchedMap:
    assert plain.path is not None
    width, height = plain.size_px
    n_levels = len(halved_sizes(width, height, until_px=COARSEST_PX))
    step = 2 ** (n_levels - 1)
    sizes = tuple((-(-width // step) * step >> level, -(-height // step) * step >> level) for level in range(n_levels))
    half = np.asarray(plain.mpp) / 2.0
    corner = np.asarray(plain.origin_um) - half + np.asarray(plain.grid.slide.mpp) / 2.0
    written = SlideToWrite(
        sizes_px=sizes,
        tile_px=_TIFF_TILE_PX,
        mpp=plain.mpp,
        compression=compression,
        quality=_JPEG_QUALITY,
        description=codes.description(mpp=plain.mpp, origin_um=plain.origin_um, size_px=(width, height)),
        offset_um=(float(corner[0]), float(corner[1])),
        source_size_um=plain.grid.slide.size_um,
        is_resampled=True,
    )
    pyramid = _Pyramid(rows, sizes, _TIFF_TILE_PX)
    tiles = ((level, tile) for level, values, weight in pyramid for tile in _tiles(values, weight, codes))
    with whole_or_nothing(plain.path, overwrite=overwrite) as partial:
        write_tiff(partial, written, coded_in_threads(tiles, tile_encoder(written), workers=current_settings().workers))
    return replace(plain, preview=pyramid.preview if codes.n_channels > 1 else pyramid.preview[..., 0])


def _tiles(values: Array, weight: Array, codes: Codes) -> Iterator[RGBArray]:
    """Tiles of a band of rows; where it ends within one, its last pixels are repeated."""
    for y in range(0, len(values), _TIFF_TILE_PX):
        for x in range(0, values.shape[1], _TIFF_TILE_PX):
            here = np.s_[y : y + _TIFF_TILE_PX, x : x + _TIFF_TILE_PX]
            tile = codes.encode(values[here], weight[here])
            missing = [(0, _TIFF_TILE_PX - n) for n in tile.shape[:2]]
            yield np.pad(tile, [*missing, (0, 0)], mode="edge")
