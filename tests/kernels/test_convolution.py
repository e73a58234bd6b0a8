"""Convolution by matrices: boundaries as numpy pads, kernels as scipy convolves, rotations as turning the image."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from idx.kernels.convolution import BOUNDARIES, axis_operator, convolve, convolve_rotated, extend, outside_indices

NUMPY_MODE = {"zero": "constant", "nearest": "edge", "periodic": "wrap", "mirror": "symmetric"}
SCIPY_MODE = {"zero": "constant", "nearest": "nearest", "periodic": "wrap", "mirror": "reflect"}
LOPSIDED = (0.5, -1.0, 2.0, 0.25, 3.0)
EVEN = (1.0, 2.0, 1.0)
ODD = (-1.0, 0.0, 1.0)


@pytest.fixture
def image():
    return np.random.default_rng(3).normal(size=(4, 6, 5))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(("before", "after"), [(0, 2), (3, 1), (9, 14)])
def test_an_axis_is_extended_as_numpy_pads_it(boundary, before, after):
    values = np.arange(1.0, 6.0)
    index = outside_indices(5, before, after, boundary)
    assert np.array_equal(np.where(index < 0, 0.0, values[index]), np.pad(values, (before, after), mode=NUMPY_MODE[boundary]))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_volume_is_extended_as_numpy_pads_it(image, boundary):
    margins = [(1, 7), (0, 2), (3, 0)]
    before = image.copy()
    got = extend(torch.from_numpy(image), margins, boundary).numpy()
    assert np.array_equal(got, np.pad(image, margins, mode=NUMPY_MODE[boundary]))
    assert np.array_equal(image, before)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_kernel_is_scipys_convolution(image, boundary, axis):
    chains = [(), (), ()]
    chains[axis] = (LOPSIDED,)
    got = convolve(torch.from_numpy(image), chains, boundary).numpy()
    assert np.allclose(got, ndimage.convolve1d(image, LOPSIDED, axis, mode=SCIPY_MODE[boundary]), atol=1e-13)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_chain_is_one_convolution_after_the_other(image, boundary):
    got = convolve(torch.from_numpy(image), ((), (LOPSIDED, EVEN), (ODD,)), boundary).numpy()
    want = image
    for kernel, axis in ((LOPSIDED, 1), (ODD, 2), (EVEN, 1)):  # passes along different axes commute
        want = ndimage.convolve1d(want, kernel, axis, mode=SCIPY_MODE[boundary])
    assert np.allclose(got, want, atol=1e-12)


def test_a_kernel_may_reach_beyond_the_whole_axis():
    operator = axis_operator(((1.0,) * 21,), 3, "periodic")
    assert np.array_equal(operator, np.full((3, 3), 7.0))


def every_rotation(image):
    """The image in its 24 orientations by right angles, each with what turns it back."""
    for order in itertools.permutations(range(3)):
        for turns in itertools.product((1, -1), repeat=3):
            if np.linalg.det(np.eye(3)[list(order)]) * np.prod(turns) > 0:
                flips = tuple(axis for axis in range(3) if turns[axis] < 0)
                yield np.flip(image.transpose(order), flips), lambda x, order=order, flips=flips: np.flip(x, flips).transpose(np.argsort(order))


@pytest.mark.parametrize("kernels", [(LOPSIDED, EVEN, ODD), (ODD, ODD, EVEN), (EVEN, EVEN, EVEN), (LOPSIDED, LOPSIDED, ODD)])
@pytest.mark.parametrize("boundary", ["zero", "mirror"])
def test_pooling_over_kernels_is_pooling_over_turned_images(image, kernels, boundary):
    chains = [(kernel,) for kernel in kernels]
    responses = []
    for turned, back in every_rotation(image):
        responses.append(back(convolve(torch.from_numpy(turned.copy()), chains, boundary).numpy()))
    assert len(responses) == 24
    for pooling, pool in (("max", np.max), ("average", np.mean)):
        got = convolve_rotated(torch.from_numpy(image), chains, boundary, pooling).numpy()
        assert np.allclose(got, pool(responses, axis=0), atol=1e-12)


def test_in_a_slice_there_are_four_rotations(image):
    chains = ((), (LOPSIDED,), (ODD,))
    responses = [np.rot90(convolve(torch.from_numpy(np.rot90(image, k, (1, 2)).copy()), chains, "nearest").numpy(), -k, (1, 2)) for k in range(4)]
    for pooling, pool in (("max", np.max), ("average", np.mean)):
        got = convolve_rotated(torch.from_numpy(image), chains, "nearest", pooling).numpy()
        assert np.allclose(got, pool(responses, axis=0), atol=1e-12)
