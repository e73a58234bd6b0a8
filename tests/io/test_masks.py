import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses

import idx
from idx.errors import FormatError, GeometryError
from idx.geometry import Grid
from idx.io.masks import read_mask
from idx.io.resampling import index_offset, nearest_mask
from idx.io.transforms import nifti_affine
from idx.volume import CTVolume

SHAPE = (5, 12, 14)
GRID = Grid.from_spacing(SHAPE, (0.75, 0.8, 2.5), (-100.0, 50.0, -300.0))


@pytest.fixture
def ct():
    return CTVolume(np.zeros(SHAPE, np.int16), GRID)


@pytest.fixture
def labels():
    values = np.zeros(SHAPE, np.uint8)
    values[1:4, 2:6, 3:9] = 1
    values[2, 8:10, 8:12] = 5
    return values


def _write(path, values, grid=GRID):
    if path.name.endswith(".nii.gz"):
        nib.save(nib.Nifti1Image(values.T, nifti_affine(grid)), path)
        return path
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


FORMATS = ["mask.nii.gz", "mask.nrrd", "mask.mha", "mask.mhd"]


@pytest.mark.parametrize("name", FORMATS)
def test_label_images(tmp_path, ct, labels, name):
    path = _write(tmp_path / name, labels)
    np.testing.assert_array_equal(read_mask(path, like=ct, label="1").values, labels == 1)
    np.testing.assert_array_equal(read_mask(path, like=ct, label=5).values, labels == 5)
    with pytest.raises(FormatError, match=rf"'1', '5'.*{name}.*label='1'"):
        read_mask(path, like=ct)
    with pytest.raises(FormatError, match="one of '1', '5'; got '2'"):
        read_mask(path, like=ct, label="2")


@pytest.mark.parametrize("name", FORMATS)
def test_one_label_needs_no_name_and_floats_that_are_whole_will_do(tmp_path, ct, labels, name):
    path = _write(tmp_path / name, np.where(labels == 5, 255.0, 0.0).astype(np.float32))
    mask = read_mask(path, like=ct)
    np.testing.assert_array_equal(mask.values, labels == 5)
    assert (mask.label, mask.source.ids["label"]) == ("lesion", "255")


def test_probabilities_and_empty_masks_are_refused(tmp_path, ct, labels):
    with pytest.raises(FormatError, match=r"p\.nrrd.*threshold"):
        read_mask(_write(tmp_path / "p.nrrd", labels.astype(np.float32) / 2), like=ct)
    with pytest.raises(GeometryError, match=r"zeros only.*e\.nrrd"):
        read_mask(_write(tmp_path / "e.nrrd", np.zeros_like(labels)), like=ct)


def test_an_intensity_image_is_no_mask(tmp_path, ct):
    with pytest.raises(FormatError, match=r"839 values.*i\.nrrd"):
        read_mask(_write(tmp_path / "i.nrrd", np.arange(840, dtype=np.int16).reshape(SHAPE)), like=ct)


def test_another_grid_needs_resample(tmp_path, ct, labels):
    shifted = Grid.from_spacing(SHAPE, GRID.spacing_mm, tuple(np.add(GRID.origin_mm, (0.75, 0.0, 0.3))))
    path = _write(tmp_path / "mask.nrrd", labels, shifted)
    with pytest.raises(GeometryError, match=r"mask\.nrrd.*another patient.*resample=True"):
        read_mask(path, like=ct, label=1)
    expected = np.zeros(SHAPE, bool)
    expected[:, :, 1:] = (labels == 1)[:, :, :-1]
    np.testing.assert_array_equal(read_mask(path, like=ct, label=1, resample=True).values, expected)


def test_a_mask_elsewhere_is_refused_even_when_resampled(tmp_path, ct, labels):
    path = _write(tmp_path / "mask.nrrd", labels, Grid.from_spacing(SHAPE, GRID.spacing_mm, (500.0, 500.0, 500.0)))
    with pytest.raises(GeometryError, match=r"at least one voxel.*mask\.nrrd"):
        read_mask(path, like=ct, label=1, resample=True)


def test_mirrored_files_hold_the_same_mask(tmp_path, ct, labels):
    mirrored = np.array(GRID.affine)
    mirrored[:3, 3] += mirrored[:3, 0] * (SHAPE[2] - 1)
    mirrored[:3, 0] *= -1
    path = _write(tmp_path / "mask.nii.gz", np.ascontiguousarray(labels[:, :, ::-1]), Grid(SHAPE, mirrored))
    np.testing.assert_array_equal(read_mask(path, like=ct, label=1).values, labels == 1)


def test_other_files(tmp_path, ct):
    with pytest.raises(FormatError, match=r"nothing at .*absent\.nrrd"):
        read_mask(tmp_path / "absent.nrrd", like=ct)
    (tmp_path / "notes.txt").write_text("no mask at all")
    with pytest.raises(FormatError, match=r"notes\.txt.*Convert"):
        read_mask(tmp_path / "notes.txt", like=ct)
    with pytest.raises(FormatError, match="one RTSTRUCT or SEG; got none"):
        read_mask(tmp_path, like=ct)
    idx.testing.write_ct_series(ct, tmp_path / "series")
    with pytest.raises(FormatError, match="got 'CT'"):
        read_mask(next((tmp_path / "series").iterdir()), like=ct)


def test_nearest_resampling_equals_itk():
    rng = np.random.default_rng(0)
    values = rng.random((9, 13, 11)) > 0.5
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    grid = Grid.from_spacing(values.shape, (1.3, 0.9, 2.1), (3.0, -4.0, 7.0), direction=rotation)
    onto = Grid.from_spacing((14, 15, 16), (1.1, 1.2, 1.3), tuple(grid.to_physical((3.0, 2.0, 1.0))))
    image = sitk.GetImageFromArray(values.astype(np.uint8))
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction.ravel().tolist())
    reference = sitk.Image(16, 15, 14, sitk.sitkUInt8)
    reference.SetSpacing(onto.spacing_mm)
    reference.SetOrigin(onto.origin_mm)
    expected = sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
    assert expected.any()
    np.testing.assert_array_equal(nearest_mask(values, grid, onto), expected)


def test_index_offset_tells_coinciding_voxels():
    assert index_offset(GRID, GRID) == (0, 0, 0)
    assert index_offset(GRID.crop((1, 2, 3), (2, 2, 2)), GRID) == (1, 2, 3)
    affine = np.array(GRID.affine)
    affine[0, 3] += 0.03 * 0.75
    assert index_offset(Grid(SHAPE, affine), GRID) == (0, 0, 0)
    affine[0, 3] += 0.03 * 0.75
    assert index_offset(Grid(SHAPE, affine), GRID) is None
