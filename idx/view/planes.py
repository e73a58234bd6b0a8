"""Flat pictures of volumes: anatomical planes, the plane of a section, and where one crosses the other.

Pure functions on arrays and transforms; nothing here draws.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from idx._typing import Array, FloatArray, Pair
from idx.errors import GeometryError
from idx.geometry import SectionTransform, Transform
from idx.geometry.grids import Grid
from idx.slide import Contours, Slide
from idx.volume import Mask, Volume

OUTSIDE_HU = -1000.0
"""Value of a CT beyond its border: air."""
TRACE_NODES = 96
"""Nodes per axis at which a section is probed for its crossing with a plane: 0.2 mm on a section of 20 mm."""

_VIEWS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], tuple[str, str, str, str]]] = {
    "axial": ((1, 0, 0), (0, 1, 0), ("R", "L", "A", "P")),
    "coronal": ((1, 0, 0), (0, 0, -1), ("R", "L", "H", "F")),
    "sagittal": ((0, 1, 0), (0, 0, -1), ("A", "P", "H", "F")),
}


@dataclass(frozen=True, eq=False)
class ViewPlane:
    """A rectangle in the patient frame that is looked at.

    Parameters
    ----------
    name : str
        Such as "axial".
    centre_mm : array (3,)
        Middle of the rectangle (x, y, z) in mm.
    right, down : array (3,)
        Unit vectors along the picture's axes.
    size_mm : tuple of float
        Width and height.
    edges : tuple of str
        Anatomical letters at the left, right, upper and lower edge.
    """

    name: str
    centre_mm: FloatArray
    right: FloatArray
    down: FloatArray
    size_mm: Pair
    edges: tuple[str, str, str, str]

    @property
    def normal(self) -> FloatArray:
        """Unit normal (3,), right x down."""
        result: FloatArray = np.cross(self.right, self.down)
        return result

    @property
    def extent_mm(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top for ``imshow``, in mm from the centre."""
        width, height = self.size_mm
        return -width / 2, width / 2, height / 2, -height / 2

    def points_mm(self, pitch_mm: float) -> FloatArray:
        """Pixel centres (rows, columns, 3) in mm, about ``pitch_mm`` apart."""
        columns, rows = (max(2, round(s / pitch_mm)) for s in self.size_mm)
        across = ((np.arange(columns) + 0.5) / columns - 0.5) * self.size_mm[0]
        along = ((np.arange(rows) + 0.5) / rows - 0.5) * self.size_mm[1]
        result: FloatArray = self.centre_mm + across[None, :, None] * self.right + along[:, None, None] * self.down
        return result

    def project(self, points_mm: Array) -> FloatArray:
        """Map points (..., 3) in mm to (..., 3): mm right of the centre, mm below it, mm along the normal."""
        basis = np.stack([self.right, self.down, self.normal], axis=-1)
        result: FloatArray = (np.asarray(points_mm, dtype=np.float64) - self.centre_mm) @ basis
        return result


def anatomical_plane(view: Literal["axial", "coronal", "sagittal"], centre_mm: Array, size_mm: Pair) -> ViewPlane:
    """Return a plane in radiological orientation: the patient's left is on the right of axial and coronal pictures.

    Examples
    --------
    >>> plane = anatomical_plane("coronal", np.zeros(3), (40.0, 40.0))
    >>> plane.project([3.0, 0.0, 5.0]).tolist()
    [3.0, -5.0, 0.0]
    """
    right, down, edges = _VIEWS[view]
    return ViewPlane(view, np.asarray(centre_mm, dtype=np.float64), np.array(right, dtype=np.float64), np.array(down, dtype=np.float64), size_mm, edges)


def sample(values: Array, grid: Grid, points_mm: Array, *, outside: float = 0.0) -> FloatArray:
    """Values at points (..., 3) in mm by trilinear interpolation, float64 (...).

    Parameters
    ----------
    values : array (z, y, x)
        bool and integer values are interpolated as numbers, so a mask has its border at 0.5.
    outside : float
        Result beyond the grid.
    """
    points = np.asarray(points_mm, dtype=np.float64)
    index = grid.to_index(points.reshape(-1, 3)).T
    low = np.clip(np.floor(index.min(axis=1)).astype(int) - 1, 0, np.array(grid.shape) - 1)
    high = np.clip(np.ceil(index.max(axis=1)).astype(int) + 2, low + 1, grid.shape)
    # Only the block that is hit is converted: a chest CT as float64 would take a gigabyte.
    block = np.asarray(values[low[0] : high[0], low[1] : high[1], low[2] : high[2]], dtype=np.float64)
    flat: FloatArray = ndimage.map_coordinates(block, index - low[:, None], order=1, mode="nearest", output=np.float64)
    size = np.array(grid.shape)[:, None]
    flat[((index < -0.5) | (index > size - 0.5)).any(axis=0)] = outside
    return flat.reshape(points.shape[:-1])


