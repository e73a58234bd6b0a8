"""napari's affines against the grids and transforms they stand for."""

import numpy as np
import pytest

from idx.geometry import SectionTransform
from idx.geometry.grids import Grid
from idx.slide import Slide
from idx.view.affines import napari_affine, napari_section_affine, napari_slide_affine


def _oblique_grid() -> Grid:
    rng = np.random.default_rng(3)
    direction = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return Grid.from_spacing((7, 8, 9), (0.7, 0.8, 2.5), (11.0, -22.0, 33.0), direction=direction)


def test_volume_affine_is_the_grid_reversed() -> None:
    grid = _oblique_grid()
    index = np.random.default_rng(0).uniform(-2, 9, (50, 3))
    world = index @ napari_affine(grid)[:3, :3].T + napari_affine(grid)[:3, 3]
    np.testing.assert_allclose(world[:, ::-1], grid.to_physical(index), atol=1e-12)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_section_affine_places_level_pixels_where_the_transform_does(unlinked_case, section: SectionTransform, level: int) -> None:
    slide: Slide = unlinked_case.slide
    pixel = np.random.default_rng(1).uniform(0, 500, (40, 2))
    index = np.column_stack([np.zeros(40), pixel[:, 1], pixel[:, 0]])
    affine = napari_section_affine(slide, section, level)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(world[:, ::-1], section.apply(slide.to_um(pixel, level=level)), atol=1e-9)


def test_first_index_of_the_section_is_one_mm_along_the_normal(unlinked_case, section: SectionTransform) -> None:
    affine = napari_section_affine(unlinked_case.slide, section)
    np.testing.assert_allclose(affine[:3, 0][::-1], section.normal, atol=1e-12)


def test_slide_alone_is_in_mm_of_the_slide(unlinked_case) -> None:
    slide = unlinked_case.slide
    affine = napari_slide_affine(slide, 2)
    np.testing.assert_allclose((affine @ [3.0, 5.0, 1.0])[:2], slide.to_um(np.array([5.0, 3.0]), level=2)[::-1] / 1000, atol=1e-12)
