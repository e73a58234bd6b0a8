"""CT from DICOM: what is read."""

import shutil

import imagecodecs
import numpy as np
import pydicom
import pytest
from ct_series import ORIGIN_MM, SHAPE, SPACING_MM, box_mask, ct_of
from pydicom import uid
from pydicom.encaps import encapsulate
from scipy.spatial.transform import Rotation

import idx
from idx.errors import GeometryError
from idx.geometry.grids import Grid
from idx.io.volumes import read_ct, read_volume
from idx.testing.dicom import write_ct_series, write_enhanced_ct, write_rtstruct
from idx.volume import CTVolume


@pytest.fixture
def ct():
    return ct_of()


def assert_same(read, written):
    assert read.values.dtype == np.int16
    assert np.array_equal(read.values, written.values)
    assert read.grid.shape == written.grid.shape
    assert np.abs(read.grid.affine - written.grid.affine).max() < 1e-9


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]])
def test_slices_are_sorted_by_position_whatever_files_and_instance_numbers_say(ct, tmp_path, order):
    write_ct_series(ct, tmp_path, order=order)
    assert_same(read_ct(tmp_path), ct)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian])
def test_uncompressed_transfer_syntaxes(ct, tmp_path, syntax):
    def big_endian(_, ds):
        if syntax == uid.ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()

    write_ct_series(ct, tmp_path, transfer_syntax=None if syntax.is_deflated or syntax == uid.ExplicitVRBigEndian else syntax)
    if syntax.is_deflated or syntax == uid.ExplicitVRBigEndian:
        for file in tmp_path.iterdir():
            ds = pydicom.dcmread(file)
            big_endian(0, ds)
            raw = pydicom.Dataset()
            raw.update({element.tag: element for element in ds})
            raw.file_meta = ds.file_meta
            raw.file_meta.TransferSyntaxUID = syntax
            raw.save_as(file, enforce_file_format=True)
    assert_same(read_ct(tmp_path), ct)


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless])
@pytest.mark.parametrize("intercept_hu", [-1024.0, 0.0])
def test_compressed_transfer_syntaxes_with_unsigned_and_signed_pixels(ct, tmp_path, syntax, intercept_hu):
    write_ct_series(ct, tmp_path, transfer_syntax=syntax, intercept_hu=intercept_hu)
    assert_same(read_ct(tmp_path), ct)


@pytest.mark.parametrize("syntax", [uid.JPEGLossless, uid.JPEGLosslessSV1])
def test_jpeg_lossless(ct, tmp_path, syntax):
    # JPEGLosslessSV1 promises predictor 1, which this encoder does not choose: decoders read the predictor from the stream.
    for index, file in enumerate(write_ct_series(ct, tmp_path)):
        ds = pydicom.dcmread(file)
        stream = imagecodecs.ljpeg_encode((ct.values[index].astype(np.int32) + 1024).astype(np.uint16), bitspersample=16)
        ds.PixelData = encapsulate([stream])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(file)
    assert_same(read_ct(tmp_path), ct)


def test_a_file_stands_for_its_series(ct, tmp_path):
    files = write_ct_series(ct, tmp_path, order=[3, 0, 5, 1, 4, 2])
    write_ct_series(ct_of(1), tmp_path, prefix="other", series_description="other")
    read = read_ct(files[2])
    assert_same(read, ct)
    assert read.source.path == str(tmp_path)
    assert read.source.files == tuple(sorted(file.name for file in files))


def test_series_in_a_subfolder_is_found_beside_other_objects_and_files(ct, tmp_path):
    write_ct_series(ct, tmp_path / "image")
    write_rtstruct(box_mask(), tmp_path / "image", tmp_path / "mask" / "rs.dcm")
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "image" / "Thumbs.db").write_bytes(b"\x00" * 500)
    (tmp_path / "image" / "empty").write_bytes(b"")
    read = read_ct(tmp_path)
    assert_same(read, ct)
    assert read.source.files[0] == "image/CT_0001.dcm"


