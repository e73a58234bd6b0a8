import numpy as np
import pytest

from idx.errors import FormatError, GeometryError, UnitError
from idx.geometry import Grid
from idx.radiomics import CATALOG, FAMILIES, extract, feature_specs, surface_area_mm2
from idx.volume import CTVolume, Mask, Volume

GRID = Grid.from_spacing((6, 7, 8), (0.8, 0.8, 1.5), (10.0, -20.0, 30.0))


def ct_and_mask(seed=0, shape=(6, 7, 8)):
    rng = np.random.default_rng(seed)
    grid = Grid.from_spacing(shape, (0.8, 0.8, 1.5), (10.0, -20.0, 30.0))
    mask = np.zeros(shape, dtype=bool)
    mask[1:5, 1:6, 2:7] = rng.random((4, 5, 5)) < 0.8
    return CTVolume(rng.integers(-600, 200, shape).astype(np.int16), grid), Mask(mask, grid, "GTV-1")


def one_voxel(n=1):
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[2, 3, 2 : 2 + n] = True
    return Mask(mask, GRID)


def reasons(table):
    return dict(zip(table.status["feature"], table.status["reason"], strict=True))


def test_table_names_rows_units_and_settings():
    table = extract(*ct_and_mask(), spacing_mm=1.0, resegment_hu=(-500, 400))
    assert table.values.index.name == "lesion"
    assert list(table.values.index) == ["GTV-1"]
    assert [spec.name for spec in table.specs] == [spec.name for spec in feature_specs()]
    contrast = table.spec("glcm_contrast")
    assert (contrast.ibsi_id, contrast.unit) == ("ACUI", "1")
    assert contrast.params["bin_size_hu"] == 25.0
    assert contrast.params["bin_origin_hu"] == -500
    assert contrast.params["spacing_mm"] == "1 x 1 x 1"
    assert "bin_size_hu" not in table.spec("mesh_volume_mm3").params
    assert table.provenance.settings["resegment_hu"] == "-500 to 400"
    assert table.provenance.function == "idx.radiomics.extract"


def test_families_can_be_chosen_and_keep_catalogue_order():
    table = extract(*ct_and_mask(), families=("glcm", "intensity"))
    assert {CATALOG[key].family for key in CATALOG if CATALOG[key].column() in table.values.columns} == {"intensity", "glcm"}
    assert table.values.columns[0] == "mean_intensity_hu"
    assert len(table.specs) == 18 + 25


def test_a_family_does_not_depend_on_the_others():
    whole = extract(*ct_and_mask())
    for family in FAMILIES:
        part = extract(*ct_and_mask(), families=[family])
        np.testing.assert_array_equal(part.values, whole.values[part.values.columns])


def test_other_quantities_have_their_own_unit():
    ct, mask = ct_and_mask()
    suv = Volume((ct.values.astype(np.float64) + 600) / 100, ct.grid, "suv")
    table = extract(suv, mask, n_bins=16)
    assert table.spec("mean_intensity").unit == "suv"
    assert table.spec("intensity_variance").unit == "suv2"
    assert table.spec("integrated_intensity_mm3").unit == "suv mm3"
    # Levels of a fixed number do not depend on the scale of the intensities.
    hu = extract(ct, mask, n_bins=16)
    np.testing.assert_allclose(table["glcm_contrast"], hu["glcm_contrast"])


def test_constant_lesion_keeps_every_defined_feature():
    ct, mask = ct_and_mask()
    table = extract(ct.with_values(np.full(ct.values.shape, 40, dtype=np.int16)), mask)
    constant = {"intensity_skewness", "intensity_kurtosis", "histogram_skewness", "histogram_kurtosis", "moran_i", "geary_c"}
    constant |= {"glcm_correlation", "glcm_information_correlation_1"}
    assert reasons(table) == dict.fromkeys(constant, "constant")
    assert table["glcm_joint_maximum"].item() == 1.0
    assert table["centre_of_mass_shift_mm"].item() == pytest.approx(0.0, abs=1e-12)


def test_one_voxel_keeps_every_defined_feature():
    table = extract(ct_and_mask()[0], one_voxel())
    missing = reasons(table)
    assert missing["elongation"] == "too_few_voxels"
    assert missing["moran_i"] == "too_few_voxels"
    assert missing["glcm_contrast"] == "no_pairs"
    # Marching cubes turns one voxel into an octahedron whose corners are half a voxel from its centre.
    assert table["mesh_volume_mm3"].item() == pytest.approx(0.8 * 0.8 * 1.5 / 6)
    assert table["maximum_3d_diameter_mm"].item() == pytest.approx(1.5)
    assert table["major_axis_length_mm"].item() == 0.0


