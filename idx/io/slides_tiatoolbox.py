"""Slides whose pixels come through a tiatoolbox reader, so that its users need not open their files a second time."""

from __future__ import annotations

import contextlib
import copy
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openslide

from idx._typing import Pair, RGBArray
from idx.errors import FormatError, PixelAccessError, UnitError
from idx.io.slides_tiff import TRUSTED_RESOLUTION_UM
from idx.io.slides_tiles import WHITE, checked_batch, level_of
from idx.provenance import Source
from idx.slide import Level, Slide, TileRect

_THREAD_SAFE = {"OpenSlideWSIReader"}
"""Readers that keep no state between reads; the others (shared file positions, caches) are read by one thread at a time."""
_FILE_READERS = {"OpenSlideWSIReader", "TIFFWSIReader", "DICOMWSIReader", "JP2WSIReader", "VirtualWSIReader"}
"""Readers whose pixels are those of their file; others warp it or draw on it, so the file does not stand for them."""
_ICC_TAG = 34675

_locks: weakref.WeakKeyDictionary[Any, threading.Lock] = weakref.WeakKeyDictionary()
_locks_guard = threading.Lock()


def as_slide(slide: Any) -> Slide:
    """A slide from a slide or from a tiatoolbox reader.

    Parameters
    ----------
    slide : Slide or tiatoolbox.wsicore.wsireader.WSIReader
        A Slide is returned as it is. tiatoolbox itself is not imported.

    Returns
    -------
    Slide
        Reads stored levels through the reader, without interpolation; beyond the border it is white. Its levels have the factors that
        :func:`idx.open_slide` gives them. Closing it leaves the reader open.

    Raises
    ------
    UnitError
        If the mpp is unknown. tiatoolbox guesses it from the objective power where the file states none; that guess is not taken.
    FormatError
        If it is neither a slide nor a reader, or the reader holds no pixels.

    Examples
    --------
    >>> from tiatoolbox.wsicore.wsireader import WSIReader  # doctest: +SKIP
    >>> grid = idx.tiling.plan(WSIReader.open("A12.svs"), size_px=256, mpp=0.5)  # doctest: +SKIP
    """
    if isinstance(slide, Slide):
        return slide
    if not _is_reader(slide):
        where = f" ({slide})" if isinstance(slide, str | Path) else ""
        raise FormatError(f"slide must be an idx Slide or a tiatoolbox WSIReader; got {type(slide).__name__}{where}. Open the file with idx.open_slide(path).")
    path = None if getattr(slide, "input_path", None) is None else Path(slide.input_path)
    name = type(slide).__name__ if path is None else path.name
    where = f"slide '{name}', {type(slide).__name__}"
    info = _info(slide, where=where)
    raw = info.raw if isinstance(info.raw, Mapping) else {}
    pixels = ReaderPixels(slide, _stored_levels(info, where=where), where=where)
    source = _source(slide, path)
    # Pixels that the reader changed are no longer in the file's colours.
    profile = None if source is None else _icc_profile(slide, raw)
    return Slide(pixels, _mpp(slide, raw, where=where), name, source, magnification=_stated_power(info, raw), icc_profile=profile)


def _is_reader(candidate: Any) -> bool:
    return any(base.__name__ == "WSIReader" and base.__module__.partition(".")[0] == "tiatoolbox" for base in type(candidate).__mro__)


def _info(reader: Any, *, where: str) -> Any:
    try:
        return reader.info
    except Exception as error:  # tiatoolbox reads the header only now, and stumbles over optional tags.
        raise FormatError(
            f"reader must describe its slide; got {type(error).__name__}: {error} ({where}). Open the file with idx.open_slide, or set reader.info."
        ) from error


def _stored_levels(info: Any, *, where: str) -> list[tuple[int, int, float]]:
    """Width, height and tiatoolbox's factor of the levels that can be read as they are stored."""
    # tiatoolbox lists more sizes than factors for NGFF, whose lower levels it cannot address; a JPEG 2000 may be halved down to nothing.
    levels: list[tuple[int, int, float]] = []
    for (width, height), factor in zip(info.level_dimensions, info.level_downsamples, strict=False):
        if width < 1 or height < 1:
            break
        levels.append((int(width), int(height), float(factor)))
    if not levels:
        raise FormatError(f"reader must hold at least one pixel; got levels {list(info.level_dimensions)} ({where}). Open another file.")
    return levels


def _mpp(reader: Any, raw: Mapping[str, Any], *, where: str) -> Pair:
    """The um per pixel that the caller gave or the file states."""
    remedy = "Pass it as WSIReader.open(path, mpp=(0.25, 0.25))."
    if reader.info.mpp is None:
        raise UnitError(f"mpp must be known to measure in um; got None ({where}). {remedy}")
    x, y = (float(value) for value in reader.info.mpp)
    if getattr(reader, "_manual_mpp", None) is not None:
        return x, y
    svs_tags = raw.get("SVS Tags")
    if (svs_tags is not None and "MPP" not in svs_tags) or ("openslide.vendor" in raw and "openslide.mpp-x" not in raw):
        raise UnitError(f"mpp must be stated by the file; got {x:.4g} um, which tiatoolbox derived from what else the file states ({where}). {remedy}")
    low, high = TRUSTED_RESOLUTION_UM
    if not (low <= x <= high and low <= y <= high):
        # Resolutions of print in plain TIFFs, and OME-TIFFs in other units than um, which tiatoolbox does not look at.
        raise UnitError(f"mpp must be within {low:g} to {high:g} um to be believed; got {x:.4g} x {y:.4g} um ({where}). {remedy}")
    return x, y


