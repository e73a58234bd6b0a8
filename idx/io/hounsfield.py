"""From stored or floating values to int16 HU, the same way for every format."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from idx._typing import Array
from idx.errors import UnitError

PADDING_HU = -1024
"""HU given to voxels that a DICOM header declares as padding (outside the reconstructed circle): below air, so that it counts as no tissue."""
_INT16 = np.iinfo(np.int16)


def to_hu(values: Array, *, where: str) -> npt.NDArray[np.int16]:
    """Round values in HU to int16.

    Parameters
    ----------
    values : array
        HU, integer or floating, any shape.
    where : str
        File that the values come from, for the error.

    Returns
    -------
    array of int16
        Rounded half to even where the values are not integers.

    Raises
    ------
    UnitError
        If a value is not finite or does not fit in int16.

    Examples
    --------
    >>> to_hu(np.array([-1000.4, 0.5, 40.0]), where="example").tolist()
    [-1000, 0, 40]
    """
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnitError(f"HU must be finite; got NaN or infinity ('{where}'). Replace them in the file, for example by {PADDING_HU} outside the body.")
    if low < _INT16.min - 0.5 or high > _INT16.max + 0.5:
        raise UnitError(
            f"HU must lie within {_INT16.min} to {_INT16.max}; got {low:g} to {high:g} ('{where}'). "
            "Read it with read_volume(path), or correct the file's rescale."
        )
    if np.issubdtype(values.dtype, np.floating):
        values = np.clip(np.rint(values), _INT16.min, _INT16.max)
    return values.astype(np.int16)


def rescale(stored: Array, slope: float, intercept: float) -> Array:
    """Apply a linear rescale, in int64 where it is exact there and in float64 otherwise.

    Parameters
    ----------
    stored : array
        Stored values.
    slope, intercept : float
        value = stored * slope + intercept.

    Returns
    -------
    array of int64 or float64
    """
    if np.issubdtype(stored.dtype, np.integer) and float(slope).is_integer() and float(intercept).is_integer():
        return stored.astype(np.int64) * int(slope) + int(intercept)
    return stored.astype(np.float64) * slope + intercept
