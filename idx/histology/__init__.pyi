from .extraction import extract
from .nuclei import Nuclei, find_nuclei
from .tissue import find_sections, find_tissue

__all__ = ["Nuclei", "extract", "find_nuclei", "find_sections", "find_tissue"]
