"""Stored tiles decoded on a GPU by nvImageCodec, behind the interface of every other source: for slides whose tiles are JPEG or JPEG 2000.

nvImageCodec takes whole streams and no word of their colours, while slides hold abbreviated ones whose colours only the container knows. Therefore:

1. a JPEG stream gets the tables of its level, and an APP14 marker that declares YCbCr in place of whatever it declared itself;
2. colours are chosen by what is asked for: RGB of a YCbCr level (the decoder converts), YCbCr of an RGB level (the decoder leaves the components as
   they are). A marker that declares RGB would not do: nvImageCodec's parser takes three components for YCbCr whatever the marker says, and the
   decoders behind it need not agree with it;
3. one tile of each level is decoded on the CPU as well, and the level is refused where both pictures differ by more than decoders do.

No GPU was at hand when this was written: it was run with nvImageCodec's CPU decoders, and never measured or compared on a GPU. Decoders of JPEG may
differ by a few grey levels (inverse DCT, interpolation of chroma), so pixels to the last bit are promised for ``read_tiles_into`` only.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from idx._optional import require
from idx._typing import RGBArray
from idx.errors import FormatError, MissingDependency
from idx.io.jpeg import APP14, FRAME_HEADERS, RGB, START_OF_IMAGE, JpegTiles, check_ended, segments
from idx.io.jpeg2000 import Jpeg2000Tiles
from idx.io.slides_tiles import WHITE, checked_batch
from idx.io.stored_tiles import StoredTiles, paste
from idx.settings import current_settings, resolve_device
from idx.slide import Level, PixelSource, TileRect

if TYPE_CHECKING:
    import torch

SAME_PICTURE_LEVELS = 5.0
"""Mean grey levels by which two decoders' pictures of a tile may differ: interpolation of chroma makes one or two, a wrong colour space tens."""

_ADOBE_YCBCR = b"\xff\xee\x00\x0eAdobe" + bytes((0, 100, 0, 0, 0, 0, 1))

_Key = tuple[int, int]
"""Level, number of the stored tile."""


class StoredPixels(PixelSource, Protocol):
    """A source that holds its tiles as stored streams: that of TIFF and that of DICOM slides."""

    stored: StoredTiles


