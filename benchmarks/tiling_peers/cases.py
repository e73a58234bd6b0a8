"""The cases: slides that are made or given, and the lattices of tiles that are asked of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

import idx
from tiling_peers import large
from tiling_peers.lattice import Lattice, lattice_over
from tiling_peers.mosaic import CODECS, MPP, TILE_PX, RGBArray, TileLibrary, full_index, make_library, write_mosaic
from tiling_peers.recipes import OWN, PEERS

UNALIGNED_PX = 100
DENSE_TISSUE_SHARE = 0.8
TEXTURE_PX = 4096
"""Longest side of what is cut from the middle of a given slide."""
PHANTOM_PX = 2048
TILES_PER_ROUND = 1024
"""Tiles of one timed call; a smaller slide is gone through several times, opened anew each time."""
JPEG2000_TILES_PER_ROUND = 192
LIBRARY_TILES = 1024
EVERYONE = (*PEERS, *OWN)
KNOW_MPP = ("openslide", "tiatoolbox", *OWN)


@dataclass(frozen=True)
class Case:
    """A request.

    Parameters
    ----------
    name : str
    slide : Path
    lattice : Lattice
    contenders : tuple of str
        Who can answer it.
    threads : tuple of int
        With how many threads each is measured.
    tolerance : int or None
        Grey levels by which idx may differ from OpenSlide; None where pixels are resampled, each in its own way.
    passes : int
        How often the slide is gone through per round.
    """

    name: str
    slide: Path
    lattice: Lattice
    contenders: tuple[str, ...] = EVERYONE
    threads: tuple[int, ...] = (1,)
    tolerance: int | None = 0
    passes: int = 1


@dataclass(frozen=True, eq=False)
class Made:
    """What cases are made from.

    Parameters
    ----------
    folder : Path
        Where slides are written.
    texture : uint8 array (y, x, 3)
        What mosaics are cut from.
    most_tiles : int
        Tiles per round.
    """

    folder: Path
    texture: RGBArray
    most_tiles: int = TILES_PER_ROUND

    def mosaic(self, name: str, codec: str, *, tissue_share: float = 0.0) -> Path:
        """Write a mosaic if it is not there, square, of four rounds' tiles or, in JPEG 2000, of one round's."""
        path = self.folder / f"{name}.svs"
        if not path.exists():
            is_jpeg = codec == "jpeg"
            n_tiles = self.most_tiles * 4 if is_jpeg else min(self.most_tiles, JPEG2000_TILES_PER_ROUND)
            side = int(np.ceil(n_tiles**0.5)) + 1
            library = make_library(self.texture, CODECS[codec], n_tiles=min(LIBRARY_TILES, n_tiles), tissue_share=tissue_share)
            write_mosaic(path, library, full_index(library, rows=side, columns=side))
        return path


def read_texture(aperio: Path | None, folder: Path) -> RGBArray:
    """Pixels to cut mosaics from: the middle of a given slide at level 0, or a phantom."""
    if aperio is None:
        phantom = idx.testing.he_slide(folder / "phantom.tif", size_px=(PHANTOM_PX, PHANTOM_PX), mpp=MPP, compression="deflate")
        aperio = phantom.path
    with idx.open_slide(aperio) as slide:
        width, height = (min(length, TEXTURE_PX) for length in slide.size_px)
        x, y = (slide.size_px[0] - width) // 2, (slide.size_px[1] - height) // 2
        return slide.read_region(x, y, width_px=width, height_px=height)


CASES = (
    "mosaic",
    "mosaic unaligned",
    "mosaic 0.5 mpp",
    "mosaic 1 mpp",
    "dense",
    "aperio",
    "aperio 0.5 mpp",
    "jpeg2000 rgb",
    "jpeg2000 ycbcr",
    "jpeg2000 file",
)
QUICK_CASES = ("mosaic", "mosaic unaligned", "mosaic 0.5 mpp", "aperio", "jpeg2000 rgb")
_BOTH = (1, 2)


def make_case(name: str, made: Made, *, aperio: Path | None, jpeg2000: Path | None) -> Case | str:
    """Make a case, or say why it cannot be made."""
    if name.startswith("mosaic"):
        return _case(name, made.mosaic("mosaic", "jpeg"), made, threads=(1,) if "mpp" in name else _BOTH)
    if name == "dense":
        return _case(name, made.mosaic("dense", "jpeg", tissue_share=DENSE_TISSUE_SHARE), made)
    if name.startswith("aperio"):
        return "not run: no Aperio slide was given" if aperio is None else _case(name, aperio, made, threads=(1,) if "mpp" in name else _BOTH)
    if name == "jpeg2000 file":
        return "not run: no JPEG 2000 slide was given" if jpeg2000 is None else _case(name, jpeg2000, made)
    colours = name.removeprefix("jpeg2000 ")
    return _case(name, made.mosaic(f"jpeg2000_{colours}", f"jpeg2000_{colours}"), made)


def _case(name: str, slide: Path, made: Made, *, threads: tuple[int, ...] = (1,)) -> Case:
    """The lattice that a case's name asks for."""
    with idx.open_slide(slide) as opened:
        size_px, own_mpp = opened.size_px, opened.mpp[0]
    is_jpeg2000 = name.startswith("jpeg2000")
    most_tiles = min(made.most_tiles, JPEG2000_TILES_PER_ROUND) if is_jpeg2000 else made.most_tiles
    mpp = float(name.split()[1]) if name.endswith(" mpp") else None
    offset_px = UNALIGNED_PX if name.endswith("unaligned") else 0
    lattice = lattice_over(size_px, tile_px=TILE_PX, offset_px=offset_px, mpp=mpp, own_mpp=own_mpp, most_tiles=most_tiles)
    is_resampled = lattice.step_px != lattice.size_px
    return Case(
        name,
        slide,
        lattice,
        contenders=EVERYONE if mpp is None else KNOW_MPP if is_resampled else ("raw", *KNOW_MPP),
        threads=threads,
        tolerance=None if is_resampled else 1 if is_jpeg2000 else 0,
        passes=max(1, round(most_tiles / len(lattice))),
    )


