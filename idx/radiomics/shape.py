"""Size and shape of a lesion (IBSI HCUG, morphology)."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from idx._typing import FloatArray, IntArray
from idx.errors import GeometryError
from idx.kernels.discretise import is_constant
from idx.kernels.engine import Engine, engine_for
from idx.kernels.hull import Hull, convex_hull, extreme_points, smallest_box, smallest_ellipsoid
from idx.kernels.mesh import surface
from idx.radiomics.preparation import Region
from idx.table import Missing
from idx.volume import Mask

Features = dict[str, float | Missing]
ELLIPSOID_SERIES_TERMS = 20
"""Degree at which IBSI (RDD2) truncates the series for the area of an ellipsoid."""
AUTOCORRELATION = ("moran_i", "geary_c")


def shape_features(region: Region, wanted: Collection[str], engine: Engine) -> Features:
    """Measure morphological features of IBSI (HCUG) that depend on the shape alone, and those that weigh it with intensities.

    Parameters
    ----------
    region : Region
        Prepared lesion: the shape is that of its morphological mask, the intensities those of its intensity mask.
    wanted : collection of str
        Keys of the catalogue's family "shape"; the enclosing box and ellipsoid are searched only where they are asked for.
    engine : Engine

    Returns
    -------
    dict
        Value or :class:`~idx.table.Missing` for at least every wanted key but Moran's I and Geary's C (see :func:`autocorrelation_features`).
    """
    volume, area = surface(*engine.cube_counts(region.mask), region.spacing_mm)
    points, sums, products = extreme_points(region.mask)
    spacing = np.asarray(region.spacing_mm)
    n_voxels, centre = int(sums[0]), sums[1:] / sums[0] * spacing
    features: Features = {"mesh_volume": volume, "voxel_volume": n_voxels * float(np.prod(spacing)), "mesh_surface_area": area}
    features |= _compactness(volume, area)
    features |= _axes(_covariance(sums, products, spacing), volume, area)
    hull = convex_hull(points * spacing)
    extent = np.ptp(points, axis=0) * spacing
    features |= {
        "maximum_3d_diameter": hull.diameter,
        **_densities("aabb", volume, area, float(np.prod(extent)), _box_area(extent)),
        **_densities("convex_hull", volume, area, hull.volume, hull.area),
    }
    for name, (measure, enclosed, enclosing_area) in _ENCLOSURES.items():
        if not {f"volume_density_{name}", f"area_density_{name}"}.isdisjoint(wanted):
            size = measure(hull)
            features |= _densities(name, volume, area, enclosed(size), enclosing_area(size))
    return features | _intensity_weighted(region, centre, volume)


def autocorrelation_features(region: Region, engine: Engine) -> Features:
    """Measure Moran's I and Geary's C (IBSI N365 and NPT7)."""
    intensities = region.intensities
    if intensities.size < 2:
        return dict.fromkeys(AUTOCORRELATION, Missing("too_few_voxels"))
    if is_constant(float(intensities.min()), float(intensities.max())):
        return dict.fromkeys(AUTOCORRELATION, Missing("constant"))
    return dict(zip(AUTOCORRELATION, engine.moran_geary(region.values, region.intensity_mask, region.spacing_mm), strict=True))


def surface_area_mm2(mask: Mask) -> float:
    """Area of the lesion surface.

    Parameters
    ----------
    mask : Mask
        Lesion, bool (z, y, x), in a frame measured in mm.

    Returns
    -------
    float
        Area in mm2 of the triangle mesh at iso-level 0.5.

    Raises
    ------
    GeometryError
        If the mask is empty or the frame is not in mm.

    Notes
    -----
    IBSI C0JK. A mesh of bool voxels is faceted: its area exceeds that of the smooth surface, for a ball by 9 percent where the
    voxels are cubes (voxel faces: 50), 11 percent at 1:1.8 and 23 percent at 1:6, at any resolution. Compare lesions on
    isotropic voxels: ``extract(..., spacing_mm=1.0)``.

    Examples
    --------
    >>> from idx.geometry import Grid
    >>> mask = Mask(np.ones((1, 1, 1), dtype=bool), Grid.from_spacing((1, 1, 1), (2.0, 2.0, 2.0)))
    >>> round(surface_area_mm2(mask), 3)  # the octahedron of one voxel
    6.928
    """
    mask.require_voxels()
    if mask.grid.frame.unit != "mm":
        raise GeometryError(f"mask must lie in a frame measured in mm; got {mask.grid.frame} (label '{mask.label}'). Transform it to the patient frame first.")
    return surface(*engine_for().cube_counts(mask.values[mask.bounding_box()]), mask.grid.spacing_mm)[1]


def _covariance(sums: IntArray, products: IntArray, spacing: FloatArray) -> FloatArray:
    """Sample covariance (3, 3) of the voxel centres in mm2; zero for one voxel."""
    n = int(sums[0])
    if n < 2:
        return np.zeros((3, 3))
    # Products of sums of indices exceed 64 bits in no lesion, but their multiples by n can: whole numbers of Python do not.
    exact = [[n * int(products[i, j]) - int(sums[1 + i]) * int(sums[1 + j]) for j in range(3)] for i in range(3)]
    return np.array(exact, dtype=np.float64) / (n * (n - 1.0)) * np.outer(spacing, spacing)


def _compactness(volume: float, area: float) -> Features:
    ball_ratio = 36.0 * np.pi * volume**2 / area**3
    return {
        "surface_to_volume_ratio": area / volume,
        "compactness_1": volume / (np.pi**0.5 * area**1.5),
        "compactness_2": ball_ratio,
        "spherical_disproportion": ball_ratio ** (-1 / 3),
        "sphericity": ball_ratio ** (1 / 3),
        "asphericity": ball_ratio ** (-1 / 3) - 1.0,
    }


def _axes(covariance: FloatArray, volume: float, area: float) -> Features:
    """Principal axes of the voxel centres and the ellipsoid that they span."""
    eigenvalues = np.linalg.eigvalsh(covariance)
    # Voxels in one plane or line have axes of length 0, up to rounding of either sign.
    eigenvalues[eigenvalues <= eigenvalues.max() * 1e-12] = 0.0
    least, minor, major = (float(v) for v in 4.0 * np.sqrt(eigenvalues))
    features: Features = {"major_axis_length": major, "minor_axis_length": minor, "least_axis_length": least}
    ratios = ("elongation", "flatness", "volume_density_aee", "area_density_aee")
    if major == 0.0:
        return features | dict.fromkeys(ratios, Missing("too_few_voxels"))
    semi_axes = np.array([major, minor, least]) / 2.0
    features |= {"elongation": minor / major, "flatness": least / major}
    return features | _densities("aee", volume, area, _ellipsoid_volume(semi_axes), _ellipsoid_area(semi_axes))


def _ellipsoid_area(axes: FloatArray) -> float:
    """Area of an ellipsoid of semi-axes (3,), longest first, by the Legendre series of IBSI RDD2.

    The series sums ``(alpha beta)^v P_v((alpha^2 + beta^2) / (2 alpha beta)) / (1 - 4 v^2)``. The recurrence of the Legendre
    polynomials is applied to the product with ``(alpha beta)^v``, which stays finite for a ball, where alpha = beta = 0.
    """
    a, b, c = (float(axis) for axis in axes)
    alpha2, beta2 = 1.0 - (b / a) ** 2, 1.0 - (c / a) ** 2
    previous, term, total = 0.0, 1.0, 1.0
    for v in range(ELLIPSOID_SERIES_TERMS):
        previous, term = term, ((2 * v + 1) * (alpha2 + beta2) / 2.0 * term - v * alpha2 * beta2 * previous) / (v + 1)
        total += term / (1.0 - 4.0 * (v + 1) ** 2)
    return 4.0 * np.pi * a * b * total


def _ellipsoid_volume(axes: FloatArray) -> float:
    return float(4.0 / 3.0 * np.pi * np.prod(axes))


def _box_area(edges: FloatArray) -> float:
    x, y, z = (float(edge) for edge in edges)
    return 2.0 * (x * y + y * z + z * x)


_ENCLOSURES: dict[str, tuple[Callable[[Hull], FloatArray], Callable[[FloatArray], float], Callable[[FloatArray], float]]] = {
    "ombb": (smallest_box, lambda edges: float(np.prod(edges)), _box_area),
    "mvee": (lambda hull: smallest_ellipsoid(hull.corners), _ellipsoid_volume, _ellipsoid_area),
}
"""What is searched around the hull, and the volume and area of what is found."""


def _densities(name: str, volume: float, area: float, enclosing_volume: float, enclosing_area: float) -> Features:
    """Share of an enclosing body's volume and area."""
    return {
        f"volume_density_{name}": volume / enclosing_volume if enclosing_volume else Missing("zero_denominator"),
        f"area_density_{name}": area / enclosing_area if enclosing_area else Missing("zero_denominator"),
    }


def _intensity_weighted(region: Region, centre: FloatArray, volume: float) -> Features:
    intensities = region.intensities
    total = float(intensities.sum())
    features: Features = {"integrated_intensity": volume * float(intensities.mean())}
    if total == 0.0:
        return features | {"centre_of_mass_shift": Missing("zero_mean")}
    # Sums over planes first: no list of all voxels' positions is made.
    weight = np.where(region.intensity_mask, region.values, 0.0)
    planes = (weight.sum(axis=(0, 1)), weight.sum(axis=(0, 2)), weight.sum(axis=(1, 2)))
    weighted = np.array([float(plane @ np.arange(len(plane))) * mm for plane, mm in zip(planes, region.spacing_mm, strict=True)]) / total
    return features | {"centre_of_mass_shift": float(np.linalg.norm(centre - weighted))}
