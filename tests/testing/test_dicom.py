"""The DICOM writers, checked with pydicom alone."""

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon
from pydicom import uid

from idx.errors import FormatError, GeometryError, UnitError
from idx.geometry.grids import Grid
from idx.testing.dicom import write_ct_series, write_enhanced_ct, write_rtstruct
from idx.volume import CTVolume, Mask


@pytest.fixture
def ct():
    grid = Grid.from_spacing((5, 34, 36), (0.7, 0.8, 2.5), (-10.0, 3.0, -100.0))
    return CTVolume(np.random.default_rng(0).integers(-1024, 3000, grid.shape).astype(np.int16), grid)


@pytest.mark.parametrize("syntax", [None, uid.ImplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_series_holds_the_values_in_every_transfer_syntax(ct, tmp_path, syntax):
    files = write_ct_series(ct, tmp_path, transfer_syntax=syntax, order=[3, 1, 0, 4, 2])
    assert len(files) == 5
    for index, file in enumerate(files):
        ds = pydicom.dcmread(file)
        assert ds.file_meta.TransferSyntaxUID == (syntax or uid.ExplicitVRLittleEndian)
        assert np.array_equal(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept), ct.values[index])
        assert np.allclose(ds.ImagePositionPatient, ct.grid.to_physical((index, 0, 0)), atol=1e-9)


def test_spacing_is_written_rows_first(ct, tmp_path):
    ds = pydicom.dcmread(write_ct_series(ct, tmp_path)[0])
    assert [float(v) for v in ds.PixelSpacing] == [0.8, 0.7]
    assert float(ds.SliceThickness) == 2.5


def test_file_order_names_files_and_instances(ct, tmp_path):
    files = write_ct_series(ct, tmp_path, order=[4, 3, 2, 1, 0])
    assert [file.name for file in files] == [f"CT_{n:04d}.dcm" for n in (5, 4, 3, 2, 1)]
    assert [pydicom.dcmread(file).InstanceNumber for file in files] == [5, 4, 3, 2, 1]


def test_same_ct_gives_the_same_bytes(ct, tmp_path):
    first, second = write_ct_series(ct, tmp_path / "a"), write_ct_series(ct, tmp_path / "b")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_edit_changes_one_header(ct, tmp_path):
    files = write_ct_series(ct, tmp_path, edit=lambda index, ds: index == 2 and ds.__delattr__("RescaleSlope"))
    assert ["RescaleSlope" in pydicom.dcmread(file) for file in files] == [True, True, False, True, True]


def test_order_must_be_a_permutation(ct, tmp_path):
    with pytest.raises(GeometryError, match="permutation"):
        write_ct_series(ct, tmp_path, order=[0, 1, 2, 3, 3])


def test_values_must_fit_in_16_bits(tmp_path):
    grid = Grid.from_spacing((1, 1, 2), (1.0, 1.0, 1.0))
    with pytest.raises(UnitError, match="intercept_hu"):
        write_ct_series(CTVolume(np.array([[[-2000, 32000]]], dtype=np.int16), grid), tmp_path)


@pytest.mark.parametrize("per_frame", [False, True])
def test_enhanced_file_holds_frames_in_the_given_order(ct, tmp_path, per_frame):
    order = [3, 1, 0, 4, 2]
    ds = pydicom.dcmread(write_enhanced_ct(ct, tmp_path / "enhanced.dcm", order=order, per_frame=per_frame))
    assert ds.NumberOfFrames == 5
    assert np.array_equal(ds.pixel_array.astype(int) - 1024, ct.values[order])
    assert ("PixelMeasuresSequence" in ds.PerFrameFunctionalGroupsSequence[0]) is per_frame


def test_contours_give_the_mask_back_by_the_even_odd_rule(ct, tmp_path):
    rng = np.random.default_rng(3)
    values = rng.random(ct.grid.shape) < 0.5  # holes, islands, diagonal neighbours and voxels at the border
    values[1:3] = False
    write_ct_series(ct, tmp_path / "ct")
    ds = pydicom.dcmread(write_rtstruct(Mask(values, ct.grid, label="GTV"), tmp_path / "ct", tmp_path / "rs.dcm"))
    assert ds.StructureSetROISequence[0].ROIName == "GTV"
    rows, columns = np.meshgrid(*(np.arange(n) for n in ct.grid.shape[1:]), indexing="ij")
    found = np.zeros(ct.grid.shape, dtype=bool)
    for contour in ds.ROIContourSequence[0].ContourSequence:
        index = ct.grid.to_index(np.reshape(contour.ContourData, (-1, 3)).astype(float))
        z = round(index[0, 0])
        assert np.allclose(index[:, 0], z, atol=1e-9)
        inside = Polygon(index[:, 1:]).contains_points(np.column_stack([rows.ravel(), columns.ravel()]))
        found[z] ^= inside.reshape(rows.shape)
    assert np.array_equal(found, values)


def test_structure_set_refers_to_the_slices_of_the_series(ct, tmp_path):
    files = write_ct_series(ct, tmp_path / "ct", order=[4, 2, 0, 1, 3])
    square = np.array([[-5.0, 5.0, -97.5], [0.0, 5.0, -97.5], [0.0, 9.0, -97.5]])
    ds = pydicom.dcmread(write_rtstruct({"a": [square], "b": [square + 1]}, tmp_path / "ct", tmp_path / "rs.dcm"))
    first = pydicom.dcmread(files[1])
    assert [roi.ROIName for roi in ds.StructureSetROISequence] == ["a", "b"]
    assert ds.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert ds.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID == first.FrameOfReferenceUID


def test_structure_set_needs_one_series(ct, tmp_path):
    write_ct_series(ct, tmp_path, prefix="A", series_description="a")
    write_ct_series(ct, tmp_path, prefix="B", series_description="b")
    with pytest.raises(FormatError, match="one DICOM series of images; got 2"):
        write_rtstruct(Mask(ct.values > 0, ct.grid), tmp_path, tmp_path / "rs.dcm")
