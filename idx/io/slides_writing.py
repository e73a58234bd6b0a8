"""What writers of slides share, whatever the container: what is to be written, how a tile is coded, and a target that is whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import imagecodecs
import numpy as np

from idx._typing import Pair, RGBArray
from idx.errors import FormatError, GeometryError, IdxError

Compression = Literal["jpeg", "jpeg2000", "deflate", "none"]
LOSSLESS = 100
"""Quality at which JPEG 2000 keeps every pixel."""
_TILE_STEP_PX = 16
_TILE_PX = (64, 4096)
_DEFLATE_LEVEL = 6


@dataclass(frozen=True)
class LossyCompression:
    """How pixels were compressed at some time, which cannot be undone.

    Parameters
    ----------
    method : str
        Defined term of DICOM, such as "ISO_10918_1" for JPEG.
    ratio : float
        Bytes of pixels per byte stored.
    """

    method: str
    ratio: float


@dataclass(frozen=True)
class SlideToWrite:
    """Everything of a slide but its pixels.

    Parameters
    ----------
    sizes_px : tuple of (int, int)
        Width and height of each level, finest first, each of half the resolution of the one before.
    tile_px : int
    mpp : tuple of float
        um per pixel (x, y) of the finest level.
    compression : {"jpeg", "jpeg2000", "deflate", "none"}
    quality : int
        1 to 100, for JPEG as libjpeg counts it. JPEG 2000 is coded to half as many dB of signal to noise, and at 100 without loss. Otherwise not used.
    description : str
        How the pixels were made, without names or identifiers.
    offset_um, source_size_um : tuple of float
        Where the upper left corner lies on the slide it was taken from (x, y), and that slide's size.
    icc_profile : bytes or None
    magnification : float or None
        Objective power.
    is_resampled : bool
        Whether the finest level was averaged from finer pixels.
    before : LossyCompression or None
        How its pixels were compressed before.
    """

    sizes_px: tuple[tuple[int, int], ...]
    tile_px: int
    mpp: Pair
    compression: Compression
    quality: int
    description: str
    offset_um: Pair
    source_size_um: Pair
    icc_profile: bytes | None = None
    magnification: float | None = None
    is_resampled: bool = False
    before: LossyCompression | None = None

    def __post_init__(self) -> None:
        low, high = _TILE_PX
        if not low <= self.tile_px <= high or self.tile_px % _TILE_STEP_PX:
            raise GeometryError(
                f"tiles must have {low} to {high} px a side, a multiple of {_TILE_STEP_PX}; got {self.tile_px} (slide to write). Pass 256 or 512."
            )
        if self.compression not in get_args(Compression):
            raise FormatError(f"compression must be one of {', '.join(get_args(Compression))}; got {self.compression!r} (slide to write). Pass 'jpeg'.")
        if not 1 <= self.quality <= LOSSLESS:
            raise FormatError(f"quality must be 1 to {LOSSLESS}; got {self.quality} (slide to write). Pass for example 90.")

    @property
    def is_lossy(self) -> bool:
        """Whether its coding changes pixels."""
        return self.compression == "jpeg" or (self.compression == "jpeg2000" and self.quality < LOSSLESS)

    @property
    def tile_bytes(self) -> int:
        """Bytes of a tile's pixels."""
        return 3 * self.tile_px**2

    def n_tiles(self, level: int) -> int:
        """Tiles of a level."""
        width, height = self.sizes_px[level]
        return -(-width // self.tile_px) * -(-height // self.tile_px)


def tile_encoder(slide: SlideToWrite) -> Callable[[RGBArray], bytes]:
    """Coding of one tile (y, x, 3) uint8; safe to call from several threads.

    Notes
    -----
    JPEG keeps chroma at full resolution: halving it costs 9 dB on a stained slide. Deflate codes differences along rows (TIFF's predictor 2).
    """
    quality = slide.quality

    def jpeg(tile: RGBArray) -> bytes:
        return bytes(imagecodecs.jpeg8_encode(tile, level=quality, subsampling="444", optimize=True))

    def jpeg2000(tile: RGBArray) -> bytes:
        psnr_db = 0 if quality == LOSSLESS else max(1, quality // 2)  # 0 is all of it
        return bytes(imagecodecs.jpeg2k_encode(tile, level=psnr_db, codecformat="j2k", reversible=quality == LOSSLESS, numthreads=1))

    def deflate(tile: RGBArray) -> bytes:
        return bytes(imagecodecs.deflate_encode(imagecodecs.delta_encode(tile, axis=-2).tobytes(), level=_DEFLATE_LEVEL))

    def none(tile: RGBArray) -> bytes:
        return np.ascontiguousarray(tile).tobytes()

    return {"jpeg": jpeg, "jpeg2000": jpeg2000, "deflate": deflate, "none": none}[slide.compression]


def check_target(target: Path, *, overwrite: bool, is_folder: bool) -> None:
    """Refuse a target that is there already, or that is not ours to replace.

    Raises
    ------
    FormatError
    """
    if not target.exists() and not target.is_symlink():
        return
    if not overwrite:
        raise FormatError(f"target must not exist; got one ({target}). Pass another name, or overwrite=True.")
    if target.is_dir() != is_folder:
        kind = "a file" if is_folder else "a folder"
        raise FormatError(f"target must be {'a folder' if is_folder else 'a file'} to be overwritten; got {kind} ({target}). Pass another name.")
    if is_folder and any(not path.is_file() or path.suffix != ".dcm" for path in target.iterdir()):
        raise FormatError(f"folder must hold nothing but .dcm files to be overwritten; got others ({target}). Pass another name, or empty it first.")


@contextmanager
def whole_or_nothing(target: Path, *, overwrite: bool, is_folder: bool = False) -> Iterator[Path]:
    """Yield the name to write under, beside the target; afterwards it is given the target's name, or removed where anything went wrong.

    Raises
    ------
    FormatError
        If the target is there and ``overwrite`` is False, or it is of another kind.
    IdxError
        If it cannot be written.
    """
    check_target(target, overwrite=overwrite, is_folder=is_folder)
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial_of(target, is_folder=is_folder)
        yield partial
        check_target(target, overwrite=overwrite, is_folder=is_folder)
        _replace(target, partial)
    except OSError as error:
        if isinstance(error, IdxError):
            raise
        raise IdxError(f"slide must be writable; got: {error.strerror or error} ({target}). Make room, or pass another folder.") from error
    finally:
        if partial is not None:
            _remove(partial)


def _partial_of(target: Path, *, is_folder: bool) -> Path:
    """An empty file or folder beside the target, of a name that nobody else has."""
    prefix, suffix = f".{target.stem}-", ".partial"
    if is_folder:
        partial = Path(tempfile.mkdtemp(suffix, prefix, target.parent))
        mode = 0o777
    else:
        descriptor, name = tempfile.mkstemp(suffix, prefix, target.parent)
        os.close(descriptor)
        partial, mode = Path(name), 0o666
    # tempfile keeps its files private; the result is to have the rights of any other new file.
    mask = os.umask(0)
    os.umask(mask)
    partial.chmod(mode & ~mask)
    return partial


def _replace(target: Path, partial: Path) -> None:
    if not target.is_dir():
        os.replace(partial, target)
        return
    old = partial.with_suffix(".old")
    os.rename(target, old)
    os.rename(partial, target)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
