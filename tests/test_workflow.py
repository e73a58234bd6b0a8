"""One patient, end to end, on phantoms and on real input."""

import json

import numpy as np
import pytest

import idx
from idx import demo, io, registration, workflow
from idx.errors import IdxError


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    with idx.use_settings(progress=False):
        summary = demo.run_demo(out)
    return out, summary


@pytest.mark.slow
def test_demo_writes_report_and_summary(demonstration):
    out, summary = demonstration
    assert json.loads((out / "summary.json").read_text()) == summary
    report = (out / "report.html").read_text()
    assert len(report) > 100_000
    assert "Synthetic: " in report


@pytest.mark.slow
def test_demo_is_near_its_truth(demonstration):
    _, s = demonstration
    assert s["error_mm"] < 1.5
    assert abs(s["nuclei_found"] / s["nuclei_planted"] - 1) < 0.1
    assert abs(s["volume_mm3"] / s["volume_true_mm3"] - 1) < 0.03
    assert 0.5 < s["c_index_low"] < s["c_index"] < s["c_index_high"] < 1


@pytest.mark.slow
def test_demo_case_can_be_loaded(demonstration):
    out, summary = demonstration
    case = idx.load_case(out / "case")
    assert len(case.contours["nuclei"]) == summary["nuclei_found"]
    slide = case.slide
    corner = case.between(slide.frame, idx.geometry.PATIENT).apply([[0.0, 0.0]])
    assert np.isfinite(corner).all()


@pytest.mark.slow
def test_demo_replaces_its_own_folder_only(demonstration, tmp_path):
    (tmp_path / "patient").mkdir()
    (tmp_path / "patient" / "precious.txt").write_text("keep me")
    with pytest.raises(IdxError, match="Pass another --out"):
        demo.run_demo(tmp_path)
    assert (tmp_path / "patient" / "precious.txt").read_text() == "keep me"


@pytest.mark.real
@pytest.mark.slow
def test_real_patient_without_registration(real_data, tmp_path):
    journey = workflow.run_patient(
        real_data / "ct/lung1_001/image",
        real_data / "ct/lung1_001/mask_rtstruct/1-1.dcm",
        real_data / "slides/CMU-1-Small-Region.svs",
        label="GTV-1",
        case_id="LUNG1-001",
    )
    report = workflow.write_journey(journey, tmp_path).read_text()
    assert "No registration was asked for" in report
    assert journey.placement is None
    assert journey.case.lesion.label == "GTV-1"
    assert len(journey.nuclei.contours) > 500


@pytest.mark.real
def test_dicom_and_nifti_routes_agree(real_data):
    """IBSI CT phantom: identical HU, and features equal to 1e-6 with the same mask."""
    folder = real_data / "ct/ibsi1_ct_phantom"
    by_dicom = io.read_ct(folder / "dicom/image")
    by_nifti = io.read_ct(folder / "nifti/image/phantom.nii.gz")
    assert by_dicom.grid.is_close(by_nifti.grid)
    np.testing.assert_array_equal(by_dicom.values, by_nifti.values)
    first, second = (idx.radiomics.extract(ct, io.read_mask(folder / "nifti/mask/mask.nii.gz", like=ct)).values for ct in (by_dicom, by_nifti))
    np.testing.assert_allclose(first.to_numpy(), second.to_numpy(), rtol=1e-6, atol=0)


@pytest.mark.real
def test_rtstruct_and_nifti_masks_agree(real_data):
    folder = real_data / "ct/ibsi1_ct_phantom"
    ct = io.read_ct(folder / "dicom/image")
    by_rtstruct = io.read_mask(folder / "dicom/mask/DCM_RS_00060.dcm", like=ct)
    by_nifti = io.read_mask(folder / "nifti/mask/mask.nii.gz", like=ct)
    assert by_rtstruct.n_voxels == 125_256
    np.testing.assert_array_equal(by_rtstruct.values, by_nifti.values)


@pytest.mark.real
def test_mask_of_another_patient_is_refused(real_data):
    ct = io.read_ct(real_data / "ct/ibsi1_ct_phantom/dicom/image")
    other = real_data / "ct/lung1_001/mask_rtstruct/1-1.dcm"
    with pytest.raises(idx.errors.GeometryError) as caught:
        io.read_mask(other, like=ct, label="GTV-1")
    assert other.name in str(caught.value)


@pytest.mark.real
def test_svs_and_dicom_slides_are_one(real_data):
    by_svs = io.open_slide(real_data / "slides/CMU-1-Small-Region.svs")
    by_dicom = io.open_slide(real_data / "slides/CMU-1-Small-Region_dicom")
    assert by_svs.size_px == by_dicom.size_px
    width, height = by_svs.size_px
    np.testing.assert_array_equal(by_svs.read_region(0, 0, width_px=width, height_px=height), by_dicom.read_region(0, 0, width_px=width, height_px=height))


def test_pairs_file_of_two_is_refused_by_name(tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("slide_x_um,slide_y_um,ct_x_mm,ct_y_mm,ct_z_mm\n0,0,0,0,0\n1000,0,1,0,0\n")
    with pytest.raises(IdxError, match=r"pairs\.csv"):
        registration.register_section(*small_patient(tmp_path), landmarks=registration.read_landmarks(pairs))


def small_patient(tmp_path):
    phantom = idx.testing.ball(radius_mm=4.0)
    slide = idx.testing.he_slide(tmp_path / "slide.tif", n_nuclei=20, size_px=(512, 512))
    return phantom.ct, io.open_slide(slide.path)
