from . import cohort, errors, geometry, histology, io, models, radiomics, registration, report, testing, tiling, view
from .case import Case, load_case
from .errors import IdxError
from .io import open_slide, read_contours, read_ct, read_mask, read_volume
from .settings import Settings, use_settings
from .slide import Contours, Slide
from .table import FeatureSpec, FeatureTable
from .volume import CTVolume, Mask, Volume

__version__: str

__all__ = [
    "CTVolume",
    "Case",
    "Contours",
    "FeatureSpec",
    "FeatureTable",
    "IdxError",
    "Mask",
    "Settings",
    "Slide",
    "Volume",
    "cohort",
    "errors",
    "geometry",
    "histology",
    "io",
    "load_case",
    "models",
    "open_slide",
    "radiomics",
    "read_contours",
    "read_ct",
    "read_mask",
    "read_volume",
    "registration",
    "report",
    "testing",
    "tiling",
    "use_settings",
    "view",
]
