"""A neighbourhood that holds the whole lesion has the lesion's own features: the reference values of IBSI 1, and those of ``extract``."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from idx.geometry import Grid
from idx.radiomics import CATALOG, extract, feature_maps
from idx.radiomics.maps import MAP_AGGREGATIONS, MAP_FAMILIES
from idx.radiomics.settings import RadiomicsSettings
from idx.volume import CTVolume, Mask

REFERENCE = pd.read_csv(Path(__file__).parent.parent / "oracles" / "ibsi1_reference_values.csv", comment="#", dtype=str, keep_default_na=False)
KEYS = [key for keys in MAP_FAMILIES.values() for key in keys if key in CATALOG]
KEY_OF = {CATALOG[key].ibsi_id: key for key in KEYS}


def tolerance_of(row):
    """The printed tolerance; a row without one must agree to its three printed digits."""
    return float(row.tolerance) if row.tolerance else 0.5 * 10.0 ** (np.floor(np.log10(abs(float(row.value)))) - 2)


@pytest.mark.parametrize("aggregation", MAP_AGGREGATIONS)
def test_digital_phantom(digital_phantom, aggregation):
    settings = RadiomicsSettings(bin_size=1.0, resegment_range=(1.0, 9.0))
    maps = feature_maps(*digital_phantom, settings, radius_mm=100.0, families=list(MAP_FAMILIES), aggregation=aggregation)
    is_mine = REFERENCE.ibsi_id.isin(KEY_OF) & REFERENCE.aggregation.str.lower().str.replace(", ", "_").isin(["", aggregation])
    rows = REFERENCE[is_mine & (REFERENCE.dataset == "digital_phantom")]
    assert len(rows) == len(KEYS) == len(KEY_OF) == 45
    for row in rows.itertuples():
        mapped = maps[f"local_{CATALOG[KEY_OF[row.ibsi_id]].column()}"]
        inside = ~np.isnan(mapped.values)
        assert inside.sum() == digital_phantom[1].values.sum()
        assert np.ptp(mapped.values[inside]) < 1e-9
        assert abs(mapped.values[inside][0] - float(row.value)) <= tolerance_of(row) * (1 + 1e-9), row.feature


@pytest.mark.parametrize("aggregation", MAP_AGGREGATIONS)
def test_whole_neighbourhood_equals_extract(aggregation):
    rng = np.random.default_rng(17)
    grid = Grid.from_spacing((6, 9, 8), (0.7, 0.9, 2.1))
    ct = CTVolume(rng.integers(-300, 300, grid.shape).astype(np.int16), grid)
    lesion = Mask(rng.random(grid.shape) < 0.5, grid, "GTV-1")
    settings = RadiomicsSettings(spacing_mm=(1.0, 1.0, 2.0), n_bins=16, outlier_sigma=1.5, families=tuple(MAP_FAMILIES), aggregations=(aggregation,))
    table = extract(ct, lesion, settings)
    maps = feature_maps(ct, lesion, settings, radius_voxels=50, families=list(MAP_FAMILIES), aggregation=aggregation)
    for key in KEYS:
        definition = CATALOG[key]
        expected = table[definition.column("hu", aggregation if definition.family == "glcm" else None)].iloc[0]
        mapped = maps[f"local_{definition.column()}"].values
        np.testing.assert_allclose(mapped[~np.isnan(mapped)], expected, rtol=1e-9, atol=1e-9, err_msg=key)
