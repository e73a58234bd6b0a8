from .landmarks import Landmarks, read_landmarks
from .section import Placement, PosePrior, SectionMaps, register_section

__all__ = ["Landmarks", "Placement", "PosePrior", "SectionMaps", "read_landmarks", "register_section"]
