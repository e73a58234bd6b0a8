"""PyRadiomics' voxel-based maps of the original image, kernelRadius 1, at a few voxels of two lesions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import idx
from idx.radiomics import CATALOG, feature_maps
from idx.radiomics.maps import MAP_FAMILIES
from idx.radiomics.settings import RadiomicsSettings

TABLE = pd.read_csv(Path(__file__).parent.parent / "oracles" / "pyradiomics_maps.csv", comment="#")
MAPPED = [CATALOG[key] for keys in MAP_FAMILIES.values() for key in keys if key in CATALOG]
WITHOUT_PEER = {
    "intensity_median_absolute_deviation",
    "intensity_coefficient_of_variation",
    "intensity_quartile_coefficient_of_dispersion",
    "glcm_sum_variance",
    "glcm_dissimilarity",
}
"""PyRadiomics does not have these, or no longer measures them."""


def test_every_mapped_feature_that_pyradiomics_has_is_compared():
    names = {definition.pyradiomics: definition.key for definition in MAPPED}
    assert set(TABLE.feature) <= set(names)
    assert {key for name, key in names.items() if name not in set(TABLE.feature)} | {d.key for d in MAPPED if not d.pyradiomics} == WITHOUT_PEER


@pytest.mark.real
@pytest.mark.parametrize("case", ["brain1", "lung1"])
def test_voxels_equal_those_of_pyradiomics(real_data, case):
    folder = real_data / "ct" / "pyradiomics_cases"
    read = idx.read_ct if case == "lung1" else idx.read_volume
    image = read(folder / f"{case}_image.nrrd")
    lesion = idx.read_mask(folder / f"{case}_label.nrrd", like=image)
    # As PyRadiomics does, bins start at a multiple of their size: the number of a level decides features such as the autocorrelation.
    maps = feature_maps(image, lesion, RadiomicsSettings(bin_size=25.0, bin_origin="multiple"), radius_voxels=1, families=list(MAP_FAMILIES))
    expected = TABLE[TABLE.case == case].set_index(["x_mm", "y_mm", "z_mm", "feature"])["value"]
    assert len(expected) > 200
    for (*point_mm, name), value in expected.items():
        definition = next(d for d in MAPPED if d.pyradiomics == name)
        mapped = maps[f"local_{definition.column(image.quantity)}"]
        voxel = tuple(np.rint(mapped.grid.to_index(point_mm)).astype(int))
        # PyRadiomics does not subtract the 3 of a normal distribution.
        shift = 3.0 if name == "firstorder_Kurtosis" else 0.0
        np.testing.assert_allclose(mapped.values[voxel] + shift, value, rtol=1e-9, atol=1e-9, err_msg=f"{name} at {point_mm} mm")
