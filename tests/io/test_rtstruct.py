import warnings

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import RTStructureSetStorage, generate_uid

import idx
from idx.errors import FormatError, GeometryError
from idx.geometry import Grid
from idx.io.masks import read_mask
from idx.io.rtstruct import fill_even_odd
from idx.provenance import Source
from idx.volume import CTVolume

FRAME_UID = "1.2.3.4"
OBLIQUE = np.linalg.qr(np.array([[0.9, 0.2, -0.3], [-0.1, 0.95, 0.25], [0.35, -0.2, 0.9]]))[0]
OBLIQUE = OBLIQUE * np.sign(np.diag(OBLIQUE))


def _ct(shape=(8, 20, 24), spacing=(1.0, 1.5, 3.0), *, direction=None, uid=FRAME_UID):
    grid = Grid.from_spacing(shape, spacing, (-7.0, 11.0, 100.0), direction=direction)
    source = Source("ct", "dicom", ids={"frame_of_reference_uid": uid})
    return CTVolume(np.zeros(shape, np.int16), grid, source=source)


def _write(path, rois, *, uid=FRAME_UID):
    """RTSTRUCT of {name: [(type, points (n, 3) in mm), ...]}."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = RTStructureSetStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Modality = "RTSTRUCT"
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois, start=1):
        roi, contour_set = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, uid
        contour_set.ReferencedROINumber, contour_set.ContourSequence = number, []
        for kind, points in contours:
            item = Dataset()
            item.ContourGeometricType = kind
            item.NumberOfContourPoints = len(points)
            item.ContourData = [f"{v:.10g}" for v in np.ravel(points)]
            contour_set.ContourSequence.append(item)
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(contour_set)
    ds.save_as(path, enforce_file_format=True)
    return path


def _closed(ct, xy, z):
    """Contour of pixel positions (x, y) at slice position z, in mm."""
    xy = np.asarray(xy, float)
    return "CLOSED_PLANAR", ct.grid.to_physical(np.stack([np.full(len(xy), float(z)), xy[:, 1], xy[:, 0]], axis=-1))


def _square(low, high):
    return [(low, low), (high, low), (high, high), (low, high)]


def _read(tmp_path, ct, contours, **options):
    return read_mask(_write(tmp_path / "rt.dcm", [("GTV-1", contours)]), like=ct, **options)


@pytest.mark.parametrize("direction", [None, OBLIQUE])
def test_square_on_straight_and_oblique_grids(tmp_path, direction):
    ct = _ct(direction=direction)
    mask = _read(tmp_path, ct, [_closed(ct, _square(3.5, 9.5), z) for z in (2, 3)])
    expected = np.zeros(ct.grid.shape, bool)
    expected[2:4, 4:10, 4:10] = True
    np.testing.assert_array_equal(mask.values, expected)
    assert mask.label == "GTV-1"
    assert mask.grid is ct.grid


def test_polygons_equal_an_independent_point_in_polygon_test():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :50]
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
        outline = np.stack([25 + rng.uniform(5, 24, 40) * np.cos(angle), 20 + rng.uniform(4, 19, 40) * np.sin(angle)], axis=-1)
        inside = Polygon(np.vstack([outline, outline[:1]]), closed=True).contains_points(np.stack([x, y], axis=-1).reshape(-1, 2)).reshape(40, 50)
        np.testing.assert_array_equal(fill_even_odd([outline], (40, 50)), inside)


def test_area_converges_to_the_polygon():
    triangle = np.array([[10.3, 12.1], [780.7, 60.4], [300.2, 590.9]])
    (ax, ay), (bx, by), (cx, cy) = triangle
    area = abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2
    assert fill_even_odd([triangle], (700, 800)).sum() == pytest.approx(area, rel=1e-3)


def test_centres_on_an_edge_belong_to_one_of_two_neighbours():
    left, right = np.array(_square(2.0, 6.0)), np.add(_square(2.0, 6.0), (4.0, 0.0))
    a, b = fill_even_odd([left], (10, 12)), fill_even_odd([right], (10, 12))
    assert not (a & b).any()
    assert a.sum() == b.sum() == 16


def test_hole_island_and_several_contours(tmp_path):
    ct = _ct()
    rings = [_square(1.5, 17.5), _square(3.5, 12.5), _square(5.5, 8.5), [(13.5, 14.5), (16.5, 14.5), (16.5, 16.5), (13.5, 16.5)]]
    mask = _read(tmp_path, ct, [_closed(ct, ring, 4) for ring in rings])
    expected = np.zeros(ct.grid.shape[1:], bool)
    expected[2:18, 2:18] = True
    expected[4:13, 4:13] = False
    expected[6:9, 6:9] = True
    expected[15:17, 14:17] = False
    np.testing.assert_array_equal(mask.values[4], expected)


def test_keyhole_is_a_hole(tmp_path):
    ct = _ct()
    # Out along a channel of no width, round the hole, and back on the same line.
    outline = [
        (1.5, 1.5),
        (15.5, 1.5),
        (15.5, 15.5),
        (1.5, 15.5),
        (1.5, 8.3),
        (5.5, 8.7),
        (5.5, 12.5),
        (10.5, 12.5),
        (10.5, 5.5),
        (5.5, 5.5),
        (5.5, 8.7),
        (1.5, 8.3),
    ]
    mask = _read(tmp_path, ct, [_closed(ct, outline, 1)])
    expected = np.zeros(ct.grid.shape[1:], bool)
    expected[2:16, 2:16] = True
    expected[6:13, 6:11] = False
    np.testing.assert_array_equal(mask.values[1], expected)


def test_a_contour_given_twice_counts_once(tmp_path):
    ct = _ct()
    assert _read(tmp_path, ct, [_closed(ct, _square(3.5, 9.5), 2)] * 2).n_voxels == 36


def test_planes_between_slices_go_to_the_nearest(tmp_path):
    ct = _ct()
    planes = {1.6: 4.5, 3.4: 5.5, 4.5: 6.5}
    mask = _read(tmp_path, ct, [_closed(ct, _square(2.5, high), z) for z, high in planes.items()])
    assert mask.values.sum(axis=(1, 2)).tolist() == [0, 0, 4, 9, 0, 16, 0, 0]


def test_of_several_planes_the_closest_to_the_slice_counts(tmp_path):
    ct = _ct()
    planes = {2.75: 4.5, 3.1: 5.5, 3.4: 6.5, 4.0: 7.5}
    mask = _read(tmp_path, ct, [_closed(ct, _square(2.5, high), z) for z, high in planes.items()])
    assert mask.values.sum(axis=(1, 2)).tolist() == [0, 0, 0, 9, 25, 0, 0, 0]


def test_sparse_planes_are_refused_and_fill_slices_when_asked(tmp_path):
    ct = _ct()
    contours = [_closed(ct, _square(2.5, 4.5 + z), z) for z in (0, 2, 4)]
    with pytest.raises(GeometryError, match=r"2 slices apart.*rt\.dcm.*resample=True"):
        _read(tmp_path, ct, contours)
    mask = _read(tmp_path, ct, contours, resample=True)
    assert mask.values.sum(axis=(1, 2)).tolist() == [4, 4, 16, 16, 36, 36, 0, 0]


def test_points_and_open_lines_are_left_out_and_counted(tmp_path):
    ct = _ct()
    kind, square = _closed(ct, _square(3.5, 9.5), 2)
    contours = [(kind, square), ("POINT", square[:1]), ("OPEN_PLANAR", square), ("POINT", square[:1])]
    with pytest.warns(UserWarning, match="2 POINT, 1 OPEN_PLANAR"):
        mask = _read(tmp_path, ct, contours)
    assert mask.n_voxels == 36


def test_only_points_are_no_mask(tmp_path):
    ct = _ct()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(GeometryError, match=r"no|none.*'GTV-1'.*rt\.dcm"):
            _read(tmp_path, ct, [("POINT", np.zeros((1, 3)))])


REFUSALS = {
    "plane off the grid": ([(_square(3.5, 9.5), 2), (_square(3.5, 9.5), 9)], "another patient"),
    "contour off the grid": ([(np.add(_square(3.5, 9.5), 400.0), 2)], "another patient"),
    "contour over the border": ([(_square(-3.5, 9.5), 2)], "resample=True"),
    "too small for a voxel": ([(_square(3.2, 3.4), 2)], "label names the lesion"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_file_and_remedy(tmp_path, name):
    ct = _ct()
    rings, remedy = REFUSALS[name]
    with pytest.raises(GeometryError, match=rf"(?s)rt\.dcm.*{remedy}|{remedy}.*rt\.dcm|rt\.dcm.*{remedy}"):
        _read(tmp_path, ct, [_closed(ct, ring, z) for ring, z in rings])


def test_resample_cuts_at_the_border(tmp_path):
    ct = _ct()
    mask = _read(tmp_path, ct, [_closed(ct, _square(-3.5, 4.5), z) for z in (-2, -1, 0, 1)], resample=True)
    assert mask.values.sum(axis=(1, 2)).tolist() == [25, 25, 0, 0, 0, 0, 0, 0]


def test_mask_of_another_patient_is_refused_by_frame_of_reference(tmp_path):
    ct = _ct(uid="9.9.9")
    with pytest.raises(GeometryError, match=r"another patient.*like="):
        _read(tmp_path, ct, [_closed(ct, _square(3.5, 9.5), 2)])


def test_contours_across_slices_are_refused(tmp_path):
    ct = _ct()
    points = ct.grid.to_physical([[0, 5, 5], [0, 5, 9], [4, 5, 9], [4, 5, 5]])
    with pytest.raises(GeometryError, match=r"crosses 4\.00 slices"):
        _read(tmp_path, ct, [("CLOSED_PLANAR", points)])


def test_labels(tmp_path):
    ct = _ct()
    square = [_closed(ct, _square(3.5, 9.5), 2)]
    path = _write(tmp_path / "rt.dcm", [("GTV-1", square), ("Lung-Left", square), ("Lung-Left", square)])
    with pytest.raises(FormatError, match=r"'GTV-1' .*'Lung-Left'"):
        read_mask(path, like=ct)
    with pytest.raises(FormatError, match="one of 'GTV-1'"):
        read_mask(path, like=ct, label="GTV-2")
    with pytest.raises(FormatError, match="Pass the number"):
        read_mask(path, like=ct, label="Lung-Left")
    assert read_mask(path, like=ct, label=" gtv-1 ").label == "GTV-1"
    assert read_mask(path, like=ct, label=3).source.ids["roi_number"] == "3"


@pytest.mark.real
def test_ibsi_contours_equal_the_ibsi_mask_exactly(real_data):
    folder = real_data / "ct" / "ibsi1_ct_phantom"
    ct = idx.read_ct(folder / "dicom" / "image")
    drawn = idx.read_mask(folder / "dicom" / "mask", like=ct, label="GTV-1")
    stored = idx.read_mask(next((folder / "nifti" / "mask").iterdir()), like=ct)
    assert drawn.n_voxels == stored.n_voxels == 125_256
    np.testing.assert_array_equal(drawn.values, stored.values)


@pytest.mark.real
def test_lung1_lists_its_structures(real_data):
    folder = real_data / "ct" / "lung1_001"
    ct = idx.read_ct(folder / "image")
    with pytest.raises(FormatError, match=r"'GTV-1' .*'Lung-Left'.*'Lung-Right'"):
        idx.read_mask(folder / "mask_rtstruct", like=ct)
    lesion = idx.read_mask(folder / "mask_rtstruct", like=ct, label="GTV-1")
    right, left = (idx.read_mask(folder / "mask_rtstruct", like=ct, label=name) for name in ("Lung-Right", "Lung-Left"))
    # LPS: x grows to the patient's left.
    assert left.centroid_mm[0] > right.centroid_mm[0]
    assert 100_000 < lesion.volume_mm3 < 250_000
    with pytest.raises(GeometryError, match="another patient"):
        idx.read_mask(folder / "mask_rtstruct", like=idx.read_ct(real_data / "ct" / "ibsi1_ct_phantom" / "dicom" / "image"), label="GTV-1")


def test_contours_of_one_slice_are_kept_whatever_the_last_digits_of_their_plane(tmp_path):
    """Two parts of a lesion at 2.0049 and 2.0051 slices: neither may be lost, nor one tilted by a few hundredths of a slice."""
    ct = _ct()
    for second in (2.0051, 2.03):
        parts = [_closed(ct, _square(2.5, 5.5), 2.0049), _closed(ct, _square(9.5, 13.5), second)]
        assert _read(tmp_path, ct, parts).values.sum(axis=(1, 2)).tolist() == [0, 0, 9 + 16, 0, 0, 0, 0, 0]
