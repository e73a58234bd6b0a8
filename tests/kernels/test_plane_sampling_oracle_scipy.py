"""Plane sampling agrees with scipy's trilinear interpolation."""

import numpy as np
import torch
from scipy import ndimage

from idx.kernels import plane_sampling


def test_agrees_with_map_coordinates_also_beyond_the_border_and_in_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    volumes = rng.standard_normal((2, 7, 9, 11))
    axes, origins, points = rng.standard_normal((5, 3, 2)), rng.uniform(0, 7, (5, 3)), rng.uniform(-4, 4, (13, 2))
    monkeypatch.setattr(plane_sampling, "CHUNK_SAMPLES", 30)
    ours = plane_sampling.sample_planes(*(torch.from_numpy(a) for a in (volumes, axes, origins)), points=torch.from_numpy(points)).numpy()
    index = (np.einsum("bij,nj->bni", axes, points) + origins[:, None])[..., ::-1]
    for channel in range(2):
        expected = ndimage.map_coordinates(volumes[channel], np.moveaxis(index, -1, 0), order=1, mode="nearest")
        np.testing.assert_allclose(ours[:, channel], expected, atol=1e-12)


def test_no_planes_give_an_empty_batch():
    empty = plane_sampling.sample_planes(torch.zeros((2, 3, 3, 3)), torch.zeros((0, 3, 2)), torch.zeros((0, 3)), points=torch.zeros((4, 2)))
    assert empty.shape == (0, 2, 4)
