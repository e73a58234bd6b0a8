"""The radiomic features as data: what each is, its unit and its IBSI code.

Definitions follow the IBSI reference manual (Zwanenburg et al., arXiv:1612.07003; Radiology 2020;295:328-338), where every code
leads to the formula. The manual prints the code 1PR8 for two histogram features, and so does this table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from idx.errors import FormatError
from idx.provenance import Setting
from idx.table import FeatureSpec

FAMILIES = ("intensity", "histogram", "shape", "glcm")
"""Families in the order of a table's columns: IBSI UHIW, ZVCW, HCUG and LFYI."""

_SUFFIX_HU = {"1": "", "mm": "_mm", "mm2": "_mm2", "mm3": "_mm3", "1/mm": "_per_mm", "{q}": "_hu", "{q}2": "_hu2", "{q} mm3": "_hu_mm3"}
_SUFFIX_OTHER = _SUFFIX_HU | {"{q}": "", "{q}2": "", "{q} mm3": "_mm3"}
"""End of a column's name by unit; ``{q}`` is the quantity of the image."""


@dataclass(frozen=True)
class Definition:
    """One feature, whatever image it is measured on.

    Parameters
    ----------
    key : str
        Name without its unit.
    family : str
        One of ``FAMILIES``.
    ibsi_id : str
        IBSI code.
    unit : str
        "1", "mm", "mm2", "mm3", "1/mm", or one of "{q}", "{q}2", "{q} mm3" where {q} stands for the unit of the intensities.
    definition : str
        One sentence.
    """

    key: str
    family: str
    ibsi_id: str
    unit: str
    definition: str

    def column(self, quantity: str = "hu") -> str:
        """Name of the feature's column: the key and, where it is mm or HU, the unit.

        Examples
        --------
        >>> CATALOG["mean_intensity"].column(), CATALOG["mean_intensity"].column("suv")
        ('mean_intensity_hu', 'mean_intensity')
        """
        return self.key + (_SUFFIX_HU if quantity == "hu" else _SUFFIX_OTHER)[self.unit]

    def spec(self, quantity: str = "hu", params: Mapping[str, Setting] | None = None) -> FeatureSpec:
        """Specification of the feature on an image of a quantity, measured with some settings."""
        return FeatureSpec(self.column(quantity), self.unit.format(q=quantity), self.definition, self.ibsi_id, params or {})