class NvImageCodecPixels:
    """Pixels of another source whose stored tiles nvImageCodec decodes where a function wants them; safe to use from several threads.

    Parameters
    ----------
    pixels : StoredPixels
        The source; what is read to the CPU comes from it unchanged.

    Raises
    ------
    MissingDependency
        If nvImageCodec is not installed.
    FormatError
        If a level is stored in a way that it does not decode: neither JPEG of three components nor JPEG 2000 in RGB.
    """

    def __init__(self, pixels: StoredPixels) -> None:
        self._codec: Any = require("nvidia.nvimgcodec", extra="nvimagecodec", purpose="decoding tiles on a GPU")
        self._pixels = pixels
        self.stored = pixels.stored
        for level, decoder in enumerate(self.stored.decoders):
            if not isinstance(decoder, JpegTiles | Jpeg2000Tiles):
                raise self._unsupported(level, "another compression")
            if isinstance(decoder, Jpeg2000Tiles) and decoder.is_ycbcr:
                raise self._unsupported(level, "YCbCr in JPEG 2000")
        self._lock = threading.Lock()
        self._decoders: dict[int, Any] = {}
        self._compared: set[tuple[int, str]] = set()

    @property
    def name(self) -> str:
        """Route of the pixels underneath, and who decodes on a device."""
        return f"{self._pixels.name}+nvimagecodec"

    @property
    def levels(self) -> tuple[Level, ...]:
        """Stored levels, finest first."""
        return self._pixels.levels

    def read_tiles_into(self, batch: RGBArray, tiles: Sequence[TileRect]) -> None:
        """Fill ``batch`` (n, height, width, 3) uint8 on the CPU, to the last bit as the source does by itself."""
        self._pixels.read_tiles_into(batch, tiles)

    def close(self) -> None:
        """Release the file and the decoders."""
        with self._lock:
            self._decoders.clear()
        self._pixels.close()

    def read_tiles_on_device(self, tiles: Sequence[TileRect], device: str | torch.device | None = None) -> torch.Tensor:
        """Tiles of one size, decoded on the device: each stored tile once, all of a level in one call.

        Parameters
        ----------
        tiles : sequence of TileRect
            At least one.
        device : str, torch.device or None
            A CUDA device, or the CPU, where nvImageCodec decodes as well; None means the setting.

        Returns
        -------
        tensor (n, height, width, 3), uint8
            On the device and complete, whatever stream it is used on; white beyond the border and where nothing is stored. It may differ from
            ``read_tiles_into`` by a few grey levels.

        Raises
        ------
        MissingDependency
            If the device is absent, or not one that nvImageCodec serves.
        PixelAccessError
            If a stored tile is damaged; the message gives its level, number and file.
        FormatError
            If a level holds RGB JPEG with subsampled channels, looks different on the device, or holds a tile that only the CPU decodes: nothing is
            decoded there in silence.
        GeometryError
            If the tiles have several sizes.
        """
        import torch

        target = resolve_device(device)
        if target.type not in ("cuda", "cpu"):
            raise MissingDependency(f"nvImageCodec must have a CUDA device, or the CPU; got '{target}' ({self._place}). Open the slide without decoder=.")
        shape = (len(tiles), tiles[0].height_px, tiles[0].width_px, 3)
        checked_batch(np.broadcast_to(np.uint8(WHITE), shape), tiles, self.levels, where=self._place)
        wanted = self.stored.wanted(tiles)
        # Tiles of which nothing is stored stay white.
        blocks = {key: block for key in wanted if (block := self.stored.fetch(*key)) is not None}
        batch = torch.full(shape, WHITE, dtype=torch.uint8, device=target)
        for (level, number), pixels in self._decode(blocks, target).items():
            for request in wanted[level, number]:
                paste(batch[request], tiles[request], pixels, number, self.stored.layouts[level])
        if target.type == "cuda":
            torch.cuda.current_stream(target).synchronize()
        return batch

    def _decode(self, blocks: dict[_Key, bytes], device: torch.device) -> dict[_Key, torch.Tensor]:
        """Pixels (y, x, 3) on a device of the bytes of stored tiles."""
        pixels: dict[_Key, torch.Tensor] = {}
        for level in sorted({level for level, _ in blocks}):
            keys = [key for key in blocks if key[0] == level]
            images = self._images(level, [self._stream(key, blocks[key], device) for key in keys], device)
            of_level = {key: self._tensor(key, image, blocks[key], device) for key, image in zip(keys, images, strict=True)}
            if (level, str(device)) not in self._compared:
                # The longest stream has the most to show: a blank tile looks much the same in any colours.
                longest = max(keys, key=lambda key: len(blocks[key]))
                self._compare(longest, of_level[longest], blocks[longest], device)
                self._compared.add((level, str(device)))
            pixels |= of_level
        return pixels

    def _stream(self, key: _Key, block: bytes, device: torch.device) -> Any:
        """Whole stream of a stored tile, as nvImageCodec takes it."""
        decoder = self.stored.decoders[key[0]]
        try:
            if not isinstance(decoder, JpegTiles):
                return self._codec.CodeStream(block)
            check_ended(block)
            if decoder.colorspace == RGB and has_subsampled_channels(block):
                raise self._unsupported(key[0], "RGB in JPEG with subsampled channels")
            return self._codec.CodeStream(whole_jpeg(block, decoder.tables))
        except FormatError:
            raise
        except (ValueError, RuntimeError) as error:
            raise self._undecoded(key, block, device, str(error)) from error

    def _images(self, level: int, streams: list[Any], device: torch.device) -> list[Any]:
        """Decode streams of one level in one call; None stands for those that failed."""
        import torch

        decoder = self.stored.decoders[level]
        leaves_colours = isinstance(decoder, JpegTiles) and decoder.colorspace == RGB
        colours = self._codec.ColorSpec.SYCC if leaves_colours else self._codec.ColorSpec.SRGB
        params = self._codec.DecodeParams(apply_exif_orientation=False, color_spec=colours)
        on_stream = {"cuda_stream": torch.cuda.current_stream(device).cuda_stream} if device.type == "cuda" else {}
        with self._lock:
            images: list[Any] = self._decoder_of(device).decode(streams, params=params, **on_stream)
        return images

    def _decoder_of(self, device: torch.device) -> Any:
        """Decoder of a device, made once; it never falls back from a GPU to the CPU."""
        import torch

        codec, kind = self._codec, self._codec.BackendKind
        if device.type == "cpu":
            device_id, kinds = codec.NVIMGCODEC_DEVICE_CPU_ONLY, [kind.CPU_ONLY]
        else:
            device_id = torch.cuda.current_device() if device.index is None else device.index
            kinds = [kind.HW_GPU_ONLY, kind.GPU_ONLY, kind.HYBRID_CPU_GPU]
        if device_id not in self._decoders:
            self._decoders[device_id] = codec.Decoder(
                device_id=device_id,
                max_num_cpu_threads=current_settings().workers,
                backends=[codec.Backend(one) for one in kinds],
                options=":fancy_upsampling=1",  # chroma is interpolated as libjpeg does by default
            )
        return self._decoders[device_id]

    def _tensor(self, key: _Key, image: Any, block: bytes, device: torch.device) -> torch.Tensor:
        """Pixels of a decoded image as a tensor (y, x, 3) in the decoder's memory."""
        import torch

        if image is None:
            raise self._undecoded(key, block, device, "nothing from nvImageCodec")
        pixels = torch.from_dlpack(image) if device.type == "cuda" else torch.from_numpy(np.asarray(image))
        width, height = self.stored.layouts[key[0]].size_within(key[1])
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] < height or pixels.shape[1] < width or pixels.shape[2] != 3:
            raise self._undecoded(key, block, device, f"{pixels.dtype} {tuple(pixels.shape)} from nvImageCodec")
        return pixels

    def _compare(self, key: _Key, pixels: torch.Tensor, block: bytes, device: torch.device) -> None:
        """Refuse a level whose tile looks different on the CPU."""
        expected = self.stored.decode(*key, block).astype(np.float64)
        got = pixels.cpu().numpy()
        difference = float(np.abs(expected - got).mean()) if got.shape == expected.shape else np.inf
        if difference > SAME_PICTURE_LEVELS:
            raise FormatError(
                f"tiles must look the same from nvImageCodec on '{device}' and on the CPU; got a mean difference of {difference:.1f} grey levels "
                f"(level {key[0]}, tile {key[1]}, {self.stored.files[key[0]].path}). Open the slide without decoder=."
            )

    def _undecoded(self, key: _Key, block: bytes, device: torch.device, why: str) -> FormatError:
        """Error of a tile that only the device does not decode; a damaged one raises what it raises on the CPU."""
        self.stored.decode(*key, block)
        return FormatError(
            f"stored tile must decode on '{device}'; got: {why}, while imagecodecs decodes it (level {key[0]}, tile {key[1]}, "
            f"{self.stored.files[key[0]].path}). Check that nvImageCodec finds nvJPEG and nvJPEG2000, or open the slide without decoder=."
        )

    def _unsupported(self, level: int, coding: str) -> FormatError:
        return FormatError(
            f"tiles must be JPEG, or JPEG 2000 in RGB, to be decoded by nvImageCodec; got {coding} (level {level}, {self.stored.files[level].path}). "
            "Open the slide without decoder=."
        )

    @property
    def _place(self) -> str:
        return str(self.stored.files[0].path)


def whole_jpeg(block: bytes, tables: bytes | None = None) -> bytes:
    """Join a JPEG stream with its tables and declare its three components YCbCr, whatever they are.

    Parameters
    ----------
    block : bytes
        The stream, whole or without its tables.
    tables : bytes or None
        Tables as TIFF keeps them: a stream of its own, from start to end of image.

    Raises
    ------
    ValueError
        If the header of either is damaged.
    """
    parts = [START_OF_IMAGE, _ADOBE_YCBCR]
    for stream in (tables, block):
        if stream is not None:
            parts.extend(stream[start:stop] for code, start, stop in segments(stream) if code != APP14)
    return b"".join(parts)


def has_subsampled_channels(block: bytes) -> bool:
    """Whether the channels of a JPEG stream are stored at several resolutions.

    Raises
    ------
    ValueError
        If its header is damaged.
    """
    for code, start, stop in segments(block):
        if code in FRAME_HEADERS:
            # marker, length, depth, height, width, number of channels; then (id, sampling, table) of each
            return len(set(block[start + 11 : stop : 3])) > 1
    raise ValueError("JPEG stream without a frame header")
