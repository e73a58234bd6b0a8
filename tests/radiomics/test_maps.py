import numpy as np
import pytest

from idx.errors import FormatError, GeometryError
from idx.geometry import Grid
from idx.radiomics import feature_maps
from idx.radiomics.preparation import Preparation, prepare
from idx.volume import CTVolume, Mask

SPACING = (0.8, 0.9, 2.0)


@pytest.fixture(scope="module")
def scan():
    rng = np.random.default_rng(31)
    grid = Grid.from_spacing((8, 12, 11), SPACING, (-3.0, 2.0, 50.0))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[1:7, 2:11, 3:9] = rng.random((6, 9, 6)) < 0.85
    return CTVolume(rng.integers(-700, 250, grid.shape).astype(np.int16), grid), Mask(mask, grid, "GTV-1")


def direct(ct, inside, radius_mm, measure):
    """One value per voxel by looking at every other voxel."""
    points = np.argwhere(inside) * SPACING[::-1]
    values = ct.values[inside].astype(np.float64)
    near = np.linalg.norm(points[:, None] - points[None], axis=-1) <= radius_mm
    return np.array([measure(values[row]) for row in near])


def entropy(values):
    _, counts = np.unique((values + 1000) // 25, return_counts=True)
    share = counts / counts.sum()
    return -np.sum(share * np.log2(share))


@pytest.mark.parametrize("radius_mm", [0.5, 2.05, 4.15])
@pytest.mark.parametrize(("name", "measure"), [("local_mean_intensity_hu", np.mean), ("local_intensity_sd_hu", np.std), ("local_histogram_entropy", entropy)])
def test_equals_a_direct_loop(scan, radius_mm, name, measure):
    ct, lesion = scan
    mapped = feature_maps(ct, lesion, radius_mm=radius_mm)[name]
    inside = ~np.isnan(mapped.values)
    # A voxel alone has a standard deviation of 0; the root of a rounding error of 1e-10 HU2 is 1e-5 HU.
    np.testing.assert_allclose(mapped.values[inside], direct(ct, lesion.values, radius_mm, measure), atol=2e-5 if "sd" in name else 1e-9)
    np.testing.assert_array_equal(np.add(np.argwhere(inside), [1, 2, 3]), np.argwhere(lesion.values))


def test_maps_lie_where_the_lesion_lies(scan):
    ct, lesion = scan
    mapped = feature_maps(ct, lesion)["local_mean_intensity_hu"]
    assert mapped.grid.is_close(ct.grid.crop((1, 2, 3), mapped.values.shape))
    assert mapped.spec.params["radius_mm"] == 5.0
    assert (mapped.spec.unit, mapped.spec.ibsi_id) == ("hu", "Q4LE")
    assert not mapped.values.flags.writeable
    assert "local_mean_intensity_hu" in mapped._repr_html_()


def test_maps_follow_the_preparation(scan):
    ct, lesion = scan
    mapped = feature_maps(ct, lesion, spacing_mm=1.0, resegment_hu=(-400, 250), features=["intensity_sd"])
    assert list(mapped) == ["local_intensity_sd_hu"]
    region = prepare(ct, lesion, Preparation(spacing_mm=(1.0, 1.0, 1.0), resegment_hu=(-400, 250)))
    np.testing.assert_array_equal(~np.isnan(mapped["local_intensity_sd_hu"].values), region.intensity_mask)
    # A ball that holds the whole lesion gives every voxel the lesion's own value.
    whole = feature_maps(ct, lesion, radius_mm=100.0, features=["intensity_sd"])["local_intensity_sd_hu"]
    np.testing.assert_allclose(whole.values[~np.isnan(whole.values)], ct.values[lesion.values].std(), rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"features": ["glcm_contrast"]}, FormatError, "mean_intensity"),
        ({"features": "intensity_sd"}, FormatError, "features"),
        ({"radius_mm": 0.0}, GeometryError, "radius_mm"),
    ],
)
def test_invalid_settings_are_refused(scan, settings, error, message):
    with pytest.raises(error, match=message):
        feature_maps(*scan, **settings)


def test_an_empty_mask_is_refused(scan):
    ct, lesion = scan
    with pytest.raises(GeometryError, match="at least one voxel"):
        feature_maps(ct, Mask(np.zeros(ct.grid.shape, dtype=bool), ct.grid))
    with pytest.raises(GeometryError, match="image's grid"):
        feature_maps(ct, Mask(lesion.values, Grid.from_spacing(ct.grid.shape, SPACING)))
