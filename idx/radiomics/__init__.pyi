from .catalog import CATALOG, FAMILIES, Definition, feature_specs
from .checklist import reporting_checklist
from .conformance_check import Check, Conformance, conformance
from .extraction import extract
from .filters import GaborFilter, ImageFilter, LaplacianOfGaussian, LawsFilter, MeanFilter
from .filters_wavelets import RieszFilter, SeparableWavelet, SimoncelliWavelet
from .maps import MAP_FAMILIES, FeatureMap, feature_maps
from .naming import renamed
from .perturbation import DEFAULT_PERTURBATIONS, Perturbation, perturbation_grid
from .pyradiomics import PYRADIOMICS_DEVIATIONS
from .reliability import ICC_KINDS, intraclass_correlation
from .robustness import Stability, stability
from .settings import AGGREGATIONS, RadiomicsSettings
from .shape import surface_area_mm2

__all__ = [
    "AGGREGATIONS",
    "CATALOG",
    "DEFAULT_PERTURBATIONS",
    "FAMILIES",
    "ICC_KINDS",
    "MAP_FAMILIES",
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
    "Perturbation",
    "RadiomicsSettings",
    "RieszFilter",
    "SeparableWavelet",
    "SimoncelliWavelet",
    "Stability",
    "conformance",
    "extract",
    "feature_maps",
    "feature_specs",
    "intraclass_correlation",
    "perturbation_grid",
    "renamed",
    "reporting_checklist",
    "stability",
    "surface_area_mm2",
]
