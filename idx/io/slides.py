"""Opening slides: which route reads a file, what its pixels measure, and clear refusals."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from idx._typing import Pair, PathLike
from idx.errors import FormatError, UnitError
from idx.provenance import Source
from idx.slide import SAME_SCALE_RTOL, PixelSource, Slide

Backend = Literal["tifffile", "openslide", "dicom", "flat"]
DeviceDecoder = Literal["nvimagecodec"]
JpegColours = Literal["stated", "marked"]
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_VENDORS = (None, "aperio", "generic-tiff")
"""What OpenSlide calls the TIFF families whose tiles need no vendor's knowledge; the others (Philips, Leica, Ventana ...) go through OpenSlide."""


@dataclass(frozen=True, eq=False)
class _Opened:
    """What a route found: a pixel source and what the file states."""

    pixels: PixelSource
    kind: str
    mpp: Pair | None
    magnification: float | None = None
    icc_profile: bytes | None = None
    files: tuple[str, ...] = ()
    ids: tuple[tuple[str, str], ...] = ()


def open_slide(
    path: PathLike,
    *,
    mpp: float | Pair | None = None,
    backend: Backend | None = None,
    decoder: DeviceDecoder | None = None,
    icc: bool = False,
    jpeg_colours: JpegColours = "stated",
) -> Slide:
    """Open a slide; nothing is decoded until pixels are asked for.

    Parameters
    ----------
    path : path
        SVS, tiled TIFF, OME-TIFF, any format of OpenSlide (NDPI, MRXS, SCN ...), a folder or file of a DICOM whole-slide image,
        or a flat PNG, JPEG or TIFF, which becomes a slide of one level.
    mpp : float or (x, y), optional
        um per level-0 pixel. It wins over what the file states; where they differ by more than 2 % a warning says so. Needed where the file
        states none: flat images, and TIFFs whose resolution is that of a print (believed between 0.05 and 10 um per pixel only).
    backend : {"tifffile", "openslide", "dicom", "flat"}, optional
        Route to the pixels; level 0 is identical through each that reads a file. By default DICOM goes through "dicom", SVS and generic
        TIFF through "tifffile", PNG, JPEG and TIFF in strips through "flat", everything else through "openslide".
    decoder : {"nvimagecodec"}, optional
        Who decodes tiles that a function wants on a GPU: nvImageCodec on the GPU itself (``pip install 'idx[nvimagecodec]'``; JPEG, and JPEG 2000 in
        RGB, through "tifffile" and "dicom"). Such pixels may differ by a few grey levels; all others, and the default, are decoded by the CPU.
    icc : bool
        Apply the embedded ICC profile, so that pixels are sRGB; by default they are as stored.
    jpeg_colours : {"stated", "marked"}
        Whom to believe where the header of a DICOM slide and the markers in its JPEG frames name different colour spaces: the header, as the
        standard and OpenSlide do, or the markers, which are right where a converter wrote YCbCr under a header that says RGB. A level in such
        doubt is read only when asked for by number (``Level.doubt``); where that is level 0, a warning says so.

    Returns
    -------
    Slide
        Pixels uint8 RGB (y, x, 3), transparent and missing parts white; frame in um whose origin is the centre of the first pixel.

    Raises
    ------
    FormatError
        If there is no such file, it is truncated, ambiguous, not 8-bit RGB or of an unknown kind, ``icc=True`` and there is no profile, or ``decoder``
        does not decode its tiles.
    MissingDependency
        If ``decoder`` is not installed.
    UnitError
        If the mpp is unknown or not positive.

    Examples
    --------
    >>> slide = idx.open_slide("A12.svs")  # doctest: +SKIP
    >>> slide.read_region(0, 0, width_px=256, height_px=256).shape  # doctest: +SKIP
    (256, 256, 3)
    """
    file = Path(path).expanduser().absolute()
    if not file.exists():
        raise FormatError(f"slide must exist; got no file or folder ({file}). Check the path.")
    route = backend or _choose(file)
    if route not in _ROUTES:
        raise FormatError(f"backend must be one of {', '.join(get_args(Backend))}; got {backend!r} ({file}). Leave it out to let the file decide.")
    if file.is_dir() and route != "dicom":
        raise FormatError(f"a folder must be read as DICOM; got backend='{route}' ({file}). Pass a file, or leave backend out.")
    if jpeg_colours not in get_args(JpegColours):
        raise FormatError(f"jpeg_colours must be 'stated' or 'marked'; got {jpeg_colours!r} ({file}). Leave it out unless the colours look wrong.")
    opened = _through_dicom(file, jpeg_colours=jpeg_colours) if route == "dicom" else _ROUTES[route](file)
    try:
        return _slide(opened, file, mpp=mpp, decoder=decoder, icc=icc)
    except Exception:
        opened.pixels.close()
        raise


def _slide(opened: _Opened, file: Path, *, mpp: float | Pair | None, decoder: str | None, icc: bool) -> Slide:
    where = f"slide '{file.name}', {file}"
    pixels, ids, profile = opened.pixels, dict(opened.ids), opened.icc_profile
    scale = _resolve_mpp(mpp, opened.mpp, where=where)
    if decoder is not None:
        pixels, ids["decoder"] = _device_decoded(pixels, decoder, icc=icc, where=where), decoder
    if icc:
        from idx.io.color import ColorManagedPixels, srgb_profile

        pixels, ids["icc"], profile = ColorManagedPixels(pixels, profile, where=where), "true", srgb_profile()
    if mpp is not None:
        ids["mpp"] = str(scale[0]) if scale[0] == scale[1] else f"{scale[0]}, {scale[1]}"
    source = Source(str(file), opened.kind, opened.files, {"backend": opened.pixels.name, **ids})
    return Slide(pixels, scale, file.name, source, magnification=opened.magnification, icc_profile=profile)


