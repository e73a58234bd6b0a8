from .contours import read_contours, write_geojson
from .masks import read_mask
from .slides import open_slide
from .volumes import read_ct, read_volume

__all__ = ["open_slide", "read_contours", "read_ct", "read_mask", "read_volume", "write_geojson"]
