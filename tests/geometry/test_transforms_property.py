import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from idx.geometry import (
    PATIENT,
    SLIDE,
    AffineTransform,
    DisplacementTransform,
    Frame,
    Grid,
    SectionTransform,
    SequenceTransform,
    TransformGraph,
    compose,
    level0_position,
)

TOLERANCE = 1e-6
SCAN = Frame("scan", "mm", ("x", "y", "z"))
FIXED = Frame("fixed", "um", ("x", "y"))
WARPED = Frame("warped", "um", ("x", "y"))
settings.register_profile("idx", deadline=None, max_examples=60)
settings.load_profile("idx")


def _matrices(n, *, translation=500.0):
    """Well-conditioned affine matrices: rotation and shear around a scale."""

    def build(parts):
        linear, shift, scale = parts
        matrix = np.eye(n + 1)
        matrix[:n, :n] = (np.eye(n) + linear) * scale
        matrix[:n, n] = shift
        return matrix

    parts = st.tuples(
        arrays(np.float64, (n, n), elements=st.floats(-0.3, 0.3)),
        arrays(np.float64, n, elements=st.floats(-translation, translation)),
        st.sampled_from([-1.0, 0.5, 1.0, 2.0]),
    )
    return parts.map(build)


def _points(n, reach=2000.0):
    return arrays(np.float64, (7, n), elements=st.floats(-reach, reach))


@st.composite
def sections(draw, source=SLIDE, target=PATIENT):
    matrix = draw(_matrices(3))
    axes = matrix[:3, :2] * draw(st.sampled_from([1e-3, 1.2e-3, 1.0]))
    return SectionTransform(axes, matrix[:3, 3], source, target)


@st.composite
def warps(draw, source=SLIDE, target=WARPED):
    """Displacements whose gradient stays below one half: nodes 100 apart move by at most 12."""
    field = draw(arrays(np.float64, (5, 6, 2), elements=st.floats(-12.0, 12.0)))
    matrix = np.diag([100.0, 100.0, 1.0])
    matrix[:2, 2] = draw(arrays(np.float64, 2, elements=st.floats(-1000, 1000)))
    return DisplacementTransform(field, matrix, source, target)


@given(_matrices(3), _points(3))
def test_affine_round_trip(matrix, points):
    transform = AffineTransform(matrix, PATIENT, SCAN)
    np.testing.assert_allclose(transform.inverse().apply(transform.apply(points)), points, atol=TOLERANCE, rtol=0)
    np.testing.assert_array_equal(transform.inverse().matrix[-1], [0, 0, 0, 1])


@given(sections(), _points(3))
def test_section_round_trip_both_ways(section, points):
    # A point of the volume comes back in mm; in-plane um are worth a thousandth of that.
    np.testing.assert_allclose(section.apply(section.inverse().apply(points)), points, atol=TOLERANCE, rtol=0)
    again = section.inverse().apply(section.apply(points))
    in_mm = (again - points)[:, :2] @ section.axes.T
    assert np.abs(in_mm).max() <= TOLERANCE
    np.testing.assert_allclose(again[:, 2], points[:, 2], atol=TOLERANCE, rtol=0)


@given(sections(), _points(3))
def test_section_distance_is_the_distance_from_the_plane(section, points):
    distance = section.inverse().apply(points)[:, 2]
    np.testing.assert_allclose(distance, (points - section.origin_mm) @ section.normal, atol=TOLERANCE, rtol=0)


