import numpy as np
import pytest

from idx.errors import GeometryError, UnitError
from idx.geometry import Grid
from idx.volume import CTVolume, Mask, Volume, require_same_grid

GRID = Grid.from_spacing((4, 5, 6), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0))


def test_arrays_are_read_only_and_not_copied():
    values = np.zeros(GRID.shape, np.int16)
    ct = CTVolume(values, GRID)
    assert np.shares_memory(ct.values, values)
    with pytest.raises(ValueError, match="read-only"):
        ct.values[0, 0, 0] = 1
    values[0, 0, 0] = 7  # the caller's own array stays writeable


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: CTVolume(np.zeros(GRID.shape), GRID), UnitError, "int16"),
        (lambda: CTVolume(np.zeros(GRID.shape, np.int16), GRID, quantity="suv"), UnitError, "HU"),
        (lambda: Volume(np.zeros((6, 5, 4)), GRID), GeometryError, r"\(z, y, x\)"),
        (lambda: Volume(np.zeros(GRID.shape, bool), GRID), GeometryError, "Mask"),
        (lambda: Mask(np.zeros(GRID.shape, np.uint8), GRID), GeometryError, "bool"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_mask_measures():
    values = np.zeros(GRID.shape, bool)
    values[1:3, 2, 3:5] = True
    mask = Mask(values, GRID)
    assert (mask.n_voxels, mask.volume_mm3) == (4, 24.0)
    assert mask.bounding_box() == (slice(1, 3), slice(2, 3), slice(3, 5))
    assert mask.bounding_box(pad=2) == (slice(0, 4), slice(0, 5), slice(1, 6))
    assert mask.centroid_mm == pytest.approx((10 + 3.5, 20 + 4, 30 + 4.5))
    assert "2.0 x 2.0 x 6.0 mm" in mask._repr_html_()


def test_empty_mask_is_refused_where_voxels_are_needed():
    mask = Mask(np.zeros(GRID.shape, bool), GRID, "GTV-1")
    with pytest.raises(GeometryError, match=r"GTV-1.*Check that the label"):
        mask.bounding_box()
    assert "empty" in mask._repr_html_()


def test_grids_must_agree():
    ct = CTVolume(np.zeros(GRID.shape, np.int16), GRID)
    other = Grid.from_spacing(GRID.shape, (1.0, 2.0, 3.01), (10.0, 20.0, 30.0))
    require_same_grid(ct, Mask(np.ones(GRID.shape, bool), GRID))
    with pytest.raises(GeometryError, match="resample=True"):
        require_same_grid(ct, Mask(np.ones(GRID.shape, bool), other))


def test_a_map_with_undefined_voxels_can_be_looked_at():
    """NaN outside a lesion made the thumbnail fail."""
    values = np.full(GRID.shape, np.nan, np.float32)
    assert "none defined" in Volume(values, GRID)._repr_html_()
    values[2, 2, 2:4] = (1.0, 2.0)
    html = Volume(values, GRID)._repr_html_()
    assert "1 to 2, 118 undefined" in html


def test_thumbnails_have_square_millimetres():
    shapes = {name: picture.shape for name, picture in CTVolume(np.zeros(GRID.shape, np.int16), GRID).thumbnails()}
    assert shapes == {"axial": (10, 6), "coronal": (12, 6), "sagittal": (6, 5)}
