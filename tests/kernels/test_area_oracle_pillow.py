"""Area averaging against Pillow's box filter and against exact averages."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from idx.kernels.area import area_average, area_average_on_device, area_taps


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def averaged(picture, size_y, size_x, scale):
    """The picture from its corner, as one tile."""
    axes = [
        area_taps(np.array([0]), size, scale=scale, first=np.array([0]), n_stored=length, n_level=length)
        for size, length in ((size_y, picture.shape[0]), (size_x, picture.shape[1]))
    ]
    out = np.empty((1, size_y, size_x, 3), dtype=np.uint8)
    area_average(picture[None], out, rows=axes[0], columns=axes[1])
    return out[0], axes


def exact(picture, size, scale, axis):
    edges = np.arange(size + 1) * scale
    low, high = edges[:-1, None], np.minimum(edges[1:, None], picture.shape[axis])
    stored = np.arange(picture.shape[axis])
    share = np.clip(np.minimum(high, stored + 1) - np.maximum(low, stored), 0, None)
    return np.moveaxis(np.tensordot(share / share.sum(axis=1, keepdims=True), np.moveaxis(picture.astype(float), axis, 0), axes=1), 0, axis)


@given(scale=st.floats(1.0, 9.0), height=st.integers(12, 60), width=st.integers(12, 60), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_within_half_a_grey_level_of_the_exact_average(scale, height, width, seed):
    picture = noise(height, width, seed)
    n_y, n_x = (int(np.ceil(length / scale - 1e-3)) for length in (height, width))
    found, _ = averaged(picture, n_y, n_x, scale)
    expected = exact(exact(picture, n_y, scale, 0), n_x, scale, 1)
    assert np.abs(found - expected).max() < 0.51


@pytest.mark.parametrize("scale", [2.0, 3.0, 4.0])  # Pillow's box takes or leaves whole pixels at other scales
def test_pillow_agrees_to_a_grey_level(scale):
    picture = noise(60, 120)
    size = int(120 / scale), int(60 / scale)
    expected = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    found, _ = averaged(picture, size[1], size[0], scale)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_constant_stays_what_it_is_up_to_the_border_and_white_begins_beyond():
    picture = np.full((10, 11, 3), 37, dtype=np.uint8)
    found, _ = averaged(picture, 6, 7, 2.3)
    assert (found[:5, :5] == 37).all()
    assert (found[5:] == 255).all()
    assert (found[:, 5:] == 255).all()


@given(
    scale=st.floats(1.0, 6.0),
    start=st.integers(-8, 30),
    size=st.integers(1, 20),
    device=st.sampled_from(["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]),
)
@settings(max_examples=60, deadline=None)
def test_the_device_gives_the_same_bits(scale, start, size, device):
    picture = noise(70, 90)
    starts = np.array([start, start + 3])
    low, high = np.floor(starts * scale).astype(int), np.ceil((starts + size) * scale).astype(int)
    n_stored = int((high - low).max())
    framed = np.full((70 + 600, 90 + 600, 3), 255, dtype=np.uint8)
    framed[100:170, 100:190] = picture
    tiles = np.stack([framed[100 + k : 100 + k + n_stored, 100 + k : 100 + k + n_stored] for k in low])
    rows, columns = (area_taps(starts, size, scale=scale, first=low, n_stored=n_stored, n_level=length) for length in (70, 90))
    out = np.empty((2, size, size, 3), dtype=np.uint8)
    area_average(tiles, out, rows=rows, columns=columns)
    on_device = area_average_on_device(torch.from_numpy(tiles).to(device), rows=rows, columns=columns)
    np.testing.assert_array_equal(on_device.cpu().numpy(), out)


def test_weights_share_a_pixel_that_two_cells_cut():
    begin, weights = area_taps(np.array([0]), 2, scale=1.5, first=np.array([0]), n_stored=3, n_level=3)
    assert begin.tolist() == [[0, 1]]
    np.testing.assert_allclose(weights[0, :, :2] / 2**14, [[2 / 3, 1 / 3], [1 / 3, 2 / 3]], atol=1e-4)
    assert (weights.sum(axis=-1) == 2**14).all()
