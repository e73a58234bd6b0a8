import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses

from idx.errors import FormatError, GeometryError
from idx.geometry import (
    PATIENT,
    SLIDE,
    AffineTransform,
    DisplacementTransform,
    Frame,
    Grid,
    SectionTransform,
    SequenceTransform,
    compose,
)
from idx.io.transforms import grid_from_nifti_affine, nifti_affine, read_itk, write_itk

SCAN = Frame("scan", "mm", ("x", "y", "z"))
WARPED = Frame("warped", "um", ("x", "y"))
ROTATED = Frame("rotated", "um", ("x", "y"))
TOLERANCE = 1e-6
RNG = np.random.default_rng(3)


def _rotation(degrees, axis=2):
    a = np.deg2rad(degrees)
    matrix = np.eye(4)
    i, j = [k for k in range(3) if k != axis]
    matrix[[i, i, j, j], [i, j, i, j]] = np.cos(a), -np.sin(a), np.sin(a), np.cos(a)
    return matrix


def _affine_2d(source=SLIDE, target=ROTATED):
    return AffineTransform(np.array([[0.9, -0.2, 400.0], [0.25, 1.1, -3000.0], [0, 0, 1]]), source, target)


def _affine_3d():
    matrix = _rotation(20) @ _rotation(35, axis=0)
    matrix[:3, 3] = (12.5, -140.25, 987.125)
    return AffineTransform(matrix @ np.diag([1.1, 0.9, 1.0, 1.0]), PATIENT, SCAN)


def _field_2d(source=SLIDE, target=WARPED):
    matrix = np.diag([500.0, 400.0, 1.0])
    matrix[:2, 2] = (-1000.0, -2000.0)
    return DisplacementTransform(RNG.normal(scale=30.0, size=(21, 17, 2)), matrix, source, target)


def _field_3d():
    matrix = _rotation(15) @ np.diag([4.0, 3.0, 5.0, 1.0])
    matrix[:3, 3] = (-30.0, -20.0, 100.0)
    return DisplacementTransform(RNG.normal(scale=0.4, size=(6, 7, 8, 3)), matrix, PATIENT, SCAN)


def _section(source=SLIDE, target=PATIENT):
    linear = (_rotation(30) @ _rotation(50, axis=0))[:3, :2] * 1.12e-3
    return SectionTransform(linear, np.array([40.0, -120.0, 310.0]), source, target)


def _inside_2d(n=40):
    return RNG.uniform((-900.0, -1900.0), (6900.0, 5900.0), size=(n, 2))


def _inside_3d(field, n=40):
    size = np.array(field.displacement.shape[2::-1]) - 1
    return RNG.uniform(0.0, 1.0, size=(n, 3)) * size @ field.index_to_source[:3, :3].T + field.index_to_source[:3, 3]


def _with_distance(points):
    return np.concatenate([points, RNG.uniform(-40.0, 40.0, size=(len(points), 1))], axis=-1)


def _itk_points(path, points):
    stored = sitk.ReadTransform(str(path))
    return np.array([stored.TransformPoint(p.tolist()) for p in points])


CASES = {
    "affine_2d": (_affine_2d(), _inside_2d()),
    "affine_3d": (_affine_3d(), RNG.uniform(-500, 500, size=(40, 3))),
    "field_2d": (_field_2d(), _inside_2d()),
    "section": (_section(), _with_distance(_inside_2d())),
    "section_inverse": (_section().inverse(), RNG.uniform(-300, 300, size=(40, 3))),
    "affine_then_field_2d": (SequenceTransform((_affine_2d(), _field_2d(ROTATED))), _affine_2d().inverse().apply(_inside_2d())),
    "slide_to_volume": (
        SequenceTransform((_field_2d(), _affine_2d(WARPED, ROTATED), _section(ROTATED), _affine_3d())),
        _with_distance(_inside_2d()),
    ),
    "volume_to_slide": (
        SequenceTransform((_affine_3d().inverse(), _section(ROTATED).inverse(), _affine_2d().inverse())),
        RNG.uniform(-300, 300, size=(40, 3)),
    ),
}
_FIELD = _field_3d()
CASES["field_3d"] = (_FIELD, _inside_3d(_FIELD))


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
@pytest.mark.parametrize("name", CASES)
def test_itk_maps_points_as_we_do_and_reads_back(tmp_path, name, suffix):
    transform, points = CASES[name]
    path = tmp_path / f"transform{suffix}"
    write_itk(transform, path)
    expected = transform.apply(points)
    np.testing.assert_allclose(_itk_points(path, points), expected, atol=TOLERANCE, rtol=0)
    again = read_itk(path, source=transform.source, target=transform.target)
    assert (again.source, again.target) == (transform.source, transform.target)
    assert type(again) is type(transform)
    np.testing.assert_allclose(again.apply(points), expected, atol=TOLERANCE, rtol=0)


def test_reading_a_sequence_keeps_its_steps(tmp_path):
    transform, points = CASES["slide_to_volume"]
    write_itk(transform, tmp_path / "t.h5")
    again = read_itk(tmp_path / "t.h5", source=SLIDE, target=SCAN)
    assert [type(step) for step in again.steps] == [type(step) for step in transform.steps]
    assert [step.source.ndim for step in again.steps] == [2, 2, 2, 3]
    # Two components in: the section adds the third, which a 3-D reading would not accept.
    np.testing.assert_allclose(again.apply(points[:, :2]), transform.apply(points[:, :2]), atol=TOLERANCE)


