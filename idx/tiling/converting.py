"""A slide, or a region of it, as another file: planned, decoded, halved level by level, coded and written in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

import idx
from idx._typing import PathLike, RGBArray
from idx.errors import FormatError, GeometryError
from idx.io.jpeg import JpegTiles
from idx.io.jpeg2000 import Jpeg2000Tiles
from idx.io.slides_writing import Compression, LossyCompression, SlideToWrite, tile_encoder, whole_or_nothing
from idx.io.slides_writing_dicom import check_dicom, write_dicom
from idx.io.slides_writing_tiff import write_tiff
from idx.io.stored_tiles import StoredTiles
from idx.settings import current_settings
from idx.slide import Slide
from idx.tiling.coding import coded_in_threads
from idx.tiling.grid import TileGrid
from idx.tiling.reducing import halved_sizes, with_coarser_levels
from idx.tiling.regions import Bounds, region_plan
from idx.tiling.running import stream

Container = Literal["tiff", "dicom"]
_SUFFIXES = (".tif", ".tiff")


def convert(
    slide: Slide | Any,
    out: PathLike,
    *,
    mpp: float | None = None,
    bounds_um: Bounds | None = None,
    container: Container | None = None,
    tile_px: int = 256,
    compression: Compression = "jpeg",
    quality: int = 90,
    levels: int | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool | None = None,
) -> Path:
    """Write a slide, or a region of it, as a pyramidal tiled TIFF or a DICOM whole-slide image.

    Parameters
    ----------
    slide : Slide or tiatoolbox WSIReader
    out : path
        File ending in .tif or .tiff, or a folder without a suffix for the instances of a DICOM slide. Until it is complete it lies beside this name
        under a hidden one; whatever goes wrong, there is no half slide.
    mpp : float or None
        um per pixel of the finest level: a stored level within 2 % of it as it is, otherwise averaged. None is the slide's own.
    bounds_um : tuple of float or None
        Left, top, right and bottom edge of a region, see :func:`idx.tiling.read_region`; None is the whole slide.
    container : {"tiff", "dicom"} or None
        None goes by the suffix of ``out``.
    tile_px : int
        Side of a stored tile, a multiple of 16.
    compression : {"jpeg", "jpeg2000", "deflate", "none"}
        "deflate" (TIFF only), "none" and "jpeg2000" with ``quality=100`` keep every pixel. OpenSlide reads JPEG 2000 in DICOM only.
    quality : int
        1 to 100. JPEG as libjpeg counts it, with chroma at full resolution; JPEG 2000 to half as many dB of signal to noise.
    levels : int or None
        Most levels; None halves until a level fits in one tile.
    overwrite : bool
        Whether a target that is there may be replaced, once the new one is complete.
    workers : int or None
        Threads that decode, and as many that code; None means the setting.
    progress : bool or None
        Whether to show a bar; None means the setting.

    Returns
    -------
    Path
        The file, or the folder.

    Raises
    ------
    UnitError, GeometryError
        If ``mpp`` is finer than the slide, the region misses it, or tiles cannot have that size.
    FormatError
        If the target exists, is the slide itself, or has an unknown suffix; if the container has no such compression.
    PixelAccessError
        If a tile cannot be decoded; the message gives its level-0 position.
    IdxError
        If the target cannot be written.

    Notes
    -----
    A pixel of the level with factor s (2, 4, 8 ...) is the rounded mean of the s x s pixels of the finest level that is delivered, as far as the
    region reaches, and is computed before coding; each stored tile of the source is decoded once. Memory grows with the width of the slide, not with
    its height: one row of tiles per level, 0.15 GB for 100,000 px in tiles of 256 px, besides what reading takes. The ICC profile and the
    objective are carried over; names, dates and identifiers of the source are not.

    Examples
    --------
    >>> idx.tiling.convert(slide, "A12_1um.tif", mpp=1.0)  # doctest: +SKIP
    PosixPath('A12_1um.tif')
    """
    target = Path(out).expanduser()
    kind = _container_of(target, container)
    grid = _in_rows(region_plan(slide, bounds_um, mpp=mpp, most_px=tile_px), tile_px)
    to_write = _to_write(grid, tile_px=tile_px, compression=compression, quality=quality, levels=levels)
    if kind == "dicom":
        check_dicom(to_write)
    _refuse_itself(grid.slide, target)
    n_threads = workers or current_settings().workers
    with whole_or_nothing(target, overwrite=overwrite, is_folder=kind == "dicom") as partial:
        tiles = with_coarser_levels(_whole_tiles(grid, tile_px, workers=n_threads, progress=progress), list(to_write.sizes_px), tile_px=tile_px)
        coded = coded_in_threads(tiles, tile_encoder(to_write), workers=n_threads)
        (write_dicom if kind == "dicom" else write_tiff)(partial, to_write, coded)
    return target


def _container_of(target: Path, container: Container | None) -> Container:
    if container not in (None, "tiff", "dicom"):
        raise FormatError(f"container must be tiff or dicom; got {container!r} ({target}). Leave it out to go by the suffix.")
    if container is not None:
        return container
    if target.suffix.lower() in _SUFFIXES:
        return "tiff"
    if target.suffix == "":
        return "dicom"
    raise FormatError(
        f"target must end in .tif or .tiff, or be a folder without a suffix for DICOM; got '{target.suffix}' ({target}). Rename it, or pass the container."
    )


def _refuse_itself(slide: Slide, target: Path) -> None:
    if slide.source is None or not target.exists():
        return
    path, out = Path(slide.source.path).resolve(), target.resolve()
    if path == out or path in out.parents or out in path.parents:
        raise FormatError(f"target must not be the slide itself; got {target} for slide '{slide.name}' ({path}). Pass another name.")


def _in_rows(grid: TileGrid, tile_px: int) -> TileGrid:
    """The plan in the order of the tiles to be written, row by row; where it has smaller tiles, those of one come one after the other."""
    n = tile_px // grid.size_px
    return grid.select(np.lexsort((grid.column, grid.row, grid.column // n, grid.row // n)))


def _to_write(grid: TileGrid, *, tile_px: int, compression: Compression, quality: int, levels: int | None) -> SlideToWrite:
    if levels is not None and levels < 1:
        raise GeometryError(f"levels must be at least 1; got {levels} (slide '{grid.slide.name}'). Leave it out to halve down to one tile.")
    slide = grid.slide
    left, top, _, _ = grid.bounds_um
    return SlideToWrite(
        sizes_px=tuple(halved_sizes(*grid.extent_px, until_px=tile_px)[:levels]),
        tile_px=tile_px,
        mpp=grid.mpp,
        compression=compression,
        quality=quality,
        description=_description(grid),
        offset_um=(left + slide.mpp[0] / 2.0, top + slide.mpp[1] / 2.0),
        source_size_um=slide.size_um,
        icc_profile=slide.icc_profile,
        magnification=slide.magnification,
        is_resampled=grid.is_resampled or grid.level > 0,
        before=_lossy_compression(grid),
    )


def _description(grid: TileGrid) -> str:
    """How the pixels were made, in ASCII; a slide's name may be a patient's, so it is not in it."""
    slide, facts = grid.slide, dict(grid.facts())
    kind = slide.source.kind if slide.source else slide.pixels.name
    parts = [
        f"idx {idx.__version__} slide convert",
        f"source {kind} {slide.size_px[0]} x {slide.size_px[1]} px at {slide.mpp[0]:.6g} x {slide.mpp[1]:.6g} um/px",
        f"this {grid.mpp[0]:.6g} x {grid.mpp[1]:.6g} um/px",
        str(facts["pixels"]),
        *([f"region {facts['region']}"] if "region" in facts else []),
        *([f"objective {slide.magnification:g}x"] if slide.magnification else []),
    ]
    return "; ".join(parts)


def _lossy_compression(grid: TileGrid) -> LossyCompression | None:
    """How the stored level was compressed, where that may have cost something."""
    slide = grid.slide
    if isinstance(stored := getattr(slide.pixels, "stored", None), StoredTiles):
        decoder, layout = stored.decoders[grid.level], stored.layouts[grid.level]
        method = "ISO_10918_1" if isinstance(decoder, JpegTiles) else "ISO_15444_1" if isinstance(decoder, Jpeg2000Tiles) else None
        n_bytes = int(layout.counts.sum())
    else:
        # Besides flat JPEG files, nearly all of the scanners' own formats hold JPEG.
        method = "ISO_10918_1" if slide.source and (slide.source.kind == "jpeg" or slide.pixels.name == "openslide") else None
        n_bytes = _bytes_on_disk(Path(slide.source.path)) if slide.source else 0
    level = slide.levels[grid.level]
    return LossyCompression(method, 3 * level.width_px * level.height_px / n_bytes) if method and n_bytes else None


def _bytes_on_disk(path: Path) -> int:
    """Bytes of a slide's file, and of the folder of its name that some formats keep beside it."""
    beside = path.with_suffix("")
    files = [path, *(beside.rglob("*") if beside != path and beside.is_dir() else [])]
    return sum(file.stat().st_size for file in files if file.is_file())


def _whole_tiles(grid: TileGrid, tile_px: int, *, workers: int, progress: bool | None) -> Iterator[RGBArray]:
    """Tiles of ``tile_px``, put together where the plan has smaller ones."""
    n, side = tile_px // grid.size_px, grid.size_px
    place = np.stack([grid.row, grid.column], axis=-1)
    tile, current = np.empty((0, 0, 3), dtype=np.uint8), (-1, -1)
    for batch in stream(lambda tiles: tiles, grid.slide, grid, device="cpu", workers=workers, progress=progress):
        for pixels, (row, column) in zip(batch.values, place[batch.tiles].tolist(), strict=True):
            if n == 1:
                yield pixels
                continue
            if (row // n, column // n) != current:
                if tile.size:
                    yield tile
                tile, current = np.empty((tile_px, tile_px, 3), dtype=np.uint8), (row // n, column // n)
            y, x = row % n * side, column % n * side
            tile[y : y + side, x : x + side] = pixels
    if tile.size:
        yield tile
