"""A ball: the one lesion whose volume and surface everybody can check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from idx._typing import FloatArray, Triple
from idx.errors import GeometryError
from idx.geometry.grids import Grid
from idx.volume import CTVolume, Mask

DEFAULT_CENTRE_MM: Triple = (-41.37, 18.83, -102.59)
"""Off every voxel centre of the usual spacings, and far from zero, so that a lost origin or half a voxel shows."""


@dataclass(frozen=True, eq=False)
class BallPhantom:
    """A homogeneous ball on a homogeneous background.

    Parameters
    ----------
    ct : CTVolume
        ``hu`` at voxels whose centre is inside the ball, ``background_hu`` elsewhere; no noise, no partial volume.
    mask : Mask
        Voxels whose centre is inside the ball.
    radius_mm : float
    volume_mm3, surface_area_mm2 : float
        Of the ball itself, 4/3 pi r^3 and 4 pi r^2; the voxels only approach them.
    centre_mm : tuple of float
        Centre (x, y, z), LPS.
    """

    ct: CTVolume
    mask: Mask
    radius_mm: float
    volume_mm3: float
    surface_area_mm2: float
    centre_mm: Triple


def spacing_triple(spacing_mm: float | Sequence[float]) -> Triple:
    """Return a spacing (x, y, z) in mm from one number or three.

    Raises
    ------
    GeometryError
        If it is not one or three positive numbers.
    """
    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (3,)) if np.size(spacing_mm) in (1, 3) else np.zeros(3)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise GeometryError(f"spacing_mm must be one or three positive mm (x, y, z); got {spacing_mm} (phantom). Pass for example 1.0 or (0.8, 0.8, 1.5).")
    x, y, z = (float(s) for s in spacing)
    return x, y, z


def voxel_centres_mm(grid: Grid) -> FloatArray:
    """Positions (z, y, x, 3) of all voxel centres of a grid, in mm (x, y, z)."""
    return grid.to_physical(np.moveaxis(np.indices(grid.shape), 0, -1))


def ball(
    *,
    radius_mm: float = 10.0,
    spacing_mm: float | Sequence[float] = 1.0,
    hu: int = 40,
    background_hu: int = -800,
    centre_mm: Triple | None = None,
    margin_mm: float = 5.0,
) -> BallPhantom:
    """Make a ball of known volume and surface.

    Parameters
    ----------
    radius_mm : float
    spacing_mm : float or three floats
        Voxel spacing (x, y, z) in mm.
    hu, background_hu : int
        Attenuation inside and outside.
    centre_mm : tuple of float or None
        Centre (x, y, z), LPS; None for one that lies on no voxel centre. Voxel centres stand at multiples of the spacing.
    margin_mm : float
        Background around the ball, at least this much.

    Returns
    -------
    BallPhantom

    Raises
    ------
    GeometryError
        If the radius or the spacing is not positive.

    Examples
    --------
    >>> phantom = ball(radius_mm=10.0, spacing_mm=1.0)
    >>> round(phantom.mask.volume_mm3 / phantom.volume_mm3, 2)
    1.0
    """
    if not (np.isfinite(radius_mm) and radius_mm > 0):
        raise GeometryError(f"radius_mm must be positive; got {radius_mm} (ball phantom). Pass a radius in mm.")
    spacing = spacing_triple(spacing_mm)
    centre = np.asarray(DEFAULT_CENTRE_MM if centre_mm is None else centre_mm, dtype=np.float64)
    first = np.floor((centre - radius_mm - margin_mm) / spacing)
    last = np.ceil((centre + radius_mm + margin_mm) / spacing)
    nx, ny, nz = (int(n) for n in last - first + 1)
    x0, y0, z0 = (float(v) for v in first * spacing)
    grid = Grid.from_spacing((nz, ny, nx), spacing, (x0, y0, z0))
    inside = ((voxel_centres_mm(grid) - centre) ** 2).sum(axis=-1) <= radius_mm**2
    ct = CTVolume(np.where(inside, hu, background_hu).astype(np.int16), grid)
    cx, cy, cz = (float(c) for c in centre)
    return BallPhantom(ct, Mask(inside, grid), float(radius_mm), 4 / 3 * np.pi * radius_mm**3, 4 * np.pi * radius_mm**2, (cx, cy, cz))
