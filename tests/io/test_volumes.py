"""One image by every route: the same HU on the same grid."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses
from scipy.spatial.transform import Rotation

from idx.errors import FormatError
from idx.geometry.grids import Grid
from idx.io.volumes import image_kind, read_ct, read_scalar_image
from idx.testing.dicom import write_ct_series, write_enhanced_ct
from idx.volume import CTVolume, Volume


@pytest.fixture
def ct():
    direction = Rotation.from_euler("xyz", (3.0, -5.0, 8.0), degrees=True).as_matrix()
    grid = Grid.from_spacing((6, 7, 8), (0.7, 0.8, 2.5), (-12.5, 8.25, -100.0), direction=direction)
    return CTVolume(np.random.default_rng(0).integers(-1024, 3000, grid.shape).astype(np.int16), grid)


def write(ct, folder, route):
    """Write a CT without idx's readers; files of other tools store axes in their own order."""
    folder.mkdir(exist_ok=True)
    if route == "dicom":
        write_ct_series(ct, folder)
        return folder
    if route == "enhanced":
        return write_enhanced_ct(ct, folder / "enhanced.dcm")
    if route.startswith("nii"):
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.grid.affine
        image = nib.as_closest_canonical(nib.Nifti1Image(ct.values.transpose(2, 1, 0), affine))
        nib.save(image, folder / f"ct.{route}")
    else:
        image = sitk.GetImageFromArray(ct.values)
        image.SetSpacing(ct.grid.spacing_mm)
        image.SetOrigin(ct.grid.origin_mm)
        image.SetDirection(ct.grid.direction.ravel().tolist())
        sitk.WriteImage(sitk.Flip(image, (True, False, True)), str(folder / f"ct.{route}"))
    return folder / f"ct.{route}"


@pytest.mark.parametrize("route", ["dicom", "enhanced", "nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd"])
def test_every_route_gives_the_same_hu_on_the_same_grid(ct, tmp_path, route):
    read = read_ct(write(ct, tmp_path / "x", route))
    assert np.array_equal(read.values, ct.values)
    assert read.values.dtype == np.int16
    assert read.grid.is_close(ct.grid, tolerance_mm=1e-4)
    assert not read.values.flags.writeable
    assert read.values.flags.c_contiguous


@pytest.mark.parametrize(("route", "kind"), [("nii", "nifti"), ("nii.gz", "nifti"), ("nrrd", "nrrd"), ("mha", "mha"), ("enhanced", "dicom")])
def test_kind_is_told_by_content(ct, tmp_path, route, kind):
    file = write(ct, tmp_path / "x", route)
    assert image_kind(file.rename(tmp_path / "no_suffix")) == kind


def test_scalar_image_keeps_the_type_of_the_file(ct, tmp_path):
    labels = Volume((ct.values > 0).astype(np.uint8), ct.grid)
    values, grid = read_scalar_image(write(labels, tmp_path / "x", "nii.gz"))
    assert values.dtype == np.uint8
    assert np.array_equal(values, labels.values)
    assert grid.is_close(ct.grid, tolerance_mm=1e-4)


def test_scalar_image_is_not_dicom(ct, tmp_path):
    with pytest.raises(FormatError, match=r"got dicom.*enhanced\.dcm"):
        read_scalar_image(write(ct, tmp_path, "enhanced"))


@pytest.mark.real
def test_ibsi_ct_phantom_by_dicom_and_by_nifti(real_data):
    folder = real_data / "ct" / "ibsi1_ct_phantom"
    dicom, nifti = read_ct(folder / "dicom" / "image"), read_ct(folder / "nifti" / "image" / "phantom.nii.gz")
    assert np.array_equal(dicom.values, nifti.values)
    assert dicom.grid.is_close(nifti.grid, tolerance_mm=1e-6)
    # What pydicom alone and nibabel alone give for these files.
    assert dicom.values.shape == (60, 201, 204)
    assert (dicom.values.min(), dicom.values.max()) == (-1000, 3065)
    assert int(dicom.values.sum(dtype=np.int64)) == -655581056
    assert [int(dicom.values[index]) for index in ((30, 100, 80), (45, 60, 150), (10, 150, 40))] == [1, 134, -16]


@pytest.mark.real
@pytest.mark.parametrize("patient", ["STS_002", "STS_003", "STS_008", "STS_019", "STS_025", "STS_042"])
def test_patient_folder_with_image_and_structure_set(real_data, patient):
    ct = read_ct(real_data / "ct" / "ibsi_validation_sts" / patient)
    assert ct.spacing_mm == pytest.approx((0.976562, 0.976562, 3.27), abs=1e-4)
    assert ct.values.min() >= -1024
    assert ct.header["modality"] == "CT"


@pytest.mark.real
def test_digital_phantoms(real_data):
    values, grid = read_scalar_image(real_data / "ct" / "ibsi1_digital_phantom" / "nifti" / "image" / "phantom.nii.gz")
    assert values.shape == (4, 4, 5)
    # First slice of the IBSI 1 digital phantom as its manual prints it.
    assert values[0].tolist() == [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]]
    assert grid.spacing_mm == (2.0, 2.0, 2.0)
