"""A case in napari: CT, masks, slide and outlines, each where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from idx._optional import require
from idx._typing import Array, FloatArray
from idx.case import Case
from idx.errors import FormatError
from idx.geometry import SectionTransform
from idx.slide import Contours, Slide
from idx.view.affines import napari_affine, napari_section_affine, napari_slide_affine
from idx.view.linking import Link, find_link
from idx.view.planes import ViewPlane, best_section, section_trace
from idx.volume import Volume

if TYPE_CHECKING:
    from napari import Viewer

OVERVIEW_PX = 1024
"""Longer side of the coarsest level: napari shows this one in three dimensions, where textures are limited to 2048."""
CT_LIMITS_HU = (-1000.0, 400.0)
GAP_MM = 10.0
"""Distance between a CT and a slide that is not placed in it."""


@dataclass(frozen=True, eq=False)
class LevelPixels:
    """One level of a slide as napari reads it: an array (1, y, x, 3) or (y, x, 3) that is decoded where it is sliced.

    Parameters
    ----------
    slide : Slide
    level : int
    shape : tuple of int
    """

    slide: Slide
    level: int
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always uint8."""
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        """Number of axes, colours included."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> Array:
        """Decode the wanted rows and columns."""
        keys = key if isinstance(key, tuple) else (key,)
        keys = (*keys, *[slice(None)] * (self.ndim - len(keys)))
        leading, (rows, columns), colours = keys[: self.ndim - 3], keys[-3:-1], keys[-1]
        y, x = _range(rows, self.shape[-3]), _range(columns, self.shape[-2])
        pixels = self.slide.read_region(x.start, y.start, width_px=max(1, len(x)), height_px=max(1, len(y)), level=self.level)
        pixels = pixels[: len(y), : len(x)]
        picked = pixels[..., colours] if not isinstance(rows, int | np.integer) else pixels[0][..., colours]
        if isinstance(columns, int | np.integer):
            picked = picked[..., 0, :] if picked.ndim == 3 else picked[0]
        for index in leading:
            picked = picked if isinstance(index, int | np.integer) else picked[None][index]
        return picked

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Decode all of it."""
        return np.asarray(self[tuple(slice(None) for _ in self.shape)], dtype=dtype)


def _range(key: Any, size: int) -> range:
    if isinstance(key, slice):
        return range(*slice(key.start, key.stop).indices(size))
    index = int(key) % size
    return range(index, index + 1)


def napari(case: Case) -> Viewer:
    """Open a case in napari.

    World axes are (z, y, x) of the patient frame in mm (LPS, reversed to array order); layers carry affines, nothing is resampled.
    A placed slide is an oblique plane: it is shown in three dimensions, where napari opens. In two dimensions napari cannot cut an
    oblique layer truthfully, so there the slide is hidden and the line where it crosses each CT slice is shown instead.

    Parameters
    ----------
    case : Case
        A slide without a transform to the CT is laid beside it, and the viewer says so.

    Returns
    -------
    napari.Viewer
        Already shown; in a script call ``napari.run()`` next.

    Raises
    ------
    FormatError
        If the case has neither a CT nor a slide.
    MissingDependency
        If the extra "napari" is not installed.

    Notes
    -----
    napari draws a coarser level shifted by up to half of one of its pixels; measure on the slide itself, not on the screen.
    A warped section is shown on its best plane; the layer's metadata give the root-mean-square distance between both.
    """
    package = require("napari", extra="napari", purpose="the napari viewer")
    if case.ct is None and case.slide is None:
        raise FormatError(f"a case must hold a CT or a slide to be viewed; got neither (case '{case.case_id}'). Add one with case.with_(volumes={{'ct': ct}}).")
    viewer = package.Viewer(title=f"idx – {case.case_id}")
    add_case(viewer, case)
    return viewer


def add_case(viewer: Any, case: Case) -> None:
    """Add a case's layers to a viewer or to a ``ViewerModel``, which needs no screen."""
    for name, volume in case.volumes.items():
        limits = CT_LIMITS_HU if volume.quantity == "hu" else volume._display_window()
        affine = napari_affine(volume.grid)
        facts = {"quantity": volume.quantity}
        viewer.add_image(volume.values, name=name, affine=affine, colormap="gray", contrast_limits=limits, rendering="attenuated_mip", metadata=facts)
    for name, mask in case.masks.items():
        viewer.add_labels(mask.values.astype(np.uint8), name=name, affine=napari_affine(mask.grid), opacity=0.45)
    link = find_link(case)
    if link is not None:
        _add_placed(viewer, case, link)
    elif case.slide is not None:
        _add_alone(viewer, case, case.slide)
    if case.ct is not None:
        viewer.dims.axis_labels = ("z", "y", "x")
    viewer.reset_view()


def _levels(slide: Slide, *, leading: tuple[int, ...]) -> list[Any]:
    """Stored levels, and one more where the coarsest is too large for a texture."""
    arrays: list[Any] = [LevelPixels(slide, i, (*leading, level.height_px, level.width_px, 3)) for i, level in enumerate(slide.levels)]
    if max(slide.levels[-1].width_px, slide.levels[-1].height_px) > 2 * OVERVIEW_PX:
        overview = slide.thumbnail(OVERVIEW_PX)
        arrays.append(overview.reshape(*leading, *overview.shape))
    return arrays


