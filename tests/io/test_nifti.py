"""NIfTI: geometry, values, and refusals."""

import nibabel as nib
import numpy as np
import pytest

from idx.errors import FormatError, GeometryError, UnitError
from idx.io.volumes import read_ct, read_volume

# RAS affine of LPS-stored voxels of 0.7 x 0.8 x 2.5 mm.
AFFINE = np.array([[-0.7, 0, 0, 12.5], [0, -0.8, 0, -8.25], [0, 0, 2.5, -100.0], [0, 0, 0, 1]])


def values_xyz(seed=0, shape=(4, 5, 6)):
    return np.random.default_rng(seed).integers(-1024, 3000, shape).astype(np.int16)


def save(path, values, affine=AFFINE, *, sform=None, qform=None, slope=None, inter=None, units="mm", kind=nib.Nifti1Image):
    image = kind(values, affine)
    image.header.set_xyzt_units(units)
    if sform is not None:
        image.set_sform(*sform)
    if qform is not None:
        image.set_qform(*qform)
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.img", "no_suffix_at_all"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_ras_becomes_lps(tmp_path, name, kind):
    values = values_xyz()
    if name == "ct.img":
        kind = {nib.Nifti1Image: nib.Nifti1Pair, nib.Nifti2Image: nib.Nifti2Pair}[kind]
    file = save(tmp_path / (name if "." in name else "ct.nii"), values, kind=kind)
    if name == "ct.img":
        file = tmp_path / "ct.hdr"
    ct = read_ct(file)
    assert np.array_equal(ct.values, values.transpose(2, 1, 0))
    assert ct.grid.origin_mm == pytest.approx((-12.5, 8.25, -100.0), abs=1e-5)
    assert ct.spacing_mm == pytest.approx((0.7, 0.8, 2.5), abs=1e-6)
    assert ct.source.kind == "nifti"
    assert ct.source.path == str(file)


def test_storage_in_ras_order_ends_in_patient_axes(tmp_path):
    values = values_xyz()
    ct = read_ct(save(tmp_path / "ct.nii.gz", values, np.diag([0.7, 0.8, 2.5, 1.0])))
    assert np.array_equal(ct.values, values.transpose(2, 1, 0)[:, ::-1, ::-1])
    assert np.allclose(ct.grid.direction, np.eye(3))
    assert ct.grid.origin_mm == pytest.approx((-0.7 * 3, -0.8 * 4, 0.0), abs=1e-6)


def test_scale_slope_and_intercept_are_applied(tmp_path):
    stored = np.abs(values_xyz())
    image = nib.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(0.5, -1000.0)
    # nibabel rescales on save; writing the raw block keeps the stored values.
    with (tmp_path / "ct.nii").open("wb") as stream:
        image.header.write_to(stream)
        stream.write(b"\x00" * (352 - stream.tell()))
        stream.write(stored.tobytes(order="F"))
    expected = stored.transpose(2, 1, 0) * 0.5 - 1000.0
    assert np.array_equal(read_volume(tmp_path / "ct.nii").values, expected.astype(np.float32))
    assert np.array_equal(read_ct(tmp_path / "ct.nii").values, np.rint(expected))


def test_floating_hu_are_rounded(tmp_path):
    values = values_xyz() + 0.3
    ct = read_ct(save(tmp_path / "ct.nii", values.astype(np.float32)))
    assert np.array_equal(ct.values, values_xyz().transpose(2, 1, 0))


def test_one_volume_in_four_dimensions_is_squeezed(tmp_path):
    ct = read_ct(save(tmp_path / "ct.nii", values_xyz()[..., None]))
    assert ct.values.shape == (6, 5, 4)


@pytest.mark.parametrize(("units", "mm"), [("mm", 1.0), ("unknown", 1.0), ("meter", 1000.0), ("micron", 1e-3)])
def test_units_become_mm(tmp_path, units, mm):
    ct = read_ct(save(tmp_path / "ct.nii", values_xyz(), units=units))
    assert ct.spacing_mm == pytest.approx((0.7 * mm, 0.8 * mm, 2.5 * mm), rel=1e-6)
    assert ct.grid.origin_mm == pytest.approx((-12.5 * mm, 8.25 * mm, -100.0 * mm), rel=1e-6)


@pytest.mark.parametrize("forms", [{"qform": (None, 0)}, {"sform": (None, 0), "qform": (AFFINE, 1)}], ids=["sform alone", "qform alone"])
def test_either_form_serves(tmp_path, forms):
    assert read_ct(save(tmp_path / "ct.nii", values_xyz(), **forms)).grid.origin_mm == pytest.approx((-12.5, 8.25, -100.0), abs=1e-4)


def _shifted(mm):
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


def test_forms_that_differ_by_rounding_pass_and_the_sform_is_used(tmp_path):
    file = save(tmp_path / "ct.nii", values_xyz(), sform=(AFFINE, 1), qform=(_shifted(0.05), 1))
    assert read_ct(file).grid.origin_mm[0] == pytest.approx(-12.5, abs=1e-5)


def _sheared():
    affine = AFFINE.copy()
    affine[1, 2] = 0.5
    return affine


def _truncated(name):
    def plant(folder):
        file = save(folder / name, values_xyz(shape=(40, 40, 40)))
        file.write_bytes(file.read_bytes()[:-3000])
        return file

    return plant


def _renamed_text(folder):
    (folder / "ct.nii").write_text("no image" * 100)
    return folder / "ct.nii"


def _colour(folder):
    values = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return save(folder / "ct.nii", values)


REFUSED = {
    "truncated": (_truncated("ct.nii"), FormatError, ["ct.nii", "Copy it again"]),
    "truncated gzip": (_truncated("ct.nii.gz"), FormatError, ["ct.nii.gz", "Copy it again"]),
    "text": (_renamed_text, FormatError, ["ct.nii", "Convert it"]),
    "four volumes": (lambda f: save(f / "ct.nii", np.zeros((3, 3, 3, 4), np.int16)), FormatError, ["(3, 3, 3, 4)", "file of its own"]),
    "two dimensions": (lambda f: save(f / "ct.nii", np.zeros((3, 3), np.int16)), FormatError, ["(3, 3)", "3-D"]),
    "colour": (_colour, FormatError, ["ct.nii", "scalar"]),
    "no orientation": (lambda f: save(f / "ct.nii", values_xyz(), sform=(None, 0), qform=(None, 0)), GeometryError, ["sform_code 0", "set_sform"]),
    "sform and qform disagree": (
        lambda f: save(f / "ct.nii", values_xyz(), sform=(AFFINE, 1), qform=(_shifted(2.0), 1)),
        GeometryError,
        ["2.00 mm apart", "set_qform"],
    ),
    "sheared": (lambda f: save(f / "ct.nii", values_xyz(), sform=(_sheared(), 1), qform=(None, 0)), GeometryError, ["perpendicular", "dcm2niix"]),
    "beyond int16": (lambda f: save(f / "ct.nii", np.full((2, 2, 2), 70000, np.int32)), UnitError, ["70000", "read_volume"]),
    "not finite": (lambda f: save(f / "ct.nii", np.full((2, 2, 2), np.nan, np.float32)), UnitError, ["finite", "Replace"]),
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


def test_series_is_for_dicom_only(tmp_path):
    with pytest.raises(FormatError, match=r"DICOM only.*ct\.nii"):
        read_ct(save(tmp_path / "ct.nii", values_xyz()), series="1.2.3")
