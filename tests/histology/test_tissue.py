import numpy as np
import pytest
from array_slides import array_slide

from idx.errors import UnitError
from idx.histology import find_sections, find_tissue

GLASS, PINK, DARK = (242, 240, 243), (222, 160, 195), (90, 50, 120)


def painted(*shapes: np.ndarray, size: tuple[int, int] = (1500, 2000), colour=PINK) -> np.ndarray:
    rng = np.random.default_rng(0)
    picture = np.full((*size, 3), GLASS, dtype=float)
    for shape in shapes:
        picture[shape] = colour
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def disc(x: float, y: float, radius: float, size: tuple[int, int] = (1500, 2000)) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.hypot(columns - x, rows - y) < radius


def test_a_ring_has_its_area_place_and_hole():
    slide = array_slide(painted(disc(900, 700, 600) & ~disc(900, 700, 200)), mpp=2.0)
    tissue = find_tissue(slide)
    assert len(tissue) == 1
    assert len(tissue.rings(0)) == 2
    assert tissue.areas_um2[0] == pytest.approx(np.pi * (600**2 - 200**2) * 4, rel=0.01)
    np.testing.assert_allclose(tissue.centroids_um[0], (1800, 1400), atol=1.0)
    left, top, right, bottom = tissue.bounds_um
    np.testing.assert_allclose((left, top, right, bottom), (600, 200, 3000, 2600), atol=6.0)


@pytest.mark.parametrize("mpp", [4.0, 8.0, 11.0])
def test_the_outline_does_not_move_with_the_resolution(mpp):
    slide = array_slide(painted(disc(900, 700, 500)), mpp=2.0)
    tissue = find_tissue(slide, mpp=mpp)
    assert tissue.areas_um2[0] == pytest.approx(np.pi * 1000**2, rel=0.01)
    np.testing.assert_allclose(tissue.centroids_um[0], (1800, 1400), atol=1.0)


def test_an_empty_slide_has_no_tissue():
    assert len(find_tissue(array_slide(painted(), mpp=2.0))) == 0
    assert len(find_tissue(array_slide(np.full((300, 300, 3), 255, dtype=np.uint8), mpp=8.0))) == 0
    uneven = np.linspace(226, 246, 2000)[None, :, None] + np.random.default_rng(0).normal(0, 3, (900, 2000, 3))
    assert len(find_tissue(array_slide(uneven.astype(np.uint8), mpp=2.0))) == 0


def test_a_field_full_of_tissue_is_all_tissue_up_to_its_border():
    slide = array_slide(painted(np.ones((1500, 2000), dtype=bool)), mpp=2.0)
    np.testing.assert_allclose(find_tissue(slide).bounds_um, (-1, -1, 3999, 2999), atol=1e-6)


def test_dark_tissue_does_not_hide_pale_tissue():
    picture = painted(disc(500, 700, 300))
    picture[disc(1400, 700, 300)] = DARK
    assert len(find_tissue(array_slide(picture, mpp=2.0))) == 2


def test_black_padding_is_not_tissue():
    picture = painted(disc(900, 700, 300))
    picture[:, 1700:] = 0
    assert len(find_tissue(array_slide(picture, mpp=2.0))) == 1


def test_specks_are_dropped_and_pinholes_filled():
    slide = array_slide(painted((disc(900, 700, 300) & ~disc(900, 700, 10)) | disc(1800, 1300, 30)), mpp=2.0)
    tissue = find_tissue(slide)
    assert len(tissue) == 1
    assert len(tissue.rings(0)) == 1


def test_pieces_nearer_than_the_gap_are_one_section():
    slide = array_slide(painted(disc(1500, 700, 150), disc(400, 400, 150), disc(400, 800, 150)), mpp=4.0)
    tissue = find_tissue(slide)
    assert len(tissue) == 3
    sections = find_sections(slide, tissue, gap_um=600.0)
    assert [len(section) for section in sections] == [2, 1]
    assert sections[0].bounds_um[2] < sections[1].bounds_um[0]
    assert [len(section) for section in find_sections(slide, tissue, gap_um=300.0)] == [1, 1, 1]
    assert [len(section) for section in find_sections(slide, gap_um=5000.0)] == [3]
    assert find_sections(slide, tissue.select(np.zeros(3, dtype=bool))) == []


def test_sizes_must_be_positive():
    slide = array_slide(painted(), mpp=2.0)
    with pytest.raises(UnitError, match="mpp"):
        find_tissue(slide, mpp=0.0)
    with pytest.raises(UnitError, match="gap_um"):
        find_sections(slide, gap_um=-1.0)
