import highdicom as hd
import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentationTypeValues
from pydicom.sr.codedict import codes

import idx
from idx.errors import FormatError, GeometryError
from idx.geometry import Grid
from idx.io.masks import read_mask
from idx.provenance import Source
from idx.volume import CTVolume, Mask


@pytest.fixture
def ct(tmp_path):
    values = np.zeros((7, 16, 20), np.int16)
    grid = Grid.from_spacing(values.shape, (0.7, 0.8, 2.5), (-20.0, 30.0, -400.0))
    idx.testing.write_ct_series(CTVolume(values, grid), tmp_path / "series")
    return idx.read_ct(tmp_path / "series")


@pytest.fixture
def labels():
    values = np.zeros((7, 16, 20), np.uint8)
    values[1:3, 3:9, 4:12] = 1
    values[5, 10:14, 2:6] = 2
    return values


def _segments():
    return [
        hd.seg.SegmentDescription(
            number,
            name,
            codes.SCT.Tissue,
            codes.SCT.Tissue,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in ((1, "Tumour"), (2, "Node"))
    ]


def _write(path, ct, values, kind, **options):
    files = sorted((pydicom.dcmread(f) for f in (ct.source.path + "/" + name for name in ct.source.files)), key=lambda d: float(d.ImagePositionPatient[2]))
    seg = hd.seg.Segmentation(
        source_images=files,
        pixel_array=values,
        segmentation_type=kind,
        segment_descriptions=_segments(),
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="idx",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    seg.save_as(path)
    return path


@pytest.mark.parametrize("kind", [SegmentationTypeValues.BINARY, SegmentationTypeValues.LABELMAP])
@pytest.mark.parametrize("omit_empty", [True, False])
def test_binary_and_labelmap_with_and_without_empty_frames(tmp_path, ct, labels, kind, omit_empty):
    path = _write(tmp_path / "seg.dcm", ct, labels, kind, omit_empty_frames=omit_empty)
    for number, name in ((1, "Tumour"), (2, "Node")):
        for label in (name, str(number), number):
            mask = read_mask(path, like=ct, label=label)
            assert mask.label == name
            np.testing.assert_array_equal(mask.values, labels == number)


def test_fractional_is_inside_from_one_half(tmp_path, ct, labels):
    fraction = np.zeros((*labels.shape, 2))
    fraction[2, 4:8, 4:8, 0] = 0.6
    fraction[2, 4:8, 8:12, 0] = 0.4
    fraction[3, 1, 1, 1] = 1.0
    path = _write(tmp_path / "seg.dcm", ct, fraction, SegmentationTypeValues.FRACTIONAL)
    np.testing.assert_array_equal(read_mask(path, like=ct, label="Tumour").values, fraction[..., 0] >= 0.5)


def test_several_segments_are_listed(tmp_path, ct, labels):
    path = _write(tmp_path / "seg.dcm", ct, labels, SegmentationTypeValues.BINARY)
    with pytest.raises(FormatError, match=r"'Tumour' \(number 1\), 'Node' \(number 2\).*seg\.dcm"):
        read_mask(path, like=ct)


def test_a_cropped_grid_is_met_where_it_holds_the_segment(tmp_path, ct, labels):
    path = _write(tmp_path / "seg.dcm", ct, labels, SegmentationTypeValues.BINARY)
    crop = CTVolume(ct.values[1:5, 2:14, 1:], ct.grid.crop((1, 2, 1), (4, 12, 19)))
    with pytest.raises(GeometryError, match="resample=True"):
        read_mask(path, like=crop, label="Tumour")
    np.testing.assert_array_equal(read_mask(path, like=crop, label="Tumour", resample=True).values, (labels == 1)[1:5, 2:14, 1:])


def test_another_grid_needs_resample(tmp_path, ct, labels):
    path = _write(tmp_path / "seg.dcm", ct, labels, SegmentationTypeValues.BINARY)
    affine = np.array(ct.grid.affine)
    affine[:3, 2] /= 2.5
    fine = CTVolume(np.zeros((16, 16, 20), np.int16), Grid((16, 16, 20), affine))
    with pytest.raises(GeometryError, match=r"seg\.dcm.*resample=True"):
        read_mask(path, like=fine, label="Tumour")
    mask = read_mask(path, like=fine, label="Tumour", resample=True)
    # Slices 1 and 2 of 2.5 mm cover 1.25 to 6.25 mm: the fine slices at 2 to 6 mm.
    assert np.flatnonzero(mask.values.any(axis=(1, 2))).tolist() == [2, 3, 4, 5, 6]


def test_prone_series_is_turned_like_its_image(tmp_path, labels):
    """A patient on the belly: rows and columns run against x and y."""
    grid = Grid.from_spacing(labels.shape, (0.7, 0.8, 2.5), (20.0, -30.0, -400.0), direction=np.diag([-1.0, -1.0, 1.0]))
    values = np.random.default_rng(0).integers(-1000, 1000, labels.shape).astype(np.int16)
    idx.testing.write_ct_series(CTVolume(values, grid), tmp_path / "series")
    ct = idx.read_ct(tmp_path / "series")
    np.testing.assert_array_equal(ct.values, values[:, ::-1, ::-1])
    path = _write(tmp_path / "seg.dcm", ct, labels, SegmentationTypeValues.BINARY)
    np.testing.assert_array_equal(read_mask(path, like=ct, label="Tumour").values, (labels == 1)[:, ::-1, ::-1])


def test_mask_of_another_patient(tmp_path, ct, labels):
    path = _write(tmp_path / "seg.dcm", ct, labels, SegmentationTypeValues.BINARY)
    other = CTVolume(ct.values, ct.grid, source=Source("x", "dicom", ids={"frame_of_reference_uid": "9.9"}))
    with pytest.raises(GeometryError, match=r"seg\.dcm.*another patient"):
        read_mask(path, like=other, label="Tumour")


@pytest.mark.real
def test_real_seg_is_placed_by_position(real_data):
    folder = real_data / "ct" / "acrin_nsclc_042"
    ct = idx.read_ct(folder / "CT")
    mask = idx.read_mask(folder / "SEG_CT", like=ct, label="Segment_1")
    assert isinstance(mask, Mask)
    stored = pydicom.dcmread(next((folder / "SEG_CT").iterdir()))
    frames = [i for i, g in enumerate(stored.PerFrameFunctionalGroupsSequence) if g.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1]
    assert mask.n_voxels == int(stored.pixel_array[frames].sum())
    # Each frame lies on the slice whose centre has the frame's position.
    group = stored.PerFrameFunctionalGroupsSequence[frames[0]]
    z = round(float(ct.grid.to_index(np.array(group.PlanePositionSequence[0].ImagePositionPatient, float))[0]))
    np.testing.assert_array_equal(mask.values[z], stored.pixel_array[frames[0]] > 0)


def _in_thirds(ct):
    """Image whose slices are a third as thick; every third has the centre of one of ``ct``."""
    z, y, x = ct.grid.shape
    affine = np.array(ct.grid.affine)
    affine[:3, 2] /= 3.0
    return CTVolume(np.zeros((3 * z, y, x), np.int16), Grid((3 * z, y, x), affine))


def _resampled_slices(path, ct):
    """Slices of a third of the thickness on which the tumour comes out."""
    mask = read_mask(path, like=_in_thirds(ct), label="Tumour", resample=True)
    return np.flatnonzero(mask.values.any(axis=(1, 2))).tolist()


def _state_depth(path, **stated):
    """Let a SEG state these of SpacingBetweenSlices and SliceThickness, and no other."""
    dataset = pydicom.dcmread(path)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        if name in measures:
            delattr(measures, name)
        if name in stated:
            setattr(measures, name, stated[name])
    dataset.save_as(path)


@pytest.mark.parametrize("states_spacing", [True, False])
def test_frames_of_a_coarser_image_are_not_strewn_over_every_third_slice(tmp_path, ct, states_spacing):
    """Slices of 2.5 mm meet every third of 0.83 mm exactly; the mask would lose two thirds of its volume."""
    labels = np.zeros(ct.grid.shape, dtype=np.uint8)
    labels[1:5, 3:6, 3:6] = 1
    labels[5, 10:12, 2:4] = 2
    path = _write(tmp_path / "seg.dcm", ct, labels, SegmentationTypeValues.BINARY)
    _state_depth(path, **({"SpacingBetweenSlices": ct.spacing_mm[2]} if states_spacing else {}))
    with pytest.raises(GeometryError, match=r"seg\.dcm.*resample=True"):
        read_mask(path, like=_in_thirds(ct), label="Tumour")
    assert _resampled_slices(path, ct) == list(range(2, 14))
    np.testing.assert_array_equal(read_mask(path, like=ct, label="Tumour").values, labels == 1)


def test_planes_that_are_not_stored_stay_empty_when_resampled(tmp_path, ct):
    """A lesion on two slices with empty ones between them, which are not stored, must not grow into those."""
    labels = np.zeros(ct.grid.shape, dtype=np.uint8)
    labels[1, 3:6, 3:6] = labels[5, 3:6, 3:6] = 1
    labels[3, 10:12, 2:4] = 2
    path = _write(tmp_path / "seg.dcm", ct, labels, SegmentationTypeValues.BINARY)
    assert len(pydicom.dcmread(path).PerFrameFunctionalGroupsSequence) == 3
    _state_depth(path, SpacingBetweenSlices=ct.spacing_mm[2])
    assert _resampled_slices(path, ct) == [2, 3, 4, 14, 15, 16]


def test_one_plane_of_unknown_thickness_is_not_resampled(tmp_path, ct):
    labels = np.zeros(ct.grid.shape, dtype=np.uint8)
    labels[2, 3:6, 3:6] = 1
    labels[3, 10:12, 2:4] = 2
    path = _write(tmp_path / "seg.dcm", ct, labels, SegmentationTypeValues.BINARY)
    _state_depth(path, SpacingBetweenSlices=ct.spacing_mm[2])
    assert _resampled_slices(path, ct) == [5, 6, 7]
    _state_depth(path)
    np.testing.assert_array_equal(read_mask(path, like=ct, label="Tumour").values, labels == 1)
    shifted = CTVolume(ct.values, Grid.from_spacing(ct.grid.shape, ct.spacing_mm, (*ct.grid.origin_mm[:2], ct.grid.origin_mm[2] + 1.0)))
    with pytest.raises(GeometryError, match=r"state its thickness.*seg\.dcm.*like="):
        read_mask(path, like=shifted, label="Tumour", resample=True)
