from .converting import convert
from .embedding import embed
from .encoders import load_encoder
from .grid import TileGrid
from .label_images import stitch_label_image
from .maps import stitch_map
from .objects import StitchedObjects
from .planning import plan
from .reading import read_tiles
from .regions import Region, read_region
from .results import TileBatch, TileFailure, TileResult
from .running import run, stream
from .stitched_map import StitchedMap
from .stitching import in_core, iter_stitched, stitch, stitch_labels
from .tiatoolbox_models import tiatoolbox_model

__all__ = [
    "Region",
    "StitchedMap",
    "StitchedObjects",
    "TileBatch",
    "TileFailure",
    "TileGrid",
    "TileResult",
    "convert",
    "embed",
    "in_core",
    "iter_stitched",
    "load_encoder",
    "plan",
    "read_region",
    "read_tiles",
    "run",
    "stitch",
    "stitch_label_image",
    "stitch_labels",
    "stitch_map",
    "stream",
    "tiatoolbox_model",
]
