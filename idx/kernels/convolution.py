"""Convolution of volumes with separable kernels under a boundary condition, and pooling over right-angle rotations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, permutations, product
from operator import itemgetter

import numpy as np
import torch

from idx._typing import FloatArray, IntArray

BOUNDARIES = ("zero", "nearest", "periodic", "mirror")
"""What lies beyond the border: nothing, the border's value, the image again, or the image turned over (the border voxel twice)."""
POOLINGS = ("max", "average")
Kernel = tuple[float, ...]
"""Weights of a kernel along one axis, of odd length, its origin in the middle."""
Chain = tuple[Kernel, ...]
"""Kernels that are applied along one axis, one after the other; none leaves the axis alone."""


def outside_indices(n: int, before: int, after: int, boundary: str) -> IntArray:
    """Index of the voxel that stands at each position of an axis that is extended at both ends.

    Parameters
    ----------
    n : int
        Voxels along the axis.
    before, after : int
        Positions added at the two ends.
    boundary : str
        One of :data:`BOUNDARIES`.

    Returns
    -------
    array (before + n + after,)
        Index 0..n-1; -1 where a zero stands.

    Examples
    --------
    >>> outside_indices(3, 2, 2, "mirror").tolist()
    [1, 0, 0, 1, 2, 2, 1]
    """
    position = np.arange(-before, n + after)
    if boundary == "zero":
        return np.where((position >= 0) & (position < n), position, -1)
    if boundary == "nearest":
        return np.clip(position, 0, n - 1)
    if boundary == "periodic":
        return position % n
    folded = position % (2 * n)
    return np.minimum(folded, 2 * n - 1 - folded)


def extend(values: torch.Tensor, margins: Sequence[tuple[int, int]], boundary: str) -> torch.Tensor:
    """Volume with voxels added at the ends of every axis.

    Parameters
    ----------
    values : tensor (z, y, x)
    margins : three pairs of int
        Voxels added before and after along z, y and x.
    boundary : str
        One of :data:`BOUNDARIES`.
    """
    for axis, (before, after) in enumerate(margins):
        if before or after:
            index = torch.from_numpy(outside_indices(values.shape[axis], before, after, boundary)).to(values.device)
            values = values.index_select(axis, index.clamp(min=0))
            if boundary == "zero":
                values.narrow(axis, 0, before).zero_()
                values.narrow(axis, values.shape[axis] - after, after).zero_()
    return values


def axis_operator(chain: Chain, n: int, boundary: str) -> FloatArray:
    """Matrix (n, n) that convolves an axis of n voxels with the kernels of a chain, the boundary condition included.

    Parameters
    ----------
    chain : tuple of kernels
    n : int
        Voxels along the axis.
    boundary : str
        Applied before each kernel.

    Notes
    -----
    Passes along different axes commute, so that a cascade of separable filters is one such matrix for each axis. A product
    of matrices of 200 columns takes as long as a dozen shifted sums, on a CPU and on a GPU, and needs no padded copy.
    """
    operator = np.eye(n)
    rows = np.arange(n)
    for kernel in chain:
        radius = len(kernel) // 2
        index = outside_indices(n, radius, radius, boundary)
        step = np.zeros((n, n))
        for k, weight in enumerate(kernel):
            columns = index[2 * radius - k : 2 * radius - k + n]
            inside = columns >= 0
            # The columns of one shift can repeat (the border's value), its rows cannot.
            step[rows[inside], columns[inside]] += weight
        operator = step @ operator
    return operator


def along_axis(values: torch.Tensor, operator: FloatArray, axis: int) -> torch.Tensor:
    """Product of a matrix (n, n) with a volume (z, y, x) along one of its axes."""
    matrix = torch.from_numpy(operator).to(values.device)
    if axis == 2:
        return values @ matrix.T
    if axis == 1:
        return matrix @ values
    return (matrix @ values.reshape(values.shape[0], -1)).reshape(values.shape)


def convolve(values: torch.Tensor, chains: Sequence[Chain], boundary: str) -> torch.Tensor:
    """Convolve a volume with separable kernels.

    Parameters
    ----------
    values : tensor (z, y, x), float64
    chains : three tuples of kernels
        Kernels along z, y and x.
    boundary : str
        One of :data:`BOUNDARIES`.
    """
    for axis, chain in enumerate(chains):
        if chain:
            values = along_axis(values, axis_operator(chain, values.shape[axis], boundary), axis)
    return values


def convolve_rotated(values: torch.Tensor, chains: Sequence[Chain], boundary: str, pooling: str) -> torch.Tensor:
    """Pool the responses to separable kernels in every orientation by right angles.

    Parameters
    ----------
    values : tensor (z, y, x), float64
    chains : three tuples of kernels
        Kernels along z, y and x; with no kernel along z, the 4 rotations in the slice are taken instead of the 24 in space.
    boundary : str
        One of :data:`BOUNDARIES`.
    pooling : str
        "max" or "average".

    Notes
    -----
    Orientations that share their kernels along z, or along z and y, share those passes. A kernel that turning over negates
    gives the negated response, which is not computed again.
    """
    pooled = torch.zeros_like(values) if pooling == "average" else torch.full_like(values, -torch.inf)
    wanted = _orientations(chains)
    n_rotations = sum(len(signs) for signs in wanted.values())
    for z, of_z in groupby(sorted(wanted), key=itemgetter(0)):
        along_z = convolve(values, (z, (), ()), boundary)
        for y, of_y in groupby(of_z, key=itemgetter(1)):
            along_y = convolve(along_z, ((), y, ()), boundary)
            for turned in of_y:
                signs = wanted[turned]
                if pooling == "average" and sum(signs) == 0:
                    continue
                response = convolve(along_y, ((), (), turned[2]), boundary)
                if pooling == "average":
                    pooled.add_(response, alpha=sum(signs) / n_rotations)
                    continue
                if 1 in signs:
                    torch.maximum(pooled, response, out=pooled)
                if -1 in signs:
                    torch.maximum(pooled, response.neg_(), out=pooled)
    return pooled


def _orientations(chains: Sequence[Chain]) -> dict[tuple[Chain, Chain, Chain], list[int]]:
    """Kernels along (z, y, x) after each right-angle rotation, with the sign of the response of every rotation that leads to them."""
    moved = [axis for axis in range(3) if chains[axis]]
    wanted: dict[tuple[Chain, Chain, Chain], list[int]] = {}
    for order in permutations(range(len(moved))):
        handedness = np.linalg.det(np.eye(len(moved))[list(order)])
        for turns in product((1, -1), repeat=len(moved)):
            if handedness * np.prod(turns) < 0:
                continue  # a mirror image is not a rotation
            turned, sign = list(chains), 1
            for axis, source, turn in zip(moved, order, turns, strict=True):
                turned[axis], flipped = _turned(chains[moved[source]], turn)
                sign *= flipped
            wanted.setdefault((turned[0], turned[1], turned[2]), []).append(sign)
    return wanted


def _turned(chain: Chain, turn: int) -> tuple[Chain, int]:
    """Chain after turning its axis over (turn -1), and the sign that its response takes where that only negates it."""
    reverse = tuple(kernel[::-1] for kernel in chain)
    if turn > 0 or reverse == chain:
        return chain, 1
    parity = 1
    for kernel, back in zip(chain, reverse, strict=True):
        if back == tuple(-weight for weight in kernel):
            parity = -parity
        elif back != kernel:
            return reverse, 1
    return chain, parity
