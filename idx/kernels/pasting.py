"""Copies of many rectangles in one call: one release of the interpreter's lock for all of them."""

from __future__ import annotations

from idx._typing import IntArray, RGBArray
from idx.kernels.compiled import compiled


@compiled()
def paste_parts(batch: RGBArray, pixels: RGBArray, parts: IntArray) -> None:
    """Copy parts of one picture into pictures of a batch.

    Parameters
    ----------
    batch : uint8 array (n, y, x, 3)
    pixels : uint8 array (y, x, 3)
    parts : int64 array (m, 7)
        Picture of the batch, top and left in it, top and left in ``pixels``, height and width.
    """
    # numpy lets go of the lock for each copy; a thread that decodes then queues behind the one that computes, several times a tile.
    _, batch_height, batch_width, _ = batch.shape
    pixels_width = pixels.shape[1]
    targets, sources = batch.reshape(-1), pixels.reshape(-1)
    for k in range(len(parts)):
        number, to_y, to_x, y, x, height, width = parts[k]
        n_bytes = 3 * width
        for row in range(height):
            first, source_first = 3 * (batch_width * (batch_height * number + to_y + row) + to_x), 3 * (pixels_width * (y + row) + x)
            target, source = targets[first : first + n_bytes], sources[source_first : source_first + n_bytes]
            for i in range(len(target)):
                target[i] = source[i]
