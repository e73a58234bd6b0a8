from .catalog import CATALOG, FAMILIES, Definition, feature_specs
from .checklist import reporting_checklist
from .conformance_check import Check, Conformance, conformance
from .extraction import extract
from .filters import GaborFilter, ImageFilter, LaplacianOfGaussian, LawsFilter, MeanFilter
from .filters_wavelets import RieszFilter, SeparableWavelet, SimoncelliWavelet
from .maps import FeatureMap, feature_maps
from .naming import renamed
from .pyradiomics import PYRADIOMICS_DEVIATIONS
from .settings import AGGREGATIONS, RadiomicsSettings
from .shape import surface_area_mm2

__all__ = [
    "AGGREGATIONS",
    "CATALOG",
    "FAMILIES",
    "PYRADIOMICS_DEVIATIONS",
    "Check",
    "Conformance",
    "Definition",
    "FeatureMap",
    "GaborFilter",
    "ImageFilter",
    "LaplacianOfGaussian",
    "LawsFilter",
    "MeanFilter",
    "RadiomicsSettings",
    "RieszFilter",
    "SeparableWavelet",
    "SimoncelliWavelet",
    "conformance",
    "extract",
    "feature_maps",
    "feature_specs",
    "renamed",
    "reporting_checklist",
    "surface_area_mm2",
]
