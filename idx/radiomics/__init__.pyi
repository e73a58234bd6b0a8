from .extraction import extract
from .maps import FeatureMap, feature_maps

__all__ = ["FeatureMap", "extract", "feature_maps"]
