"""The reporting checklist: complete, true to the run, and silent on what idx cannot know."""

from dataclasses import replace

import numpy as np
import pytest

from idx.errors import FormatError
from idx.geometry import Grid
from idx.provenance import Source
from idx.radiomics.checklist import FILLED, GUIDELINES, TO_BE_FILLED, reporting_checklist
from idx.radiomics.extraction import extract
from idx.radiomics.filters import LaplacianOfGaussian
from idx.radiomics.naming import COLUMNS, renamed
from idx.radiomics.settings import RadiomicsSettings
from idx.table import FeatureSpec, FeatureTable
from idx.volume import CTVolume, Mask, Volume

# Items that only people know, whatever is measured.
AUTHORS = ["1", "2a", "4a", "5", "6", "9a", "11", "13", "37", "40", "42", "46", "47", "48a", "48b", "48d", "59", "60", "72", "73", "74", "75", "76"]


@pytest.fixture(scope="module")
def lesion_ct():
    grid = Grid.from_spacing((8, 9, 10), (0.8, 0.9, 2.5))
    values = np.random.default_rng(0).integers(-80, 160, grid.shape).astype(np.int16)
    inside = np.zeros(grid.shape, dtype=bool)
    inside[1:7, 2:8, 1:9] = True
    header = {"modality": "CT", "manufacturer": "ACME", "model": "Scan 1", "kVp": "120", "kernel": "B30f", "slice thickness (mm)": "3"}
    return CTVolume(values, grid, header=header), Mask(inside, grid, "GTV", Source("rs.dcm", "rtstruct"))


def values_of(table, *images):
    return reporting_checklist(table, *images).set_index("number")["value"]


def test_the_guidelines_are_complete():
    # The manual counts to 76, some items in parts.
    numbers = [item.number for items in GUIDELINES.values() for item in items]
    assert len(set(numbers)) == len(numbers)
    assert sorted({int(number.rstrip("abcde")) for number in numbers}) == list(range(1, 77))
    assert [int(number.rstrip("abcde")) for number in numbers] == sorted(int(number.rstrip("abcde")) for number in numbers)


def test_nothing_is_invented(lesion_ct):
    table = extract(*lesion_ct, families=["intensity"])
    for images in ((), (lesion_ct[0],), lesion_ct):
        sheet = reporting_checklist(table, *images).set_index("number")
        assert list(sheet.columns) == ["topic", "item", "ibsi", "value", "status"]
        assert set(sheet["status"]) == {FILLED, TO_BE_FILLED}
        assert ((sheet["value"] == "") == (sheet["status"] == TO_BE_FILLED)).all()
        assert set(sheet.loc[AUTHORS, "status"]) == {TO_BE_FILLED}
    alone = reporting_checklist(table).set_index("number")["status"]
    assert set(alone[["7", "14", "28", "29", "30", "31a", "49"]]) == {TO_BE_FILLED}


def test_image_and_mask_facts(lesion_ct):
    ct, lesion = lesion_ct
    table = extract(ct, lesion, families=["intensity"])
    values = values_of(table, ct, lesion)
    expected = {
        "7": "ACME Scan 1", "8": "CT", "14": "120 kV", "28": "0.8 x 0.9 mm, 10 x 9 voxels", "29": "3 mm", "30": "2.5 mm", "31a": "B30f",
        "50a": "not interpolated: measured on the image's own grid", "51": "not interpolated: measured on the image's own grid, 0.8 x 0.9 x 2.5 mm (x, y, z)",
        "55": "none", "56a": "not discretised", "57": "none", "62": "not measured", "71": "not measured",
    }  # fmt: skip
    assert {number: values[number] for number in expected} == expected
    assert "inside an odd number of the contours" in values["49"]
    assert values_of(table, ct, replace(lesion, source=Source("m.nii.gz", "nifti")))["49"] == "read as voxels (nifti)"
    bare = values_of(table, replace(ct, header={}), replace(lesion, source=None))
    assert (bare[["7", "14", "29", "31a", "49"]] == "").all()
    assert bare["8"] == "CT"


def test_items_of_other_modalities_do_not_apply(lesion_ct):
    ct, lesion = lesion_ct
    values = values_of(extract(ct, lesion, families=["intensity"]), ct)
    assert {values[number] for number in ("3a", "16", "17", "32a", "36", "38", "43", "44")} == {"does not apply to CT"}
    picture = Volume(ct.values, ct.grid, "t1w", header={"modality": "MR"})
    values = values_of(extract(picture, lesion, families=["intensity"]), picture)
    assert values["8"] == "MRI"
    assert {values[number] for number in ("3a", "14", "31a")} == {"does not apply to MRI"}
    assert {values[number] for number in ("17", "36", "45")} == {""}
    unknown = values_of(extract(Volume(ct.values, ct.grid), lesion, families=["intensity"]))
    assert {unknown[number] for number in ("3a", "8", "14", "17")} == {""}


