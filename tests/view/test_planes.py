"""Planes through volumes against closed forms: volumes that are linear in space are interpolated exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idx.case import Case
from idx.errors import GeometryError
from idx.geometry import SLIDE, AffineTransform, Frame, SectionTransform
from idx.geometry.grids import Grid
from idx.slide import Slide
from idx.view.linking import find_link
from idx.view.planes import anatomical_plane, best_section, canonical, mm_per_um, sample, section_picture, section_trace, slide_pixels
from idx.volume import Volume


def _linear_volume(direction: np.ndarray | None = None) -> Volume:
    """Values 2x + 3y - 5z (mm) on an anisotropic grid."""
    grid = Grid.from_spacing((30, 40, 50), (0.9, 1.1, 2.0), (-20.0, 5.0, 40.0), direction=direction)
    points = grid.to_physical(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1))
    return Volume(points @ np.array([2.0, 3.0, -5.0]), grid)


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_a_plane_samples_the_place_it_names(view) -> None:
    volume = _linear_volume()
    plane = anatomical_plane(view, np.array(volume.grid.centre_mm), (16.0, 12.0))
    points = plane.points_mm(0.7)
    np.testing.assert_allclose(sample(volume.values, volume.grid, points), points @ [2.0, 3.0, -5.0], atol=1e-9)
    back = plane.project(points)
    assert back[0, 0, 0] < 0 < back[0, -1, 0]
    assert back[0, 0, 1] < 0 < back[-1, 0, 1]
    np.testing.assert_allclose(back[..., 2], 0.0, atol=1e-9)


@pytest.mark.parametrize(("view", "corner", "letters"), [("axial", (1, 1, 0), "LP"), ("coronal", (1, 0, -1), "LF"), ("sagittal", (0, 1, -1), "PF")])
def test_pictures_are_in_radiological_orientation(view, corner, letters) -> None:
    plane = anatomical_plane(view, np.zeros(3), (10.0, 10.0))
    right, down = plane.project(np.array(corner, dtype=float))[:2]
    assert right > 0
    assert down > 0
    assert plane.edges[1] + plane.edges[3] == letters


def test_beyond_the_grid_is_outside() -> None:
    volume = _linear_volume()
    edge = volume.grid.to_physical([[0, 0, -0.4], [0, 0, -0.6]])
    assert sample(volume.values, volume.grid, edge, outside=-7.0)[1] == -7.0
    assert sample(volume.values, volume.grid, edge, outside=-7.0)[0] != -7.0


def test_the_trace_lies_on_both_planes(linked_case: Case, section: SectionTransform) -> None:
    plane = anatomical_plane("sagittal", np.array(linked_case.lesion.centroid_mm), (60.0, 60.0))
    (line,) = section_trace(section, linked_case.slide, plane)
    points = plane.centre_mm + line[:, :1] * plane.right + line[:, 1:2] * plane.down
    np.testing.assert_allclose(section.inverse().apply(points)[:, 2], 0.0, atol=1e-9)
    # It ends at the slide's border, not at the picture's.
    uv = section.inverse().apply(points[[0, -1]])[:, :2]
    border = (np.array(linked_case.slide.size_px) - 1) * linked_case.slide.mpp
    assert (np.minimum(np.abs(uv), np.abs(uv - border)).min(axis=1) < 1.0).all()


def test_a_section_picture_shows_ct_and_slide_at_one_place(linked_case: Case, section: SectionTransform) -> None:
    volume = _linear_volume()
    slide = linked_case.slide
    place = SectionTransform(np.array([[4e-4, 1e-4], [0, 5e-4], [1e-4, 2e-4]]), np.array([-12.0, 12.0, 50.0]), slide.frame, volume.grid.frame)
    picture = section_picture(volume, slide, place, max_px=200)
    rows, columns = picture.hu.shape
    grid_um = np.stack(
        np.meshgrid(picture.origin_um[0] + picture.pitch_um * np.arange(columns), picture.origin_um[1] + picture.pitch_um * np.arange(rows)), axis=-1
    )
    inside = picture.hu != -1000.0
    assert inside.mean() > 0.5
    np.testing.assert_allclose(picture.hu[inside], (place.apply(grid_um) @ [2.0, 3.0, -5.0])[inside], atol=1e-8)
    dark = picture.rgb[rows // 2, columns // 2].astype(int)
    assert dark[0] - dark[1] > 20


def test_lesion_on_ct_and_tissue_on_the_slide_agree(linked_case: Case) -> None:
    link = find_link(linked_case)
    picture = section_picture(link.ct, link.slide, link.transform, mask=linked_case.lesion, max_px=300)
    tumour = picture.rgb[..., 1] < 165
    overlap = 2 * (tumour & (picture.lesion > 0.5)).sum() / (tumour.sum() + (picture.lesion > 0.5).sum())
    assert overlap > 0.95


def test_scale_is_that_of_the_tissue(linked_case: Case, section: SectionTransform) -> None:
    assert mm_per_um(section, linked_case.slide) == pytest.approx(1.15e-3, rel=1e-9)


def test_a_warped_section_has_a_best_plane_and_a_distance_from_it(warped_case: Case, section: SectionTransform) -> None:
    link = find_link(warped_case)
    fitted, residual = best_section(link.transform, link.slide)
    assert 0.0 < residual < 0.9
    centre = np.array(link.slide.size_um) / 2
    assert np.linalg.norm(fitted.apply(centre) - section.apply(centre)) < 0.4
    assert best_section(section, link.slide) == (section, 0.0)


def test_a_transform_of_another_slide_is_refused(linked_case: Case, section: SectionTransform) -> None:
    other = Frame("slide:other", "um", ("x", "y"))
    strange = SectionTransform(section.axes, section.origin_mm, other, section.target)
    with pytest.raises(GeometryError, match="transform must map the slide's frame"):
        section_picture(linked_case.ct, linked_case.slide, strange)
    with pytest.raises(GeometryError, match="transform must map the slide's frame"):
        section_picture(linked_case.ct, linked_case.slide, AffineTransform(np.eye(3), SLIDE, other))


def test_pixels_of_a_slide_are_those_at_the_points(linked_case: Case) -> None:
    slide: Slide = linked_case.slide
    pixel = np.stack(np.meshgrid(np.arange(2000, 2040), np.arange(1500, 1530)), axis=-1)
    np.testing.assert_array_equal(slide_pixels(slide, slide.to_um(pixel)), slide.pixels.arrays[0][1500:1530, 2000:2040])
    assert (slide_pixels(slide, slide.to_um(pixel) + 1e6) == 255).all()


@settings(max_examples=25, deadline=None)
@given(axes=st.permutations([0, 1, 2]), signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3), tilt=st.floats(-0.3, 0.3))
def test_canonical_keeps_every_voxel_in_its_place(axes, signs, tilt) -> None:
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    direction = turn @ (np.eye(3)[:, axes] * signs)
    grid = Grid.from_spacing((3, 4, 5), (0.7, 0.8, 2.5), (1.0, 2.0, 3.0), direction=direction)
    values = np.random.default_rng(0).normal(size=(3, 4, 5))
    view, turned = canonical(values, grid)
    assert view.base is not None
    assert (np.diag(turned.affine)[:3] > 0).all()
    assert np.abs(turned.direction).argmax(axis=0).tolist() == [0, 1, 2]
    index = np.argwhere(np.ones(view.shape, bool))
    np.testing.assert_allclose(values[tuple(np.round(grid.to_index(turned.to_physical(index))).astype(int).T)], view[tuple(index.T)])
