from .embedding import embed
from .encoders import load_encoder
from .grid import TileGrid
from .objects import StitchedObjects
from .planning import plan
from .reading import read_tiles
from .regions import Region, read_region
from .results import TileBatch, TileFailure, TileResult
from .running import run, stream
from .stitching import in_core, iter_stitched, stitch, stitch_labels
from .tiatoolbox_models import tiatoolbox_model

__all__ = [
    "Region",
    "StitchedObjects",
    "TileBatch",
    "TileFailure",
    "TileGrid",
    "TileResult",
    "embed",
    "in_core",
    "iter_stitched",
    "load_encoder",
    "plan",
    "read_region",
    "read_tiles",
    "run",
    "stitch",
    "stitch_labels",
    "stream",
    "tiatoolbox_model",
]
