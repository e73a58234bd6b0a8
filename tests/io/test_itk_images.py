"""NRRD and MetaImage: geometry as SimpleITK states it, and refusals."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses
from scipy.spatial.transform import Rotation

from idx.errors import FormatError, GeometryError
from idx.io.volumes import image_kind, read_ct, read_volume

NAMES = ["ct.nrrd", "ct.nhdr", "ct.mha", "ct.mhd"]


def image_of(seed=0, *, dtype=np.int16):
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.integers(-1024, 3000, (5, 6, 7)).astype(dtype))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-12.5, 8.25, -100.0))
    return image


def save(image, path, *, compress=False):
    sitk.WriteImage(image, str(path), compress)
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("compress", [False, True])
def test_values_and_grid(tmp_path, name, compress):
    image = image_of()
    ct = read_ct(save(image, tmp_path / name, compress=compress))
    assert np.array_equal(ct.values, sitk.GetArrayFromImage(image))
    assert ct.spacing_mm == pytest.approx((0.7, 0.8, 2.5), abs=1e-9)
    assert ct.grid.origin_mm == pytest.approx((-12.5, 8.25, -100.0), abs=1e-9)
    assert ct.source.kind == ("nrrd" if name in NAMES[:2] else "mha")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_every_voxel_lies_where_simpleitk_says(tmp_path, name, seed):
    image = image_of(seed)
    image.SetDirection(Rotation.random(random_state=seed).as_matrix().ravel().tolist())
    ct = read_ct(save(image, tmp_path / name))
    index = np.argwhere(np.ones(ct.values.shape, dtype=bool))
    points = ct.grid.to_physical(index)
    there = np.array([image.TransformPhysicalPointToContinuousIndex(point.tolist()) for point in points])
    assert np.abs(there - np.rint(there)).max() < 1e-6
    x, y, z = np.rint(there).astype(int).T
    assert np.array_equal(ct.values[tuple(index.T)], sitk.GetArrayFromImage(image)[z, y, x])


def test_floats_are_kept_by_read_volume(tmp_path):
    image = sitk.GetImageFromArray(np.linspace(0.0, 1.0, 60, dtype=np.float32).reshape(3, 4, 5))
    volume = read_volume(save(image, tmp_path / "map.nrrd"), quantity="probability")
    assert np.array_equal(volume.values, sitk.GetArrayFromImage(image))
    assert volume.quantity == "probability"


def test_content_decides_not_the_name(tmp_path):
    file = save(image_of(), tmp_path / "ct.nrrd").rename(tmp_path / "ct.mha")
    assert image_kind(file) == "nrrd"


def _truncated(name):
    def plant(folder):
        file = save(image_of(), folder / name)
        file.write_bytes(file.read_bytes()[:-150])
        return file

    return plant


def _without(name, *starts):
    def plant(folder):
        file = save(image_of(), folder / name)
        lines = file.read_bytes().split(b"\n")
        file.write_bytes(b"\n".join(line for line in lines if not line.startswith(starts)))
        return file

    return plant


def _headless(folder):
    save(image_of(), folder / "ct.mhd")
    (folder / "ct.raw").unlink()
    return folder / "ct.mhd"


def _vectors(folder):
    return save(sitk.GetImageFromArray(np.zeros((3, 4, 5, 2), np.float32), isVector=True), folder / "ct.mha")


REFUSED = {
    "truncated NRRD": (_truncated("ct.nrrd"), FormatError, ["Copy it again"]),
    "truncated MHA": (_truncated("ct.mha"), FormatError, ["Copy it again"]),
    "MHD without its raw file": (_headless, FormatError, ["Copy it again"]),
    "NRRD without directions": (_without("ct.nrrd", b"space directions"), GeometryError, ["space directions", "Write the file again"]),
    "NRRD without space": (_without("ct.nrrd", b"space:"), GeometryError, ["'space'", "Write the file again"]),
    "MHA without spacing": (_without("ct.mha", b"ElementSpacing"), GeometryError, ["ElementSpacing", "Write the file again"]),
    "MHA without offset": (_without("ct.mha", b"Offset"), GeometryError, ["Offset", "Write the file again"]),
    "vectors": (_vectors, FormatError, ["2 components", "file of its own"]),
    "two dimensions": (lambda f: save(sitk.Image(4, 4, sitk.sitkInt16), f / "ct.mha"), FormatError, ["2 dimensions", "file of its own"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_file_is_refused_with_name_and_remedy(tmp_path, case):
    plant, error, words = REFUSED[case]
    file = plant(tmp_path)
    with pytest.raises(error) as caught:
        read_ct(file)
    message = str(caught.value)
    assert type(caught.value) is error
    assert not [word for word in words if word not in message], message
    assert str(file) in message
