"""The radiomic features as data: what each is, its unit, its IBSI code and where its formula stands.

Definitions follow the IBSI reference manual (Zwanenburg et al., arXiv:1612.07003; Radiology 2020;295:328-338). The table is ``catalog.csv``
beside this module. Codes are those of the DICOM standard (PS3.16, coding scheme IBSI) where it has the feature: for two percentiles of the histogram
printings of the manual differ (``conformance_errata.csv``).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from idx.errors import FormatError
from idx.provenance import Setting
from idx.table import FeatureSpec

MATRIX_FAMILIES = ("glcm", "glrlm")
"""Families of one matrix per direction: six aggregations."""
ZONE_FAMILIES = ("glszm", "gldzm", "ngtdm", "ngldm")
"""Families without directions: three aggregations (2d, 2.5d, 3d)."""
FAMILIES = ("shape", "local_intensity", "intensity", "histogram", "ivh", *MATRIX_FAMILIES, *ZONE_FAMILIES)
"""Families in the order of a table's columns: IBSI HCUG, 9ST6, UHIW, ZVCW, P88C, LFYI, TP0I, 9SAK, VMDZ, IPET and REK0."""
LEVEL_FAMILIES = ("histogram", *MATRIX_FAMILIES, *ZONE_FAMILIES)
"""Families that are measured on grey levels."""
PYRADIOMICS_KURTOSIS_SHIFT = 3.0
"""PyRadiomics does not subtract 3 from the kurtosis; a column of its name holds its number."""

_SUFFIX_HU = {"1": "", "mm": "_mm", "mm2": "_mm2", "mm3": "_mm3", "1/mm": "_per_mm", "{q}": "_hu", "{q}2": "_hu2", "{q} mm3": "_hu_mm3", "{ivh}": "_hu"}
_SUFFIX_OTHER = _SUFFIX_HU | {"{q}": "", "{q}2": "", "{q} mm3": "_mm3", "{ivh}": ""}
"""End of a column's name by unit; ``{q}`` is the quantity of the image."""


@dataclass(frozen=True)
class Definition:
    """One feature, whatever image it is measured on.

    Parameters
    ----------
    family : str
        One of ``FAMILIES``.
    key : str
        Name without aggregation and unit.
    ibsi_id : str
        IBSI code.
    unit : str
        "1", "mm", "mm2", "mm3", "1/mm", or one of "{q}", "{q}2", "{q} mm3" where {q} stands for the unit of the intensities; "{ivh}" for
        the intensities of the intensity-volume histogram.
    section : str
        Section of the IBSI reference manual that prints the formula.
    ibsi_name : str
        Name in the IBSI reference manual.
    pyradiomics : str
        Name in PyRadiomics, such as "glcm_Contrast"; empty where PyRadiomics does not have the feature.
    definition : str
        One sentence.
    """

    family: str
    key: str
    ibsi_id: str
    unit: str
    section: str
    ibsi_name: str
    pyradiomics: str
    definition: str

    @property
    def formula(self) -> str:
        """Where the formula is printed."""
        return f"IBSI reference manual (arXiv:1612.07003), section {self.section}"

    def column(self, quantity: str = "hu", aggregation: str | None = None) -> str:
        """Name of the feature's column: the key, the aggregation of a texture feature, and the unit where it is mm or HU.

        Examples
        --------
        >>> CATALOG["mean_intensity"].column(), CATALOG["mean_intensity"].column("suv")
        ('mean_intensity_hu', 'mean_intensity')
        >>> CATALOG["glszm_zone_percentage"].column(aggregation="3d")
        'glszm_zone_percentage_3d'
        """
        aggregated = self.key if aggregation is None else f"{self.key}_{aggregation}"
        return aggregated + (_SUFFIX_HU if quantity == "hu" else _SUFFIX_OTHER)[self.unit]

    def spec(self, quantity: str = "hu", params: Mapping[str, Setting] | None = None, *, aggregation: str | None = None) -> FeatureSpec:
        """Specification of the feature on an image of a quantity, measured with some settings."""
        unit = self.unit.format(q=quantity, ivh=quantity)
        return FeatureSpec(self.column(quantity, aggregation), unit, self.definition, self.ibsi_id, params or {})


def aggregations_of(family: str, aggregations: Sequence[str]) -> tuple[str | None, ...]:
    """Aggregations under which a family is measured; (None,) for one that has none.

    Examples
    --------
    >>> aggregations_of("glszm", ["2.5d_direction_merged", "2.5d_merged", "3d_merged"])
    ('2.5d', '3d')
    """
    if family in MATRIX_FAMILIES:
        return tuple(dict.fromkeys(aggregations))
    if family in ZONE_FAMILIES:
        return tuple(dict.fromkeys(aggregation.partition("_")[0] for aggregation in aggregations))
    return (None,)


def _read_catalog() -> dict[str, Definition]:
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
        return {row["key"]: Definition(**row) for row in csv.DictReader(stream)}


CATALOG: Mapping[str, Definition] = MappingProxyType(_read_catalog())
"""Definition of every feature by key, in the order of a table's columns."""


def definitions(families: Sequence[str] = FAMILIES, features: Sequence[str] | None = None) -> tuple[Definition, ...]:
    """Definitions of some families, or of some features of them, in catalogue order.

    Raises
    ------
    FormatError
        If there are no families or features, or one is unknown.
    """
    unknown = [family for family in families if family not in FAMILIES]
    if unknown or not families or isinstance(families, str):
        raise FormatError(f"families must be some of {', '.join(FAMILIES)}; got {families!r}. Pass for example families=('shape', 'glcm').")
    chosen = tuple(definition for definition in CATALOG.values() if definition.family in families)
    if features is None:
        return chosen
    keys = {definition.key for definition in chosen}
    strange = [feature for feature in features if feature not in keys]
    if strange or not features or isinstance(features, str):
        raise FormatError(
            f"features must be keys of the catalogue, of the chosen families; got {strange or features!r}. "
            "See idx.radiomics.CATALOG or 'idx radiomics features' for the keys."
        )
    return tuple(definition for definition in chosen if definition.key in features)


def feature_specs(families: Sequence[str] = FAMILIES, *, quantity: str = "hu", aggregations: Sequence[str] = ("3d_merged",)) -> tuple[FeatureSpec, ...]:
    """Features that :func:`idx.radiomics.extract` measures, with unit, definition and IBSI code.

    Parameters
    ----------
    families : sequence of str
        Some of ``FAMILIES``.
    quantity : str
        Quantity of the image; decides the unit of the intensities.
    aggregations : sequence of str
        Aggregations of the texture features.

    Examples
    --------
    >>> [spec.name for spec in feature_specs(["shape"])][:2]
    ['mesh_volume_mm3', 'voxel_volume_mm3']
    """
    return tuple(
        definition.spec(quantity, {"family": definition.family, "formula": definition.formula}, aggregation=aggregation)
        for definition in definitions(families)
        for aggregation in aggregations_of(definition.family, aggregations)
    )
