"""Mistakes that stood here once."""

import numpy as np
import pytest

from idx.errors import GeometryError
from idx.geometry import PATIENT, SLIDE, AffineTransform, DisplacementTransform, Frame, Grid, SectionTransform, SequenceTransform, TransformGraph, compose

INDEX = Frame("index", "px", ("x", "y", "z"))
SECTION = SectionTransform(np.array([[1e-3, 0], [0, 1e-3], [0, 0]]), np.array([1.0, 2.0, 3.0]), SLIDE, PATIENT)


def test_a_section_is_not_folded_into_a_frame_that_is_not_in_mm():
    """A rigid map to index space (1 mm voxels) was folded into a section there, which raised instead of composing."""
    to_index = AffineTransform(np.eye(4), PATIENT, INDEX)
    composed = compose(SECTION, to_index)
    assert isinstance(composed, SequenceTransform)
    assert composed.apply([2000.0, 0.0]).tolist() == [3.0, 2.0, 3.0]


@pytest.mark.parametrize("matrix", [np.full((3, 3), np.nan), np.diag([1.0, 0.0, 1.0]), np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 1]])])
def test_the_grid_of_a_field_must_be_a_finite_affine(matrix):
    """NaN passed, because abs(nan) == 0 is False; a last row was not checked."""
    with pytest.raises(GeometryError, match="index_to_source"):
        DisplacementTransform(np.zeros((2, 2, 2)), matrix, SLIDE, SLIDE)


def test_a_grid_needs_whole_counts_and_a_frame_in_mm():
    """3.7 slices became 3, and a slide's 2-D frame was taken for a patient's."""
    with pytest.raises(TypeError):
        Grid((3.7, 4, 5), np.eye(4))
    with pytest.raises(GeometryError, match="three axes in mm"):
        Grid((3, 4, 5), np.eye(4), SLIDE)
    with pytest.raises(GeometryError, match="three axes in mm"):
        Grid((3, 4, 5), np.eye(4), INDEX)


def test_directions_must_be_unit_vectors():
    """A direction of length 2 doubled the spacing silently."""
    with pytest.raises(GeometryError, match="unit vectors"):
        Grid.from_spacing((2, 2, 2), (1.0, 1.0, 1.0), direction=np.eye(3) * 2)
    rounded = np.array([[0.7071, -0.7071, 0], [0.7071, 0.7071, 0], [0, 0, 1]])
    assert Grid.from_spacing((2, 2, 2), (0.5, 0.75, 3.0), direction=rounded).spacing_mm == pytest.approx((0.5, 0.75, 3.0), abs=1e-12)


def test_frames_are_checked_and_hashable():
    with pytest.raises(GeometryError, match="unit"):
        Frame("scan", "cm", ("x", "y", "z"))
    assert Frame("scan", "mm", ["x", "y", "z"]) in {Frame("scan", "mm", ("x", "y", "z"))}


def test_single_and_no_points_pass_through_every_transform():
    warp = DisplacementTransform(np.ones((3, 4, 2)), np.diag([10.0, 10.0, 1.0]), SLIDE, SLIDE)
    for transform in (warp, warp.inverse(), SECTION):
        assert transform.apply([5.0, 6.0]).shape == transform.apply([[5.0, 6.0]])[0].shape
        assert transform.apply(np.empty((0, 2))).shape[0] == 0
    assert warp.apply([5.0, 6.0, 0.5]).tolist() == [6.0, 7.0, 0.5]


def test_a_folding_field_is_refused_by_its_inverse():
    field = np.zeros((2, 3, 2))
    field[:, 1, 0] = -25.0
    fold = DisplacementTransform(field, np.diag([10.0, 10.0, 1.0]), SLIDE, SLIDE)
    assert fold.jacobian_determinant().min() < 0
    with pytest.raises(GeometryError, match="invertible"):
        fold.inverse().apply([8.0, 5.0])


def test_graph_says_what_can_be_reached_and_replaces_edges():
    graph = TransformGraph().with_edge(SECTION, error_mm=1.0).with_edge(SECTION.inverse(), error_mm=2.0)
    assert len(graph.edges) == 1
    assert graph.error_mm(SLIDE, PATIENT) == 2.0
    assert repr(graph) == "TransformGraph(patient -> slide (2 mm))"
    with pytest.raises(GeometryError, match="reached: slide, patient"):
        graph.between(SLIDE, INDEX)
    assert graph.with_edge(AffineTransform(np.eye(4), PATIENT, INDEX)).error_mm(SLIDE, INDEX) is None
