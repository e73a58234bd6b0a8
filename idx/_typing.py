"""Type aliases; shapes and axis order are stated in the name or beside it."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

PathLike: TypeAlias = str | os.PathLike[str]
Array: TypeAlias = npt.NDArray[Any]
FloatArray: TypeAlias = npt.NDArray[np.float64]
"""float64; points are (..., 2) or (..., 3) in (x, y[, z]) order."""
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
"""Masks, (z, y, x) or (y, x)."""
RGBArray: TypeAlias = npt.NDArray[np.uint8]
"""(y, x, 3)."""
Triple: TypeAlias = tuple[float, float, float]
Pair: TypeAlias = tuple[float, float]
