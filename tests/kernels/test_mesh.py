"""The surface of a mask by counting cells, against scikit-image's mesh of the same mask triangle by triangle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import marching_cubes

from idx.kernels.mesh import cube_counts, surface


def measured(mask, spacing_mm=(1.0, 1.0, 1.0)):
    return surface(*cube_counts(mask), spacing_mm)


def triangles(mask, spacing_mm):
    """Corners (n, 3, 3) in mm of the whole mesh of a mask."""
    vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, allow_degenerate=False)
    return (vertices[:, ::-1].astype(np.float64) * spacing_mm)[faces]


def test_octahedron_of_one_voxel():
    volume, area = measured(np.ones((1, 1, 1), dtype=bool), (1.0, 2.0, 3.0))
    assert volume == pytest.approx(1.0 * 2.0 * 3.0 / 6)
    # Eight equal triangles with corners on the half axes.
    a, b, c = 0.5, 1.0, 1.5
    assert area == pytest.approx(8 * np.sqrt((a * b) ** 2 + (b * c) ** 2 + (c * a) ** 2) / 2)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 7)] * 3), st.floats(0.05, 1.0))
def test_counting_cells_equals_adding_triangles(seed, shape, filled):
    mask = np.random.default_rng(seed).random(shape) < filled
    mask.flat[0] = True
    spacing_mm = (0.7, 0.9, 1.6)
    a, b, c = np.moveaxis(triangles(mask, spacing_mm), 1, 0)
    volume, area = measured(mask, spacing_mm)
    assert volume == pytest.approx(abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6, rel=1e-9)
    assert area == pytest.approx(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2, rel=1e-12)


def test_cavities_are_left_out_of_the_volume_and_add_to_the_area():
    solid = np.ones((7, 7, 7), dtype=bool)
    hollow = solid.copy()
    hollow[3, 3, 3] = False
    full, shell = measured(solid), measured(hollow)
    assert shell[0] == pytest.approx(full[0] - 1 / 6)
    assert shell[1] == pytest.approx(full[1] + 3**0.5)


def test_volume_does_not_depend_on_the_position():
    mask = np.random.default_rng(0).random((5, 6, 7)) < 0.6
    near = measured(mask, (0.5, 0.7, 0.9))[0]
    for axis in range(3):
        margin = [(300 if a == axis else 0, 0) for a in range(3)]
        assert measured(np.pad(mask, margin), (0.5, 0.7, 0.9))[0] == pytest.approx(near, rel=1e-12)