def test_an_axial_section_at_zero_is_still_a_section(tmp_path):
    section = SectionTransform(np.array([[1e-3, 0], [0, 1e-3], [0, 0]]), np.zeros(3), SLIDE, PATIENT)
    write_itk(section, tmp_path / "t.tfm")
    again = read_itk(tmp_path / "t.tfm", source=SLIDE, target=PATIENT)
    assert isinstance(again, SectionTransform)
    assert again.apply([2000.0, 1000.0]).tolist() == [2.0, 1.0, 0.0]


def test_itk_resamples_with_the_transform_whose_source_is_the_fixed_frame(tmp_path):
    moving = sitk.GetImageFromArray(np.pad(np.ones((1, 1, 1), np.float32), 4))
    fixed_to_moving = AffineTransform(np.array([[1.0, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), PATIENT, SCAN)
    write_itk(fixed_to_moving, tmp_path / "t.tfm")
    resampled = sitk.GetArrayFromImage(sitk.Resample(moving, moving, sitk.ReadTransform(str(tmp_path / "t.tfm"))))
    peak_xyz = np.argwhere(resampled == 1.0)[0][::-1].astype(float)
    assert fixed_to_moving.apply(peak_xyz).tolist() == [4.0, 4.0, 4.0]


def test_reads_what_other_programs_write(tmp_path):
    rigid = sitk.Euler3DTransform((10.0, 20.0, 30.0), 0.1, 0.2, 0.3, (1.0, 2.0, 3.0))
    shift = sitk.TranslationTransform(3, (5.0, 6.0, 7.0))
    scale = sitk.ScaleTransform(3, (2.0, 3.0, 4.0))
    composite = sitk.CompositeTransform([rigid, shift, scale])
    sitk.WriteTransform(composite, str(tmp_path / "t.tfm"))
    points = RNG.uniform(-100, 100, size=(10, 3))
    again = read_itk(tmp_path / "t.tfm", source=PATIENT, target=SCAN)
    np.testing.assert_allclose(again.apply(points), [composite.TransformPoint(p.tolist()) for p in points], atol=1e-9)


def test_refusals(tmp_path):
    field = _field_3d()
    with pytest.raises(GeometryError, match="numerical inverse"):
        write_itk(field.inverse(), tmp_path / "t.tfm")
    with pytest.raises(FormatError, match=r"must end in \.tfm"):
        write_itk(field, tmp_path / "t.mat")
    sheared = np.array(field.index_to_source)
    sheared[0, 1] += 1.0
    with pytest.raises(GeometryError, match="right angles"):
        write_itk(DisplacementTransform(field.displacement, sheared, PATIENT, SCAN), tmp_path / "t.tfm")
    (tmp_path / "broken.tfm").write_text("nonsense")
    with pytest.raises(FormatError, match=r"broken\.tfm"):
        read_itk(tmp_path / "broken.tfm", source=PATIENT, target=SCAN)
    write_itk(_affine_3d(), tmp_path / "t.tfm")
    with pytest.raises(GeometryError, match="frames' dimension"):
        read_itk(tmp_path / "t.tfm", source=SLIDE, target=WARPED)
    write_itk(AffineTransform(np.diag([1e-3, 1e-3, 2.0, 1.0]), PATIENT, SCAN), tmp_path / "t.tfm")
    with pytest.raises(GeometryError, match="unit normal"):
        read_itk(tmp_path / "t.tfm", source=SLIDE, target=PATIENT)
    sitk.WriteTransform(sitk.BSplineTransform(3), str(tmp_path / "spline.tfm"))
    with pytest.raises(FormatError, match="displacement field"):
        read_itk(tmp_path / "spline.tfm", source=PATIENT, target=SCAN)


def test_composed_transform_is_written_too(tmp_path):
    folded = compose(_affine_2d(), _section(ROTATED))
    write_itk(folded, tmp_path / "t.tfm")
    points = _with_distance(_inside_2d())
    np.testing.assert_allclose(_itk_points(tmp_path / "t.tfm", points), folded.apply(points), atol=TOLERANCE)


def test_nifti_affine_round_trip_with_nibabel(tmp_path):
    grid = Grid.from_spacing((4, 5, 6), (0.75, 0.8, 2.5), (-174.375, 21.5, -900.25), direction=(_rotation(20) @ _rotation(10, axis=1))[:3, :3])
    values = np.arange(120, dtype=np.int16).reshape(grid.shape)
    image = nib.Nifti1Image(values.T, nifti_affine(grid))
    nib.save(image, tmp_path / "image.nii.gz")
    again = nib.load(tmp_path / "image.nii.gz")
    read_grid = grid_from_nifti_affine(again.affine, again.shape[::-1])
    assert read_grid.is_close(grid)
    # An independent reader, in LPS, agrees on where the voxel (z, y, x) = (3, 1, 5) lies.
    itk = sitk.ReadImage(str(tmp_path / "image.nii.gz"))
    np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint((5, 1, 3)), grid.to_physical((3, 1, 5)), atol=1e-3)
    assert itk[5, 1, 3] == values[3, 1, 5]
