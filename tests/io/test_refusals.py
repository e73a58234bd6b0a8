"""What a user hands in by mistake, in one table: which error it gives, and that the message names the file and the remedy."""

import shutil

import numpy as np
import pytest
import tifffile
from pydicom.uid import generate_uid

import idx
from idx import testing
from idx.errors import FormatError, GeometryError, UnitError


def phantom():
    return testing.ball(radius_mm=5.0, spacing_mm=(1.0, 1.0, 2.0))


def series(folder, **options):
    return testing.write_ct_series(phantom().ct, folder / "ct", **options)


def read_ct(folder):
    return idx.read_ct(folder / "ct")


def missing_slice(folder):
    series(folder)[4].unlink()
    return read_ct


def truncated_slice(folder):
    file = series(folder)[3]
    file.write_bytes(file.read_bytes()[:-200])
    return read_ct


def duplicated_position(folder):
    def lower_by_one(index, ds):
        if index == 2:
            ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], float(ds.ImagePositionPatient[2]) - 2.0]

    series(folder, edit=lower_by_one)
    return read_ct


def tilted_gantry(folder):
    def lean(index, ds):
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y + 0.5 * index, z]

    series(folder, edit=lean)
    return read_ct


def mixed_series(folder):
    series(folder, series_description="THORAX 1.0")
    series(folder, series_description="THORAX 5.0", series_uid=generate_uid(), prefix="B")
    return read_ct


def empty_folder(folder):
    (folder / "ct").mkdir()
    return read_ct


def slide_without_mpp(folder):
    tifffile.imwrite(folder / "A12.tif", np.full((64, 64, 3), 200, np.uint8), photometric="rgb", tile=(32, 32))
    return lambda place: idx.open_slide(place / "A12.tif")


def truncated_tiff(folder):
    path = testing.he_slide(folder / "A12.tif", n_nuclei=10, size_px=(512, 512)).path
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    return lambda place: idx.open_slide(place / "A12.tif")


def rtstruct_of(folder, contours_mm):
    series(folder)
    testing.write_rtstruct({"GTV": contours_mm}, folder / "ct", folder / "rtstruct.dcm")
    return lambda place: idx.read_mask(place / "rtstruct.dcm", like=read_ct(place))


def empty_mask(folder):
    return rtstruct_of(folder, [])


def mask_of_another_patient(folder):
    series(folder)
    shifted = phantom().ct
    testing.write_ct_series(shifted, folder / "other", frame_of_reference_uid=generate_uid(), series_uid=generate_uid())
    testing.write_rtstruct(phantom().mask, folder / "other", folder / "rtstruct.dcm")
    shutil.rmtree(folder / "other")
    return lambda place: idx.read_mask(place / "rtstruct.dcm", like=read_ct(place))


def empty_label_image(folder):
    return label_image(folder, np.zeros(phantom().ct.grid.shape, np.uint8), shift_mm=0.0)


def label_image_elsewhere(folder):
    return label_image(folder, phantom().mask.values.astype(np.uint8), shift_mm=40.0)


def label_image(folder, values, *, shift_mm):
    import SimpleITK as sitk  # noqa: N813

    series(folder)
    image, grid = sitk.GetImageFromArray(values), phantom().ct.grid
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin([grid.origin_mm[0] + shift_mm, *grid.origin_mm[1:]])
    sitk.WriteImage(image, str(folder / "mask.nii.gz"))
    return lambda place: idx.read_mask(place / "mask.nii.gz", like=read_ct(place))


REFUSED = {
    missing_slice: (GeometryError, "ct", "mm"),
    truncated_slice: (FormatError, "CT", "again"),
    duplicated_position: (GeometryError, "CT", "Remove"),
    tilted_gantry: (GeometryError, "ct", "deg"),
    mixed_series: (FormatError, "THORAX 5.0", "series="),
    empty_folder: (FormatError, "ct", "folder"),
    slide_without_mpp: (UnitError, "A12.tif", "open_slide(..., mpp=0.25)"),
    truncated_tiff: (FormatError, "A12.tif", "again"),
    empty_mask: (GeometryError, "rtstruct.dcm", "Check"),
    mask_of_another_patient: (GeometryError, "rtstruct.dcm", "patient"),
    empty_label_image: (GeometryError, "mask.nii.gz", "Check"),
    label_image_elsewhere: (GeometryError, "mask.nii.gz", "resample=True"),
}


@pytest.mark.parametrize("mistake", REFUSED, ids=lambda f: f.__name__)
def test_mistake_is_refused_with_file_and_remedy(tmp_path, mistake):
    error, file, remedy = REFUSED[mistake]
    read = mistake(tmp_path)
    with pytest.raises(error) as caught:
        read(tmp_path)
    message = str(caught.value)
    assert file in message.replace(str(tmp_path.parent), "")
    assert remedy in message
    assert "; got" in message


def test_shuffled_files_are_no_mistake(tmp_path):
    n = phantom().ct.grid.shape[0]
    series(tmp_path, order=np.random.default_rng(3).permutation(n).tolist())
    np.testing.assert_array_equal(read_ct(tmp_path).values, phantom().ct.values)
