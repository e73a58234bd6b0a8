"""What the Image Biomarker Standardisation Initiative asks software to measure: images, settings and names of its references.

IBSI 1: reference manual arXiv:1612.07003, section 5. IBSI 2: reference manual arXiv:2006.05470, phases 1 (response maps) and 2 (features).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from idx.radiomics.catalog import FAMILIES
from idx.radiomics.filters import GaborFilter, ImageFilter, LaplacianOfGaussian, LawsFilter, MeanFilter
from idx.radiomics.filters_wavelets import RieszFilter, SeparableWavelet, SimoncelliWavelet
from idx.radiomics.settings import AGGREGATIONS, RadiomicsSettings

IBSI1_FAMILIES: Mapping[str, str] = MappingProxyType(
    dict(zip(("morph", "loc", "stat", "ih", "ivh", "cm", "rlm", "szm", "dzm", "ngtdm", "ngldm"), FAMILIES, strict=True))
)
"""Family of the catalogue by the prefix of IBSI's tags."""
IBSI1_AGGREGATIONS: Mapping[str, str | None] = MappingProxyType(
    {
        "": None,
        "2D": "2d",
        "2.5D": "2.5d",
        "3D": "3d",
        "2D, averaged": "2d_averaged",
        "2D, slice-merged": "2d_slice_merged",
        "2.5D, direction-merged": "2.5d_direction_merged",
        "2.5D, merged": "2.5d_merged",
        "3D, averaged": "3d_averaged",
        "3D, merged": "3d_merged",
    }
)
IBSI1_SETS: Mapping[str, tuple[str, RadiomicsSettings]] = MappingProxyType(
    {
        "digital_phantom": (
            "ibsi1_digital_phantom",
            RadiomicsSettings(name="IBSI digital phantom", resegment_range=(1.0, 9.0), bin_size=1.0, aggregations=AGGREGATIONS),
        ),
        **{f"config_{letter}": ("ibsi1_ct_phantom", RadiomicsSettings.ibsi(letter)) for letter in "ABCDE"},
    }
)
"""Image and settings by the name of a reference set."""

RESPONSE_MAPS: Mapping[str, tuple[str, ImageFilter]] = MappingProxyType(
    {
        "1_a_1": ("checkerboard", MeanFilter(15, boundary="zero")),
        "1_a_2": ("checkerboard", MeanFilter(15, boundary="nearest")),
        "1_a_3": ("checkerboard", MeanFilter(15, boundary="periodic")),
        "1_a_4": ("checkerboard", MeanFilter(15, boundary="mirror")),
        "1_b_1": ("impulse", MeanFilter(15, dimensions=2, boundary="zero")),
        "2_a": ("impulse", LaplacianOfGaussian(3.0, boundary="zero")),
        "2_b": ("checkerboard", LaplacianOfGaussian(5.0, boundary="mirror")),
        "2_c": ("checkerboard", LaplacianOfGaussian(5.0, dimensions=2, boundary="mirror")),
        "3_a_1": ("impulse", LawsFilter("E5L5S5", boundary="zero")),
        "3_a_2": ("impulse", LawsFilter("E5L5S5", "max", boundary="zero")),
        "3_a_3": ("impulse", LawsFilter("E5L5S5", "max", 7, boundary="zero")),
        "3_b_1": ("checkerboard", LawsFilter("E3W5R5", boundary="mirror")),
        "3_b_2": ("checkerboard", LawsFilter("E3W5R5", "max", boundary="mirror")),
        "3_b_3": ("checkerboard", LawsFilter("E3W5R5", "max", 7, boundary="mirror")),
        "3_c_1": ("checkerboard", LawsFilter("L5S5", dimensions=2, boundary="mirror")),
        "3_c_2": ("checkerboard", LawsFilter("L5S5", "max", dimensions=2, boundary="mirror")),
        "3_c_3": ("checkerboard", LawsFilter("L5S5", "max", 7, dimensions=2, boundary="mirror")),
        "4_a_1": ("impulse", GaborFilter(10.0, 4.0, 0.5, 60.0, dimensions=2, boundary="zero")),
        "4_a_2": ("impulse", GaborFilter(10.0, 4.0, 0.5, 0.0, 45.0, boundary="zero")),
        "4_b_1": ("sphere", GaborFilter(20.0, 8.0, 2.5, 225.0, dimensions=2, boundary="mirror")),
        "4_b_2": ("sphere", GaborFilter(20.0, 8.0, 2.5, 0.0, 22.5, boundary="mirror")),
        "5_a_1": ("impulse", SeparableWavelet("db2", "LHL", boundary="zero")),
        "5_a_2": ("impulse", SeparableWavelet("db2", "LHL", 1, "average", boundary="zero")),
        "6_a_1": ("sphere", SeparableWavelet("coif1", "HHL", boundary="periodic")),
        "6_a_2": ("sphere", SeparableWavelet("coif1", "HHL", 1, "average", boundary="periodic")),
        "7_a_1": ("checkerboard", SeparableWavelet("haar", "LLL", 2, "average", boundary="mirror")),
        "7_a_2": ("checkerboard", SeparableWavelet("haar", "HHH", 2, "average", boundary="mirror")),
        "8_a_1": ("checkerboard", SimoncelliWavelet(1, boundary="periodic")),
        "8_a_2": ("checkerboard", SimoncelliWavelet(2, boundary="periodic")),
        "8_a_3": ("checkerboard", SimoncelliWavelet(3, boundary="periodic")),
        "9_a": ("impulse", RieszFilter(LaplacianOfGaussian(3.0, boundary="zero"), (1, 0, 0))),
        "9_b_1": ("sphere", RieszFilter(LaplacianOfGaussian(3.0, boundary="zero"), (0, 2, 0))),
        "10_b_1": ("pattern_1", RieszFilter(SimoncelliWavelet(1, boundary="periodic"), (0, 2, 0))),
    }
)
"""Phantom and filter of every test of phase 1 whose response map is valid."""