def tissue_index(library: TileLibrary, outlines: Sequence[np.ndarray], size_px: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """Library tiles (rows, columns) of a slide: tissue where a stored tile meets an outline, background elsewhere."""
    columns, rows = (-(-length // TILE_PX) for length in size_px)
    row, column = (index.ravel() for index in np.mgrid[0:rows, 0:columns])
    tissue = shapely.union_all([shapely.Polygon(outline) for outline in outlines])
    shapely.prepare(tissue)
    # One pixel more on each side: whether an outline that only touches a tile belongs to it is the plan's affair.
    boxes = shapely.box(column * TILE_PX - 1, row * TILE_PX - 1, (column + 1) * TILE_PX + 1, (row + 1) * TILE_PX + 1)
    drawn = full_index(library, rows=rows, columns=columns, seed=seed)
    return np.where(shapely.intersects(tissue, boxes).reshape(rows, columns), drawn, 0)


def make_large(made: Made, size_px: tuple[int, int]) -> Path | str:
    """Write a slide of ``size_px`` whose tissue covers about half of it, or say why there is no room for it."""
    library = make_library(made.texture, CODECS["jpeg"], n_tiles=LIBRARY_TILES, tissue_share=DENSE_TISSUE_SHARE)
    index = tissue_index(library, large.tissue_outlines(size_px), size_px)
    lengths = np.array([len(stream) for stream in library.streams])
    needed, free = int(lengths[index].sum() * 1.2), shutil.disk_usage(made.folder).free
    if needed > free:
        return f"not run: the large slide needs {needed / 1e9:.1f} GB; got {free / 1e9:.1f} GB ({made.folder}). Name another folder with --folder."
    path = made.folder / "large.svs"
    write_mosaic(path, library, index, size_px=size_px)
    return path
