"""Every voxel of a NIfTI lies where nibabel says, in any orientation; SimpleITK agrees."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses
from scipy.spatial.transform import Rotation

from idx.io.volumes import read_ct


@pytest.mark.parametrize("seed", range(6))
def test_oblique_images(tmp_path, seed):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * rng.choice([-1.0, 1.0], 3) * rng.uniform(0.5, 3.0, 3)
    affine[:3, 3] = rng.uniform(-300.0, 300.0, 3)
    values = rng.integers(-1024, 3000, (5, 6, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "ct.nii.gz")
    read = read_ct(tmp_path / "ct.nii.gz")
    image = nib.load(tmp_path / "ct.nii.gz")
    other = sitk.ReadImage(str(tmp_path / "ct.nii.gz"))
    index = np.argwhere(np.ones(read.values.shape, dtype=bool))
    points_lps = read.grid.to_physical(index)
    there = np.column_stack([points_lps * (-1.0, -1.0, 1.0), np.ones(len(index))]) @ np.linalg.inv(image.affine).T
    i, j, k = np.rint(there[:, :3]).astype(int).T
    assert np.abs(there[:, :3] - np.rint(there[:, :3])).max() < 1e-5
    assert np.array_equal(read.values[tuple(index.T)], image.get_fdata()[i, j, k])
    some = slice(None, None, 17)
    by_itk = [other[other.TransformPhysicalPointToIndex([float(c) for c in point])] for point in points_lps[some]]
    assert np.array_equal(read.values[tuple(index[some].T)], by_itk)
