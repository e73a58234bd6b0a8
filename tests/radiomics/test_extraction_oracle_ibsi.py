"""Every feature under every aggregation against the reference values of IBSI 1, within the printed tolerance and no more, on every engine."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from idx.kernels.engine import engine_for
from idx.kernels.torch_engine import torch_engine
from idx.radiomics import AGGREGATIONS, CATALOG, RadiomicsSettings, extract
from idx.radiomics.catalog import aggregations_of

REFERENCE = pd.read_csv(Path(__file__).parent.parent / "oracles" / "ibsi1_reference_values.csv", comment="#", dtype=str, keep_default_na=False)
FAMILY = {"morph": "shape", "loc": "local_intensity", "stat": "intensity", "ih": "histogram", "ivh": "ivh", "cm": "glcm"}
FAMILY |= {"rlm": "glrlm", "szm": "glszm", "dzm": "gldzm", "ngtdm": "ngtdm", "ngldm": "ngldm"}
SETTINGS = {"digital_phantom": RadiomicsSettings(resegment_range=(1, 9), bin_size=1.0, aggregations=AGGREGATIONS)}
SETTINGS |= {f"config_{letter}": RadiomicsSettings.ibsi(letter) for letter in "ABCDE"}
WITHOUT_REFERENCE = {"volume_density_ombb", "area_density_ombb", "volume_density_mvee", "area_density_mvee", "ivh_area_under_curve"}
"""IBSI prints no values for these; tests/kernels/test_hull.py and tests/radiomics/test_intensity_volume_histogram.py have closed forms."""
PRINTED = {"histogram_p10": "1PR8", "histogram_p90": "GPMT"}
"""Codes that the table prints and that mean other features in the DICOM standard."""
KEYS = {(definition.family, definition.ibsi_name): key for key, definition in CATALOG.items()}


@pytest.fixture(params=["compiled", "torch", pytest.param("cuda", marks=pytest.mark.gpu)])
def engine(request, monkeypatch):
    """What counts: compiled code, or torch on the CPU or a device."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    chosen = engine_for() if request.param == "compiled" else torch_engine("cpu" if request.param == "torch" else "cuda")
    monkeypatch.setattr("idx.radiomics.extraction.engine_for", lambda device: chosen)
    return request.param


def key_of(row):
    return KEYS[FAMILY[row.family], row.feature + (f" ({row.parameter})" if row.parameter else "")]


def aggregation_of(row):
    """IBSI writes "2.5D, direction-merged"."""
    return row.aggregation.lower().replace(", ", "_").replace("-", "_") or None


def tolerance_of(row):
    """The printed tolerance; a row without one must agree to its three printed digits."""
    value = float(row.value)
    if row.tolerance:
        return float(row.tolerance)
    return 0.5 * 10.0 ** (np.floor(np.log10(abs(value))) - 2) if value else 0.0


def disagreements(image, mask, dataset, **changes):
    """Rows of a dataset whose value is not reproduced, and the number of rows looked at."""
    rows = REFERENCE[REFERENCE.dataset == dataset]
    table = extract(image, mask, SETTINGS[dataset].replace(**changes), device="cpu")
    column = {(spec.params["key"], spec.params.get("aggregation")): spec.name for spec in table.specs}
    wrong = []
    for row in rows.itertuples():
        value = table[column[key_of(row), aggregation_of(row)]].iloc[0]
        if not abs(value - float(row.value)) <= tolerance_of(row) * (1 + 1e-9):
            wrong.append((row.aggregation, row.feature, value, row.value))
    return wrong, len(rows)


def test_every_feature_has_a_reference_value_under_every_aggregation():
    digital = REFERENCE[REFERENCE.dataset == "digital_phantom"]
    found = {}
    for row in digital.itertuples():
        found.setdefault(key_of(row), set()).add(aggregation_of(row))
        assert PRINTED.get(key_of(row), CATALOG[key_of(row)].ibsi_id) == row.ibsi_id
    assert set(found) == set(CATALOG) - WITHOUT_REFERENCE
    for key, aggregations in found.items():
        assert aggregations == set(aggregations_of(CATALOG[key].family, AGGREGATIONS)), key


def test_digital_phantom(digital_phantom, engine):
    wrong, n = disagreements(*digital_phantom, "digital_phantom")
    assert (wrong, n) == ([], 482)


def test_a_changed_voxel_is_noticed(digital_phantom):
    """The comparison can fail: one voxel of another intensity breaks most of the values."""
    ct, mask = digital_phantom
    values = ct.values.copy()
    values[tuple(np.argwhere(mask.values)[0])] += 3
    wrong, _ = disagreements(ct.with_values(values), mask, "digital_phantom")
    assert len(wrong) > 250


@pytest.mark.real
@pytest.mark.parametrize(("dataset", "n_rows"), [("config_A", 346), ("config_B", 346), ("config_C", 210), ("config_D", 210), ("config_E", 210)])
def test_ct_phantom(ct_phantom, engine, dataset, n_rows):
    wrong, n = disagreements(*ct_phantom, dataset)
    assert (wrong, n) == ([], n_rows)