def _stated_power(info: Any, raw: Mapping[str, Any]) -> float | None:
    """Objective power where the file states it; what tiatoolbox derives from the mpp says nothing new."""
    is_stated = "openslide.objective-power" in raw or "AppMag" in raw.get("SVS Tags", {})
    return float(info.objective_power) if is_stated and info.objective_power else None


def _icc_profile(reader: Any, raw: Mapping[str, Any]) -> bytes | None:
    if hasattr(reader, "openslide_wsi"):
        embedded = reader.openslide_wsi.color_profile
        return None if embedded is None else bytes(embedded.tobytes())
    tag = raw.get("TIFF Tags", {}).get(_ICC_TAG)
    return None if tag is None else bytes(tag["value"])


def _source(reader: Any, path: Path | None) -> Source | None:
    """The file, where its pixels are those that the reader delivers."""
    own_processing = reader.post_proc is not None and type(reader.post_proc).__name__ != "MultichannelToRGB"
    if path is None or not path.exists() or type(reader).__name__ not in _FILE_READERS or own_processing:
        return None
    files = tuple(file.name for file in path.iterdir() if file.is_file()) if path.is_dir() else ()
    ids = {"backend": ReaderPixels.name, "reader": type(reader).__name__}
    if getattr(reader, "_manual_mpp", None) is not None:
        ids["mpp"] = ", ".join(str(float(value)) for value in reader.info.mpp)
    return Source(str(path), path.suffix.lstrip(".").lower() or "dicom-wsi", files, ids)


class ReaderPixels:
    """Pixels through a tiatoolbox reader, at the levels it stores; safe to use from several threads.

    Parameters
    ----------
    reader : WSIReader
        Stays the caller's: closing this source does not close it.
    stored : sequence of (width, height, factor)
        Levels, with the factors by which the reader addresses them.
    where : str
        For messages.
    """

    name = "tiatoolbox"

    def __init__(self, reader: Any, stored: Sequence[tuple[int, int, float]], *, where: str) -> None:
        self._reader: Any = reader
        self._where = where
        self._factors = tuple(factor for _, _, factor in stored)
        self._levels = tuple(level_of(width, height, base=stored[0][:2]) for width, height, _ in stored)
        self._lock = contextlib.nullcontext() if type(reader).__name__ in _THREAD_SAFE else _lock_of(reader)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Stored levels, finest first."""
        return self._levels

    def read_tiles_into(self, batch: RGBArray, tiles: Sequence[TileRect]) -> None:
        """Fill ``batch`` (n, height, width, 3) uint8; see :class:`idx.slide.PixelSource`."""
        checked_batch(batch, tiles, self._levels, where=self._where)
        batch[...] = WHITE
        for target, tile in zip(batch, tiles, strict=True):
            level = self._levels[tile.level]
            # Cut to the level: readers differ in what they put beyond its border, most of them black.
            left, top = max(tile.x_px, 0), max(tile.y_px, 0)
            right, bottom = min(tile.x_px + tile.width_px, level.width_px), min(tile.y_px + tile.height_px, level.height_px)
            if left < right and top < bottom:
                inside = target[top - tile.y_px : bottom - tile.y_px, left - tile.x_px : right - tile.x_px]
                inside[...] = self._read(tile.level, left, top, right - left, bottom - top)

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> RGBArray:
        place = f"level {level}, {width} x {height} px at {x}, {y}, {self._where}"
        reader = self._reader
        if reader is None:
            raise PixelAccessError(f"slide must be open to be read; got a closed one ({self._where}). Call as_slide(reader) again.")
        # The reader divides by its own factor and rounds, which gives x and y back.
        corner = (round(x * self._factors[level]), round(y * self._factors[level]))
        try:
            try:
                region = self._rect(reader, level, corner, (width, height))
            except openslide.OpenSlideError:
                if not hasattr(reader, "openslide_wsi"):
                    raise
                # OpenSlide refuses every read after one that failed, so one damaged tile would cost all that follow.
                reader = _over_new_handle(reader)
                region = self._rect(reader, level, corner, (width, height))
                self._reader = reader
        except Exception as error:  # Whatever the libraries under tiatoolbox raise: they share no base class.
            raise PixelAccessError(
                f"region must be readable through tiatoolbox; got {type(error).__name__}: {error} ({place}). Copy the file again, or leave this region out."
            ) from error
        if region.shape != (height, width, 3) or region.dtype != np.uint8:
            raise PixelAccessError(
                f"reader must deliver 8-bit RGB as stored; got {region.dtype} {region.shape} ({place}). Open the image in mode 'rgb', at its own size."
            )
        return region

    def _rect(self, reader: Any, level: int, corner: tuple[int, int], size: tuple[int, int]) -> RGBArray:
        with self._lock:
            return np.asarray(reader.read_rect(corner, size, resolution=level, units="level", interpolation="none"))

    def close(self) -> None:
        """Let go of the reader, which stays open; closing twice is harmless."""
        self._reader = None


def _over_new_handle(reader: Any) -> Any:
    """The same reader over the file opened again; the caller's own is left as it is."""
    fresh = copy.copy(reader)
    fresh.openslide_wsi = openslide.OpenSlide(str(reader.input_path))
    return fresh


def _lock_of(reader: Any) -> threading.Lock:
    """One lock per reader, however many slides are made of it."""
    with _locks_guard:
        return _locks.setdefault(reader, threading.Lock())
