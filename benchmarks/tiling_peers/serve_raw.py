"""Worker that only decodes: what no reader of these files can undercut."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import imagecodecs
import numpy as np
import tifffile
from delivering import Keep, Peer, discard, in_threads, memory_for_jpeg, serve
from lattice import Lattice

JPEG, RGB, YCBCR = 7, 2, 3


class Raw(Peer):
    """Decoding of the stored tiles that a lattice touches, each once, bytes in memory."""

    includes = (
        "imagecodecs decoding each stored tile that the request touches once, bytes in memory beforehand, into one array that is overwritten; "
        "JPEG with the file's tables, JPEG 2000 without the conversion from YCbCr"
    )

    def job(self, path: str, lattice: Lattice) -> Callable[[Keep], None]:
        """Read the bytes; prepare the decoding."""
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            width, height = page.tilewidth, page.tilelength
            across, down = ((n * lattice.size_px - 1) for n in (lattice.columns, lattice.rows))
            columns = range(lattice.x_px // width, (lattice.x_px + across) // width + 1)
            rows = range(lattice.y_px // height, (lattice.y_px + down) // height + 1)
            stored_columns = -(-page.imagewidth // width)
            numbers = [row * stored_columns + column for row in rows for column in columns]
            blocks = list(_read(tiff, [(page.dataoffsets[number], page.databytecounts[number]) for number in numbers]))
            tables, colorspace, is_jpeg = page.jpegtables, RGB if page.photometric == RGB else YCBCR, page.compression == JPEG

        def decode(some: Sequence[int]) -> None:
            out = memory_for_jpeg((height, width, 3))
            for number in some:
                if is_jpeg:
                    imagecodecs.jpeg8_decode(blocks[number], tables=tables, colorspace=colorspace, outcolorspace=RGB, out=out)
                else:
                    imagecodecs.jpeg2k_decode(blocks[number], numthreads=1, out=out)

        def call(keep: Keep) -> None:
            if keep is discard:
                in_threads(decode, range(len(blocks)))
                return
            if not is_jpeg:
                raise ValueError("only the components of JPEG 2000 are decoded, so there are no pixels to compare")
            canvas = np.empty((len(rows) * height, len(columns) * width, 3), dtype=np.uint8)
            for number, block in enumerate(blocks):
                y, x = number // len(columns) * height, number % len(columns) * width
                canvas[y : y + height, x : x + width] = imagecodecs.jpeg8_decode(block, tables=tables, colorspace=colorspace, outcolorspace=RGB)
            for number, (x, y) in enumerate(lattice.corners()):
                left, top = x - columns[0] * width, y - rows[0] * height
                keep(number, canvas[top : top + lattice.size_px, left : left + lattice.size_px])

        return call


def _read(tiff: tifffile.TiffFile, places: Sequence[tuple[int, int]]) -> Sequence[bytes]:
    for offset, count in places:
        tiff.filehandle.seek(offset)
        yield tiff.filehandle.read(count)


if __name__ == "__main__":
    serve(Raw())
