"""Figures as data URIs."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEBP_QUALITY = 88
"""A figure of a slide is 150 to 300 KB at this quality and shows no artefact at the printed size; as PNG it takes 1.5 MB."""
PICTURE_DPI = 170


def photo_uri(figure: Figure) -> str:
    """Figure with photographs in it, as WebP."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=PICTURE_DPI)
    webp = io.BytesIO()
    Image.open(buffer).convert("RGB").save(webp, format="WEBP", quality=WEBP_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(webp.getvalue()).decode("ascii")


def drawing_uri(figure: Figure) -> str:
    """Figure of lines and text, as SVG without the metadata that would date it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode("utf-8")).decode("ascii")
