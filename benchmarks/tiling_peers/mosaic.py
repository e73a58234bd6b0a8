"""Slides that the benchmark makes: mosaics of tissue in stored tiles as scanners write them, small ones and very large ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

TILE_PX = 256
MPP = 0.499
"""Asked for 0.5, this must be read as it is."""
FACTORS = (4, 16, 64)
"""Level-0 pixels per pixel of the lower levels, where they are at least one stored tile large."""
BACKGROUND_VALUE = 243
PALEST_TISSUE = 215
"""A pixel whose darkest channel is brighter is background."""
CORNER_STEP_PX = 8
JPEG_QUALITY = 80
JPEG2000_PSNR_DB = {"rgb": 30, "ycbcr": 36}
"""About as many bytes per tile as the JPEG's."""
DESCRIPTION = "Aperio Image Library v12.0.15\n{width}x{height} [0,0 {width}x{height}] ({tile}x{tile}) {codec}|AppMag = 20|MPP = {mpp}"
"""As Aperio writes it: it is the one tiled TIFF whose um per pixel every peer understands."""

RGBArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Codec:
    """How stored tiles are coded.

    Parameters
    ----------
    name : str
    compression : int
        TIFF tag 259.
    photometric : str
        As tifffile calls it.
    description : str
        As Aperio's files call it.
    encode : callable
        From pixels (y, x, 3) to a stream, complete by itself.
    """

    name: str
    compression: int
    photometric: str
    description: str
    encode: Callable[[RGBArray], bytes]


def _ycbcr(rgb: RGBArray) -> RGBArray:
    """The JFIF formula, rounded."""
    red, green, blue = (rgb[..., k].astype(np.float64) for k in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    parts = np.stack([luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402], axis=-1)
    return np.clip(np.rint(parts), 0, 255).astype(np.uint8)


def _jpeg2000(components: RGBArray, colours: str) -> bytes:
    # As Aperio codes them: RGB through JPEG 2000's own colour transform, YCbCr without it.
    return bytes(imagecodecs.jpeg2k_encode(components, level=JPEG2000_PSNR_DB[colours], codecformat="j2k", reversible=False, mct=colours == "rgb"))


CODECS = {
    codec.name: codec
    for codec in (
        Codec(
            "jpeg",
            7,
            "ycbcr",
            f"JPEG/YCC Q={JPEG_QUALITY}",
            lambda rgb: bytes(imagecodecs.jpeg8_encode(rgb, level=JPEG_QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="420")),
        ),
        Codec("jpeg2000_rgb", 33005, "rgb", "J2K/RGB", lambda rgb: _jpeg2000(rgb, "rgb")),
        Codec("jpeg2000_ycbcr", 33003, "rgb", "J2K/YCC", lambda rgb: _jpeg2000(_ycbcr(rgb), "ycbcr")),
    )
}


def abbreviated(stream: bytes) -> tuple[bytes, bytes]:
    r"""Split a JPEG stream into its tables and an abbreviated stream that needs them, without the JFIF marker, as libtiff stores tiles.

    Examples
    --------
    >>> tables, rest = abbreviated(CODECS["jpeg"].encode(np.zeros((16, 16, 3), np.uint8)))
    >>> b"JFIF" in rest, tables[:2], rest[-2:]
    (False, b'\xff\xd8', b'\xff\xd9')
    """
    start_of_image, end_of_image, start_of_scan = b"\xff\xd8", b"\xff\xd9", 0xDA
    tables, rest, position = [start_of_image], [start_of_image], 2
    while stream[position + 1] != start_of_scan:
        end = position + 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        kind, segment = stream[position + 1], stream[position:end]
        if kind in (0xDB, 0xC4):  # quantisation and Huffman tables
            tables.append(segment)
        elif kind != 0xE0:  # JFIF
            rest.append(segment)
        position = end
    return b"".join([*tables, end_of_image]), b"".join([*rest, stream[position:]])


@dataclass(frozen=True, eq=False)
class TileLibrary:
    """Distinct tiles, encoded once, from which slides of any size are put together.

    Parameters
    ----------
    codec : Codec
    streams : tuple of bytes
        One per tile; the first is background.
    tables : bytes or None
        JPEG tables that the streams need.
    reduced : dict
        By factor, the tiles averaged down, uint8 (n, 256 / factor, 256 / factor, 3).
    """

    codec: Codec
    streams: tuple[bytes, ...]
    tables: bytes | None
    reduced: dict[int, RGBArray]

    def stream(self, pixels: RGBArray) -> bytes:
        """Encode further pixels so that they fit into the same file."""
        return _encode(self.codec, pixels)[1]


def _encode(codec: Codec, pixels: RGBArray) -> tuple[bytes | None, bytes]:
    stream = codec.encode(np.ascontiguousarray(pixels))
    return abbreviated(stream) if codec.name == "jpeg" else (None, stream)


def window_corners(texture: RGBArray, *, tissue_share: float) -> npt.NDArray[np.int64]:
    """Corners (n, 2) (y, x) of the windows of one tile, on a lattice of ``CORNER_STEP_PX``, of which tissue fills at least a share.

    Raises
    ------
    ValueError
        If there is none.
    """
    is_tissue = texture.min(axis=2) < PALEST_TISSUE
    sums = np.pad(is_tissue.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    filled = sums[TILE_PX:, TILE_PX:] - sums[:-TILE_PX, TILE_PX:] - sums[TILE_PX:, :-TILE_PX] + sums[:-TILE_PX, :-TILE_PX]
    corners = np.argwhere(filled[::CORNER_STEP_PX, ::CORNER_STEP_PX] >= tissue_share * TILE_PX**2) * CORNER_STEP_PX
    if len(corners) == 0:
        raise ValueError(f"texture must hold {TILE_PX} px windows of tissue share {tissue_share}; got none in {texture.shape[1]} x {texture.shape[0]} px")
    return corners


def cut_tiles(texture: RGBArray, n_tiles: int, rng: np.random.Generator, *, tissue_share: float) -> Iterator[RGBArray]:
    """Yield tiles cut from a picture at varied places, turned, mirrored, darkened or brightened."""
    for y, x in rng.choice(window_corners(texture, tissue_share=tissue_share), n_tiles):
        tile = np.rot90(texture[y : y + TILE_PX, x : x + TILE_PX], int(rng.integers(4)))
        tile = tile[:, ::-1] if rng.integers(2) else tile
        yield np.clip(tile * rng.uniform(0.8, 1.05), 0, 255).astype(np.uint8)


def make_library(texture: RGBArray, codec: Codec, *, n_tiles: int, tissue_share: float = 0.0, seed: int = 0) -> TileLibrary:
    """Cut and encode tiles; tile 0 is plain background, 1 to ``n_tiles`` come from the picture.

    Parameters
    ----------
    texture : uint8 array (y, x, 3)
        At least one tile large.
    codec : Codec
    n_tiles : int
    tissue_share : float
        Least share of each tile that tissue fills.
    seed : int
    """
    background = np.full((TILE_PX, TILE_PX, 3), BACKGROUND_VALUE, dtype=np.uint8)
    streams, tables = [], None
    reduced: dict[int, list[RGBArray]] = {factor: [] for factor in FACTORS}
    for tile in (background, *cut_tiles(texture, n_tiles, np.random.default_rng(seed), tissue_share=tissue_share)):
        tables, stream = _encode(codec, tile)
        streams.append(stream)
        for factor, tiles in reduced.items():
            tiles.append(averaged(tile, factor))
    return TileLibrary(codec, tuple(streams), tables, {factor: np.stack(tiles) for factor, tiles in reduced.items()})


def averaged(pixels: RGBArray, factor: int) -> RGBArray:
    """Mean of factor x factor pixels."""
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    return np.rint(pixels.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))).astype(np.uint8)