def test_dose_report_without_a_place_is_no_slice(ct, tmp_path):
    def report(_, ds):
        ds.SOPClassUID = uid.SecondaryCaptureImageStorage
        del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing

    write_ct_series(ct, tmp_path)
    write_ct_series(ct_of(1), tmp_path, prefix="report", series_description="Dose report", edit=report)
    assert_same(read_ct(tmp_path), ct)


def test_files_without_preamble_are_read(ct, tmp_path):
    for file in write_ct_series(ct, tmp_path, transfer_syntax=uid.ImplicitVRLittleEndian):
        ds = pydicom.dcmread(file)
        bare = pydicom.Dataset()
        bare.update({element.tag: element for element in ds})
        bare.save_as(file.with_suffix(".img"), implicit_vr=True, little_endian=True)
        file.unlink()
    assert_same(read_ct(tmp_path), ct)
    assert_same(read_ct(tmp_path / "CT_0003.img"), ct)


def test_series_split_over_two_multi_frame_files_is_one_volume(ct, tmp_path):
    for number, (start, stop) in enumerate([(3, 6), (0, 3)]):
        part = CTVolume(ct.values[start:stop], ct.grid.crop((start, 0, 0), (stop - start, *SHAPE[1:])))

        def same_series(ds):
            ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.9"

        write_enhanced_ct(part, tmp_path / f"part{number}.dcm", edit=same_series)
    assert_same(read_ct(tmp_path), ct)


@pytest.mark.parametrize("choice", ["uid", "part of uid", "description", "DESCRIPTION"])
def test_series_is_chosen_by_uid_or_a_unique_part(ct, tmp_path, choice):
    other = ct_of(1)
    write_ct_series(ct, tmp_path, prefix="a", series_description="Lung 1.0", series_uid="1.2.3.4.71")
    write_ct_series(other, tmp_path, prefix="b", series_description="Soft tissue", series_uid="1.2.3.4.7")
    wanted = {"uid": "1.2.3.4.7", "part of uid": ".71", "description": "soft", "DESCRIPTION": "LUNG"}[choice]
    assert_same(read_ct(tmp_path, series=wanted), ct if choice in ("part of uid", "DESCRIPTION") else other)


def test_localizers_are_ignored(ct, tmp_path):
    def scout(_, ds):
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    uids = {"series_uid": "1.2.3", "study_uid": "1.2", "frame_of_reference_uid": "1.2.9"}
    write_ct_series(ct, tmp_path, **uids)
    write_ct_series(ct_of(1, grid=Grid.from_spacing((1, 20, 20), (1.0, 1.0, 1.0))), tmp_path, prefix="scout", edit=scout, **uids)
    read = read_ct(tmp_path)
    assert_same(read, ct)
    assert read.header["left out"] == "1 localizer images"
    assert len(read.source.files) == 6


def test_rescale_is_applied_slice_by_slice_and_rounded(ct, tmp_path):
    slopes = [1.0, 2.0, 0.5, 1.25, 1.0, 3.0]

    def edit(index, ds):
        ds.RescaleSlope, ds.RescaleIntercept = slopes[index], -1024 + index

    write_ct_series(ct, tmp_path, edit=edit)
    stored = ct.values.astype(np.float64) + 1024
    expected = np.rint(stored * np.reshape(slopes, (-1, 1, 1)) + np.reshape(np.arange(6) - 1024, (-1, 1, 1)))
    assert np.array_equal(read_ct(tmp_path).values, expected)


