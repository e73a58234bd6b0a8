"""A lung nodule on CT whose shape is known in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from idx._typing import BoolArray, FloatArray, Triple
from idx.errors import GeometryError, UnitError
from idx.geometry.affine import checked_points
from idx.geometry.grids import Grid
from idx.testing._lung import LobulatedShape, LungField, VesselTree
from idx.testing._noise import FourierTexture, smooth_noise
from idx.testing.balls import spacing_triple, voxel_centres_mm
from idx.volume import CTVolume, Mask

NOISE_CORRELATION_MM = 0.5
"""Standard deviation of the Gaussian that correlates scanner noise: that of a standard soft-tissue kernel."""
DEFAULT_CENTRE_MM: Triple = (-72.41, 31.17, -140.63)


@dataclass(frozen=True, eq=False)
class LesionPhantom:
    """A lung with vessels and one lesion.

    Parameters
    ----------
    ct : CTVolume
        Attenuation with partial volume and scanner noise.
    mask : Mask
        Voxels whose centre is inside the lesion.
    volume_mm3 : float
        Of the continuous lesion, by quadrature (relative error below 1e-6).
    centre_mm : tuple of float
        Centre of the star-shaped lesion (x, y, z), LPS.
    noise_hu : float
        Standard deviation of the scanner noise.
    field : LungField
        The continuous phantom, for other phantoms that are cut from it.
    """

    ct: CTVolume
    mask: Mask
    volume_mm3: float
    centre_mm: Triple
    noise_hu: float
    field: LungField

    def hu_at(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Noise-free attenuation (...,) in HU at points (..., 3) (x, y, z) in mm, at any resolution."""
        return self.field.hu_at(checked_points(points_mm, 3, "lesion phantom"))

    def inside(self, points_mm: npt.ArrayLike) -> BoolArray:
        """Whether points (..., 3) (x, y, z) in mm lie in the lesion."""
        return self.field.inside(checked_points(points_mm, 3, "lesion phantom"))


def draw_field(
    rng: np.random.Generator,
    *,
    radius_mm: float,
    centre_mm: Triple,
    reach_mm: float,
    core_fraction: float,
    rim_hu: float,
    core_hu: float,
    lung_hu: float,
    psf_mm: float,
    n_lobes: int,
) -> LungField:
    """Draw a continuous lung with a lesion; vessels fill a ball of ``reach_mm`` about it."""
    centre = np.asarray(centre_mm, dtype=np.float64)
    return LungField(
        centre,
        LobulatedShape.draw(rng, radius_mm=radius_mm, n_lobes=n_lobes),
        VesselTree.draw(rng, centre, reach_mm=reach_mm, root_radius_mm=min(0.2 * radius_mm, 0.09 * reach_mm)),
        FourierTexture.draw(rng, 3, wavelength=(0.25 * radius_mm, 2.0 * radius_mm)),
        FourierTexture.draw(rng, 3, wavelength=(0.3 * radius_mm, 1.2 * radius_mm)),
        core_fraction=core_fraction,
        lung_hu=lung_hu,
        rim_hu=rim_hu,
        core_hu=core_hu,
        lung_texture_hu=22.0,
        lesion_texture_hu=18.0,
        psf_mm=psf_mm,
    )


def scan(field: LungField, grid: Grid, *, noise_hu: float, rng: np.random.Generator) -> tuple[CTVolume, Mask]:
    """Sample a continuous lung on a grid, with correlated scanner noise of ``noise_hu``, and the lesion's voxels."""
    points = voxel_centres_mm(grid)
    sx, sy, sz = grid.spacing_mm
    noise = noise_hu * smooth_noise(rng, grid.shape, tuple(NOISE_CORRELATION_MM / s for s in (sz, sy, sx))) if noise_hu > 0 else 0.0
    hu = np.clip(np.rint(field.hu_at(points) + noise), -1024, 3071)
    return CTVolume(hu.astype(np.int16), grid), Mask(field.inside(points), grid)


def grid_about(centre_mm: Triple, size_mm: Sequence[float], spacing: Triple) -> Grid:
    """Return a grid of at least ``size_mm`` (x, y, z) about a centre, placed so that the centre is on no voxel centre."""
    counts = np.ceil(np.asarray(size_mm, dtype=np.float64) / spacing).astype(int)
    x, y, z = (float(c) for c in np.asarray(centre_mm) - (counts - 1) / 2 * spacing + np.multiply(spacing, (0.21, -0.33, 0.12)))
    nx, ny, nz = (int(n) for n in counts)
    return Grid.from_spacing((nz, ny, nx), spacing, (x, y, z))


