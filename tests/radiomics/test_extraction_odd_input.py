"""Input that is valid but odd: nothing is silently wrong, and what is undefined says so."""

import numpy as np
import pytest
import torch

from idx.errors import FormatError, GeometryError, UnitError
from idx.geometry import Grid
from idx.kernels.spheres import sphere_means
from idx.provenance import Source
from idx.radiomics import LaplacianOfGaussian, MeanFilter, RadiomicsSettings, extract
from idx.volume import CTVolume, Mask, Volume

GRID = Grid.from_spacing((9, 10, 11), (1.1, 1.3, 2.0))


def scan(seed=0, quantity="suv", grid=GRID):
    rng = np.random.default_rng(seed)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[2:7, 2:8, 3:9] = rng.random((5, 6, 6)) < 0.8
    if quantity == "hu":
        return CTVolume(rng.integers(-300, 200, grid.shape).astype(np.int16), grid), Mask(mask, grid)
    return Volume(rng.gamma(2.0, 1.5, grid.shape), grid, quantity), Mask(mask, grid)


def reasons(table):
    return dict(zip(table.status["feature"], table.status["reason"], strict=True))


def test_a_range_that_is_open_above_ends_where_the_intensities_end():
    image, mask = scan()
    settings = RadiomicsSettings(resegment_range=(0.0, np.inf), bin_size=0.5, ivh_bin_size=0.1)
    table = extract(image, mask, settings)
    highest = float(image.values[mask.values].max())
    closed = extract(image, mask, settings.replace(resegment_range=(0.0, highest)))
    np.testing.assert_allclose(table.values, closed.values, rtol=1e-12)


def test_a_range_that_is_open_below_starts_no_bin():
    ct, mask = scan(quantity="hu")
    table = extract(ct, mask, RadiomicsSettings(resegment_range=(-np.inf, 50.0)))
    assert table.spec("glcm_contrast_3d_merged").params["bin_origin"] == -1000.0
    assert table["histogram_maximum"].item() > table["histogram_minimum"].item()
    suv, mask = scan()
    with pytest.raises(UnitError, match="bin_origin must be given"):
        extract(suv, mask, RadiomicsSettings(resegment_range=(-np.inf, 5.0), bin_size=0.5))


@pytest.mark.parametrize(("padding", "unit"), [(1e12, 1.0), (1e20, 1.0), (-3.4e38, 1.0), (1e3, 1e-8)])
def test_peaks_do_not_see_a_padding_that_no_sphere_reaches(padding, unit):
    values = unit * np.random.default_rng(0).random((6, 40, 40))
    mask = np.zeros(values.shape, dtype=bool)
    mask[3, 18:22, 18:22] = True
    clean = sphere_means(values, mask, (1.0, 1.0, 1.0), 6.2)
    values[:, :5] = padding
    np.testing.assert_allclose(sphere_means(values, mask, (1.0, 1.0, 1.0), 6.2), clean, rtol=1e-12)


def test_busyness_is_missing_where_its_denominator_is_zero():
    """Levels 1 and 2 with twice as many voxels of level 1: level times number is the same for both."""
    ct = CTVolume(np.array([[[0, 0, 25]]], dtype=np.int16), Grid.from_spacing((1, 1, 3), (1.0, 1.0, 1.0)))
    table = extract(ct, Mask(np.ones((1, 1, 3), dtype=bool), ct.grid), RadiomicsSettings(bin_origin=0.0, families=("ngtdm",)))
    assert reasons(table) == {"ngtdm_busyness_3d": "zero_denominator"}
    assert table["ngtdm_contrast_3d"].item() > 0


def test_an_interpolated_constant_is_a_constant():
    image = Volume(np.full(GRID.shape, 0.1), GRID, "suv")
    table = extract(image, scan()[1], RadiomicsSettings(spacing_mm=0.7, interpolation="cubic", n_bins=32))
    assert reasons(table)["intensity_skewness"] == "constant"
    assert reasons(table)["moran_i"] == "constant"
    assert table["glcm_contrast_3d_merged"].item() == 0.0


def test_a_filtered_constant_is_a_constant():
    ct = CTVolume(np.full(GRID.shape, -700, dtype=np.int16), GRID)
    edge = LaplacianOfGaussian(3.0)
    table = extract(ct, scan()[1], RadiomicsSettings(filters=(edge,), n_bins=32, families=("intensity", "glcm")))
    assert table[f"{edge.name}_intensity_range"].item() == 0.0
    assert table[f"{edge.name}_glcm_contrast_3d_merged"].item() == 0.0


def test_decimal_edges_belong_to_the_bin_above():
    values = np.round(np.arange(11) * 0.1, 1)[None, None]
    image = Volume(values, Grid.from_spacing(values.shape, (1.0, 1.0, 1.0)), "suv")
    table = extract(image, Mask(np.ones(values.shape, dtype=bool), image.grid), RadiomicsSettings(bin_size=0.1, bin_origin=0.0))
    assert table["histogram_maximum"].item() == 11
    assert table["histogram_uniformity"].item() == pytest.approx(1 / 11)


