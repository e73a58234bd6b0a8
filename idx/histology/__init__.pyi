from .attenuation import ExpectedHU, expected_hu
from .catalog import feature_specs
from .extraction import extract
from .nuclei import Nuclei, find_nuclei
from .stain import StainBasis, fit_stain
from .tissue import find_sections, find_tissue

__all__ = [
    "ExpectedHU",
    "Nuclei",
    "StainBasis",
    "expected_hu",
    "extract",
    "feature_specs",
    "find_nuclei",
    "find_sections",
    "find_tissue",
    "fit_stain",
]
