"""Figures of the CT, alone and with the slide in it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from idx._typing import Array, Pair
from idx.geometry import Transform
from idx.slide import Contours, Slide
from idx.view.planes import (
    OUTSIDE_HU,
    SectionPicture,
    ViewPlane,
    anatomical_plane,
    lesion_window,
    region_around,
    sample,
    section_picture,
    section_trace,
)
from idx.view.plot_style import INK, LESION, SECTION, VERMILION, WIDE_WINDOW_HU, bare, edge_letters, halo, new_figure, outline, scale_bar
from idx.volume import Mask, Volume

_VIEWS: tuple[Literal["axial", "coronal", "sagittal"], ...] = ("axial", "coronal", "sagittal")
CHECKERS = 8
"""Fields along the longer side of a checkerboard."""


def ct_slices(
    ct: Volume,
    mask: Mask | None = None,
    section: Transform | None = None,
    *,
    slide: Slide | None = None,
    window_hu: Pair = WIDE_WINDOW_HU,
    margin_mm: float | None = None,
) -> Figure:
    """Axial, coronal and sagittal picture through the lesion, with its outline and the line where the slide lies.

    Parameters
    ----------
    ct : Volume
        CT in the patient frame.
    mask : Mask or None
        Lesion; without it the middle of the volume is shown.
    section : Transform or None
        Slide (um) to patient (mm); needs ``slide``.
    slide : Slide or None
        The slide that ``section`` places: its border bounds the line.
    window_hu : tuple of float
        Values shown black and white.
    margin_mm : float or None
        CT shown around the lesion; None takes the lesion's own size, 10 to 25 mm.

    Returns
    -------
    matplotlib.figure.Figure
        Radiological orientation; the letters at the edges are patient directions.
    """
    centre, side = lesion_window(ct, mask, margin_mm=margin_mm)
    figure, axes = new_figure((10.0, 3.95), (1, 1, 1))
    for view, ax in zip(_VIEWS, axes, strict=True):
        plane = anatomical_plane(view, centre, (side, side))
        _draw_plane(ax, ct, mask, plane, window_hu)
        if section is not None and slide is not None:
            for line in section_trace(section, slide, plane):
                ax.plot(line[:, 0], line[:, 1], color=SECTION, lw=1.8, path_effects=halo(3.0), solid_capstyle="round")
        axis, value = {"axial": ("z", centre[2]), "coronal": ("y", centre[1]), "sagittal": ("x", centre[0])}[view]
        bare(ax, view.capitalize(), f"{axis} = {value:.1f} mm")
        edge_letters(ax, plane.edges)
        scale_bar(ax, unit="mm")
    _legend(figure, lesion=mask is not None, section=section is not None and slide is not None)
    return figure


def _draw_plane(ax: Axes, ct: Volume, mask: Mask | None, plane: ViewPlane, window_hu: Pair) -> None:
    pitch = min(ct.spacing_mm)
    points = plane.points_mm(max(pitch, plane.size_mm[0] / 600))
    hu = sample(ct.values, ct.grid, points, outside=OUTSIDE_HU)
    ax.imshow(hu, cmap="gray", vmin=window_hu[0], vmax=window_hu[1], extent=plane.extent_mm, interpolation="bilinear")
    if mask is not None:
        outline(ax, sample(mask.values, mask.grid, points), plane.extent_mm)


def _legend(figure: Figure, *, lesion: bool, section: bool, error: bool = False) -> None:
    entries = [
        (lesion, Line2D([], [], color=LESION, lw=2, path_effects=halo(3.0)), "Lesion on CT"),
        (section, Line2D([], [], color=SECTION, lw=2, path_effects=halo(3.0)), "Plane of the slide"),
        (error, Line2D([], [], color=VERMILION, lw=2), "Expected error"),
    ]
    shown = [(handle, name) for wanted, handle, name in entries if wanted]
    if shown:
        handles, names = zip(*shown, strict=True)
        figure.legend(handles, names, loc="outside lower left", ncols=len(shown), frameon=False, fontsize=8, labelcolor=INK, handlelength=1.4)


def section_in_ct(
    ct: Volume, slide: Slide, transform: Transform, *, mask: Mask | None = None, tissue: Contours | None = None, window_hu: Pair = WIDE_WINDOW_HU
) -> Figure:
    """The slide, and beside it the CT resampled where the slide lies, pixel for pixel.

    Parameters
    ----------
    transform : Transform
        Slide (um) to patient (mm).
    mask : Mask or None
        Lesion whose outline is drawn on both.
    tissue : Contours or None
        Its bounds choose what is shown of the slide.

    Returns
    -------
    matplotlib.figure.Figure
        Each scale bar counts in its own picture: um on the slide, mm in the CT; tissue shrinks.
    """
    picture = section_picture(ct, slide, transform, mask=mask, region_um=region_around(slide, tissue, margin=0.12))
    figure, (left, right) = _two_panels(picture)
    left.imshow(picture.rgb, extent=picture.extent_mm, interpolation="bilinear")
    right.imshow(picture.hu, cmap="gray", vmin=window_hu[0], vmax=window_hu[1], extent=picture.extent_mm, interpolation="bilinear")
    if picture.lesion is not None:
        for ax in (left, right):
            outline(ax, picture.lesion, picture.extent_mm)
    bare(left, "Slide", slide.name)
    bare(right, "CT on the slide's plane", f"1 mm of slide = {picture.mm_per_um * 1000:.2f} mm of CT")
    scale_bar(left, unit="um", units_per_data=1.0 / picture.mm_per_um)
    scale_bar(right, unit="mm")
    _legend(figure, lesion=picture.lesion is not None, section=False)
    return figure


def overlay(
    ct: Volume,
    slide: Slide,
    transform: Transform,
    *,
    mask: Mask | None = None,
    tissue: Contours | None = None,
    error_mm: float | None = None,
    opacity: float = 0.55,
    window_hu: Pair = WIDE_WINDOW_HU,
) -> Figure:
    """The slide laid over the CT in its plane: blended, and as a checkerboard.

    Parameters
    ----------
    error_mm : float or None
        Expected error of a mapped point; drawn as a circle of this radius, to scale.
    opacity : float
        Of the tissue in the blend; glass stays clear.
    """
    picture = section_picture(ct, slide, transform, mask=mask, region_um=region_around(slide, tissue, margin=0.12))
    figure, (left, right) = _two_panels(picture)
    for ax, alpha in ((left, opacity * tissue_alpha(picture.rgb)), (right, _checkers(picture.rgb.shape[:2]) * tissue_alpha(picture.rgb))):
        ax.imshow(picture.hu, cmap="gray", vmin=window_hu[0], vmax=window_hu[1], extent=picture.extent_mm, interpolation="bilinear")
        rgba = np.dstack([picture.rgb / 255.0, alpha])
        ax.imshow(rgba, extent=picture.extent_mm, interpolation="bilinear" if ax is left else "nearest")
        if picture.lesion is not None:
            outline(ax, picture.lesion, picture.extent_mm)
        if error_mm is not None:
            _error_circle(ax, picture, error_mm)
        scale_bar(ax, unit="mm")
    bare(left, "Slide over CT", "error unknown" if error_mm is None else f"expected error {error_mm:.2f} mm")
    bare(right, "Checkerboard", "slide and CT in turn")
    _legend(figure, lesion=picture.lesion is not None, section=False, error=error_mm is not None)
    return figure


def _two_panels(picture: SectionPicture) -> tuple[Figure, tuple[Axes, Axes]]:
    rows, columns = picture.hu.shape
    height = min(7.0, max(2.6, 4.95 * rows / columns + 0.55))
    figure, (left, right) = new_figure((10.0, height), (1, 1))
    return figure, (left, right)


def _error_circle(ax: Axes, picture: SectionPicture, radius_mm: float) -> None:
    """Circle of the expected error around the lesion's middle, or the picture's."""
    left, right, bottom, top = picture.extent_mm
    x, y = 0.0, 0.0
    if picture.lesion is not None and picture.lesion.max() > 0.5:
        row, column = np.argwhere(picture.lesion > 0.5).mean(axis=0)
        rows, columns = picture.lesion.shape
        x, y = left + (column + 0.5) / columns * (right - left), top + (row + 0.5) / rows * (bottom - top)
    ax.add_patch(Circle((x, y), radius_mm, fill=False, edgecolor=VERMILION, lw=1.8, path_effects=halo(3.0), zorder=7))
    ax.plot([x], [y], marker="+", color=VERMILION, ms=6, mew=1.5, zorder=7)


def tissue_alpha(rgb: Array) -> Array:
    """Opacity 0 to 1 by how far each pixel (y, x, 3) is from white glass; full from a tenth of the range on."""
    distance = 255.0 - rgb.min(axis=-1).astype(np.float64)
    result: Array = np.clip((distance - 8.0) / 25.0, 0.0, 1.0)
    return result


def _checkers(shape: tuple[int, int]) -> Array:
    side = max(1, max(shape) // CHECKERS)
    rows, columns = np.indices(shape) // side
    result: Array = ((rows + columns) % 2 == 0).astype(np.float64)
    return result
