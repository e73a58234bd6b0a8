"""Size and shape of a lesion (IBSI HCUG, morphology)."""

from __future__ import annotations

import numpy as np

from idx._typing import FloatArray, Triple
from idx.errors import GeometryError
from idx.kernels.autocorrelation import moran_geary
from idx.kernels.mesh import Mesh, convex_hull, mesh_of_mask
from idx.radiomics.preparation import Region
from idx.table import Missing
from idx.volume import Mask

Features = dict[str, float | Missing]
ELLIPSOID_SERIES_TERMS = 20
"""Degree at which IBSI (RDD2) truncates the series for the area of an ellipsoid."""


def shape_features(region: Region) -> Features:
    """Measure 25 of the 29 morphological features of IBSI (HCUG).

    Parameters
    ----------
    region : Region
        Prepared lesion: the shape is that of its morphological mask, the intensities those of its intensity mask.

    Returns
    -------
    dict
        Value or :class:`~idx.table.Missing` for every key of the catalogue's family "shape".

    Notes
    -----
    Not measured: densities of the oriented minimum bounding box and the minimum volume enclosing ellipsoid, for which
    IBSI has no reference values.
    """
    mesh = mesh_of_mask(region.mask, region.spacing_mm)
    centres = _centres_mm(region.mask, region.spacing_mm)
    volume, area = mesh.volume, mesh.area
    features: Features = {"mesh_volume": volume, "voxel_volume": len(centres) * float(np.prod(region.spacing_mm)), "mesh_surface_area": area}
    features |= _compactness(volume, area)
    features |= _axes(centres, volume, area)
    features |= _enclosures(mesh, volume, area)
    features |= _intensity_weighted(region, centres, volume)
    return features


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
    return mesh_of_mask(mask.values[mask.bounding_box()], mask.grid.spacing_mm).area


def _centres_mm(mask: np.ndarray, spacing_mm: Triple) -> FloatArray:
    """Voxel centres (n, 3) in mm along the array's axes (x, y, z)."""
    return np.argwhere(mask)[:, ::-1] * np.asarray(spacing_mm)


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


def _axes(centres: FloatArray, volume: float, area: float) -> Features:
    """Principal axes of the voxel centres and the ellipsoid that they span."""
    eigenvalues = np.linalg.eigvalsh(np.cov(centres, rowvar=False)) if len(centres) > 1 else np.zeros(3)
    # Voxels in one plane or line have axes of length 0, up to rounding of either sign.
    eigenvalues[eigenvalues <= eigenvalues.max() * 1e-12] = 0.0
    least, minor, major = (float(v) for v in 4.0 * np.sqrt(eigenvalues))
    features: Features = {"major_axis_length": major, "minor_axis_length": minor, "least_axis_length": least}
    ratios = ("elongation", "flatness", "volume_density_aee", "area_density_aee")
    if major == 0.0:
        return features | dict.fromkeys(ratios, Missing("too_few_voxels"))
    ellipsoid_volume = np.pi / 6.0 * major * minor * least
    ellipsoid_area = _ellipsoid_area(major / 2, minor / 2, least / 2)
    return features | {
        "elongation": minor / major,
        "flatness": least / major,
        "volume_density_aee": float(volume / ellipsoid_volume) if ellipsoid_volume else Missing("zero_denominator"),
        "area_density_aee": float(area / ellipsoid_area) if ellipsoid_area else Missing("zero_denominator"),
    }


def _ellipsoid_area(a: float, b: float, c: float) -> float:
    """Area of an ellipsoid of semi-axes a >= b >= c by the Legendre series of IBSI RDD2.

    The series sums ``(alpha beta)^v P_v((alpha^2 + beta^2) / (2 alpha beta)) / (1 - 4 v^2)``. The recurrence of the Legendre
    polynomials is applied to the product with ``(alpha beta)^v``, which stays finite for a ball, where alpha = beta = 0.
    """
    alpha2, beta2 = 1.0 - (b / a) ** 2, 1.0 - (c / a) ** 2
    previous, term, total = 0.0, 1.0, 1.0
    for v in range(ELLIPSOID_SERIES_TERMS):
        previous, term = term, ((2 * v + 1) * (alpha2 + beta2) / 2.0 * term - v * alpha2 * beta2 * previous) / (v + 1)
        total += term / (1.0 - 4.0 * (v + 1) ** 2)
    return 4.0 * np.pi * a * b * total


def _enclosures(mesh: Mesh, volume: float, area: float) -> Features:
    x, y, z = mesh.extent
    hull = convex_hull(mesh.vertices)
    return {
        "maximum_3d_diameter": hull.diameter,
        "volume_density_aabb": float(volume / (x * y * z)),
        "area_density_aabb": float(area / (2 * (x * y + y * z + z * x))),
        "volume_density_convex_hull": volume / hull.volume,
        "area_density_convex_hull": area / hull.area,
    }


def _intensity_weighted(region: Region, centres: FloatArray, volume: float) -> Features:
    intensities = region.values[region.intensity_mask]
    total = float(intensities.sum())
    features: Features = {"integrated_intensity": volume * float(intensities.mean())}
    if total == 0.0:
        features["centre_of_mass_shift"] = Missing("zero_mean")
    else:
        weighted = intensities @ _centres_mm(region.intensity_mask, region.spacing_mm) / total
        features["centre_of_mass_shift"] = float(np.linalg.norm(centres.mean(axis=0) - weighted))
    if intensities.size < 2:
        return features | dict.fromkeys(("moran_i", "geary_c"), Missing("too_few_voxels"))
    if intensities.min() == intensities.max():
        return features | dict.fromkeys(("moran_i", "geary_c"), Missing("constant"))
    features["moran_i"], features["geary_c"] = moran_geary(region.values, region.intensity_mask, region.spacing_mm)
    return features
