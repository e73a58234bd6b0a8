"""Small HTML cards that objects show in notebooks. Colours work on light and dark pages."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_STYLE = (
    "display:inline-flex;gap:14px;align-items:flex-start;border:1px solid rgba(128,128,128,.35);border-radius:8px;"
    "padding:10px 14px;font-family:system-ui,sans-serif;font-size:13px"
)


def png_data_uri(pixels: Array) -> str:
    """Encode uint8 pixels (y, x) or (y, x, 3) as a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def windowed(values: Array, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Map values linearly to uint8 so that ``low`` is black and ``high`` white; undefined values (NaN) are black."""
    scaled = (np.asarray(values, dtype=np.float64) - low) / (high - low) * 255.0
    return np.clip(np.round(np.nan_to_num(scaled, nan=0.0)), 0, 255).astype(np.uint8)


def square_pixels(pixels: Array, aspect: float) -> Array:
    """Repeat or drop rows so that one pixel is as high as it is wide; nearest is enough for a thumbnail."""
    rows = max(1, round(pixels.shape[0] * aspect))
    index = np.minimum((np.arange(rows) + 0.5) / aspect, pixels.shape[0] - 1).astype(np.int64)
    return pixels[index]


def card(title: str, rows: Iterable[tuple[str, object]], images: Iterable[tuple[str, Array]] = (), *, height_px: int = 140) -> str:
    """HTML card of a title, rows of (name, value) and captioned pictures.

    Parameters
    ----------
    images : iterable of (caption, uint8 pixels)
        Shown at ``height_px``; the caller keeps physical proportions.
    """
    cells = "".join(
        f'<tr><td style="opacity:.65;padding:1px 10px 1px 0;text-align:left">{html.escape(str(name))}</td>'
        f'<td style="padding:1px 0;text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in rows
    )
    pictures = "".join(
        f'<figure style="margin:0;text-align:center">'
        f'<img src="{png_data_uri(pixels)}" style="height:{height_px}px;image-rendering:auto" alt="{html.escape(caption)}">'
        f'<figcaption style="opacity:.65;font-size:11px">{html.escape(caption)}</figcaption></figure>'
        for caption, pixels in images
    )
    return f'<div style="{_STYLE}"><div><b>{html.escape(title)}</b><table style="border-collapse:collapse;margin-top:4px">{cells}</table></div>{pictures}</div>'
