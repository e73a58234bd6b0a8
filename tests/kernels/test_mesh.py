import numpy as np
import pytest
from scipy.spatial.distance import pdist

from idx.kernels.mesh import convex_hull, mesh_of_mask


def test_octahedron_of_one_voxel():
    mesh = mesh_of_mask(np.ones((1, 1, 1), dtype=bool), (1.0, 2.0, 3.0))
    assert mesh.volume == pytest.approx(1.0 * 2.0 * 3.0 / 6)
    assert mesh.extent.tolist() == pytest.approx([1.0, 2.0, 3.0])
    # Eight equal triangles with corners on the half axes.
    a, b, c = 0.5, 1.0, 1.5
    assert mesh.area == pytest.approx(8 * np.sqrt((a * b) ** 2 + (b * c) ** 2 + (c * a) ** 2) / 2)


def test_cavities_are_left_out_of_the_volume_and_add_to_the_area():
    solid = np.ones((7, 7, 7), dtype=bool)
    hollow = solid.copy()
    hollow[3, 3, 3] = False
    full, shell = mesh_of_mask(solid, (1.0, 1.0, 1.0)), mesh_of_mask(hollow, (1.0, 1.0, 1.0))
    assert shell.volume == pytest.approx(full.volume - 1 / 6)
    assert shell.area == pytest.approx(full.area + 3**0.5)


def test_volume_does_not_depend_on_the_position():
    mask = np.random.default_rng(0).random((5, 6, 7)) < 0.6
    near = mesh_of_mask(mask, (0.5, 0.7, 0.9)).volume
    assert mesh_of_mask(np.pad(mask, ((300, 0), (0, 0), (0, 0))), (0.5, 0.7, 0.9)).volume == pytest.approx(near, rel=1e-12)


def test_diameter_over_the_hull_is_that_over_all_points():
    points = np.random.default_rng(1).normal(size=(400, 3))
    assert convex_hull(points).diameter == pdist(points).max()


def test_hull_of_a_box():
    corners = np.array(np.meshgrid([0, 2.0], [0, 3.0], [0, 5.0])).reshape(3, -1).T
    hull = convex_hull(corners)
    assert (hull.volume, hull.area, hull.diameter) == pytest.approx((30.0, 62.0, np.sqrt(38.0)))
