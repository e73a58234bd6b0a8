"""What counts neighbours, runs and zones: compiled code on the CPU, or torch on a device. Both give the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from idx._typing import FloatArray, IntArray

DIRECTIONS_3D: tuple[tuple[int, int, int], ...] = (
    *((0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1)),
    *((1, -1, -1), (1, -1, 0), (1, -1, 1), (1, 0, -1), (1, 0, 0), (1, 0, 1), (1, 1, -1), (1, 1, 0), (1, 1, 1)),
)
"""One of each pair of opposite steps (z, y, x) to the 26 neighbours at Chebyshev distance 1; the first four stay in a slice."""
DIRECTIONS_2D = DIRECTIONS_3D[:4]


class NeighbourCounts(NamedTuple):
    """What one look at every voxel's neighbours gives; ``s`` is the number of slices, or 1 for a volume.

    Attributes
    ----------
    pairs : array (s, d, n_levels, n_levels) of int64
        Co-occurrences of levels one step apart in each of 4 or 13 directions, both senses counted (symmetric).
    dependences : array (s, n_levels, 9 or 27) of int64
        Voxels of a level that have k = 0, 1, ... neighbours of the same level.
    toned : array (s, n_levels) of int64
        Voxels of a level that have at least one neighbour in the region.
    tone_difference : array (s, n_levels) of float64
        Sum over these voxels of the absolute difference between their level and the mean level of their neighbours.
    """

    pairs: IntArray
    dependences: IntArray
    toned: IntArray
    tone_difference: FloatArray


class Zones(NamedTuple):
    """Connected voxels of one level, each array (m,) of int64, in the order of their first voxels.

    Attributes
    ----------
    slice_index : array
        Slice of the zone; 0 for zones of a volume.
    level : array
    size : array
        Number of voxels.
    distance : array
        Smallest distance to the region's border among them.
    """

    slice_index: IntArray
    level: IntArray
    size: IntArray
    distance: IntArray


@dataclass(frozen=True)
class Engine:
    """Functions with one contract each, implemented for the CPU and for devices. Arrays are numpy, (z, y, x).

    Parameters
    ----------
    count_neighbours : callable
        ``(levels, n_levels, *, in_slice) -> NeighbourCounts``; ``levels`` are integers 1..n_levels, 0 outside the region.
    count_runs : callable
        ``(levels, n_levels, *, in_slice) -> array (s, d, n_levels, longest) of int64``: runs of a level by length 1, 2, ... up to the largest
        dimension (of a slice).
    find_zones : callable
        ``(levels, distance, *, in_slice) -> Zones``: 26-connected (8 in a slice) voxels of one level.
    border_distance : callable
        ``(mask, *, in_slice) -> array of int32``: city-block steps from a voxel of the mask to the nearest voxel outside it, the array's
        border counting as outside; 0 outside.
    cube_counts : callable
        ``(mask) -> (counts (256,), positions (256,))`` of int64: the 2x2x2 cells of the mask with a border of one voxel around it, by
        which of their corners are inside (bit 4 dz + 2 dy + dx), and the sum of their x indices, counted from the border. Cells all outside
        (0) or all inside (255) have no surface and are not counted.
    sphere_means : callable
        ``(values, mask, spacing_mm, radius_mm) -> array (n,)``: mean of the finite values within a radius of every voxel of the mask, NaN where
        there is none.
    moran_geary : callable
        ``(values, mask, spacing_mm) -> (float, float)``: Moran's I and Geary's C with weights of one over distance.
    device : str
        Where the work is done.
    """

    count_neighbours: Callable[..., NeighbourCounts]
    count_runs: Callable[..., IntArray]
    find_zones: Callable[..., Zones]
    border_distance: Callable[..., IntArray]
    cube_counts: Callable[..., tuple[IntArray, IntArray]]
    sphere_means: Callable[..., FloatArray]
    moran_geary: Callable[..., tuple[float, float]]
    device: str = "cpu"


def engine_for(device: str = "cpu") -> Engine:
    """Engine of a torch device; the CPU has compiled kernels of its own."""
    if device == "cpu":
        from idx.kernels import autocorrelation, mesh, neighbours, runs, spheres, zones

        return Engine(
            neighbours.count_neighbours,
            runs.count_runs,
            zones.find_zones,
            zones.border_distance,
            mesh.cube_counts,
            spheres.sphere_means,
            autocorrelation.moran_geary,
        )
    from idx.kernels.torch_engine import torch_engine

    return torch_engine(device)
