"""SimpleITK's own DICOM series reader gives the same HU in the same place."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses
from pydicom import uid
from scipy.spatial.transform import Rotation

from idx.geometry.grids import Grid
from idx.io.volumes import read_ct
from idx.testing.dicom import write_ct_series
from idx.volume import CTVolume


def simpleitk_ct(folder):
    """Values (z, y, x) and affine of the one series in a folder."""
    (series,) = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), affine


@pytest.mark.parametrize("syntax", [None, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless])
@pytest.mark.parametrize("intercept_hu", [-1024.0, 0.0])
def test_phantom_series(tmp_path, syntax, intercept_hu):
    direction = Rotation.from_euler("xyz", (4.0, -7.0, 11.0), degrees=True).as_matrix()
    grid = Grid.from_spacing((7, 40, 36), (0.7, 0.9, 2.5), (-120.0, 80.0, -300.0), direction=direction)
    ct = CTVolume(np.random.default_rng(0).integers(-1024, 3000, grid.shape).astype(np.int16), grid)
    write_ct_series(ct, tmp_path, order=[4, 2, 6, 0, 1, 5, 3], transfer_syntax=syntax, intercept_hu=intercept_hu)
    values, affine = simpleitk_ct(tmp_path)
    read = read_ct(tmp_path)
    assert np.array_equal(read.values, values)
    assert np.abs(read.grid.affine - affine).max() < 1e-6


REAL = {
    # folder: voxels (x, y, z), spacing in mm (x, y, z)
    "acrin_nsclc_042/CT": ((512, 512, 135), (0.976562, 0.976562, 3.27)),  # JPEG-LS, file names out of order
    "nlst_101287/CT": ((512, 512, 143), (0.54, 0.54, 2.0)),  # JPEG-LS
    "lung1_001/image": ((512, 512, 134), (0.9765625, 0.9765625, 3.0)),
    "ibsi1_ct_phantom/dicom/image": ((204, 201, 60), (0.977, 0.977, 3.0)),
    "ibsi_validation_sts/STS_002/CT/image": ((161, 143, 48), (0.976562, 0.976562, 3.27)),
    "ibsi_validation_sts/STS_025/CT/image": ((149, 138, 47), (0.976562, 0.976562, 3.27)),  # feet first
}


@pytest.mark.real
@pytest.mark.parametrize("folder", REAL)
def test_real_series(real_data, folder):
    path = real_data / "ct" / folder
    values, affine = simpleitk_ct(path)
    read = read_ct(path)
    voxels, spacing_mm = REAL[folder]
    assert read.values.shape == voxels[::-1]
    assert np.allclose(read.spacing_mm, spacing_mm, atol=1e-4)
    assert np.array_equal(read.values, values)
    # SimpleITK takes the slice spacing from the first two slices, so that a rounded header moves its far end by hundredths of a mm.
    far = np.asarray([*np.subtract(voxels, 1), 1.0])
    assert np.linalg.norm((read.grid.affine - affine) @ far) < 0.02
    assert np.abs(read.grid.affine[:3, 3] - affine[:3, 3]).max() < 1e-6
