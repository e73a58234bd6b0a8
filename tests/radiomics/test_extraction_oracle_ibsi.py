"""Every feature against the reference values of IBSI 1, within the printed tolerance and no more."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from idx.radiomics import CATALOG, extract
from idx.radiomics.texture import AGGREGATIONS

REFERENCE = pd.read_csv(Path(__file__).parent.parent / "oracles" / "ibsi1_reference.csv", comment="#", dtype={"ibsi_id": str, "aggregation": str}).fillna(
    {"aggregation": ""}
)
SETTINGS = {
    "digital_phantom": {"resegment_hu": (1, 9), "bin_size_hu": 1.0},
    "config_A": {"resegment_hu": (-500, 400), "bin_size_hu": 25.0},
    "config_B": {"spacing_mm": (2.0, 2.0, 3.0), "resegment_hu": (-500, 400), "n_bins": 32},
    "config_C": {"spacing_mm": 2.0, "resegment_hu": (-1000, 400), "bin_size_hu": 25.0},
    "config_D": {"spacing_mm": 2.0, "outlier_sigma": 3.0, "n_bins": 32},
    "config_E": {"spacing_mm": 2.0, "interpolation": "cubic", "resegment_hu": (-1000, 400), "outlier_sigma": 3.0, "n_bins": 32},
}


def tolerance_of(row):
    """The printed tolerance; a row without one must agree to its three printed digits."""
    if not np.isnan(row.tolerance):
        return row.tolerance
    return 0.5 * 10.0 ** (np.floor(np.log10(abs(row.value))) - 2)


def disagreements(image, mask, dataset):
    """Rows of a dataset whose value is not reproduced, and the number of rows looked at."""
    rows = REFERENCE[REFERENCE.dataset == dataset]
    wrong = []
    for aggregation, group in rows.groupby("aggregation"):
        families = ["glcm"] if aggregation else ["intensity", "histogram", "shape"]
        table = extract(image, mask, families=families, aggregation=aggregation or "3d_merged", **SETTINGS[dataset])
        for row in group.itertuples():
            value = table[CATALOG[row.feature].column()].iloc[0]
            if not abs(value - row.value) <= tolerance_of(row) * (1 + 1e-9):
                wrong.append((aggregation, row.feature, value, row.value))
    return wrong, len(rows)


def test_every_feature_has_a_reference_value():
    digital = REFERENCE[REFERENCE.dataset == "digital_phantom"]
    for key, definition in CATALOG.items():
        expected = set(AGGREGATIONS) if definition.family == "glcm" else {""}
        rows = digital[digital.feature == key]
        assert set(rows.aggregation) == expected, key
        assert set(rows.ibsi_id) == {definition.ibsi_id}, key
    assert set(REFERENCE.feature) == set(CATALOG)


def test_digital_phantom(digital_phantom):
    wrong, n = disagreements(*digital_phantom, "digital_phantom")
    assert (wrong, n) == ([], 216)


def test_a_changed_voxel_is_noticed(digital_phantom):
    """The comparison can fail: one voxel of another intensity breaks most of the values."""
    ct, mask = digital_phantom
    values = ct.values.copy()
    values[tuple(np.argwhere(mask.values)[0])] += 3
    wrong, _ = disagreements(ct.with_values(values), mask, "digital_phantom")
    assert len(wrong) > 100


@pytest.mark.real
@pytest.mark.parametrize(("dataset", "n_rows"), [("config_A", 166), ("config_B", 166), ("config_C", 116), ("config_D", 116), ("config_E", 116)])
def test_ct_phantom(ct_phantom, dataset, n_rows):
    wrong, n = disagreements(*ct_phantom, dataset)
    assert (wrong, n) == ([], n_rows)
