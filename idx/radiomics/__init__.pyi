from .catalog import CATALOG, FAMILIES, Definition, feature_specs
from .extraction import extract
from .maps import FeatureMap, feature_maps
from .settings import AGGREGATIONS, RadiomicsSettings
from .shape import surface_area_mm2

__all__ = ["AGGREGATIONS", "CATALOG", "FAMILIES", "Definition", "FeatureMap", "RadiomicsSettings", "extract", "feature_maps", "feature_specs", "surface_area_mm2"]