def lesion_window(volume: Volume, mask: Mask | None, *, margin_mm: float | None = None) -> tuple[FloatArray, float]:
    """Centre (3,) and side in mm of the cube that a figure shows: the lesion with a margin, or the whole volume.

    Without a stated margin it is the lesion's own size, 10 mm at least and 25 mm at most; the cube is never larger than the volume.
    """
    whole = _corners(volume.grid, (slice(0, n) for n in volume.grid.shape))
    largest = float((whole.max(axis=0) - whole.min(axis=0)).max())
    if mask is None or not mask.n_voxels:
        return np.asarray(volume.grid.centre_mm), largest
    points = _corners(mask.grid, mask.bounding_box())
    extent = float((points.max(axis=0) - points.min(axis=0)).max())
    margin = min(25.0, max(10.0, extent)) if margin_mm is None else margin_mm
    return (points.max(axis=0) + points.min(axis=0)) / 2, min(extent + 2 * margin, largest)


def _corners(grid: Grid, box: Iterable[slice]) -> FloatArray:
    """Centres (8, 3) in mm of the corner voxels of a box of slices (z, y, x)."""
    ends = [(float(s.start), float(s.stop - 1)) for s in box]
    return grid.to_physical(np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3))


def section_trace(transform: Transform, slide: Slide, plane: ViewPlane) -> list[FloatArray]:
    """Where a slide crosses a plane: polylines (n, 2) in the plane's mm, right and down of its centre.

    Works for warped sections too: the distance from the plane is probed on a grid of the slide and its zero line is followed.
    """
    from skimage.measure import find_contours

    nodes = slide_nodes(slide, TRACE_NODES)
    projected = plane.project(transform.apply(nodes))
    lines = []
    for path in find_contours(projected[..., 2], 0.0):
        columns = [ndimage.map_coordinates(projected[..., k], path.T, order=1) for k in (0, 1)]
        lines.append(np.stack(columns, axis=-1))
    return lines


def slide_nodes(slide: Slide, n: int) -> FloatArray:
    """Regular points (n, n, 2) in um from the first to the last level-0 pixel centre of a slide."""
    width, height = (np.array(slide.size_px) - 1) * slide.mpp
    result: FloatArray = np.stack(np.meshgrid(np.linspace(0, width, n), np.linspace(0, height, n)), axis=-1)
    return result


def best_section(transform: Transform, slide: Slide) -> tuple[SectionTransform, float]:
    """Plane that fits a placed slide best, and the root-mean-square distance in mm between both.

    A section is returned as it is (distance 0); a warped one is fitted by least squares over the slide.
    """
    if isinstance(transform, SectionTransform):
        return transform, 0.0
    points_um = slide_nodes(slide, 25).reshape(-1, 2)
    points_mm = transform.apply(points_um)[:, :3]
    design = np.column_stack([points_um, np.ones(len(points_um))])
    solution = np.asarray(np.linalg.lstsq(design, points_mm, rcond=None)[0], dtype=np.float64)
    residual = float(np.sqrt(((design @ solution - points_mm) ** 2).sum(axis=1).mean()))
    return SectionTransform(solution[:2].T, solution[2], transform.source, transform.target), residual


def mm_per_um(transform: Transform, slide: Slide) -> float:
    """Length in the CT of one um on the slide, in mm: geometric mean over both axes of the fitted plane.

    0.001 for a slide that kept its size; more for tissue that shrank during processing.
    """
    section, _ = best_section(transform, slide)
    gram = section.axes.T @ section.axes
    return float(np.linalg.det(gram) ** 0.25)