def test_settings_of_the_run(lesion_ct):
    settings = RadiomicsSettings.ibsi("E").replace(aggregations=("3d_averaged", "3d_merged"))
    values = values_of(extract(*lesion_ct, settings))
    expected = {
        "41": "none", "50a": "tricubic spline", "50b": "grid centres aligned (3WE3)", "50c": "extent over spacing, rounded up", "51": "2 x 2 x 2 mm (x, y, z)",
        "52": "to the nearest whole number", "53": "trilinear", "54": "inside from a fraction of 0.5 on",
        "55": "intensities within -1000 to 400 (USB3), then intensities within 3 standard deviations of the mean (7ACA)",
        "56a": "fixed bin number (K15C)", "56b": "32 bins; intensity-volume histogram: 1000 bins", "56c": "smallest intensity of the lesion",
        "63": "none", "64": "symmetric", "65": "Chebyshev distance of 1 voxel (PVMT)", "68": "Manhattan (LIFZ)", "71": "0",
    }  # fmt: skip
    assert {number: values[number] for number in expected} == expected
    assert values["58"].startswith(
        "174 features: shape 29 (HCUG), local_intensity 2 (9ST6), intensity 18 (UHIW), histogram 23 (ZVCW), ivh 7 (P88C), glcm 25 (LFYI)"
    )
    assert values["61"].startswith("idx ")
    assert values["62"].startswith("GLCM: 3d_averaged (ITBB), 3d_merged (IAZD); GLRLM: 3d_averaged (ITBB), 3d_merged (IAZD); GLSZM: 3d (KOBO)")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"bin_size": 10.0}, {"56a": "fixed bin size (Q3RU)", "56b": "bins of 10", "56c": "-1000"}),
        ({"bin_size": 10.0, "resegment_range": (-50, 100)}, {"55": "intensities within -50 to 100 (USB3)", "56c": "-50"}),
        ({"bin_origin": "multiple"}, {"56b": "bins of 25", "56c": "largest multiple of the bin size not above the lesion's smallest intensity"}),
        ({"spacing_mm": (1.0, 1.0, None)}, {"50a": "bilinear", "51": "1 x 1 x own mm (x, y, z; own: not interpolated)", "53": "bilinear"}),
        ({"spacing_mm": 1.5, "round_intensities": False}, {"50a": "trilinear", "52": "not rounded"}),
        ({"outlier_sigma": 2.5}, {"55": "intensities within 2.5 standard deviations of the mean (7ACA)"}),
    ],
)
def test_settings_one_by_one(lesion_ct, settings, expected):
    values = values_of(extract(*lesion_ct, RadiomicsSettings(families=("intensity", "glcm"), **settings)))
    assert {number: values[number] for number in expected} == expected


def test_filters_are_described_with_their_settings(lesion_ct):
    image = LaplacianOfGaussian(2.5, boundary="nearest")
    settings = RadiomicsSettings(families=("intensity", "glcm"), filters=(None, image), bin_size=5.0, bin_origin=None, resegment_range=(-50.0, 120.0))
    values = values_of(extract(*lesion_ct, settings))
    assert values["57"].startswith("LaplacianOfGaussian(")
    for setting in ("sigma_mm=2.5", "cutoff_sigma=4.0", "boundary=nearest", "dimensions=3"):
        assert setting in values["57"]
    assert values["56c"] == "original: -50; log_2p5mm_nearest: largest multiple of the bin size not above the lesion's smallest intensity"
    assert values["58"].startswith("43 features: intensity 18 (UHIW), glcm 25 (LFYI)")


def test_column_names_do_not_matter(lesion_ct):
    table = extract(*lesion_ct, families=["intensity", "glszm", "ivh"])
    sheets = [reporting_checklist(renamed(table, columns), *lesion_ct) for columns in COLUMNS]
    assert all(sheet.equals(sheets[0]) for sheet in sheets)
    assert sheets[0].set_index("number").loc["56b", "value"] == "bins of 25; intensity-volume histogram: not discretised, steps of one unit"


def test_a_table_of_another_kind_is_refused():
    nuclei = FeatureTable.from_rows({0: {"area_um2": 1.0}}, [FeatureSpec("area_um2", "um2", "Area.")], index_name="nucleus")
    with pytest.raises(FormatError, match="under any column names"):
        reporting_checklist(nuclei)
