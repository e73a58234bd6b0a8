"""One lesion, one row: the entry point of radiomics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from idx._typing import Triple
from idx.errors import FormatError
from idx.provenance import Provenance, Setting
from idx.radiomics.catalog import FAMILIES, Definition, definitions
from idx.radiomics.intensity import intensity_histogram, intensity_statistics
from idx.radiomics.preparation import Preparation, Region, as_spacing, grey_levels, prepare
from idx.radiomics.shape import shape_features
from idx.radiomics.texture import AGGREGATIONS, glcm_features
from idx.table import FeatureTable, Missing
from idx.volume import Mask, Volume


def extract(
    ct: Volume,
    lesion: Mask,
    *,
    families: Sequence[str] = FAMILIES,
    spacing_mm: float | Triple | None = None,
    interpolation: str = "linear",
    resegment_hu: tuple[float, float] | None = None,
    outlier_sigma: float | None = None,
    bin_size_hu: float | None = None,
    n_bins: int | None = None,
    aggregation: str = "3d_merged",
) -> FeatureTable:
    """Measure the radiomic features of a lesion (IBSI 1).

    Parameters
    ----------
    ct : Volume
        CT in HU, or another image (then the intensities have its quantity as unit).
    lesion : Mask
        On the image's grid. Its label names the row.
    families : sequence of str
        Some of "intensity", "histogram", "shape", "glcm".
    spacing_mm : float, tuple or None
        Spacing, one number or (x, y, z) in mm, that image and mask are resampled to, on a grid with the image's middle; CT
        numbers are rounded, and the linearly interpolated mask counts as inside from one half on. None measures on the
        image's own grid.
    interpolation : str
        "linear" or "cubic" (splines), for the intensities.
    resegment_hu : tuple of float or None
        Only intensities within (low, high), both included, count; the shape stays.
    outlier_sigma : float or None
        Only intensities within this many standard deviations of the mean (of those in ``resegment_hu``) count.
    bin_size_hu : float or None
        Width of a grey level in HU; None means 25 on CT when ``n_bins`` is not given. Level 1 starts at the low end of
        ``resegment_hu``, or at -1000 HU.
    n_bins : int or None
        Number of grey levels instead of a width. Needed for images that are not in HU.
    aggregation : str
        How co-occurrence matrices are put together: "3d_merged", "3d_averaged", "2.5d_merged", "2.5d_direction_merged",
        "2d_slice_merged" or "2d_averaged" (IBSI 1; slices are those of the array's z axis).

    Returns
    -------
    FeatureTable
        One row, index "lesion". A feature that is undefined for this lesion is missing with its reason in ``status``.

    Raises
    ------
    GeometryError
        If the mask is empty, lies on another grid, or loses all its voxels on the way.
    UnitError
        If HU settings are given for an image that is not in HU.
    FormatError
        If a family, the aggregation or the interpolation is unknown.

    Examples
    --------
    >>> from idx.geometry import Grid
    >>> grid = Grid.from_spacing((3, 4, 5), (0.8, 0.8, 1.5))
    >>> ct = idx.CTVolume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), grid)
    >>> lesion = idx.Mask(ct.values > 19, grid, "GTV-1")
    >>> table = idx.radiomics.extract(ct, lesion, families=["intensity", "shape"])
    >>> table["mean_intensity_hu"].to_dict()
    {'GTV-1': 39.5}
    """
    wanted = definitions(families)
    if aggregation not in AGGREGATIONS:
        raise FormatError(f"aggregation must be one of {', '.join(AGGREGATIONS)}; got '{aggregation}'. Pass '3d_merged' for nearly isotropic voxels.")
    settings = Preparation(as_spacing(spacing_mm), resegment_hu, outlier_sigma, bin_size_hu, n_bins, interpolation)
    region = prepare(ct, lesion, settings)
    row = _measure(region, settings, {definition.family for definition in wanted}, aggregation)
    steps = settings.step_params()
    specs = [definition.spec(ct.quantity, steps | _family_params(definition, settings, ct.quantity, aggregation)) for definition in wanted]
    named = {spec.name: row[definition.key] for spec, definition in zip(specs, wanted, strict=True)}
    provenance = Provenance(
        "idx.radiomics.extract",
        steps | settings.bin_params(ct.quantity) | {"families": ", ".join(families), "aggregation": aggregation},
        (_input_name(ct), _input_name(lesion)),
    )
    return FeatureTable.from_rows({lesion.label: named}, specs, index_name="lesion", provenance=provenance)


def _measure(region: Region, settings: Preparation, families: set[str], aggregation: str) -> dict[str, float | Missing]:
    row: dict[str, float | Missing] = {}
    if "intensity" in families:
        row |= intensity_statistics(region.intensities)
    if "shape" in families:
        row |= shape_features(region)
    if families & {"histogram", "glcm"}:
        levels, n_levels = grey_levels(region, settings)
        if "histogram" in families:
            row |= intensity_histogram(levels, n_levels)
        if "glcm" in families:
            placed = np.zeros(region.values.shape, dtype=np.int64)
            placed[region.intensity_mask] = levels
            row |= glcm_features(placed, n_levels, aggregation=aggregation)
    return row


def _family_params(definition: Definition, settings: Preparation, quantity: str, aggregation: str) -> dict[str, Setting]:
    family: dict[str, Setting] = {"family": definition.family}
    if definition.family in ("histogram", "glcm"):
        family |= settings.bin_params(quantity)
    if definition.family == "glcm":
        family |= {"aggregation": aggregation, "distance_voxels": 1}
    return family


def _input_name(image: Volume | Mask) -> str:
    if image.source is not None:
        return image.source.path
    return f"{type(image).__name__} in memory"