_TABLES = {
    "intensity": """
mean_intensity | Q4LE | {q} | Mean of the intensities.
intensity_variance | ECT3 | {q}2 | Population variance of the intensities.
intensity_skewness | KE2A | 1 | Third standardised moment of the intensities.
intensity_kurtosis | IPH6 | 1 | Fourth standardised moment of the intensities minus 3.
median_intensity | Y12H | {q} | Median of the intensities.
minimum_intensity | 1GSF | {q} | Smallest intensity.
intensity_p10 | QG58 | {q} | 10th percentile of the intensities.
intensity_p90 | 8DWT | {q} | 90th percentile of the intensities.
maximum_intensity | 84IY | {q} | Largest intensity.
intensity_interquartile_range | SALO | {q} | 75th minus 25th percentile of the intensities.
intensity_range | 2OJQ | {q} | Largest minus smallest intensity.
intensity_mean_absolute_deviation | 4FUA | {q} | Mean distance of the intensities from their mean.
intensity_robust_mean_absolute_deviation | 1128 | {q} | Mean absolute deviation of the intensities from the 10th to the 90th percentile, both included.
intensity_median_absolute_deviation | N72L | {q} | Mean distance of the intensities from their median.
intensity_coefficient_of_variation | 7TET | 1 | Standard deviation over mean of the intensities.
intensity_quartile_coefficient_of_dispersion | 9S40 | 1 | Interquartile range over the sum of the quartiles of the intensities.
intensity_energy | N8CA | {q}2 | Sum of the squared intensities.
intensity_root_mean_square | 5ZWQ | {q} | Square root of the mean squared intensity.
""",
    "histogram": """
histogram_mean | X6K6 | 1 | Mean of the grey levels.
histogram_variance | CH89 | 1 | Population variance of the grey levels.
histogram_skewness | 88K1 | 1 | Third standardised moment of the grey levels.
histogram_kurtosis | C3I7 | 1 | Fourth standardised moment of the grey levels minus 3.
histogram_median | WIFQ | 1 | Median of the grey levels.
histogram_minimum | 1PR8 | 1 | Smallest grey level.
histogram_p10 | 1PR8 | 1 | 10th percentile of the grey levels.
histogram_p90 | GPMT | 1 | 90th percentile of the grey levels.
histogram_maximum | 3NCY | 1 | Largest grey level.
histogram_mode | AMMC | 1 | Most frequent grey level; of several, the one nearest to the mean.
histogram_interquartile_range | WR0O | 1 | 75th minus 25th percentile of the grey levels.
histogram_range | 5Z3W | 1 | Largest minus smallest grey level.
histogram_mean_absolute_deviation | D2ZX | 1 | Mean distance of the grey levels from their mean.
histogram_robust_mean_absolute_deviation | WRZB | 1 | Mean absolute deviation of the grey levels from the 10th to the 90th percentile, both included.
histogram_median_absolute_deviation | 4RNL | 1 | Mean distance of the grey levels from their median.
histogram_coefficient_of_variation | CWYJ | 1 | Standard deviation over mean of the grey levels.
histogram_quartile_coefficient_of_dispersion | SLWD | 1 | Interquartile range over the sum of the quartiles of the grey levels.
histogram_entropy | TLU2 | 1 | Entropy of the grey levels in bits.
histogram_uniformity | BJ5W | 1 | Sum of the squared shares of the grey levels.
histogram_maximum_gradient | 12CE | 1 | Largest slope of the histogram in voxels per level, by central differences.
histogram_maximum_gradient_level | 8E6O | 1 | Grey level of the largest slope.
histogram_minimum_gradient | VQB3 | 1 | Smallest slope of the histogram in voxels per level.
histogram_minimum_gradient_level | RHQZ | 1 | Grey level of the smallest slope.
""",
    "shape": """
mesh_volume | RNU0 | mm3 | Volume enclosed by the surface mesh (marching cubes at 0.5).
voxel_volume | YEKZ | mm3 | Number of voxels times the volume of one.
mesh_surface_area | C0JK | mm2 | Area of the surface mesh.
surface_to_volume_ratio | 2PR5 | 1/mm | Mesh area over mesh volume.
compactness_1 | SKGS | 1 | V / (pi^(1/2) A^(3/2)) of the mesh.
compactness_2 | BQWJ | 1 | 36 pi V^2 / A^3 of the mesh; 1 for a ball.
spherical_disproportion | KRCK | 1 | Mesh area over the area of a ball of the same volume.
sphericity | QCFX | 1 | Area of a ball of the same volume over the mesh area.
asphericity | 25C7 | 1 | Spherical disproportion minus 1.
centre_of_mass_shift | KLMA | mm | Distance of the centroid of the voxels from their intensity-weighted centroid.
maximum_3d_diameter | L0JK | mm | Largest distance between two vertices of the mesh.
major_axis_length | TDIC | mm | Four times the root of the largest eigenvalue of the sample covariance (n - 1) of the voxel centres.
minor_axis_length | P9VJ | mm | Four times the root of the second eigenvalue of the sample covariance (n - 1) of the voxel centres.
least_axis_length | 7J51 | mm | Four times the root of the smallest eigenvalue of the sample covariance (n - 1) of the voxel centres.
elongation | Q3CK | 1 | Minor over major axis length.
flatness | N17B | 1 | Least over major axis length.
volume_density_aabb | PBX1 | 1 | Mesh volume over the volume of its box along the image axes.
area_density_aabb | R59B | 1 | Mesh area over the area of its box along the image axes.
volume_density_aee | 6BDE | 1 | Mesh volume over the volume of the ellipsoid of the principal axes.
area_density_aee | RDD2 | 1 | Mesh area over the area of the ellipsoid of the principal axes (Legendre series to degree 20).
volume_density_convex_hull | R3ER | 1 | Mesh volume over the volume of its convex hull.
area_density_convex_hull | 7T7F | 1 | Mesh area over the area of its convex hull.
integrated_intensity | 99N0 | {q} mm3 | Mean intensity times mesh volume.
moran_i | N365 | 1 | Moran's I of the intensities, weights of one over distance.
geary_c | NPT7 | 1 | Geary's C of the intensities, weights of one over distance.
""",
    "glcm": """
glcm_joint_maximum | GYBY | 1 | Largest probability of a pair of grey levels.
glcm_joint_average | 60VM | 1 | Mean grey level of the pairs.
glcm_joint_variance | UR99 | 1 | Variance of the grey level of the pairs.
glcm_joint_entropy | TU9B | 1 | Entropy of the pairs in bits.
glcm_difference_average | TF7R | 1 | Mean difference of the levels of a pair.
glcm_difference_variance | D3YU | 1 | Variance of the difference of the levels of a pair.
glcm_difference_entropy | NTRS | 1 | Entropy of the difference of the levels of a pair in bits.
glcm_sum_average | ZGXS | 1 | Mean sum of the levels of a pair.
glcm_sum_variance | OEEB | 1 | Variance of the sum of the levels of a pair.
glcm_sum_entropy | P6QZ | 1 | Entropy of the sum of the levels of a pair in bits.
glcm_angular_second_moment | 8ZQL | 1 | Sum of the squared probabilities.
glcm_contrast | ACUI | 1 | Mean squared difference of the levels of a pair.
glcm_dissimilarity | 8S9J | 1 | Mean difference of the levels of a pair.
glcm_inverse_difference | IB1Z | 1 | Mean of 1 / (1 + difference).
glcm_inverse_difference_normalised | NDRX | 1 | Mean of 1 / (1 + difference / number of levels).
glcm_inverse_difference_moment | WF0Z | 1 | Mean of 1 / (1 + squared difference).
glcm_inverse_difference_moment_normalised | 1QCO | 1 | Mean of 1 / (1 + squared difference / squared number of levels).
glcm_inverse_variance | E8JP | 1 | Sum of probability over squared difference, for unequal levels.
glcm_correlation | NI2N | 1 | Correlation of the levels of a pair.
glcm_autocorrelation | QWB0 | 1 | Mean product of the levels of a pair.
glcm_cluster_tendency | DG8W | 1 | Second moment of the sum of the levels about twice their mean.
glcm_cluster_shade | 7NFM | 1 | Third moment of the sum of the levels about twice their mean.
glcm_cluster_prominence | AE86 | 1 | Fourth moment of the sum of the levels about twice their mean.
glcm_information_correlation_1 | R8DG | 1 | (HXY - HXY1) / HX, entropies in bits.
glcm_information_correlation_2 | JN9H | 1 | sqrt(1 - exp(-2 (HXY2 - HXY))), entropies in bits.
""",
}


