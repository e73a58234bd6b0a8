from .planning import TileGrid, plan
from .running import TileResult, run
from .stitching import stitch

__all__ = ["TileGrid", "TileResult", "plan", "run", "stitch"]
