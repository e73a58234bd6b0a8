"""Outlines along pixel edges against the union of the pixels' squares."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label

from idx.kernels.outlines import Outlines, trace
from idx.kernels.spans import find_spans, sorted_by_object


def traced(labels: np.ndarray) -> Outlines:
    spans = find_spans(labels)
    spans[:, 0] -= 1
    return trace(*sorted_by_object(spans, int(labels.max())))


def polygons(outlines: Outlines) -> list[shapely.Polygon]:
    rings = [outlines.corners[a:b] for a, b in zip(outlines.ring_offsets[:-1], outlines.ring_offsets[1:], strict=True)]
    return [shapely.Polygon(rings[a], rings[a + 1 : b]) for a, b in zip(outlines.object_offsets[:-1], outlines.object_offsets[1:], strict=True)]


def squares(mask: np.ndarray) -> shapely.Geometry:
    y, x = np.nonzero(mask)
    return shapely.union_all(shapely.box(x, y, x + 1, y + 1))


@given(seed=st.integers(0, 10_000), height=st.integers(1, 30), width=st.integers(1, 30), density=st.floats(0.2, 0.95))
def test_polygons_are_valid_and_cover_exactly_the_pixels(seed, height, width, density):
    labels, n = label(np.random.default_rng(seed).random((height, width)) < density)
    found = traced(labels)
    assert found.area_px.tolist() == np.bincount(labels.ravel(), minlength=n + 1)[1:].tolist()
    for number, polygon in enumerate(polygons(found), start=1):
        mask = labels == number
        assert polygon.is_valid
        assert polygon.area == mask.sum()
        assert polygon.symmetric_difference(squares(mask)).area == 0
        y, x = np.nonzero(mask)
        np.testing.assert_allclose(found.centroid_px[number - 1], [x.mean(), y.mean()], atol=1e-9)


def test_only_corners_are_kept():
    labels = np.ones((5, 9), dtype=int)
    found = traced(labels)
    assert sorted(map(tuple, found.corners.tolist())) == [(0, 0), (0, 5), (9, 0), (9, 5)]


def test_a_hole_that_meets_the_outside_at_a_corner_is_a_ring_of_its_own():
    found = traced(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]]))
    assert found.object_offsets.tolist() == [0, 2]
    (polygon,) = polygons(found)
    assert polygon.is_valid
    assert polygon.area == 7


def test_outer_rings_run_clockwise_on_the_slide_and_holes_the_other_way():
    labels = np.ones((4, 4), dtype=int)
    labels[1, 1] = 0
    found = traced(labels)
    areas = []
    for a, b in zip(found.ring_offsets[:-1], found.ring_offsets[1:], strict=True):
        x, y = found.corners[a:b].T
        areas.append((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
    assert areas == [16.0, -1.0]


@pytest.mark.parametrize("gap", [[0, 1], [1, 0]])
def test_of_parts_that_touch_at_a_corner_the_largest_is_outlined(gap):
    labels = np.zeros((6, 6), dtype=int)
    labels[:2, :2], labels[2:5, 2:5] = 1, 1
    found = traced(labels[:, :: 1 if gap[0] else -1])
    assert found.area_px.tolist() == [9]
    assert found.object_offsets.tolist() == [0, 1]
    assert polygons(found)[0].area == 9


def test_nothing_has_no_outline():
    found = trace(np.zeros((0, 4), np.int32), np.zeros(1, np.int64))
    assert len(found.corners) == 0
    assert found.object_offsets.tolist() == [0]