def _device_decoded(pixels: PixelSource, decoder: str, *, icc: bool, where: str) -> PixelSource:
    """The same pixels from a source that also decodes on a device."""
    from idx.io.nvimagecodec import NvImageCodecPixels
    from idx.io.slides_dicom import DicomPixels
    from idx.io.slides_tiff import TiffPixels

    if decoder not in get_args(DeviceDecoder):
        raise FormatError(f"decoder must be one of {', '.join(get_args(DeviceDecoder))}; got {decoder!r} ({where}). Leave it out to decode on the CPU.")
    if icc:
        raise FormatError(f"colours must be as stored to be decoded on a device; got icc=True with decoder='{decoder}' ({where}). Leave one of them out.")
    if not isinstance(pixels, TiffPixels | DicomPixels):
        raise FormatError(
            f"tiles must be read through 'tifffile' or 'dicom' to be decoded on a device; got route '{pixels.name}' with decoder='{decoder}' ({where}). "
            "Leave decoder out."
        )
    return NvImageCodecPixels(pixels)


def _resolve_mpp(given: float | Pair | None, stated: Pair | None, *, where: str) -> Pair:
    """The caller's um per pixel if given, the file's otherwise."""
    if given is None:
        if stated is None:
            raise UnitError(f"mpp must be known to measure in um; got None ({where}). Pass open_slide(..., mpp=0.25).")
        return stated
    pair = mpp_pair(given, where=where)
    if stated and any(abs(a - b) > SAME_SCALE_RTOL * b for a, b in zip(pair, stated, strict=True)):
        warnings.warn(
            f"mpp={given} was passed and is used, but the file states {stated[0]:.5g} x {stated[1]:.5g} um per pixel ({where}). "
            "Leave mpp out to use the file's.",
            UserWarning,
            stacklevel=4,
        )
    return pair


def mpp_pair(mpp: float | Pair, *, where: str) -> Pair:
    """One or two numbers as um per pixel (x, y).

    Raises
    ------
    UnitError
        If they are not positive and finite.
    """
    values = np.asarray(mpp, dtype=np.float64)
    x, y = (float(value) for value in np.broadcast_to(values, 2)) if values.shape in ((), (2,)) else (np.nan, np.nan)
    if not (0 < x < np.inf and 0 < y < np.inf):
        raise UnitError(f"mpp must be positive um per pixel; got {mpp} ({where}). Pass mpp=0.25, or (x, y).")
    return x, y


def _choose(file: Path) -> str:
    """Route by what the file is, not by its extension."""
    if file.is_dir():
        return "dicom"
    with file.open("rb") as stream:
        start = stream.read(132)
    if start[128:132] == b"DICM":
        return "dicom"
    from idx.io.slides_flat import JPEG_SIGNATURE, PNG_SIGNATURE

    if start.startswith(PNG_SIGNATURE):
        return "flat"
    import openslide

    vendor = openslide.OpenSlide.detect_format(file)
    if start.startswith(JPEG_SIGNATURE) and vendor is None:
        return "flat"
    if start[:4] in _TIFF_SIGNATURES and vendor in _TIFF_VENDORS:
        from idx.io.slides_tiff import is_tiled

        return "tifffile" if is_tiled(file) else "flat"
    if vendor is None:
        raise FormatError(f"slide must be SVS, TIFF, DICOM, PNG, JPEG or a format of OpenSlide; got an unknown kind ({file}). Convert it to tiled TIFF.")
    return "openslide"


def _through_tifffile(file: Path) -> _Opened:
    from idx.io.slides_tiff import TiffPixels, read_index

    index = read_index(file)
    return _Opened(TiffPixels(index), index.kind, index.mpp, index.magnification, index.icc_profile)


def _through_openslide(file: Path) -> _Opened:
    from idx.io.slides_openslide import OpenSlidePixels

    pixels = OpenSlidePixels(file)
    kind = {"aperio": "svs", "generic-tiff": "tiff"}.get(pixels.vendor, pixels.vendor)
    return _Opened(pixels, kind, pixels.mpp, pixels.magnification, pixels.icc_profile)


def _through_dicom(path: Path, *, jpeg_colours: JpegColours = "stated") -> _Opened:
    from idx.io.slides_dicom import DicomPixels, files_of, read_index

    index = read_index(files_of(path), jpeg_colours=jpeg_colours)
    if index.levels[0].layout.doubt:
        warnings.warn(
            f"slide colours must be named alike by header and frames; got: {index.levels[0].layout.doubt} ({path}). "
            "If the background looks red, pass open_slide(..., jpeg_colours='marked').",
            UserWarning,
            stacklevel=3,
        )
    # A file stands for itself, so that its hash needs no folder; a folder lists the levels that were read.
    files = tuple(level.path.name for level in index.levels) if path.is_dir() else ()
    ids: tuple[tuple[str, str], ...] = (("series_uid", index.series_uid), ("level0_sop_uid", index.level0_sop_uid))
    if jpeg_colours != "stated":
        ids = (*ids, ("jpeg_colours", jpeg_colours))
    return _Opened(DicomPixels(index), "dicom-wsi", index.levels[0].mpp, index.magnification, index.icc_profile, files, ids)


def _through_flat(file: Path) -> _Opened:
    from idx.io.slides_flat import FlatPixels, read_header

    header = read_header(file)
    return _Opened(FlatPixels(file, header), header.kind, header.mpp, None, header.icc_profile)


_ROUTES: dict[str, Callable[[Path], _Opened]] = {
    "tifffile": _through_tifffile,
    "openslide": _through_openslide,
    "dicom": _through_dicom,
    "flat": _through_flat,
}
