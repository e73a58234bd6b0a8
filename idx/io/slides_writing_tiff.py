"""Slides written as pyramidal tiled TIFF, which OpenSlide opens as generic-tiff."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import tifffile

import idx
from idx.io.slides_tiff import SOFTWARE
from idx.io.slides_writing import SlideToWrite

_MOST_CLASSIC_BYTES = 1 << 32
_WORST_RATIO = 1.5
"""No codec makes more of the pixels than this."""
_APERIO_JPEG2000_RGB = 33005
_COMPRESSIONS: dict[str, dict[str, Any]] = {
    "jpeg": {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (1, 1)},
    "jpeg2000": {"photometric": "rgb", "compression": _APERIO_JPEG2000_RGB},
    "deflate": {"photometric": "rgb", "compression": "zlib", "predictor": True},
    "none": {"photometric": "rgb"},
}


def write_tiff(path: Path, slide: SlideToWrite, tiles: Iterable[tuple[int, bytes]]) -> None:
    """Write a slide to a file.

    Parameters
    ----------
    path : Path
    slide : SlideToWrite
    tiles : iterable of (level, bytes)
        Coded tiles, row by row within each level. The levels may be interleaved: those of all but the finest wait in a file beside ``path``.

    Notes
    -----
    A BigTIFF where 4 GiB might not be enough. The same slide gives the same bytes. JPEG 2000 has no standard place in TIFF: it is written as Aperio
    does, which idx, QuPath and Bio-Formats read, but not OpenSlide.
    """
    is_big = _WORST_RATIO * sum(slide.n_tiles(level) for level in range(len(slide.sizes_px))) * slide.tile_bytes > _MOST_CLASSIC_BYTES
    with _Sorted(tiles, path.parent, len(slide.sizes_px)) as blocks, tifffile.TiffWriter(path, bigtiff=is_big) as tiff:
        for level, (width, height) in enumerate(slide.sizes_px):
            tiff.write(
                blocks.of(level),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(slide.tile_px, slide.tile_px),
                subfiletype=int(level > 0),
                # Pixels per cm.
                resolution=(1e4 / (slide.mpp[0] * 2**level), 1e4 / (slide.mpp[1] * 2**level)),
                resolutionunit="CENTIMETER",
                description=slide.description if level == 0 else None,
                software=SOFTWARE + idx.__version__,
                iccprofile=slide.icc_profile,
                metadata=None,
                **_COMPRESSIONS[slide.compression],
            )


class _Sorted:
    """Coded tiles level by level, as TIFF is written: those of the coarser levels are kept in a file until their turn comes."""

    def __init__(self, tiles: Iterable[tuple[int, bytes]], folder: Path, n_levels: int) -> None:
        self._tiles = iter(tiles)
        self._folder = folder
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(n_levels)]
        self._end = 0

    def __enter__(self) -> Self:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def of(self, level: int) -> Iterator[bytes]:
        """Tiles of a level; the finest must be asked for first."""
        if level == 0:
            return self._passing()
        # The tiles that the last one of the finest level completes are still to come.
        for _ in self._passing():
            raise AssertionError("tiles of the finest level are left over")
        return self._kept(level)

    def _passing(self) -> Iterator[bytes]:
        for level, block in self._tiles:
            if level == 0:
                yield block
            else:
                self._file.write(block)
                self._places[level].append((self._end, len(block)))
                self._end += len(block)

    def _kept(self, level: int) -> Iterator[bytes]:
        for offset, n_bytes in self._places[level]:
            self._file.seek(offset)
            yield self._file.read(n_bytes)
