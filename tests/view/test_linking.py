"""The linked cursor without a browser."""

import numpy as np
import pytest

from idx.case import Case
from idx.geometry import PATIENT, SectionTransform, TransformGraph, slide_frame
from idx.geometry.grids import Grid
from idx.view.linking import LinkedImages, find_link
from idx.volume import CTVolume


def test_slide_to_ct_and_back(linked_case: Case, section: SectionTransform) -> None:
    images = LinkedImages.of(linked_case)
    cursor = images.from_slide((9000.0, 14000.0))
    np.testing.assert_allclose(cursor.ct_mm, section.apply([9000.0, 14000.0]), atol=1e-9)
    back = images.from_ct(cursor.ct_pixel)
    np.testing.assert_allclose(back.slide_um, (9000.0, 14000.0), atol=1e-6)
    assert back.distance_mm == pytest.approx(0.0, abs=1e-9)


def test_a_ct_point_tells_its_distance_from_the_slide(linked_case: Case, section: SectionTransform) -> None:
    images = LinkedImages.of(linked_case)
    point = section.apply([12000.0, 11000.0, 4.25])
    z, row, column = linked_case.ct.grid.to_index(point)
    cursor = images.from_ct((column, row, z))
    assert cursor.distance_mm == pytest.approx(4.25)
    np.testing.assert_allclose(cursor.slide_um, (12000.0, 11000.0), atol=1e-6)


def test_a_warped_section_is_linked_too(warped_case: Case) -> None:
    images = LinkedImages.of(warped_case)
    cursor = images.from_slide((13000.0, 12500.0))
    np.testing.assert_allclose(images.from_ct(cursor.ct_pixel).slide_um, (13000.0, 12500.0), atol=1e-3)


def test_a_ct_stored_feet_first_and_mirrored_shows_the_same_place(linked_case: Case) -> None:
    ct = linked_case.ct
    affine = np.array(ct.grid.affine)
    for axis in (0, 2):
        affine[:3, 3] += affine[:3, axis] * (ct.grid.shape[2 - axis] - 1)
        affine[:3, axis] *= -1
    flipped = CTVolume(ct.values[::-1, :, ::-1], Grid(ct.grid.shape, affine))
    images, other = LinkedImages.of(linked_case), LinkedImages.of(linked_case.with_(volumes={"ct": flipped}))
    np.testing.assert_array_equal(images.values, other.values)
    np.testing.assert_allclose(other.from_slide((9000.0, 14000.0)).ct_pixel, images.from_slide((9000.0, 14000.0)).ct_pixel, atol=1e-9)


def test_without_registration_nothing_is_claimed(unlinked_case: Case) -> None:
    images = LinkedImages.of(unlinked_case)
    assert find_link(unlinked_case) is None
    assert images.from_slide((1.0, 2.0)).ct_mm is None
    assert images.from_ct((1.0, 2.0, 3.0)).slide_um is None
    np.testing.assert_allclose(images.from_ct((1.0, 2.0, 3.0)).ct_mm, unlinked_case.ct.grid.to_physical([3.0, 2.0, 1.0]))


def test_the_placed_slide_is_chosen_among_several(linked_case: Case, section: SectionTransform) -> None:
    from dataclasses import replace

    far = replace(linked_case.slide, frame=slide_frame("B"), name="B")
    graph = TransformGraph().with_edge(SectionTransform(section.axes, section.origin_mm, far.frame, PATIENT), error_mm=2.0)
    case = Case("P", volumes=linked_case.volumes, slides={"A": linked_case.slide, "B": far}, transforms=graph)
    link = find_link(case)
    assert link.slide is far
    assert link.error_mm == 2.0


def test_parts_that_are_missing(linked_case: Case) -> None:
    assert LinkedImages.of(Case("C", volumes=linked_case.volumes)).start().ct_mm is not None
    assert LinkedImages.of(Case("S", slides=linked_case.slides)).start().slide_um is not None
    assert LinkedImages.of(Case("E")).start().ct_mm is None
