from .balls import BallPhantom, ball
from .dicom import write_ct_series, write_enhanced_ct, write_rtstruct
from .lesions import LesionPhantom, lesion_ct
from .pairs import PairedPhantom, paired_case
from .patients import CohortPhantom, cohort
from .slides import SlidePhantom, he_slide

__all__ = [
    "BallPhantom",
    "CohortPhantom",
    "LesionPhantom",
    "PairedPhantom",
    "SlidePhantom",
    "ball",
    "cohort",
    "he_slide",
    "lesion_ct",
    "paired_case",
    "write_ct_series",
    "write_enhanced_ct",
    "write_rtstruct",
]