_PHASE2_FILTERS: dict[str, tuple[ImageFilter | None, ImageFilter | None]] = {
    "1": (None, None),
    "2": (MeanFilter(5, dimensions=2), MeanFilter(5)),
    "3": (LaplacianOfGaussian(1.5, dimensions=2), LaplacianOfGaussian(1.5)),
    "4": (LawsFilter("L5E5", "max", 7, dimensions=2), LawsFilter("L5E5E5", "max", 7)),
    "5": (GaborFilter(5.0, 2.0, 1.5, 0.0, 22.5, dimensions=2), GaborFilter(5.0, 2.0, 1.5, 0.0, 22.5)),
    "6": (SeparableWavelet("db3", "LH", 1, "average", dimensions=2), SeparableWavelet("db3", "LLH", 1, "average")),
    "7": (SeparableWavelet("db3", "HH", 2, "average", dimensions=2), SeparableWavelet("db3", "HHH", 2, "average")),
    "8": (SimoncelliWavelet(1, dimensions=2, boundary="periodic"), SimoncelliWavelet(1, boundary="periodic")),
    "9": (SimoncelliWavelet(2, dimensions=2, boundary="periodic"), SimoncelliWavelet(2, boundary="periodic")),
}
_PHASE2_STEPS: dict[str, dict[str, object]] = {"A": {}, "B": {"spacing_mm": 1.0, "interpolation": "cubic"}}
FILTERED_SETS: Mapping[str, RadiomicsSettings] = MappingProxyType(
    {
        f"{number}.{letter}": RadiomicsSettings(
            name=f"IBSI 2 phase 2, {number}.{letter}", resegment_range=(-1000.0, 400.0), families=("intensity",), filters=(filters["AB".index(letter)],)
        ).replace(**_PHASE2_STEPS[letter])
        for number, filters in _PHASE2_FILTERS.items()
        for letter in "AB"
    }
)
"""Settings of phase 2: A filters slices of the image as it is, B the image at 1 mm; with a mirror boundary, except Simoncelli's wavelets, which are
defined by their gain at each frequency and so are periodic: with a mirrored extension 8.A and 9.B miss a value next to zero."""