@pytest.mark.parametrize(
    ("intercept_hu", "padding", "limit", "expected"),
    [(0.0, -2000, None, [-2000]), (0.0, 63536, None, [-2000]), (-1024.0, 0, None, [-1024]), (0.0, -2000, -1999, [-2000, -1999])],
    ids=["signed", "signed stated as unsigned", "unsigned", "range"],
)
def test_padding_becomes_minus_1024_hu_and_is_counted(tmp_path, intercept_hu, padding, limit, expected):
    grid = Grid.from_spacing((2, 3, 3), (1.0, 1.0, 2.0))
    values = np.full(grid.shape, 40, dtype=np.int16)
    values[0, 0] = expected[0]
    values[1, 0] = expected[-1]

    def edit(_, ds):
        ds.add_new("PixelPaddingValue", "US" if padding >= 0 else "SS", padding)
        if limit is not None:
            ds.add_new("PixelPaddingRangeLimit", "SS", limit)

    write_ct_series(CTVolume(values, grid), tmp_path, intercept_hu=intercept_hu, edit=edit)
    read = read_ct(tmp_path)
    assert np.array_equal(np.unique(read.values), [-1024, 40])
    assert "6 voxels" in read.header["padding"]
    assert "-1024 HU" in read.header["padding"]
    assert set(np.unique(read_volume(tmp_path).values)) == {*(float(v) for v in expected), 40.0}


def test_unused_high_bits_are_ignored(ct, tmp_path):
    def overlay(_, ds):
        ds.BitsStored, ds.HighBit = 12, 11
        ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") | 0x8000).tobytes()

    small = ct.with_values(np.minimum(ct.values, 3071).astype(np.int16))
    write_ct_series(small, tmp_path, edit=overlay)
    assert_same(read_ct(tmp_path), small)


@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("syntax", [None, uid.JPEGLSLossless, uid.RLELossless])
def test_enhanced_multi_frame_in_any_frame_order(ct, tmp_path, per_frame, syntax):
    file = write_enhanced_ct(ct, tmp_path / "enhanced.dcm", order=[3, 0, 5, 1, 4, 2], per_frame=per_frame, transfer_syntax=syntax)
    assert_same(read_ct(file), ct)
    assert_same(read_ct(tmp_path), ct)
    assert read_ct(file).source.files == ()


def test_enhanced_file_is_read_alone_beside_a_series(ct, tmp_path):
    write_ct_series(ct_of(1), tmp_path)
    file = write_enhanced_ct(ct, tmp_path / "enhanced.dcm")
    assert_same(read_ct(file), ct)


def test_exact_copy_is_left_out_with_a_warning(ct, tmp_path):
    files = write_ct_series(ct, tmp_path)
    shutil.copy(files[2], tmp_path / "copy.dcm")
    with pytest.warns(UserWarning, match=r"'copy.dcm' is a copy of 'CT_0003.dcm'|'CT_0003.dcm' is a copy of 'copy.dcm'"):
        read = read_ct(tmp_path)
    assert_same(read, ct)


def test_overlapping_reconstruction_is_no_error(ct, tmp_path):
    write_ct_series(ct, tmp_path, edit=lambda _, ds: setattr(ds, "SliceThickness", 3.75))
    assert read_ct(tmp_path).spacing_mm[2] == pytest.approx(2.5)


def test_positions_rounded_to_a_tenth_of_a_mm_are_no_error(tmp_path):
    ct = ct_of(grid=Grid.from_spacing((9, 4, 4), (1.0, 1.0, 1.25)))

    def edit(_, ds):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, round(float(z), 1)]

    write_ct_series(ct, tmp_path, edit=edit)
    assert read_ct(tmp_path).grid.is_close(ct.grid, tolerance_mm=0.05)


def test_a_missing_slice_of_thin_slices_is_seen(tmp_path):
    ct = ct_of(grid=Grid.from_spacing((9, 4, 4), (0.1, 0.1, 0.15)))
    write_ct_series(ct, tmp_path)[4].unlink()
    with pytest.raises(GeometryError, match="1 slice"):
        read_ct(tmp_path)