def _definitions() -> dict[str, Definition]:
    rows = ((family, *(cell.strip() for cell in line.split(" | "))) for family, text in _TABLES.items() for line in text.strip().splitlines())
    return {key: Definition(key, family, ibsi_id, unit, sentence) for family, key, ibsi_id, unit, sentence in rows}


CATALOG: Mapping[str, Definition] = MappingProxyType(_definitions())
"""Definition of every feature by key, in the order of a table's columns."""


def definitions(families: Sequence[str] = FAMILIES) -> tuple[Definition, ...]:
    """Definitions of some families, in catalogue order.

    Raises
    ------
    FormatError
        If there are no families or one is unknown.
    """
    unknown = [family for family in families if family not in FAMILIES]
    if unknown or not families or isinstance(families, str):
        raise FormatError(f"families must be some of {', '.join(FAMILIES)}; got {families!r}. Pass for example families=('shape', 'glcm').")
    return tuple(definition for definition in CATALOG.values() if definition.family in families)


def feature_specs(families: Sequence[str] = FAMILIES, *, quantity: str = "hu") -> tuple[FeatureSpec, ...]:
    """Features that :func:`idx.radiomics.extract` measures, with unit, definition and IBSI code.

    Parameters
    ----------
    families : sequence of str
        Some of "intensity", "histogram", "shape", "glcm".
    quantity : str
        Quantity of the image; decides the unit of the intensities.

    Examples
    --------
    >>> [spec.name for spec in feature_specs(["shape"])][:2]
    ['mesh_volume_mm3', 'voxel_volume_mm3']
    """
    return tuple(definition.spec(quantity, {"family": definition.family}) for definition in definitions(families))
