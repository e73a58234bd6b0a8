"""The steps of a perturbation: the grid that is measured on, the part of it that matters, sampling, noise, and an outline of another size."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pywt
from scipy.ndimage import distance_transform_edt, map_coordinates

from idx._typing import Array, BoolArray, FloatArray, Triple
from idx.errors import GeometryError, UnitError
from idx.geometry.grids import Grid, array_order
from idx.kernels.resample import SPLINE_MARGIN, centred_positions
from idx.radiomics.local_intensity import PEAK_RADIUS_MM
from idx.radiomics.preparation import spacing_of
from idx.radiomics.settings import RadiomicsSettings
from idx.volume import Mask, Volume

UNBOUNDED_FILTER_MM = 50.0
"""Image around the lesion that filters see which are defined on the whole image: the whole of a thorax would be turned for one lesion."""
NOISE_MARGIN_VOXELS = 16
"""Voxels around the lesion from which its image's noise is estimated."""
MAD_TO_SD = 0.6744897501960817
"""Median of the absolute values of a standard normal variable."""
TIE_VOXELS = 1e-9
"""A sample this near to the middle between two voxels is at the middle: positions carry the rounding of two affine maps."""
DISTANCE_DIGITS = 9
"""Distances in mm are compared to this many digits: equal ones must tie on every machine."""


def noise_level(image: Volume, lesion: Mask) -> float:
    """Standard deviation of the noise around a lesion, in the image's unit.

    Parameters
    ----------
    image : Volume
    lesion : Mask
        On the image's grid; the box around it, 16 voxels wider on each side, is looked at.

    Raises
    ------
    UnitError
        If no coefficient is finite.

    Notes
    -----
    Median absolute diagonal coefficient of a one-level wavelet transform (coif1) of the slices, divided by 0.6745 (Chang, Yu and Vetterli, IEEE Trans
    Image Process 2000;9:1532-1546, as Zwanenburg et al. 2019 use it). It sees the finest scale: where a reconstruction kernel has
    smoothed the noise, the standard deviation of a voxel is larger.
    """
    box = lesion.bounding_box(pad=NOISE_MARGIN_VOXELS)
    _, (_, _, diagonal) = pywt.dwt2(np.asarray(image.values[box], dtype=np.float64), "coif1", axes=(1, 2))
    # The outermost coefficients see the image mirrored at its border, which cancels noise.
    diagonal = diagonal[:, 2:-3, 2:-3]
    finite = diagonal[np.isfinite(diagonal)]
    if not finite.size:
        raise UnitError(
            f"slices around the lesion must be finite and at least 8 voxels wide to estimate their noise; got none (label '{lesion.label}'). Pass noise_sd."
        )
    return float(np.median(np.abs(finite)) / MAD_TO_SD)


def resized(inside: BoolArray, spacing_mm: Triple, n_voxels: int, *, within: BoolArray | None = None) -> BoolArray:
    """A region grown or shrunk to an exact number of voxels.

    Parameters
    ----------
    inside : array (z, y, x)
    spacing_mm : tuple
        Voxel spacing (x, y, z) in mm.
    n_voxels : int
        How many voxels the result has.
    within : array (z, y, x) or None
        Where it may grow; None means anywhere in the array.

    Returns
    -------
    array (z, y, x)
        Voxels are added by their distance in mm to the region, so that they join it, or taken away by their depth in it; the border of the
        array is a surface. At equal distance those nearest to the centroid are kept, then the first in array order.

    Raises
    ------
    GeometryError
        If no voxel would remain or there is no room to grow.
    """
    n_now = int(np.count_nonzero(inside))
    free = ~inside if within is None else within & ~inside
    if not 1 <= n_voxels <= n_now + np.count_nonzero(free):
        raise GeometryError(
            f"a resized lesion must have 1 to {n_now + np.count_nonzero(free)} voxels, as many as the image has room for; got {n_voxels} for a lesion of "
            f"{n_now}. Pass a growth_fraction nearer to 0."
        )
    mm = spacing_mm[::-1]
    changed = free if n_voxels > n_now else inside
    depth = distance_transform_edt(np.pad(~inside if n_voxels > n_now else inside, 1, constant_values=n_voxels > n_now), sampling=mm)[1:-1, 1:-1, 1:-1]
    centroid = np.argwhere(inside).mean(axis=0)
    index = np.argwhere(changed)
    from_centre = np.linalg.norm((index - centroid) * mm, axis=1)
    # Near voxels join first; shallow voxels that lie far out leave first.
    sign = 1 if n_voxels > n_now else -1
    order = np.lexsort((np.round(sign * from_centre, DISTANCE_DIGITS), np.round(depth[changed], DISTANCE_DIGITS)))
    result = inside.copy()
    result[tuple(index[order[: abs(n_voxels - n_now)]].T)] = n_voxels > n_now
    return result


