from .catalog import CATALOG, FAMILIES, feature_specs
from .extraction import extract
from .maps import FeatureMap, feature_maps
from .shape import surface_area_mm2

__all__ = ["CATALOG", "FAMILIES", "FeatureMap", "extract", "feature_maps", "feature_specs", "surface_area_mm2"]
