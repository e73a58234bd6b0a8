from .planning import TileGrid, plan
from .reading import read_tiles
from .running import TileResult, run
from .stitching import in_core, stitch
from .tiatoolbox_models import tiatoolbox_model

__all__ = ["TileGrid", "TileResult", "in_core", "plan", "read_tiles", "run", "stitch", "tiatoolbox_model"]
