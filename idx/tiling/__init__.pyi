from .planning import TileGrid, plan
from .reading import read_tiles
from .running import TileResult, run
from .stitching import in_core, stitch

__all__ = ["TileGrid", "TileResult", "in_core", "plan", "read_tiles", "run", "stitch"]
