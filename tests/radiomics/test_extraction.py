import numpy as np
import pytest

from idx.errors import FormatError, GeometryError, UnitError
from idx.geometry import Grid
from idx.radiomics import CATALOG, FAMILIES, LaplacianOfGaussian, RadiomicsSettings, extract, feature_specs, surface_area_mm2
from idx.settings import use_settings
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
    table = extract(*ct_and_mask(), RadiomicsSettings(spacing_mm=1.0, resegment_range=(-500, 400)))
    assert table.values.index.name == "lesion"
    assert list(table.values.index) == ["GTV-1"]
    assert [spec.name for spec in table.specs] == [spec.name for spec in feature_specs()]
    contrast = table.spec("glcm_contrast_3d_merged")
    assert (contrast.ibsi_id, contrast.unit) == ("ACUI", "1")
    assert contrast.params["bin_size"] == 25.0
    assert contrast.params["bin_origin"] == -500
    assert contrast.params["aggregation"] == "3d_merged"
    assert contrast.params["formula"] == "IBSI reference manual (arXiv:1612.07003), section 3.6.12"
    assert contrast.params["spacing_mm"] == "1 x 1 x 1"
    assert "bin_size" not in table.spec("mesh_volume_mm3").params
    assert table.provenance.settings["resegment_range"] == "-500 to 400"
    assert table.provenance.function == "idx.radiomics.extract"


def test_families_can_be_chosen_and_keep_catalogue_order():
    table = extract(*ct_and_mask(), families=("glcm", "intensity"))
    assert {spec.params["family"] for spec in table.specs} == {"intensity", "glcm"}
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
    table = extract(suv, mask, RadiomicsSettings(n_bins=16))
    assert table.spec("mean_intensity").unit == "suv"
    assert table.spec("intensity_variance").unit == "suv2"
    assert table.spec("integrated_intensity_mm3").unit == "suv mm3"
    # Levels of a fixed number do not depend on the scale of the intensities.
    hu = extract(ct, mask, RadiomicsSettings(n_bins=16))
    np.testing.assert_allclose(table["glcm_contrast_3d_merged"], hu["glcm_contrast_3d_merged"])
    # Without a unit the intensity-volume histogram has 1000 bins, whose numbers are no intensities.
    assert table.spec("ivh_intensity_difference").unit == "1"
    assert table.spec("ivh_intensity_difference").params["ivh_n_bins"] == 1000
    assert hu.spec("ivh_intensity_difference_hu").unit == "hu"


def test_constant_lesion_keeps_every_defined_feature():
    ct, mask = ct_and_mask()
    table = extract(ct.with_values(np.full(ct.values.shape, 40, dtype=np.int16)), mask)
    constant = {"intensity_skewness", "intensity_kurtosis", "histogram_skewness", "histogram_kurtosis", "moran_i", "geary_c"}
    constant |= {"glcm_correlation_3d_merged", "glcm_information_correlation_1_3d_merged"}
    constant |= {spec.name for spec in table.specs if spec.params["family"] == "ivh"}
    assert reasons(table) == dict.fromkeys(constant, "constant")
    assert table["glcm_joint_maximum_3d_merged"].item() == 1.0
    assert table["centre_of_mass_shift_mm"].item() == pytest.approx(0.0, abs=1e-12)