def test_numbers_of_any_type_make_the_same_settings():
    plain = RadiomicsSettings(spacing_mm=2.0, n_bins=32, resegment_range=(-50.0, 50.0))
    for odd in (
        RadiomicsSettings(spacing_mm=np.float32(2), n_bins=np.int64(32), resegment_range=np.array([-50, 50])),
        RadiomicsSettings(spacing_mm=[2, 2, 2], n_bins=32.0, resegment_range=[-50, 50]),
    ):
        assert odd == plain
        assert hash(odd) == hash(plain)
    assert RadiomicsSettings(filters=MeanFilter(3)).filters == (MeanFilter(3),)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"spacing_mm": "2"}, UnitError),
        ({"spacing_mm": True}, UnitError),
        ({"n_bins": 32.5}, UnitError),
        ({"n_bins": "32"}, UnitError),
        ({"resegment_range": 5}, UnitError),
        ({"resegment_range": (None, 50)}, UnitError),
        ({"bin_origin": np.nan}, UnitError),
        ({"bin_size": "wide"}, UnitError),
        ({"filters": (MeanFilter,)}, FormatError),
        ({"filters": (None, None)}, FormatError),
        ({"spacing_mm": (1.0, 2.0)}, GeometryError),
    ],
)
def test_settings_of_a_wrong_type_are_refused(settings, error):
    with pytest.raises(error, match=next(iter(settings))):
        RadiomicsSettings(**settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda: (scan()[0].values, scan()[1]), "read_ct"),
        (lambda: (scan()[0], None), "read_mask"),
        (lambda: (*scan(), "C"), "RadiomicsSettings.ibsi"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(arguments, message):
    with pytest.raises(FormatError, match=message):
        extract(*arguments())


def test_nan_outside_the_lesion_matters_only_where_it_is_needed():
    image, mask = scan()
    values = np.array(image.values)
    values[0, 0, 0] = np.nan
    odd = Volume(values, GRID, "suv")
    settings = RadiomicsSettings(n_bins=8, families=("intensity", "glcm"))
    np.testing.assert_array_equal(extract(odd, mask, settings).values, extract(image, mask, settings).values)
    with pytest.raises(UnitError, match="near the lesion"):
        extract(odd, mask, settings.replace(spacing_mm=0.9, interpolation="cubic"))


def test_errors_name_the_files(tmp_path):
    image, mask = scan()
    values = np.where(mask.values, np.nan, image.values)
    odd = Volume(values, GRID, "suv", Source(str(tmp_path / "pet.nii.gz"), "nifti"))
    with pytest.raises(UnitError, match=r"label 'lesion'.*pet\.nii\.gz"):
        extract(odd, mask, RadiomicsSettings(n_bins=8))


def test_intensities_that_leave_float64_are_refused():
    image, mask = scan()
    with pytest.raises(UnitError, match="Rescale"):
        extract(Volume(image.values * 1e150, GRID, "suv"), mask, RadiomicsSettings(n_bins=8))
    tiny = extract(Volume(image.values * 1e-110, GRID, "suv"), mask, RadiomicsSettings(n_bins=8))
    assert reasons(tiny)["intensity_skewness"] == "constant"
    assert np.isfinite(tiny["glcm_contrast_3d_merged"].item())


@pytest.mark.parametrize("change", [np.asfortranarray, lambda v: v.astype(">i2"), lambda v: np.repeat(v, 2, axis=2)[..., ::2]])
def test_the_layout_of_an_array_does_not_matter(change):
    ct, mask = scan(quantity="hu")
    np.testing.assert_array_equal(extract(CTVolume(change(ct.values), GRID), mask).values, extract(ct, mask).values)


def test_filters_work_beside_a_device_without_float64(monkeypatch):
    """An Apple device computes in float32: filters then run on the CPU."""
    from idx.kernels.torch_engine import torch_engine

    ct, mask = scan(quantity="hu")
    settings = RadiomicsSettings(filters=(LaplacianOfGaussian(3.0),), families=("intensity",))
    expected = extract(ct, mask, settings, device="cpu")
    stand_in = torch_engine("cpu")
    monkeypatch.setattr("idx.radiomics.extraction.resolve_device", lambda device: torch.device("mps"))
    monkeypatch.setattr("idx.radiomics.extraction.engine_for", lambda device: type(stand_in)(**{**stand_in.__dict__, "device": "mps"}))
    np.testing.assert_allclose(extract(ct, mask, settings).values, expected.values, rtol=1e-12)


def test_a_few_voxels_scattered_over_a_large_box():
    """All lymph nodes in one mask: the box is large, the lesion is not; pairs of voxels are counted, not the box."""
    grid = Grid.from_spacing((300, 300, 300), (1.0, 1.0, 1.0))
    mask = np.zeros(grid.shape, dtype=bool)
    index = np.arange(0, 300, 10)
    mask[index, index, index] = True
    values = np.zeros(grid.shape, dtype=np.int16)
    values[index, index, index] = np.arange(30)
    table = extract(CTVolume(values, grid), Mask(mask, grid), RadiomicsSettings(features=("moran_i", "geary_c")))
    apart = np.abs(np.subtract.outer(index, index)) * np.sqrt(3.0)
    weight = np.divide(1.0, apart, out=np.zeros_like(apart), where=apart > 0)
    x = np.arange(30) - 14.5
    assert table["moran_i"].item() == pytest.approx(30 / weight.sum() * (x @ weight @ x) / (x @ x), rel=1e-12)


def test_the_shape_of_a_filtered_image_is_that_of_the_image():
    ct, mask = scan(quantity="hu")
    settings = RadiomicsSettings(filters=(None, LaplacianOfGaussian(3.0)), families=("shape",))
    np.testing.assert_array_equal(extract(ct, mask, settings).values, extract(ct, mask, families=["shape"]).values)
