"""Values of volumes on many planes at once: the inner loop of section registration."""

from __future__ import annotations

import torch

CHUNK_SAMPLES = 4_000_000
"""Samples taken per call of the interpolator; bounds the memory for coordinates at about 50 MB."""


def sample_planes(volumes: torch.Tensor, axes: torch.Tensor, origins: torch.Tensor, *, points: torch.Tensor) -> torch.Tensor:
    """Sample volumes trilinearly at the points of many planes.

    The index of point (u, v) on plane b is ``origins[b] + axes[b] @ (u, v)``; beyond the border the nearest voxel is taken.

    Parameters
    ----------
    volumes : tensor (c, z, y, x)
        Floating values; the channels share one grid of at least two voxels per axis.
    axes : tensor (b, 3, 2)
        Change of the voxel index (x, y, z) for one unit of u and of v.
    origins : tensor (b, 3)
        Voxel index (x, y, z) of (u, v) = (0, 0); an integer index is a voxel centre.
    points : tensor (n, 2)
        In-plane points, the same on every plane.

    Returns
    -------
    tensor (b, c, n)
        On the device and of the dtype of ``volumes``.
    """
    # grid_sample wants coordinates in [-1, 1] between the first and last voxel centre; fold that into the planes.
    last = torch.tensor([n - 1 for n in reversed(volumes.shape[1:])], dtype=volumes.dtype, device=volumes.device)
    axes = axes.to(volumes) * (2.0 / last)[None, :, None]
    origins = origins.to(volumes) * (2.0 / last) - 1.0
    points = points.to(volumes)
    planes_per_chunk = max(1, CHUNK_SAMPLES // max(1, len(points)))
    sampled = []
    for first in range(0, len(axes), planes_per_chunk):
        chunk = slice(first, first + planes_per_chunk)
        index = torch.einsum("bij,nj->bni", axes[chunk], points) + origins[chunk, None]
        values = torch.nn.functional.grid_sample(volumes[None], index[None, :, :, None], mode="bilinear", padding_mode="border", align_corners=True)
        sampled.append(values[0, :, :, :, 0].transpose(0, 1))
    return torch.cat(sampled) if sampled else volumes.new_zeros((0, volumes.shape[0], len(points)))
