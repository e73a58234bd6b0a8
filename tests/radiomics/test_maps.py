from functools import partial

import neighbourhood_oracle as plain
import numpy as np
import pytest
import torch

from idx.errors import FormatError, GeometryError
from idx.geometry import Grid
from idx.kernels import neighbourhood
from idx.kernels.local_torch import torch_cooccurrence, torch_shares, torch_statistics
from idx.radiomics import CATALOG, FeatureMap, feature_maps
from idx.radiomics import maps as maps_module
from idx.radiomics.intensity import intensity_statistics
from idx.radiomics.maps import MAP_FAMILIES
from idx.radiomics.preparation import prepare
from idx.radiomics.settings import RadiomicsSettings
from idx.settings import use_settings
from idx.table import FeatureSpec, Missing
from idx.volume import CTVolume, Mask, Volume

SPACING = (0.8, 0.9, 2.0)
BIN_SIZE = 60.0


@pytest.fixture(scope="module")
def scan():
    rng = np.random.default_rng(31)
    grid = Grid.from_spacing((8, 12, 11), SPACING, (-3.0, 2.0, 50.0))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[1:7, 2:11, 3:9] = rng.random((6, 9, 6)) < 0.6
    return CTVolume(rng.integers(-700, 250, grid.shape).astype(np.int16), grid), Mask(mask, grid, "GTV-1")


class Doubled:
    """Stands for any filter."""

    name = "doubled"

    def apply(self, image):
        return Volume(2 * image.values, image.grid, image.quantity)


def column(key):
    return f"local_{CATALOG[key].column('hu')}"