def measured_grid(image: Volume, settings: RadiomicsSettings) -> Grid:
    """The grid that settings measure an image on: its own, or one of another spacing that has the image's middle (IBSI grid alignment)."""
    if settings.spacing_mm is None:
        return image.grid
    grid, spacing = image.grid, spacing_of(image, settings)
    axes = [centred_positions(n, old, new) for n, old, new in zip(grid.shape, grid.spacing_mm[::-1], spacing[::-1], strict=True)]
    affine = np.eye(4)
    affine[:3, :3] = grid.direction * np.asarray(spacing)
    affine[:3, 3] = grid.to_physical([axis[0] for axis in axes])
    return Grid((len(axes[0]), len(axes[1]), len(axes[2])), affine, grid.frame)


def crop_box(lesion: Mask, grid: Grid, settings: RadiomicsSettings, *, growth_fraction: float = 0.0) -> tuple[slice, slice, slice]:
    """Indices (z, y, x) of a grid that hold a lesion, what it grows by, and everything its features look at; they may lie beyond the grid's ends."""
    spacing = np.asarray(grid.spacing_mm)
    growth = np.ceil(_growth_reach_mm(lesion.volume_mm3, growth_fraction, spacing.max()) / spacing)
    looks = [np.ceil(PEAK_RADIUS_MM / spacing)]
    for image_filter in settings.filters:
        if image_filter is not None:
            margin = image_filter.margin_voxels(grid.spacing_mm)
            looks.append(np.ceil(UNBOUNDED_FILTER_MM / spacing) if margin is None else np.asarray(margin))
    beyond = np.asarray(array_order(np.max(looks, axis=0) + growth), dtype=np.int64)
    # Interpolated, a voxel reaches as far as its neighbours' centres.
    ends = itertools.product(*((s.start - 1, s.stop) for s in lesion.bounding_box()))
    corners = grid.to_index(lesion.grid.to_physical(list(ends)))
    low, high = np.floor(corners.min(axis=0)).astype(int) - beyond, np.ceil(corners.max(axis=0)).astype(int) + beyond + 1
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x


def _growth_reach_mm(volume_mm3: float, growth_fraction: float, voxel_mm: float) -> float:
    """How far a growing lesion can reach.

    A ball needs the most distance for a volume (Brunn and Minkowski); in a corner of the image, where an eighth of the directions is left, twice as much.
    """
    if growth_fraction <= 0:
        return 0.0
    radius = (3.0 * volume_mm3 / (4.0 * math.pi)) ** (1.0 / 3.0)
    return float(2.0 * (((1.0 + growth_fraction) ** (1.0 / 3.0) - 1.0) * radius + voxel_mm))


def positions_in(source: Grid, grid: Grid, box: tuple[slice, slice, slice]) -> FloatArray:
    """Fractional indices (3, z, y, x) in a source grid of a box of another grid."""
    matrix = np.linalg.inv(source.affine) @ grid.affine
    steps, offset = np.asarray(array_order(array_order(matrix[:3, :3]).T)).T, np.asarray(array_order(matrix[:3, 3]))
    positions = np.empty((3, *(s.stop - s.start for s in box)))
    positions[:] = offset.reshape(3, 1, 1, 1)
    for axis, span in enumerate(box):
        along = np.arange(span.start, span.stop).reshape([-1 if a == axis else 1 for a in range(3)])
        positions += steps[:, axis].reshape(3, 1, 1, 1) * along
    return positions


def sampled(values: Array, positions: FloatArray, *, order: int, noise_sd: float = 0.0, rng: np.random.Generator | None = None) -> FloatArray:
    """Sample an array, to which noise is added before, at fractional indices.

    Parameters
    ----------
    values : array (z, y, x)
    positions : array (3, z', y', x')
        Beyond the border the outermost values go on.
    order : int
        0 takes the nearest voxel (of two, the later one), 1 is linear, 3 a cubic spline.
    noise_sd : float
        Standard deviation of the noise.
    rng : Generator or None
        Draws it; None adds none.

    Returns
    -------
    array (z', y', x'), float64
    """
    margin = SPLINE_MARGIN if order > 1 else 1
    box = tuple(
        slice(max(0, min(n - 1, int(np.floor(p.min())) - margin)), min(n, max(1, int(np.ceil(p.max())) + margin + 1)))
        for p, n in zip(positions, values.shape, strict=True)
    )
    near = np.asarray(values[box], dtype=np.float64)
    if noise_sd > 0 and rng is not None:
        near = near + rng.normal(0.0, noise_sd, near.shape)
    inner = positions - np.reshape([s.start for s in box], (3, 1, 1, 1))
    if order == 0:
        z, y, x = (np.clip(np.floor(p + 0.5 + TIE_VOXELS).astype(np.int64), 0, n - 1) for p, n in zip(inner, near.shape, strict=True))
        return np.asarray(near[z, y, x])
    return np.asarray(map_coordinates(near, inner, order=order, mode="nearest"))
