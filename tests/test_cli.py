"""The command line: exit codes, one readable sentence per error, and options that work anywhere."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import RTStructureSetStorage
from slide_files import picture, write_tiff

import idx
from idx.io.tables import read_table
from idx.testing import write_ct_series


def run_idx(*arguments):
    # A wide terminal, so that a sentence stays on one line.
    environment = {**os.environ, "COLUMNS": "240", "NO_COLOR": "1"}
    code = "import sys; from idx.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=environment)


def test_version():
    assert run_idx("--version").stdout.strip() == f"idx {idx.__version__}"


def test_no_command_prints_help():
    result = run_idx()
    assert "Commands" in result.stdout + result.stderr


def test_missing_option_is_a_usage_error():
    result = run_idx("run", "--ct", "x")
    assert result.returncode == 2
    assert "--mask" in result.stderr


@pytest.mark.parametrize("flags", [(), ("--quiet",)])
def test_bad_input_is_one_sentence_and_exit_code_1(tmp_path, flags):
    missing = tmp_path / "nothing"
    result = run_idx("info", missing, *flags)
    assert result.returncode == 1
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "nothing" in lines[0]


def test_debug_shows_the_traceback(tmp_path):
    result = run_idx("info", tmp_path / "nothing", "--debug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(("room", "word"), [("radiomics", "YEKZ"), ("histology", "um2")])
def test_feature_lists_have_units_and_codes(room, word):
    result = run_idx(room, "features")
    assert result.returncode == 0
    assert word in result.stdout


def test_error_text_with_brackets_is_printed_as_it_is(tmp_path):
    result = run_idx("info", tmp_path / "[bold]x[/bold]")
    assert "[bold]x[/bold]" in result.stderr


def test_values_with_brackets_are_printed_as_they_are(tmp_path):
    """Structures and files are named by people, who write brackets; rich would take them for markup."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = RTStructureSetStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.2.3"
    header.Modality = "RTSTRUCT"
    roi = Dataset()
    roi.ROINumber, roi.ROIName = 1, "GTV [old]"
    header.StructureSetROISequence = [roi]
    header.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    result = run_idx("info", tmp_path / "rt.dcm")
    assert "GTV [old]" in result.stdout, result.stderr


def test_info_knows_dicom_without_a_preamble(tmp_path):
    write_ct_series(idx.testing.ball(radius_mm=4.0).ct, tmp_path / "ct")
    for file in (tmp_path / "ct").iterdir():
        file.write_bytes(_without_preamble(file))
    result = run_idx("info", tmp_path / "ct")
    assert result.returncode == 0, result.stderr
    assert "CT (DICOM)" in result.stdout


def _without_preamble(file):
    dataset = dcmread(file)
    buffer = io.BytesIO()
    dataset.file_meta = FileMetaDataset()
    dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return buffer.getvalue().removeprefix(b"\0" * 128 + b"DICM")


def test_an_out_that_is_a_file_is_refused_before_any_reading(tmp_path):
    (tmp_path / "out").write_text("precious")
    result = run_idx("run", "--ct", "nowhere", "--mask", "nowhere", "--slide", "nowhere", "--out", tmp_path / "out")
    assert result.returncode == 1
    assert "--out" in result.stderr
    assert (tmp_path / "out").read_text() == "precious"


def test_landmarks_and_a_grossing_note_together_are_refused(tmp_path):
    result = run_idx("run", "--ct", "x", "--mask", "x", "--slide", "x", "--landmarks", "pairs.csv", "--plane", "axial", "--out", tmp_path / "out")
    assert result.returncode == 1
    assert "pairs.csv" in result.stderr
    assert "Leave one of them out" in result.stderr


@pytest.fixture(scope="module")
def ball_patient(tmp_path_factory):
    """CT folder and RTSTRUCT of a phantom ball."""
    folder = tmp_path_factory.mktemp("ball")
    ball = idx.testing.ball(radius_mm=6.0)
    write_ct_series(ball.ct, folder / "ct")
    idx.testing.write_rtstruct(ball.mask, folder / "ct", folder / "rtstruct.dcm")
    return folder


def test_radiomics_extract_writes_a_table(ball_patient, tmp_path):
    out = tmp_path / "new" / "radiomics.parquet"
    result = run_idx("radiomics", "extract", "--ct", ball_patient / "ct", "--mask", ball_patient / "rtstruct.dcm", "--ibsi", "C", "--out", out)
    assert result.returncode == 0, result.stderr
    table = read_table(out)
    assert table["mesh_volume_mm3"].item() == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)
    assert table.spec("glcm_contrast_3d_averaged").params["settings"] == "IBSI configuration C"
    assert "1 lesion(s)" in result.stdout


