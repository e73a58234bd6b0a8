"""Outlines of all objects at once against marching squares on one mask at a time."""

import itertools

import numpy as np
import pytest
from skimage.measure import find_contours, label

from idx.kernels.labels import outlines


def shoelace(ring: np.ndarray) -> float:
    following = np.roll(ring, -1, axis=0)
    return float((ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum() / 2)


def blobs(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(label(rng.random((40, 53)) < 0.55, connectivity=1))


def canonical(ring: np.ndarray) -> frozenset:
    return frozenset(map(tuple, np.round(ring, 3).tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_rings_are_those_of_marching_squares(seed):
    labels = blobs(seed)
    vertices, offsets, owner = outlines(labels)
    for number in range(1, labels.max() + 1):
        expected = {canonical(c[:-1, ::-1] - 1) for c in find_contours(np.pad(labels == number, 1).astype(float), 0.5)}
        found = {canonical(vertices[offsets[r] : offsets[r + 1]]) for r in np.flatnonzero(owner == number)}
        assert found == expected


@pytest.mark.parametrize("seed", range(3))
def test_of_each_object_the_outer_ring_comes_first_then_holes(seed):
    labels = blobs(seed)
    vertices, offsets, owner = outlines(labels)
    signs = np.array([np.sign(shoelace(vertices[a:b])) for a, b in itertools.pairwise(offsets)])
    first = np.r_[True, owner[1:] != owner[:-1]]
    assert (signs[first] == 1).all()
    assert (signs[~first] == -1).all()
    assert (np.diff(owner) >= 0).all()


def test_consecutive_vertices_are_less_than_a_pixel_apart():
    vertices, offsets, _ = outlines(blobs(7))
    for a, b in itertools.pairwise(offsets):
        assert np.linalg.norm(np.roll(vertices[a:b], -1, axis=0) - vertices[a:b], axis=1).max() <= 1.0


def test_one_pixel_and_nothing():
    one = np.zeros((3, 4), dtype=int)
    assert len(outlines(one)[2]) == 0
    one[1, 2] = 5
    vertices, offsets, owner = outlines(one)
    assert owner.tolist() == [5]
    assert shoelace(vertices) == pytest.approx(0.5)
    np.testing.assert_allclose(vertices.mean(axis=0), [2, 1])
    assert offsets.tolist() == [0, 4]
