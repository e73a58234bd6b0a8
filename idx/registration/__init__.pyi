from .landmarks import LandmarkFit, Landmarks, fit_landmarks, read_landmarks, write_landmarks
from .maps import SectionMaps
from .placement import Hypothesis, Placement
from .pose import PosePrior
from .section import maps_of, register_section

__all__ = [
    "Hypothesis",
    "LandmarkFit",
    "Landmarks",
    "Placement",
    "PosePrior",
    "SectionMaps",
    "fit_landmarks",
    "maps_of",
    "read_landmarks",
    "register_section",
    "write_landmarks",
]