@given(warps(), _points(2))
def test_displacement_round_trip_both_ways(warp, points):
    np.testing.assert_allclose(warp.inverse().apply(warp.apply(points)), points, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(warp.apply(warp.inverse().apply(points)), points, atol=TOLERANCE, rtol=0)


@given(_matrices(2), warps(), sections(FIXED), _matrices(3), _points(3, reach=300.0))
def test_compose_equals_one_after_the_other_with_distances(plane, warp, section, volume, points):
    steps = (warp, AffineTransform(plane, WARPED, FIXED), section, AffineTransform(volume, PATIENT, SCAN))
    composed = compose(*steps)
    for given_points in (points[:, :2], points):
        expected = given_points
        for step in steps:
            expected = step.apply(expected)
        np.testing.assert_allclose(composed.apply(given_points), expected, atol=TOLERANCE, rtol=0)
    assert (composed.source, composed.target) == (SLIDE, SCAN)
    back = composed.inverse().apply(composed.apply(points))
    # Compared in mm of the volume: the affine in the plane may shrink um.
    np.testing.assert_allclose(composed.apply(back), composed.apply(points), atol=TOLERANCE, rtol=0)


@given(_matrices(2), sections(FIXED), _points(3))
def test_folding_keeps_the_side_of_the_plane_even_when_mirrored(plane, section, points):
    first = AffineTransform(plane @ np.diag([-1.0, 1.0, 1.0]), SLIDE, FIXED)
    np.testing.assert_allclose(compose(first, section).apply(points), section.apply(first.apply(points)), atol=TOLERANCE, rtol=0)


@given(sections(), st.floats(-180, 180), _points(3))
def test_rigid_motion_folds_into_one_section(section, degrees, points):
    a = np.deg2rad(degrees)
    rigid = AffineTransform(np.array([[np.cos(a), -np.sin(a), 0, 5], [np.sin(a), np.cos(a), 0, -7], [0, 0, 1, 9], [0, 0, 0, 1]]), PATIENT, SCAN)
    folded = compose(section, rigid)
    assert isinstance(folded, SectionTransform)
    np.testing.assert_allclose(folded.apply(points), rigid.apply(section.apply(points)), atol=TOLERANCE, rtol=0)


@given(_matrices(2), sections(FIXED), _matrices(3), _points(3))
def test_graph_path_equals_the_steps_and_returns(plane, section, volume, points):
    first, last = AffineTransform(plane, SLIDE, FIXED), AffineTransform(volume, SCAN, PATIENT)
    # The last edge points against the walk.
    graph = TransformGraph().with_edge(last, error_mm=4.0).with_edge(section, error_mm=3.0).with_edge(first, error_mm=0.0)
    expected = last.inverse().apply(section.apply(first.apply(points)))
    np.testing.assert_allclose(graph.between(SLIDE, SCAN).apply(points), expected, atol=TOLERANCE, rtol=0)
    assert graph.error_mm(SLIDE, SCAN) == pytest.approx(5.0)
    there_and_back = graph.between(SLIDE, SCAN).apply(graph.between(SCAN, SLIDE).apply(points))
    np.testing.assert_allclose(there_and_back, points, atol=TOLERANCE, rtol=0)


@given(_matrices(3), st.tuples(*[st.integers(1, 40)] * 3), arrays(np.float64, (5, 3), elements=st.floats(-50, 80)))
def test_grid_round_trip_and_crop(matrix, shape, index):
    grid = Grid(shape, matrix)
    np.testing.assert_allclose(grid.to_index(grid.to_physical(index)), index, atol=TOLERANCE, rtol=0)
    start = tuple(n // 2 for n in shape)
    crop = grid.crop(start, tuple(n - s for n, s in zip(shape, start, strict=True)))
    np.testing.assert_allclose(crop.to_physical(index), grid.to_physical(index + start), atol=TOLERANCE, rtol=0)


@given(st.integers(1, 64), st.integers(0, 10_000))
def test_level0_position_is_the_middle_of_the_pixels_it_covers(factor, index):
    covered = np.arange(index * factor, (index + 1) * factor)
    assert level0_position(index, float(factor)).item() == covered.mean()


@given(warps())
def test_jacobian_matches_finite_differences_inside_a_cell(warp):
    """On a bilinear field the determinant at a node is the mean of the one-sided slopes."""
    node = np.array([2.0, 2.0, 1.0])
    at = (warp.index_to_source @ node)[:2]
    step = 100.0
    columns = [(warp.apply(at + e) - warp.apply(at - e)) / (2 * step) for e in np.eye(2) * step]
    assert warp.jacobian_determinant()[2, 2] == pytest.approx(np.linalg.det(np.stack(columns, axis=-1)), abs=1e-9)


@given(_matrices(3), _matrices(3))
def test_sequence_equals_folded_affine(a, b):
    first, second = AffineTransform(a, PATIENT, SCAN), AffineTransform(b, SCAN, PATIENT)
    folded = compose(SequenceTransform((first,)), second)
    assume(np.abs(folded.matrix).max() < 1e4)
    assert isinstance(folded, AffineTransform)
    np.testing.assert_allclose(folded.matrix, b @ a, atol=1e-9)
