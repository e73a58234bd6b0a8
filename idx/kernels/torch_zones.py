"""Zones of one level and distances to the border on a torch device, and the padded volumes that all counting there works on."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import pad

from idx._typing import Array, BoolArray, IntArray
from idx.kernels.engine import DIRECTIONS_2D, DIRECTIONS_3D, Zones


def padded_on(values: Array, device: torch.device) -> torch.Tensor:
    """Integers (z, y, x) with a border of one zero, as int32 on a device: every neighbour of a voxel is one addition to its flat index."""
    # A copy, because torch warns of arrays that are read-only.
    return pad(torch.from_numpy(np.array(values, dtype=np.int32)).to(device), (1,) * 6)


def flat_steps(padded: torch.Tensor, *, in_slice: bool) -> list[int]:
    """Flat steps in a padded volume, in the order of ``DIRECTIONS_3D``."""
    strides = (padded.shape[1] * padded.shape[2], padded.shape[2], 1)
    return [sum(n * stride for n, stride in zip(step, strides, strict=True)) for step in (DIRECTIONS_2D if in_slice else DIRECTIONS_3D)]


def slices_of(at: torch.Tensor, padded: torch.Tensor, *, in_slice: bool) -> torch.Tensor:
    """Slice of each flat index into a padded volume, border not counted; 0 where slices are not kept apart."""
    return at // (padded.shape[1] * padded.shape[2]) - 1 if in_slice else torch.zeros_like(at)


def find_zones(levels: Array, distance: IntArray, *, in_slice: bool, device: torch.device) -> Zones:
    """Find zones; see :class:`idx.kernels.engine.Engine`.

    Notes
    -----
    The nodes that are joined are the runs along x, in raster order, so that the smallest node of a zone holds its first voxel. Directions
    come one after another: most neighbours are one zone already when their direction is reached, and memory stays small.
    """
    padded = padded_on(levels, device)
    flat = padded.flatten()
    at = flat.nonzero()[:, 0]
    level = flat[at]
    starts = flat[at - 1] != level
    node = starts.cumsum(0) - 1
    node_at = torch.zeros(flat.shape, dtype=torch.int64, device=device)
    node_at[at] = node
    first = at[starts]
    parent = torch.arange(len(first), device=device)
    for step in flat_steps(padded, in_slice=in_slice)[1:]:
        equal = flat[at + step] == level
        parent = _joined(parent, node[equal], node_at[at[equal] + step])
    is_root = parent == torch.arange(len(parent), device=device)
    zone = (is_root.cumsum(0) - 1)[parent[node]]
    first = first[is_root]
    size = torch.bincount(zone, minlength=len(first))
    apart = padded_on(distance, device).flatten()
    nearest = apart[first].scatter_reduce(0, zone, apart[at], "amin")
    found = torch.stack([slices_of(first, padded, in_slice=in_slice), flat[first].long(), size, nearest.long()])
    return Zones(*found.cpu().numpy())


def _joined(parent: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Give nodes that an edge connects the same root, the smallest node of their tree.

    Every root hooks onto the smallest root that an edge leads to, if smaller, and pointer jumping makes all trees flat again; each round
    leaves at least one root less wherever an edge still connects two (Shiloach & Vishkin, J Algorithms 1982;3:57-67).
    """
    while True:
        one, other = parent[one], parent[other]
        apart = one != other
        one, other = one[apart], other[apart]
        if len(one) == 0:
            return parent
        parent = parent.scatter_reduce(0, torch.maximum(one, other), torch.minimum(one, other), "amin")
        while not torch.equal(further := parent[parent], parent):
            parent = further


def border_distance(mask: BoolArray, *, in_slice: bool, device: torch.device) -> IntArray:
    """City-block distance to the border; see :class:`idx.kernels.engine.Engine`.

    Notes
    -----
    City-block distance is separable: along one axis after another, the smallest of a neighbour's value plus the steps to it. Against a
    ramp that is a running minimum, in both directions.
    """
    # Larger than any distance, so that the first axis lowers it.
    distance = padded_on(mask, device) * sum(mask.shape)
    for axis in (1, 2) if in_slice else (0, 1, 2):
        for _ in range(2):
            ramp = torch.arange(distance.shape[axis], dtype=torch.int32, device=device).view([-1 if a == axis else 1 for a in range(3)])
            distance = (torch.cummin(distance - ramp, dim=axis).values + ramp).flip(axis)
    return np.asarray(distance[1:-1, 1:-1, 1:-1].contiguous().cpu().numpy())