def test_one_voxel_keeps_every_defined_feature():
    table = extract(ct_and_mask()[0], one_voxel())
    missing = reasons(table)
    assert missing["elongation"] == "too_few_voxels"
    assert missing["moran_i"] == "too_few_voxels"
    assert missing["glcm_contrast_3d_merged"] == "no_pairs"
    assert missing["ngtdm_coarseness_3d"] == "no_pairs"
    assert table["glszm_zone_percentage_3d"].item() == 1.0
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
        (in_suv, {"bin_size": 0.5}, UnitError, "bin_origin must be given"),
        (ct_and_mask, {"bin_origin": "zero"}, UnitError, "'multiple'"),
        (ct_and_mask, {"ivh_n_bins": 1}, UnitError, "ivh_n_bins"),
        (ct_and_mask, {"features": ("contrast",)}, FormatError, "keys of the catalogue"),
        (ct_and_mask, {"filters": ("log",)}, FormatError, "filters"),
        (ct_and_mask, {"resegment_range": (2000, 3000)}, GeometryError, "re-segmentation.*GTV-1"),
        (ct_and_mask, {"resegment_range": (400, -1000)}, UnitError, "low < high"),
        (lambda: (ct_and_mask()[0], one_voxel()), {"spacing_mm": 8.0}, GeometryError, "finer spacing_mm"),
        (ct_and_mask, {"spacing_mm": -1.0}, GeometryError, "positive mm"),
        (ct_and_mask, {"spacing_mm": (1.0, 1.0)}, GeometryError, "one or three"),
        (ct_and_mask, {"outlier_sigma": 0.0}, UnitError, "outlier_sigma"),
        (ct_and_mask, {"bin_size": 25.0, "n_bins": 32}, UnitError, "got both"),
        (ct_and_mask, {"bin_size": 0.0}, UnitError, "bin_size must be positive"),
        (ct_and_mask, {"bin_size": 0.1}, UnitError, "at most 1024"),
        (ct_and_mask, {"n_bins": 1}, UnitError, "n_bins"),
        (in_suv, {}, UnitError, "n_bins or bin_size must be given"),
        (ct_and_mask, {"spacing_mm": 1.0, "interpolation": "sinc"}, FormatError, "linear, cubic, nearest"),
        (ct_and_mask, {"families": ("gldm",)}, FormatError, "families"),
        (ct_and_mask, {"families": "shape"}, FormatError, "families"),
        (ct_and_mask, {"aggregations": ("3D",)}, FormatError, "3d_merged"),
    ],
)
def test_invalid_input_is_refused_with_a_remedy(inputs, settings, error, message):
    with pytest.raises(error, match=message):
        extract(*inputs(), RadiomicsSettings(**settings))


def test_surface_area_of_one_voxel_is_that_of_an_octahedron():
    mask = Mask(np.ones((1, 1, 1), dtype=bool), Grid.from_spacing((1, 1, 1), (2.0, 2.0, 2.0)))
    assert surface_area_mm2(mask) == pytest.approx(3**0.5 * 2.0**2)
    with pytest.raises(GeometryError, match="at least one voxel"):
        surface_area_mm2(Mask(np.zeros((1, 1, 1), dtype=bool), mask.grid))


def test_several_lesions_are_rows_and_do_not_touch_each_other():
    ct, first = ct_and_mask()
    second = Mask(ct_and_mask(1)[1].values, GRID, "GTV-2")
    both = extract(ct, [second, first])
    assert list(both.values.index) == ["GTV-2", "GTV-1"]
    for mask in (first, second):
        np.testing.assert_array_equal(both.values.loc[[mask.label]], extract(ct, mask).values)
    with pytest.raises(FormatError, match="'GTV-1' twice"):
        extract(ct, [first, first])
    with pytest.raises(FormatError, match="must be a Mask"):
        extract(ct, [])
    with pytest.raises(FormatError, match="got ndarray"):
        extract(ct, [first.values])


def test_results_do_not_depend_on_threads():
    inputs = ct_and_mask()
    with use_settings(workers=1):
        one = extract(*inputs)
    with use_settings(workers=4):
        np.testing.assert_array_equal(extract(*inputs).values, one.values)


def test_every_aggregation_has_its_column():
    settings = RadiomicsSettings(aggregations=("2d_averaged", "2.5d_merged", "3d_averaged", "3d_merged"), families=("glrlm", "ngldm"))
    columns = set(extract(*ct_and_mask(), settings).values.columns)
    assert {f"glrlm_run_percentage_{a}" for a in settings.aggregations} <= columns
    assert {f"ngldm_dependence_count_energy_{a}" for a in ("2d", "2.5d", "3d")} <= columns
    assert len(columns) == 4 * 16 + 3 * 17