def test_radiomics_extract_follows_a_pyradiomics_file(ball_patient, tmp_path):
    (tmp_path / "params.yaml").write_text("setting:\n  binWidth: 10\nimageType:\n  Original: {}\nfeatureClass:\n  glcm: [Contrast]\n  shape:\n")
    out = tmp_path / "radiomics.csv"
    arguments = ("--pyradiomics", tmp_path / "params.yaml", "--columns", "pyradiomics", "--out", out)
    result = run_idx("radiomics", "extract", "--ct", ball_patient / "ct", "--mask", ball_patient / "rtstruct.dcm", *arguments)
    assert result.returncode == 0, result.stderr
    header = out.read_text().splitlines()[0]
    assert "original_shape_MeshVolume" in header
    assert "original_glcm_Contrast" in header


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "table.xlsx"), ".parquet or .csv"),
        (("--ibsi", "F"), "A, B, C, D, E"),
        (("--ibsi", "C", "--pyradiomics", "p.yaml"), "Leave one of them out"),
    ],
)
def test_radiomics_extract_refuses_before_reading(arguments, message):
    result = run_idx("radiomics", "extract", "--ct", "nowhere", "--mask", "nowhere", *arguments)
    assert result.returncode == 1
    assert message in " ".join(result.stderr.split())


def test_conformance_says_what_the_folder_must_hold(tmp_path):
    result = run_idx("radiomics", "conformance", "--data", tmp_path)
    assert result.returncode == 1
    assert "ibsi1_reference_values.csv" in result.stderr


@pytest.mark.real
def test_conformance_prints_and_writes_its_counts(real_data, tmp_path):
    for part in ("radiomics/ibsi1_reference_values.csv", "ct/ibsi1_digital_phantom"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).symlink_to(real_data / part)
    result = run_idx("radiomics", "conformance", "--data", tmp_path, "--json", tmp_path / "out" / "conformance.json")
    assert result.returncode == 0, result.stderr
    assert "482 of 482 references matched" in result.stdout
    assert json.loads((tmp_path / "out" / "conformance.json").read_text())["summary"]["matched"] == 482


@pytest.fixture
def small_slide(tmp_path):
    """A slide of 333 x 270 px of 0.25 um."""
    write_tiff(tmp_path / "in.tif")
    return tmp_path / "in.tif"


def test_slide_convert_writes_a_region_at_another_resolution_and_says_what_it_wrote(small_slide, tmp_path):
    out = tmp_path / "new" / "out.tif"
    result = run_idx("slide", "convert", small_slide, out, "--mpp", 0.5, "--bounds-um", 10, 20, 60, 50, "--compression", "deflate", "--tile", 64)
    assert result.returncode == 0, result.stderr
    assert "0.5, 0.5 um/px" in result.stdout
    with idx.open_slide(small_slide) as source, idx.open_slide(out) as copy:
        region = idx.tiling.read_region(source, (10, 20, 60, 50), mpp=0.5)
        np.testing.assert_array_equal(idx.tiling.read_region(copy).pixels, region.pixels)


def test_slide_convert_writes_dicom(small_slide, tmp_path):
    result = run_idx("slide", "convert", small_slide, tmp_path / "out.v2", "--format", "dicom", "--levels", 1, "--compression", "jpeg2000", "--quality", 100)
    assert result.returncode == 0, result.stderr
    assert "dicom" in result.stdout
    assert [path.name for path in (tmp_path / "out.v2").iterdir()] == ["level-0.dcm"]


def test_slide_convert_asks_before_it_replaces_and_takes_the_scale_of_a_flat_image(small_slide, tmp_path):
    (tmp_path / "out.tif").write_text("precious")
    result = run_idx("slide", "convert", small_slide, tmp_path / "out.tif")
    assert result.returncode == 1
    assert "must not exist" in result.stderr
    assert (tmp_path / "out.tif").read_text() == "precious"
    Image.fromarray(picture()).save(tmp_path / "flat.png")
    result = run_idx("slide", "convert", tmp_path / "flat.png", tmp_path / "out.tif", "--slide-mpp", 0.4, "--overwrite")
    assert result.returncode == 0, result.stderr
    assert "0.4, 0.4 um/px" in result.stdout
