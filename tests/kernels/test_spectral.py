"""Gains: plane waves come out scaled and shifted as the formulas say; even sizes as the real part of the full transform."""

import numpy as np
import pytest
import torch

from idx.kernels.spectral import apply_gain, riesz_gain, simoncelli_gain

SHAPE = (15, 21, 27)


def wave(cycles, shape, phase=0.0):
    z, y, x = np.indices(shape)
    return np.cos(2 * np.pi * (cycles[0] * z / shape[0] + cycles[1] * y / shape[1] + cycles[2] * x / shape[2]) + phase)


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("cycles", [(3, 4, 5), (0, 0, 6), (-2, 5, 0), (1, 0, 0), (7, 10, 13)])
def test_a_wave_is_scaled_by_the_simoncelli_window(level, cycles):
    # IBSI 2: cos(pi/2 log2(2 v / v_max)) between a quarter of v_max and v_max.
    radius = np.sqrt(sum((2 * c / (n - 1)) ** 2 for c, n in zip(cycles, SHAPE, strict=True)))
    top = 2.0 ** (1 - level)
    scale = np.cos(np.pi / 2 * np.log2(2 * radius / top)) if top / 4 <= radius <= top else 0.0
    image = wave(cycles, SHAPE)
    got = apply_gain(torch.from_numpy(image), simoncelli_gain(level), (0, 1, 2), 0, "periodic").numpy()
    assert np.allclose(got, scale * image, atol=1e-12)


@pytest.mark.parametrize("cycles", [(3, 4, 5), (0, 0, 6), (-2, 5, 0)])
@pytest.mark.parametrize(("order", "weight"), [((1, 0, 0), 1.0), ((0, 0, 1), 1.0), ((0, 2, 0), 1.0), ((1, 1, 0), 2.0), ((1, 1, 1), 6.0), ((0, 3, 1), 4.0)])
def test_a_wave_is_turned_by_a_quarter_for_each_riesz_order(cycles, order, weight):
    v = np.array([c / n for c, n in zip(cycles, SHAPE, strict=True)])
    scale = np.sqrt(weight) * np.prod(v ** np.array(order)) / np.linalg.norm(v) ** sum(order)
    got = apply_gain(torch.from_numpy(wave(cycles, SHAPE)), riesz_gain(order), (0, 1, 2), 0, "periodic").numpy()
    assert np.allclose(got, scale * wave(cycles, SHAPE, -np.pi / 2 * sum(order)), atol=1e-12)


def full_transform(image, level, order):
    """Gains laid out as the reference does: a whole complex spectrum, real part of the response."""
    grids = np.meshgrid(*(np.fft.ifftshift(np.linspace(-1, 1, n)) for n in image.shape), indexing="ij")
    v = np.sqrt(sum(grid**2 for grid in grids)) * 2 ** (level - 1)
    gain = np.where((v >= 0.25) & (v <= 1), np.cos(np.pi / 2 * np.log2(2 * np.maximum(v, 0.1))), 0.0)
    true = np.meshgrid(*(np.fft.fftfreq(n) for n in image.shape), indexing="ij")
    length = np.sqrt(sum(grid**2 for grid in true))
    length[0, 0, 0] = 1.0
    turn = (-1j) ** sum(order) * np.prod([grid**power for grid, power in zip(true, order, strict=True)], axis=0) / length ** sum(order)
    return np.fft.ifftn(np.fft.fftn(image) * gain * turn).real


@pytest.mark.parametrize("shape", [(8, 10, 12), (9, 10, 7), (9, 11, 13)])
@pytest.mark.parametrize("order", [(0, 0, 0), (1, 0, 0), (0, 0, 2)])
def test_half_a_spectrum_serves_as_the_whole(shape, order):
    image = np.random.default_rng(0).normal(size=shape)
    band, turn = simoncelli_gain(1), riesz_gain(order)
    got = apply_gain(torch.from_numpy(image), lambda f, n: band(f, n) * turn(f, n), (0, 1, 2), 0, "periodic").numpy()
    assert np.allclose(got, full_transform(image, 1, order), atol=1e-12)


def test_slices_are_filtered_one_by_one():
    image = np.random.default_rng(0).normal(size=(3, 9, 10))
    got = apply_gain(torch.from_numpy(image), simoncelli_gain(1), (1, 2), 0, "periodic").numpy()
    for one, response in zip(image, got, strict=True):
        again = apply_gain(torch.from_numpy(one[None]), simoncelli_gain(1), (1, 2), 0, "periodic").numpy()[0]
        assert np.allclose(response, again, atol=1e-13)
    assert not np.allclose(got[0], got[1])