def test_a_choice_of_features_measures_those():
    settings = RadiomicsSettings(features=("mesh_volume", "glcm_contrast", "moran_i"))
    table = extract(*ct_and_mask(), settings)
    assert list(table.values.columns) == ["mesh_volume_mm3", "moran_i", "glcm_contrast_3d_merged"]
    np.testing.assert_array_equal(table.values, extract(*ct_and_mask()).values[table.values.columns])


def test_a_lesion_in_one_slice_is_measured_alike_in_the_slice_and_in_space():
    ct, _ = ct_and_mask()
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[3, 1:6, 2:7] = True
    settings = RadiomicsSettings(aggregations=("2d_slice_merged", "2.5d_merged", "3d_merged"))
    table = extract(ct, Mask(mask, GRID), settings)
    for family, suffixes in (("glcm", ("2d_slice_merged", "2.5d_merged")), ("glszm", ("2d", "2.5d", "3d")), ("ngtdm", ("2d", "2.5d", "3d"))):
        names = [key for key, definition in CATALOG.items() if definition.family == family]
        values = np.array([[table[f"{name}_{suffix}"].item() for name in names] for suffix in suffixes])
        np.testing.assert_allclose(values, np.broadcast_to(values[:1], values.shape), rtol=1e-12)
    assert table["flatness"].item() == 0.0
    assert reasons(table)["volume_density_aee"] == "zero_denominator"


def test_an_image_of_one_slice_is_measured():
    grid = Grid.from_spacing((1, 7, 8), (0.8, 0.8, 1.5))
    ct = CTVolume(np.random.default_rng(0).integers(-100, 100, grid.shape).astype(np.int16), grid)
    table = extract(ct, Mask(np.ones(grid.shape, dtype=bool), grid), RadiomicsSettings(aggregations=("2d_averaged",)))
    assert np.isfinite(table["glcm_contrast_2d_averaged"].item())
    assert table["voxel_volume_mm3"].item() == pytest.approx(56 * 0.96)


def test_four_dimensional_input_is_refused():
    with pytest.raises(GeometryError, match="axis order"):
        Mask(np.ones((2, 6, 7, 8), dtype=bool), GRID)
    with pytest.raises(GeometryError, match="axis order"):
        CTVolume(np.ones((2, 6, 7, 8), dtype=np.int16), GRID)


def test_filtered_images_have_columns_of_their_own():
    ct, mask = ct_and_mask()
    filters = (None, LaplacianOfGaussian(2.0))
    table = extract(ct, mask, RadiomicsSettings(filters=filters, families=("shape", "intensity", "glcm"), bin_size=10.0))
    name = filters[1].name
    response = filters[1].apply(ct.values, ct.spacing_mm)[mask.values]
    # The lesion is cut out with the margin that the filter needs: the response is that to the whole image.
    assert table[f"{name}_mean_intensity"].item() == pytest.approx(response.mean(), rel=1e-9)
    assert table[f"{name}_maximum_intensity"].item() == pytest.approx(response.max(), rel=1e-9)
    assert f"{name}_mesh_volume_mm3" not in table.values.columns
    spec = table.spec(f"{name}_glcm_contrast_3d_merged")
    assert (spec.params["image"], spec.params["filter_sigma_mm"], spec.params["bin_origin"]) == (name, 2.0, "multiple")
    assert table.spec("mesh_volume_mm3").params["image"] == "original"


def test_textures_of_a_filtered_image_need_bins():
    with pytest.raises(UnitError, match="n_bins or bin_size"):
        extract(*ct_and_mask(), RadiomicsSettings(filters=(LaplacianOfGaussian(2.0),)))


def test_columns_by_other_names():
    table = extract(*ct_and_mask(), RadiomicsSettings(aggregations=("3d_averaged",)), columns="pyradiomics")
    assert "original_glcm_Contrast" in table.values.columns
    assert "original_shape_MeshVolume" in table.values.columns
    codes = extract(*ct_and_mask(), columns="ibsi_code")
    assert codes["ACUI_3d_merged"].item() == extract(*ct_and_mask())["glcm_contrast_3d_merged"].item()
    with pytest.raises(FormatError, match="columns"):
        extract(*ct_and_mask(), columns="latin")
