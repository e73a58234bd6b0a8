from .planning import TileGrid, plan
from .reading import read_tiles
from .results import TileBatch, TileFailure, TileResult
from .running import run, stream
from .stitching import in_core, stitch
from .tiatoolbox_models import tiatoolbox_model

__all__ = ["TileBatch", "TileFailure", "TileGrid", "TileResult", "in_core", "plan", "read_tiles", "run", "stitch", "stream", "tiatoolbox_model"]
