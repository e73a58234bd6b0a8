"""Flat layouts of groups: members lie one group after the other, and sizes or offsets say where a group begins."""

from __future__ import annotations

import numpy as np

from idx._typing import IntArray


def counted(sizes: IntArray) -> tuple[IntArray, IntArray]:
    """For groups of some sizes laid out one after the other: the group of each member, and its number within it.

    Examples
    --------
    >>> [part.tolist() for part in counted(np.array([2, 0, 3]))]
    [[0, 0, 2, 2, 2], [0, 1, 0, 1, 2]]
    """
    group = np.repeat(np.arange(len(sizes)), sizes)
    return group, np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