@pytest.mark.parametrize("neighbourhood", [{"radius_mm": 0.5}, {"radius_mm": 2.05}, {"radius_voxels": 1}])
@pytest.mark.parametrize("aggregation", ["3d_averaged", "3d_merged"])
def test_equals_a_direct_loop(scan, neighbourhood, aggregation):
    ct, lesion = scan
    maps = feature_maps(ct, lesion, RadiomicsSettings(bin_size=BIN_SIZE), families=list(MAP_FAMILIES), aggregation=aggregation, **neighbourhood)
    assert len(maps) == 18 + 1 + 2 + 25
    # Bins start at -1000 HU, and the highest level of the lesion counts as their number.
    levels = np.where(lesion.values, (ct.values + 1000) // int(BIN_SIZE) + 1, 0)
    box = lesion.bounding_box()
    for voxel in np.argwhere(lesion.values)[::3]:
        if "radius_mm" in neighbourhood:
            near = plain.ball(lesion.values, voxel, neighbourhood["radius_mm"], SPACING)
        else:
            near = plain.cube(lesion.values, voxel, neighbourhood["radius_voxels"])
        share = np.bincount(levels[near]) / near.sum()
        expected = intensity_statistics(ct.values[near].astype(np.float64))
        expected |= {"histogram_entropy": plain.entropy(share), "histogram_uniformity": np.sum(share**2)}
        expected |= dict.fromkeys(MAP_FAMILIES["glcm"], np.nan) | plain.cooccurrence(
            np.where(near, levels, 0), int(levels.max()), merged=aggregation == "3d_merged"
        )
        here = tuple(voxel - [part.start for part in box])
        for key, value in expected.items():
            mapped = maps[column(key)]
            value = np.nan if isinstance(value, Missing) else value
            # Information correlation 2 is a root: of independent levels it is 0 but for the root of a rounding error.
            atol = 1e-7 if key == "glcm_information_correlation_2" else 1e-9
            np.testing.assert_allclose(mapped.values[here], value, rtol=1e-9, atol=atol, err_msg=key)
            assert sum(voxels[here] for voxels in mapped.undefined.values()) == np.isnan(value)
        np.testing.assert_allclose(maps["local_intensity_sd_hu"].values[here], ct.values[near].std(), rtol=1e-9, atol=1e-9)


def test_every_mapped_feature_is_one_of_the_catalogue():
    for family, keys in MAP_FAMILIES.items():
        assert {CATALOG[key].family for key in keys if key != "intensity_sd"} == {family}
    assert [len(keys) for keys in MAP_FAMILIES.values()] == [19, 2, 25]
    whole = {family: sum(definition.family == family for definition in CATALOG.values()) for family in ("intensity", "glcm")}
    assert whole == {"intensity": 18, "glcm": 25}


def test_maps_lie_where_the_lesion_lies(scan):
    ct, lesion = scan
    maps = feature_maps(ct, lesion)
    assert list(maps) == ["local_mean_intensity_hu", "local_intensity_sd_hu", "local_histogram_entropy"]
    mapped = maps["local_mean_intensity_hu"]
    assert mapped.grid.is_close(ct.grid.crop((1, 2, 3), mapped.values.shape))
    np.testing.assert_array_equal(np.add(np.argwhere(~np.isnan(mapped.values)), [1, 2, 3]), np.argwhere(lesion.values))
    assert mapped.spec.params["radius_mm"] == 5.0
    assert (mapped.spec.unit, mapped.spec.ibsi_id) == ("hu", "Q4LE")
    assert not mapped.values.flags.writeable
    assert "local_mean_intensity_hu" in mapped._repr_html_()


def test_names_units_and_settings_stand_in_the_spec(scan):
    maps = feature_maps(*scan, RadiomicsSettings(n_bins=8), radius_voxels=2, features=["glcm_contrast", "intensity_variance"], aggregation="3d_merged")
    contrast, variance = maps["local_glcm_contrast"].spec, maps["local_intensity_variance_hu2"].spec
    assert (contrast.unit, contrast.ibsi_id, variance.unit, variance.ibsi_id) == ("1", "ACUI", "hu2", "ECT3")
    assert contrast.params["n_bins"] == 8
    assert contrast.params["aggregation"] == "3d_merged"
    assert contrast.params["radius_voxels"] == 2
    assert "n_bins" not in variance.params


def test_features_and_families_add_up(scan):
    maps = feature_maps(*scan, features=["glcm_contrast", "histogram_entropy"], families=["histogram"], radius_voxels=1)
    assert list(maps) == ["local_glcm_contrast", "local_histogram_entropy", "local_histogram_uniformity"]


def test_maps_follow_the_preparation(scan):
    ct, lesion = scan
    settings = RadiomicsSettings(spacing_mm=1.0, resegment_range=(-400.0, 250.0))
    mapped = feature_maps(ct, lesion, settings, features=["intensity_sd"])["local_intensity_sd_hu"]
    region = prepare(ct, lesion, settings)
    np.testing.assert_array_equal(~np.isnan(mapped.values), region.intensity_mask)
    # A ball that holds the whole lesion gives every voxel the lesion's own value.
    whole = feature_maps(ct, lesion, radius_mm=100.0, features=["intensity_sd"])["local_intensity_sd_hu"]
    np.testing.assert_allclose(whole.values[~np.isnan(whole.values)], ct.values[lesion.values].std(), rtol=1e-9)


def test_an_image_without_hu_keeps_its_unit(scan):
    ct, lesion = scan
    maps = feature_maps(Volume(ct.values, ct.grid, "suv"), lesion, RadiomicsSettings(n_bins=16), features=["intensity_sd", "glcm_contrast"])
    assert maps["local_intensity_sd"].spec.unit == "suv"


def test_undefined_voxels_say_why():
    grid = Grid.from_spacing((3, 5, 12), (1.0, 1.0, 1.0))
    values = np.full(grid.shape, 50, dtype=np.int16)
    values[:, :, 8:] = np.random.default_rng(2).integers(-200, 200, (3, 5, 4))
    inside = np.ones(grid.shape, dtype=bool)
    inside[:, :, 3:7] = False
    inside[1, 2, 5] = True
    maps = feature_maps(
        CTVolume(values, grid), Mask(inside, grid), radius_voxels=1, features=["glcm_correlation", "glcm_contrast", "intensity_skewness", "mean_intensity"]
    )
    correlation, skewness = maps["local_glcm_correlation"], maps["local_intensity_skewness"]
    alone = np.zeros(grid.shape, dtype=bool)
    alone[1, 2, 5] = True
    flat = np.zeros(grid.shape, dtype=bool)
    flat[:, :, :3] = True
    np.testing.assert_array_equal(correlation.undefined["no_pairs"], alone)
    np.testing.assert_array_equal(correlation.undefined["constant"], flat)
    np.testing.assert_array_equal(skewness.undefined["constant"], flat | alone)
    assert list(maps["local_glcm_contrast"].undefined) == ["no_pairs"]
    assert not maps["local_mean_intensity_hu"].undefined
    assert np.isnan(correlation.values[alone | flat | ~inside]).all()
    assert np.isfinite(correlation.values[inside & ~flat & ~alone]).all()
    facts = correlation.facts()
    assert ("voxels inside", f"{inside.sum():,}") in facts
    assert ("undefined", "1 voxels: no two neighbouring voxels lie in the region") in facts
    assert "all values are equal" in correlation._repr_html_()


def test_a_map_without_any_value_can_be_shown():
    grid = Grid.from_spacing((2, 2, 2), (1.0, 1.0, 1.0))
    maps = feature_maps(CTVolume(np.zeros(grid.shape, dtype=np.int16), grid), Mask(np.ones(grid.shape, dtype=bool), grid), features=["intensity_kurtosis"])
    assert ("values", "none") in maps["local_intensity_kurtosis"].facts()
    assert "none" in maps["local_intensity_kurtosis"]._repr_html_()


def test_a_map_refuses_reasons_it_does_not_know_and_voxels_with_values():
    grid = Grid.from_spacing((1, 1, 2), (1.0, 1.0, 1.0))
    spec = FeatureSpec("local_a", "1", "A.")
    values, first = np.array([[[np.nan, 1.0]]]), np.array([[[True, False]]])
    assert FeatureMap(values, grid, spec, {"constant": first}).undefined["constant"].sum() == 1
    with pytest.raises(FormatError, match="REASONS"):
        FeatureMap(values, grid, spec, {"bad luck": first})
    with pytest.raises(FormatError, match="without a value"):
        FeatureMap(values, grid, spec, {"constant": ~first})
    with pytest.raises(GeometryError, match="undefined voxels"):
        FeatureMap(values, grid, spec, {"constant": first[0]})


def same_maps(maps, expected):
    for name, mapped in expected.items():
        np.testing.assert_allclose(maps[name].values, mapped.values, rtol=1e-9, atol=1e-9, err_msg=name)
        assert {reason: voxels.sum() for reason, voxels in maps[name].undefined.items()} == {reason: n.sum() for reason, n in mapped.undefined.items()}
    return list(maps) == list(expected)


def test_any_number_of_workers_gives_the_same_maps(scan, monkeypatch):
    monkeypatch.setattr(neighbourhood, "MIN_VOXELS_PER_TASK", 10)
    with use_settings(workers=1):
        one = feature_maps(*scan, device="cpu", families=list(MAP_FAMILIES), radius_voxels=1)
    with use_settings(workers=3):
        assert same_maps(feature_maps(*scan, device="cpu", families=list(MAP_FAMILIES), radius_voxels=1), one)


def test_a_device_gets_the_kernels_in_torch(scan, monkeypatch):
    expected = feature_maps(*scan, device="cpu", families=list(MAP_FAMILIES), radius_voxels=1)
    with monkeypatch.context() as patched:
        patched.setattr(maps_module, "resolve_device", lambda device: torch.device("meta"))
        chosen = maps_module._kernels("meta")
    assert [kernel.func for kernel in chosen] == [torch_statistics, torch_shares, torch_cooccurrence]
    assert all(kernel.keywords == {"device": torch.device("meta")} for kernel in chosen)
    # The same kernels on the CPU, so that a machine without a device sees them through feature_maps too.
    monkeypatch.setattr(maps_module, "_kernels", lambda device: tuple(partial(kernel.func, device=torch.device("cpu")) for kernel in chosen))
    assert same_maps(feature_maps(*scan, families=list(MAP_FAMILIES), radius_voxels=1), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_maps(scan):
    settings = {"families": list(MAP_FAMILIES), "radius_mm": 2.1}
    assert same_maps(feature_maps(*scan, device="cuda", **settings), feature_maps(*scan, device="cpu", **settings))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"features": ["shape_volume"]}, FormatError, "mean_intensity"),
        ({"features": "intensity_sd"}, FormatError, "features"),
        ({"features": []}, FormatError, "features"),
        ({"families": ["shape"]}, FormatError, "families must be some of intensity, histogram, glcm"),
        ({"families": "glcm"}, FormatError, "families"),
        ({"aggregation": "2d_averaged"}, FormatError, "aggregation"),
        ({"radius_mm": 0.0}, GeometryError, "radius_mm"),
        ({"radius_mm": np.nan}, GeometryError, "radius_mm"),
        ({"radius_voxels": 0}, GeometryError, "radius_voxels"),
        ({"radius_voxels": 1.5}, GeometryError, "radius_voxels"),
        ({"radius_voxels": np.nan}, GeometryError, "radius_voxels"),
        ({"radius_voxels": 1, "radius_mm": 2.0}, GeometryError, "one of them"),
        ({"settings": RadiomicsSettings(filters=(Doubled(),))}, FormatError, "filters"),
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