def write_mosaic(path: Path, library: TileLibrary, index: npt.NDArray[np.integer], *, size_px: tuple[int, int] | None = None, mpp: float = MPP) -> None:
    """Write a pyramidal tiled TIFF of library tiles.

    Parameters
    ----------
    path : Path
        A name that ends in ``.svs``.
    library : TileLibrary
    index : int array (rows, columns)
        Which tile of the library lies where at level 0.
    size_px : (width, height), optional
        Where the border tiles are cut; by default all of them count.
    mpp : float
        um per level-0 pixel.
    """
    rows, columns = index.shape
    width, height = size_px or (columns * TILE_PX, rows * TILE_PX)
    codec = library.codec
    description = DESCRIPTION.format(width=width, height=height, tile=TILE_PX, codec=codec.description, mpp=mpp)
    expected_bytes = sum(len(library.streams[number]) for number in np.unique(index)) / len(np.unique(index)) * index.size
    with tifffile.TiffWriter(path, bigtiff=expected_bytes * 1.5 > 2**32) as tiff:
        for factor in (1, *FACTORS):
            if min(width, height) // factor < TILE_PX:
                break
            tiff.write(
                (library.streams[number] for number in index.flat) if factor == 1 else _reduced_streams(library, index, factor),
                shape=(height // factor, width // factor, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric=codec.photometric,
                compression=codec.compression,
                jpegtables=library.tables,
                subsampling=(2, 2) if codec.photometric == "ycbcr" else None,
                subfiletype=int(factor > 1),
                description=description,
                metadata=None,
                software=False,
                resolution=(1e4 / (mpp * factor),) * 2,
                resolutionunit="CENTIMETER",
            )


def _reduced_streams(library: TileLibrary, index: npt.NDArray[np.integer], factor: int) -> Iterator[bytes]:
    """Encode a lower level, tile by tile, of averaged library tiles."""
    rows, columns = (-(-length // factor) for length in index.shape)
    padded = np.zeros((rows * factor, columns * factor), dtype=index.dtype)
    padded[: index.shape[0], : index.shape[1]] = index
    for row in range(rows):
        for column in range(columns):
            numbers = padded[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            tiles = library.reduced[factor][numbers]
            yield library.stream(tiles.transpose(0, 2, 1, 3, 4).reshape(TILE_PX, TILE_PX, 3))


def full_index(library: TileLibrary, *, rows: int, columns: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """No plain background, in an order that repeats as late as it can."""
    n = len(library.streams) - 1
    rng = np.random.default_rng(seed)
    rounds = [rng.permutation(n) + 1 for _ in range(-(-rows * columns // n))]
    return np.concatenate(rounds)[: rows * columns].reshape(rows, columns)