@dataclass(frozen=True, eq=False)
class SectionPicture:
    """A slide and the CT where the slide lies, on one pixel grid.

    Parameters
    ----------
    hu : array (y, x)
        CT on the section.
    lesion : array (y, x) or None
        Lesion mask on the section, 0 to 1, border at 0.5.
    rgb : array (y, x, 3)
        The slide, uint8; white beyond its border.
    origin_um : tuple of float
        Slide position (x, y) of the first pixel centre.
    pitch_um : float
        Distance of pixel centres on the slide.
    mm_per_um : float
        Mean scale from slide to CT.
    points_mm : array (y, x, 3)
        Patient position of each pixel.
    """

    hu: FloatArray
    lesion: FloatArray | None
    rgb: Array
    origin_um: Pair
    pitch_um: float
    mm_per_um: float
    points_mm: FloatArray

    @property
    def extent_mm(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top for ``imshow`` in mm of the CT, zero at the picture's middle."""
        rows, columns = self.hu.shape
        half_width, half_height = columns * self.pitch_mm / 2, rows * self.pitch_mm / 2
        return -half_width, half_width, half_height, -half_height

    @property
    def pitch_mm(self) -> float:
        """Distance of pixel centres in the CT, mm."""
        return self.pitch_um * self.mm_per_um

    def to_picture(self, points_um: Array) -> FloatArray:
        """Map slide points (..., 2) in um to the picture's mm (right, down of its middle)."""
        rows, columns = self.hu.shape
        pixel = (np.asarray(points_um, dtype=np.float64) - self.origin_um) / self.pitch_um
        result: FloatArray = (pixel + 0.5) * self.pitch_mm - np.array([columns, rows]) * self.pitch_mm / 2
        return result


def section_picture(
    ct: Volume, slide: Slide, transform: Transform, *, mask: Mask | None = None, region_um: tuple[float, float, float, float] | None = None, max_px: int = 900
) -> SectionPicture:
    """Sample CT, lesion and slide on one grid in the slide's own orientation.

    Parameters
    ----------
    transform : Transform
        Slide (um) to patient (mm).
    region_um : tuple of float or None
        x0, y0, x1, y1 on the slide; the whole slide when None.
    max_px : int
        Longer side of the picture.

    Raises
    ------
    GeometryError
        If the transform does not lead from this slide to the CT's frame.
    """
    if transform.source != slide.frame or transform.target != ct.grid.frame:
        raise GeometryError(
            f"transform must map the slide's frame to the CT's; got {transform.source} -> {transform.target} for slide {slide.frame} and CT {ct.grid.frame} "
            f"(slide '{slide.name}'). Use case.between(slide.frame, ct.grid.frame)."
        )
    x0, y0, x1, y1 = region_um or (0.0, 0.0, *slide.size_um)
    pitch = max(x1 - x0, y1 - y0) / max_px
    columns, rows = max(2, round((x1 - x0) / pitch)), max(2, round((y1 - y0) / pitch))
    origin = (x0 + pitch / 2, y0 + pitch / 2)
    points_um = np.stack(np.meshgrid(origin[0] + pitch * np.arange(columns), origin[1] + pitch * np.arange(rows)), axis=-1)
    points_mm = transform.apply(points_um)[..., :3]
    return SectionPicture(
        hu=sample(ct.values, ct.grid, points_mm, outside=OUTSIDE_HU),
        lesion=None if mask is None else sample(mask.values, mask.grid, points_mm),
        rgb=slide_pixels(slide, points_um),
        origin_um=origin,
        pitch_um=pitch,
        mm_per_um=mm_per_um(transform, slide),
        points_mm=points_mm,
    )


def slide_pixels(slide: Slide, points_um: Array) -> Array:
    """Nearest pixels of a slide at a regular grid of points (y, x, 2) in um, uint8 (y, x, 3), read from the level that fits; white beyond the border."""
    pitch_um = float(points_um[0, 1, 0] - points_um[0, 0, 0])
    level = slide.level_for(pitch_um)
    position = np.round(slide.to_px(points_um, level=level)).astype(np.int64)
    stored = slide.levels[level]
    low = np.maximum(position.min(axis=(0, 1)), 0)
    high = np.minimum(position.max(axis=(0, 1)) + 1, [stored.width_px, stored.height_px])
    result = np.full((*points_um.shape[:2], 3), 255, dtype=np.uint8)
    if (high <= low).any():
        return result
    block = slide.read_region(int(low[0]), int(low[1]), width_px=int(high[0] - low[0]), height_px=int(high[1] - low[1]), level=level)
    # A coarse picture of a slide with few levels is averaged, never picked: single pixels of a nucleus would sparkle.
    step = max(1, int(pitch_um / (slide.levels[level].downsample * max(slide.mpp))))
    if step > 1:
        block = ndimage.uniform_filter(block, size=(step, step, 1), mode="nearest")
    inside = ((position >= low) & (position < high)).all(axis=-1)
    chosen = position[inside] - low
    result[inside] = block[chosen[:, 1], chosen[:, 0]]
    return result


def region_around(slide: Slide, tissue: Contours | None, *, margin: float = 0.06) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 in um of what a figure shows of a slide: its tissue with a margin, or all of it."""
    width, height = slide.size_um
    if tissue is None or not len(tissue):
        return 0.0, 0.0, width, height
    x0, y0, x1, y1 = tissue.bounds_um
    pad = margin * max(x1 - x0, y1 - y0)
    return max(0.0, x0 - pad), max(0.0, y0 - pad), min(width, x1 + pad), min(height, y1 + pad)


def canonical(values: Array, grid: Grid) -> tuple[Array, Grid]:
    """View of an array whose axes (z, y, x) run as near as possible to head, posterior and left, with its grid.

    Axes are permuted and reversed, never resampled; the affine follows, so every voxel keeps its position.
    """
    cosines = np.abs(grid.direction)
    order = [int(np.argmax(cosines[k])) for k in range(3)]
    if sorted(order) != [0, 1, 2]:
        # Two axes claim one direction (a grid turned by exactly 45 degrees): keep the stored order.
        order = [0, 1, 2]
    affine = np.array(grid.affine)
    affine[:3, :3] = affine[:3, :3][:, order]
    view = np.transpose(values, [2 - k for k in order][::-1])
    for axis in range(3):
        if affine[axis, axis] < 0:
            count = view.shape[2 - axis]
            affine[:3, 3] += affine[:3, axis] * (count - 1)
            affine[:3, axis] *= -1
            view = np.flip(view, 2 - axis)
    return view, Grid(view.shape, affine, grid.frame)
