"""The notebook widget: sends pictures on demand and answers where the other image's cursor is."""

from __future__ import annotations

import io
import pathlib
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image

from idx._repr import windowed
from idx._typing import Pair, RGBArray
from idx.case import Case
from idx.view.linking import Cursor, LinkedImages

WINDOWS_HU: dict[str, Pair] = {"lung": (-1350.0, 150.0), "soft": (-160.0, 240.0), "wide": (-1000.0, 400.0)}
"""Window presets (low, high) in HU: level -600 width 1500, level 40 width 400, and lung to bone in one."""
SLIDE_PX = 1024
"""Longer side of the slide's picture: sharp at the size of a notebook, a few hundred KB."""
_OUTLINE_RGB = (240, 228, 66)
_STATIC = pathlib.Path(__file__).parent / "static"


class LinkedWidget(anywidget.AnyWidget):
    """Two images and one cursor. Made by :func:`idx.view.linked`."""

    _esm = _STATIC / "linked.js"
    _css = _STATIC / "linked.css"

    ct = traitlets.Dict().tag(sync=True)
    """Shape and spacing of the displayed CT; empty without one."""
    slide = traitlets.Dict().tag(sync=True)
    """Name and size in um of the slide; empty without one."""
    slide_jpeg = traitlets.Bytes(b"").tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    """What the reader must know: whether the images are linked, and how well."""
    is_linked = traitlets.Bool(False).tag(sync=True)
    error_mm = traitlets.Float(None, allow_none=True).tag(sync=True)
    error_um = traitlets.Float(None, allow_none=True).tag(sync=True)
    window = traitlets.Unicode("wide").tag(sync=True)
    value = traitlets.Dict().tag(sync=True)
    """The cursor: slide_um, ct_mm, ct_pixel (column, row, slice), distance_mm."""

    def __init__(self, case: Case) -> None:
        self._images = LinkedImages.of(case)
        self._case_id = case.case_id
        link = self._images.link
        super().__init__(
            ct=self._ct_facts(),
            slide=self._slide_facts(),
            slide_jpeg=b"" if self._images.slide is None else _encoded(self._images.slide.thumbnail(SLIDE_PX), "JPEG"),
            message=self._message(),
            is_linked=link is not None,
            error_mm=None if link is None else link.error_mm,
            error_um=None if link is None or link.error_mm is None else link.error_mm / link.mm_per_um,
            value=self._images.start().as_message(),
        )
        self.on_msg(self._answer)

    def _ct_facts(self) -> dict[str, Any]:
        grid = self._images.grid
        if grid is None:
            return {}
        lesion = self._images.lesion
        slices = [] if lesion is None else np.flatnonzero(lesion.any(axis=(1, 2))).tolist()
        return {
            "shape": list(grid.shape),
            "spacing_mm": list(grid.spacing_mm),
            "z_mm": [grid.to_physical([z, 0, 0])[2] for z in range(grid.shape[0])],
            "lesion_slices": slices,
        }

    def _slide_facts(self) -> dict[str, Any]:
        slide = self._images.slide
        return {} if slide is None else {"name": slide.name, "size_um": list(slide.size_um), "mpp": list(slide.mpp)}

    def _message(self) -> str:
        link = self._images.link
        if self._images.values is None:
            return "This case has no CT."
        if self._images.slide is None:
            return "This case has no slide."
        if link is None:
            return "Not linked: this case has no registration, so a place on the slide has no known place in the CT."
        return "Linked, error unknown." if link.error_mm is None else f"Linked, expected error {link.error_mm:.2f} mm (circle)."

    def _answer(self, _: Any, content: dict[str, Any], __: list[bytes]) -> None:
        """Answer one message of the browser: move the cursor, or send a slice."""
        kind = content.get("kind")
        if kind == "slide":
            self.value = self._images.from_slide((content["um"][0], content["um"][1])).as_message()
        elif kind == "ct":
            column, row, z = content["pixel"]
            self.value = self._images.from_ct((column, row, z)).as_message()
        elif kind == "slice" and self._images.values is not None:
            z, window = int(content["z"]), str(content["window"])
            z = min(max(z, 0), self._images.values.shape[0] - 1)
            self.send({"kind": "slice", "z": z, "window": window}, buffers=[_encoded(self.slice_rgb(z, window), "PNG")])

    def slice_rgb(self, z: int, window: str = "wide") -> RGBArray:
        """Displayed CT slice as uint8 (y, x, 3) with the lesion's border drawn one voxel wide.

        Raises
        ------
        KeyError
            If the window is not one of ``WINDOWS_HU``.
        """
        values = self._images.values
        if values is None:
            raise KeyError(f"a CT must be there to show a slice; got none (case '{self._case_id}'). See value.")
        low, high = WINDOWS_HU[window]
        rgb = np.repeat(windowed(values[z], low, high)[..., None], 3, axis=-1)
        if self._images.lesion is not None:
            rgb[_border(self._images.lesion[z])] = _OUTLINE_RGB
        return rgb

    @property
    def cursor(self) -> Cursor:
        """The cursor as a value."""
        pair, point, pixel = (self.value.get(name) for name in ("slide_um", "ct_mm", "ct_pixel"))
        return Cursor(
            None if pair is None else (pair[0], pair[1]),
            None if point is None else (point[0], point[1], point[2]),
            None if pixel is None else (pixel[0], pixel[1], pixel[2]),
            self.value.get("distance_mm", 0.0),
        )

    def static_picture(self, height_px: int = 360) -> bytes:
        """PNG of both images as they open, for pages without widgets."""
        parts = []
        pixel = self.cursor.ct_pixel
        if self._images.grid is not None:
            z = int(np.clip(round(pixel[2] if pixel is not None else 0), 0, self._images.grid.shape[0] - 1))
            x_mm, y_mm, _ = self._images.grid.spacing_mm
            rgb = self.slice_rgb(z)
            parts.append(Image.fromarray(rgb).resize((round(height_px * rgb.shape[1] * x_mm / (rgb.shape[0] * y_mm)), height_px)))
        if self._images.slide is not None:
            thumbnail = Image.fromarray(self._images.slide.thumbnail(SLIDE_PX))
            parts.append(thumbnail.resize((round(height_px * thumbnail.width / thumbnail.height), height_px)))
        canvas = Image.new("RGB", (sum(p.width for p in parts) + 12 * (len(parts) - 1), height_px), "white")
        left = 0
        for part in parts:
            canvas.paste(part, (left, 0))
            left += part.width + 12
        return _encoded(np.asarray(canvas), "PNG")

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Add the static picture to what a notebook stores, for pages where no widget runs."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        formats, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**formats, "image/png": self.static_picture()}, metadata

    def __repr__(self) -> str:
        return f"LinkedWidget('{self._case_id}': {self.message})"


def _encoded(pixels: RGBArray, kind: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if kind == "JPEG":
        image.save(buffer, format="JPEG", quality=88)
    else:
        image.save(buffer, format="PNG")
    return buffer.getvalue()


def _border(region: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Pixels just outside a region (y, x): the lesion's own voxels stay visible."""
    from scipy.ndimage import binary_dilation

    return binary_dilation(region) & ~region