def test_a_line_of_voxels_has_no_ellipsoid():
    table = extract(ct_and_mask()[0], one_voxel(3))
    assert reasons(table)["volume_density_aee"] == "zero_denominator"
    assert reasons(table)["area_density_aee"] == "zero_denominator"
    assert table["elongation"].item() == 0.0


def test_zero_mean_lesion_has_no_ratio_to_it():
    values = np.zeros(GRID.shape, dtype=np.int16)
    values[2, 3, 2], values[2, 3, 3] = -50, 50
    table = extract(CTVolume(values, GRID), one_voxel(2))
    assert reasons(table)["intensity_coefficient_of_variation"] == "zero_mean"
    assert reasons(table)["centre_of_mass_shift_mm"] == "zero_mean"


def elsewhere():
    ct, mask = ct_and_mask()
    return ct, Mask(mask.values, Grid.from_spacing(mask.values.shape, (0.8, 0.8, 1.5), (10.0, -20.0, 31.0)), "GTV-1")


def tilted():
    ct, mask = ct_and_mask()
    affine = np.array(ct.grid.affine)
    affine[1, 2] = 0.3
    grid = Grid(ct.grid.shape, affine)
    return CTVolume(ct.values, grid), Mask(mask.values, grid)


def with_nan():
    ct, mask = ct_and_mask()
    return Volume(np.where(mask.values, np.nan, 0.0), ct.grid, "suv"), mask


def in_suv():
    ct, mask = ct_and_mask()
    return Volume(ct.values, ct.grid, "suv"), mask


@pytest.mark.parametrize(
    ("inputs", "settings", "error", "message"),
    [
        (lambda: (ct_and_mask()[0], Mask(np.zeros(GRID.shape, dtype=bool), GRID, "GTV-9")), {}, GeometryError, "'GTV-9'.*names the lesion"),
        (elsewhere, {}, GeometryError, "'GTV-1'.*resample=True"),
        (lambda: (ct_and_mask(shape=(6, 7, 9))[0], ct_and_mask()[1]), {}, GeometryError, "one patient"),
        (tilted, {}, GeometryError, "right angles"),
        (with_nan, {"n_bins": 8}, UnitError, "finite"),
        (ct_and_mask, {"resegment_hu": (2000, 3000)}, GeometryError, "re-segmentation.*GTV-1"),
        (ct_and_mask, {"resegment_hu": (400, -1000)}, UnitError, "low < high"),
        (lambda: (ct_and_mask()[0], one_voxel()), {"spacing_mm": 8.0}, GeometryError, "finer spacing_mm"),
        (ct_and_mask, {"spacing_mm": -1.0}, GeometryError, "positive mm"),
        (ct_and_mask, {"spacing_mm": (1.0, 1.0)}, GeometryError, "one or three"),
        (ct_and_mask, {"outlier_sigma": 0.0}, UnitError, "outlier_sigma"),
        (ct_and_mask, {"bin_size_hu": 25.0, "n_bins": 32}, UnitError, "got both"),
        (ct_and_mask, {"bin_size_hu": 0.0}, UnitError, "bin_size_hu must be positive"),
        (ct_and_mask, {"bin_size_hu": 0.1}, UnitError, "at most 1024"),
        (ct_and_mask, {"n_bins": 1}, UnitError, "n_bins"),
        (in_suv, {}, UnitError, "n_bins must be given"),
        (in_suv, {"resegment_hu": (0, 5)}, UnitError, "'suv'"),
        (ct_and_mask, {"spacing_mm": 1.0, "interpolation": "sinc"}, FormatError, "'linear' or 'cubic'"),
        (ct_and_mask, {"families": ["glrlm"]}, FormatError, "families"),
        (ct_and_mask, {"families": "shape"}, FormatError, "families"),
        (ct_and_mask, {"aggregation": "3D"}, FormatError, "3d_merged"),
    ],
)
def test_invalid_input_is_refused_with_a_remedy(inputs, settings, error, message):
    with pytest.raises(error, match=message):
        extract(*inputs(), **settings)


def test_surface_area_of_one_voxel_is_that_of_an_octahedron():
    mask = Mask(np.ones((1, 1, 1), dtype=bool), Grid.from_spacing((1, 1, 1), (2.0, 2.0, 2.0)))
    assert surface_area_mm2(mask) == pytest.approx(3**0.5 * 2.0**2)
    with pytest.raises(GeometryError, match="at least one voxel"):
        surface_area_mm2(Mask(np.zeros((1, 1, 1), dtype=bool), mask.grid))
