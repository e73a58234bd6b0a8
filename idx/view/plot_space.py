"""The lesion's surface and the slide's plane in three dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from idx._typing import Array, FloatArray
from idx.geometry import Transform
from idx.slide import Contours, Slide
from idx.view.planes import best_section, region_around, slide_pixels
from idx.view.plot_ct import tissue_alpha
from idx.view.plot_style import INK, MUTED, ORANGE, StillFigure, nice_length, style
from idx.volume import Mask

PLANE_CELLS = 140
"""Cells along the longer side of the slide's plane."""
MAX_VOXELS_ACROSS = 48
"""The surface is meshed from a mask thinned to this size: a sketch needs no more, and mplot3d draws every triangle."""


def section_in_space(mask: Mask, slide: Slide, transform: Transform, *, tissue: Contours | None = None) -> Figure:
    """The lesion's surface with the slide standing in it, seen obliquely from the front.

    Parameters
    ----------
    mask : Mask
        Lesion in the patient frame.
    transform : Transform
        Slide (um) to patient (mm).

    Notes
    -----
    matplotlib has no depth buffer. The plane parts space in two, so the half of the surface behind it is drawn first,
    then the slide, then the half in front: the order is exact for a flat section and very nearly so for a warped one.
    """
    section, _ = best_section(transform, slide)
    camera = _camera(section.normal)
    triangles, shades = _surface(mask, camera)
    side = np.sign(section.normal @ camera)
    front = ((triangles.mean(axis=1) - section.origin_mm) @ section.normal) * side > 0
    with style():
        figure = StillFigure(figsize=(5.2, 4.9), dpi=150, facecolor="white")
        ax: Any = figure.add_axes((0.0, 0.0, 1.0, 0.93), projection="3d", computed_zorder=False)
        figure.text(0.03, 0.955, "Lesion and slide in the patient", fontsize=9.5, fontweight="bold")
    for half, order, opacity in ((~front, 1, 1.0), (front, 3, 0.22)):
        if half.any():
            ax.add_collection3d(
                Poly3DCollection(triangles[half], facecolors=_with_alpha(shades[half], opacity), edgecolors="none", antialiased=False, zorder=order)
            )
    quads, colours = _plane(slide, transform, region_around(slide, tissue))
    ax.add_collection3d(Poly3DCollection(quads, facecolors=colours, edgecolors="none", antialiased=False, zorder=2))
    _frame(ax, np.concatenate([triangles.reshape(-1, 3), quads.reshape(-1, 3)]), camera)
    return figure


def _camera(normal: FloatArray) -> FloatArray:
    """Unit vector towards the viewer: 40 degrees off the section's normal, so that the slide is seen and so is its plane."""
    facing = normal if normal[1] <= 0 else -normal
    up = np.array([0.0, 0.0, 1.0]) if abs(facing[2]) < 0.9 else np.array([0.0, -1.0, 0.0])
    sideways = np.cross(up, facing)
    sideways /= np.linalg.norm(sideways)
    camera: FloatArray = np.cos(np.radians(40)) * facing + np.sin(np.radians(40)) * (0.85 * sideways + 0.53 * up)
    return camera / np.linalg.norm(camera)


def _surface(mask: Mask, light: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Triangles (n, 3, 3) in mm of the mask's 0.5 surface and their brightness (n,)."""
    from skimage.measure import marching_cubes

    box = mask.bounding_box(pad=1)
    crop = mask.values[box].astype(np.float32)
    step = max(1, -(-max(crop.shape) // MAX_VOXELS_ACROSS))
    vertices, faces, _, _ = marching_cubes(np.pad(crop, 1), 0.5, step_size=step)
    points = mask.grid.to_physical(vertices - 1.0 + [s.start for s in box])
    triangles = points[faces]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    # Lit from both sides: the cut opens the surface and shows its inside.
    return triangles, 0.5 + 0.5 * np.abs(normals @ light)


def _with_alpha(shades: FloatArray, opacity: float) -> FloatArray:
    base = np.array([int(ORANGE[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return np.column_stack([shades[:, None] * base, np.full(len(shades), opacity)])


def _plane(slide: Slide, transform: Transform, region_um: tuple[float, float, float, float]) -> tuple[FloatArray, Array]:
    """Quadrilaterals (n, 4, 3) in mm of the slide and their colours (n, 4)."""
    x0, y0, x1, y1 = region_um
    pitch = max(x1 - x0, y1 - y0) / PLANE_CELLS
    columns, rows = max(2, round((x1 - x0) / pitch)), max(2, round((y1 - y0) / pitch))
    corners_um = np.stack(np.meshgrid(x0 + pitch * np.arange(columns + 1), y0 + pitch * np.arange(rows + 1)), axis=-1)
    corners = transform.apply(corners_um)[..., :3]
    rgb = slide_pixels(slide, corners_um[:-1, :-1] + pitch / 2)
    quads = np.stack([corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]], axis=2).reshape(-1, 4, 3)
    alpha = np.maximum(0.16, tissue_alpha(rgb))
    return quads, np.dstack([rgb / 255.0, alpha]).reshape(-1, 4)


def _frame(ax: Any, points: FloatArray, camera: FloatArray) -> None:
    """Equal mm on all axes, the camera, and three arrows of a stated length towards the patient's left, posterior and head."""
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    for axis, centre in zip("xyz", middle, strict=True):
        getattr(ax, f"set_{axis}lim")(centre - half, centre + half)
    ax.set_box_aspect((1, 1, 1), zoom=1.3)
    elevation, azimuth = np.degrees(np.arcsin(camera[2])), np.degrees(np.arctan2(camera[1], camera[0]))
    ax.view_init(elev=elevation, azim=azimuth)
    ax.set_axis_off()
    length = nice_length(2 * half)
    # The triad stands in the picture's lower left, in the plane through the middle that faces the viewer.
    right, up = _screen_axes(camera)
    corner = middle - 0.95 * half * right - 0.85 * half * up
    for letter, direction in zip("LPH", np.eye(3), strict=True):
        tip, place = corner + length * direction, corner + 1.35 * length * direction
        ax.plot(*np.stack([corner, tip]).T, color=INK, lw=1.4, zorder=5, solid_capstyle="round")
        ax.text(*place, letter, fontsize=8.5, color=INK, ha="center", va="center", zorder=5)
    ax.text2D(0.98, 0.02, f"arms of the cross: {length:g} mm", transform=ax.transAxes, fontsize=7.5, color=MUTED, ha="right")


def _screen_axes(camera: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Unit vectors to the right and up of the picture; mplot3d keeps z upright."""
    right = np.cross([0.0, 0.0, 1.0], camera)
    right /= np.linalg.norm(right)
    return right, np.cross(camera, right)