def test_cosines_rounded_to_four_decimals_are_no_error(tmp_path):
    direction = Rotation.from_euler("xyz", (11.0, -7.0, 23.0), degrees=True).as_matrix()
    ct = ct_of(grid=Grid.from_spacing(SHAPE, SPACING_MM, ORIGIN_MM, direction=direction))
    write_ct_series(ct, tmp_path, edit=lambda _, ds: setattr(ds, "ImageOrientationPatient", [round(float(c), 4) for c in ds.ImageOrientationPatient]))
    read = read_ct(tmp_path)
    assert np.array_equal(read.values, ct.values)
    assert read.grid.is_close(ct.grid, tolerance_mm=0.01)
    assert np.abs(read.grid.direction.T @ read.grid.direction - np.eye(3)).max() < 1e-12


def test_a_single_slice_takes_its_thickness(tmp_path):
    ct = ct_of(grid=Grid.from_spacing((1, 4, 4), (1.0, 1.0, 2.5)))
    write_ct_series(ct, tmp_path)
    assert_same(read_ct(tmp_path), ct)


def test_mirrored_and_feet_first_slices_end_in_patient_axes(tmp_path):
    grid = Grid.from_spacing((5, 6, 7), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), direction=np.diag([-1.0, -1.0, 1.0]))
    ct = ct_of(grid=grid)
    write_ct_series(ct, tmp_path)
    read = read_ct(tmp_path)
    assert np.array_equal(read.values, ct.values[:, ::-1, ::-1])
    assert np.allclose(read.grid.direction, np.eye(3))
    assert np.allclose(read.grid.origin_mm, grid.to_physical((0, 5, 6)))


def test_sagittal_series_ends_in_patient_axes(tmp_path):
    # Rows run along y, columns down along -z, slices along -x: a sagittal reformat.
    direction = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    ct = ct_of(grid=Grid.from_spacing((5, 6, 7), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), direction=direction))
    write_ct_series(ct, tmp_path)
    read = read_ct(tmp_path)
    assert read.values.shape == (6, 7, 5)
    assert np.allclose(read.grid.direction, np.eye(3))
    index = np.argwhere(np.ones(read.values.shape, dtype=bool))
    there = np.rint(ct.grid.to_index(read.grid.to_physical(index))).astype(int)
    assert np.array_equal(read.values[tuple(index.T)], ct.values[tuple(there.T)])


def test_no_name_or_date_enters_the_volume(ct, tmp_path):
    write_ct_series(ct, tmp_path)
    text = repr(read_ct(tmp_path)) + str(dict(read_ct(tmp_path).header)) + str(dict(read_ct(tmp_path).source.ids))
    assert not any(secret in text for secret in ("Phantom^Idx", "IDX-PHANTOM", "20240101"))


def test_source_and_header_name_series_and_facts(ct, tmp_path):
    write_ct_series(ct, tmp_path, series_uid="1.2.3", study_uid="1.2", frame_of_reference_uid="1.2.9")
    read = read_ct(tmp_path)
    assert read.source.kind == "dicom"
    assert dict(read.source.ids) == {"series_uid": "1.2.3", "study_uid": "1.2", "frame_of_reference_uid": "1.2.9"}
    assert len(read.source.sha256()) == 64
    assert read.header == {"modality": "CT", "manufacturer": "idx", "model": "phantom", "kernel": "NONE", "kVp": "120.0", "slice thickness (mm)": "2.5"}


def test_read_volume_reads_other_modalities_without_rescale(ct, tmp_path):
    def mr(_, ds):
        ds.Modality, ds.SOPClassUID = "MR", uid.MRImageStorage
        del ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType

    write_ct_series(ct, tmp_path, edit=mr)
    volume = read_volume(tmp_path, quantity="t1w")
    assert volume.quantity == "t1w"
    assert volume.values.dtype == np.float32
    assert np.array_equal(volume.values, ct.values.astype(np.float32) + 1024)


def test_reading_does_not_depend_on_the_number_of_workers(ct, tmp_path):
    write_ct_series(ct, tmp_path)
    with idx.use_settings(workers=1):
        one = read_ct(tmp_path)
    with idx.use_settings(workers=4, progress=False):
        assert_same(read_ct(tmp_path), one)
