"""The self-check for users: it counts what matches, names what does not, and cannot be talked into agreement."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from idx.errors import FormatError
from idx.radiomics import conformance
from idx.radiomics.conformance_check import ERRATA

ORACLES = Path(__file__).parent.parent / "oracles"


def write_nifti(values, path, spacing_mm=2.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), np.diag([spacing_mm] * 3 + [1.0])), path)


@pytest.fixture
def folder(tmp_path, digital_phantom):
    """A folder with IBSI's digital phantom and its reference values, and nothing else."""
    ct, mask = digital_phantom
    nifti = tmp_path / "ct" / "ibsi1_digital_phantom" / "nifti"
    write_nifti(ct.values.astype(np.float32), nifti / "image" / "phantom.nii.gz")
    write_nifti(mask.values.astype(np.uint8), nifti / "mask" / "mask.nii.gz")
    rows = pd.read_csv(ORACLES / "ibsi1_reference_values.csv", comment="#", dtype=str, keep_default_na=False)
    (tmp_path / "radiomics").mkdir()
    rows.to_csv(tmp_path / "radiomics" / "ibsi1_reference_values.csv", index=False)
    return tmp_path


def test_what_is_there_is_checked_and_what_is_not_is_named(folder):
    result = conformance(folder)
    assert (result.matched, len(result.checks), len(result.missed)) == (482, 482, 0)
    assert set(result.by_set()) == {"digital_phantom"}
    assert result.by_set()["digital_phantom"]["strong"] == (233, 233)
    assert set(result.by_feature().values()) == {"matched"}
    assert "ct/ibsi1_ct_phantom/nifti/image/phantom.nii.gz" in result.absent
    assert any("ibsi2_reference" in path for path in result.absent)
    assert "482 of 482" in repr(result)


def test_a_wrong_reference_is_listed_with_its_reason(folder):
    path = folder / "radiomics" / "ibsi1_reference_values.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    chosen = next(row for row in rows if row["ibsi_id"] == "ACUI" and row["dataset"] == "digital_phantom" and row["aggregation"] == "3D, merged")
    chosen["value"] = str(float(chosen["value"]) * 1.5)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    result = conformance(folder)
    (missed,) = result.missed
    assert (missed.feature, missed.aggregation, missed.matched) == ("Contrast", "3D, merged", False)
    assert "off by" in missed.reason
    assert result.by_feature()["Contrast [ACUI]"] == "partly"
    written = json.loads(result.to_json())
    assert written["summary"] | {"matched": 481, "total": 482, "missed": 1} == written["summary"]
    assert written["misses"][0]["reason"] == missed.reason


def test_an_image_that_cannot_be_measured_is_a_reason_not_a_crash(folder):
    mask = folder / "ct" / "ibsi1_digital_phantom" / "nifti" / "mask" / "mask.nii.gz"
    write_nifti(np.zeros((4, 4, 5), dtype=np.uint8), mask)
    result = conformance(folder)
    assert result.matched == 0
    assert len(result.missed) == 482
    assert all("could not be measured" in check.reason for check in result.missed)


@pytest.mark.parametrize(("line", "message"), [("a,b\n1,2\n", "columns family"), (None, "line 2")])
def test_a_damaged_table_of_references_is_refused(folder, line, message):
    path = folder / "radiomics" / "ibsi1_reference_values.csv"
    text = path.read_text()
    path.write_text(line or text.replace(",556,", ",many,", 1))
    with pytest.raises(FormatError, match=message):
        conformance(folder)


def test_a_folder_without_references_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"ibsi1_reference_values\.csv"):
        conformance(tmp_path)


def test_every_erratum_has_its_evidence():
    rows = list(csv.DictReader(ERRATA.read_text().splitlines()))
    assert rows
    assert all(len(row["evidence"]) > 40 for row in rows)


@pytest.mark.real
@pytest.mark.slow
def test_everything_that_ibsi_publishes_is_met(real_data):
    result = conformance(real_data)
    assert result.missed == ()
    # 1,804 values of IBSI 1, 323 of IBSI 2 (the 324th row is empty) and 33 response maps.
    assert (result.matched, len(result.errata), result.absent) == (1804 + 323 + 33, 3, ())


@pytest.mark.real
def test_a_wrong_response_map_is_noticed(real_data, tmp_path):
    references = tmp_path / "radiomics" / "ibsi2_reference" / "reference_response_maps"
    references.mkdir(parents=True)
    image = nib.load(real_data / "radiomics" / "ibsi2_reference" / "reference_response_maps" / "2_a-ValidCRM.nii")
    values = np.asarray(image.dataobj).copy()
    extreme = np.unravel_index(np.argmax(np.abs(values)), values.shape)
    values[extreme] += 0.05 * np.ptp(values)
    nib.save(nib.Nifti1Image(values, image.affine), references / "2_a-ValidCRM.nii")
    phantom = Path("ct") / "ibsi2_digital_phantoms" / "nifti" / "impulse" / "image" / "impulse.nii.gz"
    (tmp_path / phantom).parent.mkdir(parents=True)
    shutil.copyfile(real_data / phantom, tmp_path / phantom)
    (missed,) = conformance(tmp_path).missed
    assert missed.feature == "response map 2.a"
    assert "largest deviation" in missed.reason