def _add_placed(viewer: Any, case: Case, link: Link) -> None:
    section, residual_mm = best_section(link.transform, link.slide)
    error = "error unknown" if link.error_mm is None else f"error {link.error_mm:.2f} mm"
    facts = {"error_mm": link.error_mm, "off_plane_rms_mm": residual_mm}
    scale, affine = _scale_and_rest(link, section)
    levels = _levels(link.slide, leading=(1,))
    shown = viewer.add_image(levels, name=f"{link.slide.name} ({error})", scale=scale, affine=affine, rgb=True, multiscale=True, metadata=facts)
    trace = _add_trace(viewer, link)
    for name, contours in case.contours.items():
        if contours.frame == link.slide.frame and len(contours):
            _add_points_or_paths(viewer, name, contours, lambda um: link.transform.apply(um)[..., 2::-1])

    def show_where_true(_: object = None) -> None:
        shown.visible = viewer.dims.ndisplay == 3
        if trace is not None:
            trace.visible = not shown.visible

    viewer.dims.events.ndisplay.connect(show_where_true)
    viewer.dims.ndisplay = 3
    show_where_true()


def _scale_and_rest(link: Link, section: SectionTransform) -> tuple[FloatArray, FloatArray]:
    """Pixel size (3,) in mm and what is left of the slide's affine (4, 4).

    napari moves a coarse level by half a pixel of its ``scale`` and forgets ``affine``: with the size in ``affine`` alone, the slide
    would stand mm away from its place. And it renders a slide as a slab: one pixel thin, or an oblique view smears it.
    """
    pitch_mm = link.mm_per_um * link.slide.mpp[0]
    thickness_mm = pitch_mm * link.slide.levels[-1].downsample
    full = napari_section_affine(link.slide, section, thickness_mm=thickness_mm)
    scale = np.linalg.norm(full[:3, :3], axis=0)
    return scale, full @ np.diag([*(1.0 / scale), 1.0])


def _add_trace(viewer: Any, link: Link) -> Any:
    """Line of the slide on every CT slice, in the CT's own index so that each belongs to one slice."""
    paths = section_lines(link)
    if not paths:
        return None
    return viewer.add_shapes(paths, shape_type="path", name="plane of the slide", affine=napari_affine(link.ct.grid), edge_color="#56b4e9", edge_width=0.6)


def section_lines(link: Link) -> list[FloatArray]:
    """Paths (n, 3) in CT index (z, y, x), z whole, where the slide crosses each CT slice."""
    grid = link.ct.grid
    right, down = grid.direction[:, 0], grid.direction[:, 1]
    lines: list[FloatArray] = []
    for z in range(grid.shape[0]):
        origin = grid.to_physical([z, 0, 0])
        plane = ViewPlane("slice", origin, right, down, (1.0, 1.0), ("", "", "", ""))
        for trace in section_trace(link.transform, link.slide, plane):
            # Points of the plane, then of the array; sheared grids too, since the index is looked up.
            points = grid.to_index(origin + trace[:, :1] * right + trace[:, 1:2] * down)
            if len(points) > 1:
                lines.append(np.column_stack([np.full(len(points), float(z)), points[:, 1:]]))
    return lines


def _add_alone(viewer: Any, case: Case, slide: Slide) -> None:
    """Show a slide in two dimensions, right of the CT where there is one; they share no coordinates."""
    offset = np.zeros(2) if case.ct is None else _beside(case.ct)
    affine = napari_slide_affine(slide)
    scale, translate = np.diag(affine)[:2], affine[:2, 2] + offset
    name = slide.name if case.ct is None else f"{slide.name} (not registered)"
    viewer.add_image(_levels(slide, leading=()), name=name, scale=scale, translate=translate, rgb=True, multiscale=True)
    for label, contours in case.contours.items():
        if contours.frame == slide.frame and len(contours):
            _add_points_or_paths(viewer, label, contours, lambda um: um[..., ::-1] * 1e-3 + offset)
    if case.ct is not None:
        viewer.title = f"{viewer.title}: CT and slide are not registered, side by side without shared coordinates"


def _beside(ct: Volume) -> FloatArray:
    """World position (y, x) right of the CT's box."""
    index = np.stack(np.meshgrid(*[(0, n - 1) for n in ct.grid.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    corners = ct.grid.to_physical(index)
    return np.array([corners[:, 1].min(), corners[:, 0].max() + GAP_MM])


def _add_points_or_paths(viewer: Any, name: str, contours: Contours, to_world: Any) -> None:
    """Nuclei as points (a hundred thousand outlines are too many for napari's shapes), few large outlines as paths."""
    if name == "nuclei" or len(contours) > 500:
        sizes = 2.0 * np.sqrt(np.maximum(contours.areas_um2, 1e-6) / np.pi) * 1e-3
        viewer.add_points(
            to_world(contours.centroids_um),
            name=name,
            size=sizes,
            face_color="transparent",
            border_color="#d55e00",
            border_width=0.15,
            visible=False,  # they would cover the slide; one click shows them
            features={"label": list(contours.labels)},
        )
        return
    rings = [np.vstack([ring, ring[:1]]) for index in range(len(contours)) for ring in contours.rings(index)]
    viewer.add_shapes([to_world(ring) for ring in rings], shape_type="path", name=name, edge_color="#0072b2", edge_width=0.15)
