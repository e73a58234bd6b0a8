"""What encloses a mask: against all vertices of its mesh, and bodies with closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation
from skimage.measure import marching_cubes

from idx.kernels.hull import convex_hull, extreme_points, smallest_box, smallest_ellipsoid

SPACING = np.array([0.7, 0.9, 1.6])


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 7)] * 3), st.floats(0.05, 1.0))
def test_extreme_points_have_the_hull_of_the_whole_mesh(seed, shape, filled):
    mask = np.random.default_rng(seed).random(shape) < filled
    mask.flat[-1] = True
    vertices = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, allow_degenerate=False)[0][:, ::-1] * SPACING
    points, sums, products = extreme_points(mask)
    whole, reduced = ConvexHull(vertices), convex_hull(points * SPACING)
    assert (reduced.volume, reduced.area) == pytest.approx((whole.volume, whole.area), rel=1e-9)
    assert reduced.diameter == pytest.approx(pdist(vertices).max(), rel=1e-6)  # scikit-image's vertices are float32
    index = np.argwhere(mask)[:, ::-1]
    np.testing.assert_array_equal(sums, [len(index), *index.sum(axis=0)])
    np.testing.assert_array_equal(products, index.T @ index)


def test_diameter_over_the_hull_is_that_over_all_points():
    points = np.random.default_rng(1).normal(size=(400, 3))
    assert convex_hull(points).diameter == pdist(points).max()


def corners_of_a_box(edges, turn=None):
    corners = np.array(np.meshgrid(*[(0.0, edge) for edge in edges])).reshape(3, -1).T
    return corners if turn is None else corners @ turn.T


def test_hull_of_a_box():
    hull = convex_hull(corners_of_a_box((2, 3, 5)))
    assert (hull.volume, hull.area, hull.diameter) == pytest.approx((30.0, 62.0, np.sqrt(38.0)))
    assert len(hull.normals) == 3


@pytest.mark.parametrize("seed", range(4))
def test_smallest_bodies_around_a_turned_box(seed):
    corners = corners_of_a_box((7, 5, 3), Rotation.random(random_state=seed).as_matrix()) + np.array([100.0, -40.0, 7.0])
    np.testing.assert_allclose(smallest_box(convex_hull(corners)), [7, 5, 3], rtol=1e-9)
    # The ellipsoid through the corners of a box has its half edges times the root of 3.
    np.testing.assert_allclose(smallest_ellipsoid(corners), np.sqrt(3.0) * np.array([7, 5, 3]) / 2, rtol=1e-6)


def test_smallest_box_is_never_larger_than_boxes_along_any_other_axes():
    points = np.random.default_rng(5).normal(size=(60, 3)) * [3.0, 1.0, 2.0]
    best = np.prod(smallest_box(convex_hull(points)))
    # The best of 4,000 random orientations comes close from above, and never below by more than the edge-to-edge boxes can gain.
    others = [np.prod(np.ptp(points @ turn.T, axis=0)) for turn in Rotation.random(4000, random_state=0).as_matrix()]
    assert best <= min(others)


@pytest.mark.parametrize("seed", range(3))
def test_smallest_ellipsoid_holds_all_points_and_touches_enough(seed):
    points = np.random.default_rng(seed).normal(size=(300, 3)) * [5.0, 2.0, 1.0]
    axes = smallest_ellipsoid(points)
    # Duality (Khachiyan): no ellipsoid of less volume exists if weights prove it; an independent ascent without shortcuts is slow but sure.
    lifted, weights = np.column_stack([points, np.ones(len(points))]), np.full(len(points), 1 / len(points))
    for _ in range(60_000):
        reach = np.einsum("ij,jk,ik->i", lifted, np.linalg.inv((lifted.T * weights) @ lifted), lifted)
        far = reach.argmax()
        if reach[far] / 4 - 1 < 1e-3:
            break
        step = (reach[far] / 4 - 1) / (reach[far] - 1)
        weights *= 1 - step
        weights[far] += step
    apart = points - weights @ points
    expected = np.sqrt(np.linalg.eigvalsh(3 * (apart.T * weights) @ apart))[::-1]
    np.testing.assert_allclose(np.prod(axes), np.prod(expected), rtol=3e-3)


def test_smallest_ellipsoid_of_points_on_one():
    turn = Rotation.random(random_state=8).as_matrix()
    directions = np.random.default_rng(2).normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = np.concatenate([directions, -directions]) * [4.0, 2.0, 1.0] @ turn.T
    # Points everywhere on it, in opposite pairs: of all ellipsoids around them their own is within the tolerance of the least.
    np.testing.assert_allclose(smallest_ellipsoid(points), [4, 2, 1], rtol=2e-2)
    assert np.prod(smallest_ellipsoid(points)) <= 8.0 * (1 + 1e-6)


def test_of_boxes_of_one_volume_the_one_of_least_area_counts():
    """Two boxes of 12.096 mm3 hold this lesion, of other areas; rounding at another scale must not choose the other one."""
    mask = np.array([[[1, 1, 0], [0, 1, 1]], [[1, 1, 0], [1, 1, 1]]], dtype=bool)
    points = extreme_points(mask)[0] * SPACING
    edges = smallest_box(convex_hull(points))
    np.testing.assert_allclose(edges, [3.2, 2.1, 1.8], rtol=1e-9)
    np.testing.assert_allclose(smallest_box(convex_hull(3.0 * points)), 3.0 * edges, rtol=1e-9)