def lesion_ct(
    *,
    seed: int = 0,
    radius_mm: float = 11.0,
    spacing_mm: float | Sequence[float] = (0.8, 0.8, 1.5),
    size_mm: float | Sequence[float] = (76.8, 76.8, 120.0),
    centre_mm: Triple = DEFAULT_CENTRE_MM,
    core_fraction: float = 0.7,
    core_hu: float = 35.0,
    rim_hu: float = -420.0,
    lung_hu: float = -850.0,
    noise_hu: float = 12.0,
    psf_mm: float = 0.6,
    n_lobes: int = 9,
) -> LesionPhantom:
    """Make a CT of a lobulated, part-solid lung lesion with vessels, partial volume and scanner noise.

    Parameters
    ----------
    seed : int
        The same seed gives the same bytes.
    radius_mm : float
        Radius of the ball of equal volume: the lesion's volume is 4/3 pi radius^3.
    spacing_mm : float or three floats
        Voxel spacing (x, y, z) in mm.
    size_mm : float or three floats
        Least extent of the volume (x, y, z) in mm.
    centre_mm : tuple of float
        Centre of the lesion (x, y, z), LPS.
    core_fraction : float
        Linear size of the solid core relative to the lesion, in (0, 1).
    core_hu, rim_hu, lung_hu : float
        Mean attenuation of core, part-solid rim and parenchyma.
    noise_hu : float
        Standard deviation of correlated scanner noise; 0 for none.
    psf_mm : float
        Gaussian by which edges are smoothed, standard deviation in mm.
    n_lobes : int
        Lobes and (every fourth) notches of the outline.

    Returns
    -------
    LesionPhantom

    Raises
    ------
    GeometryError
        If the volume does not hold the lesion, or a size is not positive.
    UnitError
        If noise or attenuation cannot be.

    Notes
    -----
    The lesion is star-shaped: ``r(d) = r0 (1 + sum_k a_k exp(s_k (d . u_k - 1)))``. A voxel has the attenuation of its centre after the smoothing.
    """
    if not (radius_mm > 0 and psf_mm > 0 and 0 < core_fraction < 1 and n_lobes > 0):
        raise GeometryError(
            f"radius_mm, psf_mm and n_lobes must be positive and core_fraction in (0, 1); got {radius_mm}, {psf_mm}, {n_lobes}, {core_fraction} "
            "(lesion phantom). Correct the one that is not."
        )
    if not (noise_hu >= 0 and min(core_hu, rim_hu, lung_hu) >= -1000):
        raise UnitError(
            f"noise_hu must be at least 0 and attenuation at least -1000 HU; got {noise_hu}, {core_hu}, {rim_hu}, {lung_hu} (lesion phantom). Pass HU."
        )
    spacing, rng = spacing_triple(spacing_mm), np.random.default_rng(seed)
    size = np.broadcast_to(np.asarray(size_mm, dtype=np.float64), (3,))
    field = draw_field(
        rng,
        radius_mm=radius_mm,
        centre_mm=centre_mm,
        reach_mm=float(size.min()) / 2,
        core_fraction=core_fraction,
        rim_hu=rim_hu,
        core_hu=core_hu,
        lung_hu=lung_hu,
        psf_mm=psf_mm,
        n_lobes=n_lobes,
    )
    grid = grid_about(centre_mm, size.tolist(), spacing)
    ct, mask = scan(field, grid, noise_hu=noise_hu, rng=rng)
    faces = [mask.values[[0, -1]], mask.values[:, [0, -1]], mask.values[:, :, [0, -1]]]
    if any(face.any() for face in faces):
        raise GeometryError(
            f"size_mm must hold the whole lesion; got {tuple(size.tolist())} for a lesion that reaches up to {field.shape.reach_mm:.1f} mm from its centre "
            "(lesion phantom). Pass a larger size_mm or a smaller radius_mm."
        )
    return LesionPhantom(ct, mask, field.shape.volume_mm3(), centre_mm, float(noise_hu), field)
