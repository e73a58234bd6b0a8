"""CT from DICOM: what is refused, and with which words."""

import time
import warnings

import numpy as np
import pydicom
import pytest
from ct_series import ORIGIN_MM, SHAPE, SPACING_MM, box_mask, ct_of
from pydicom import uid
from pydicom.encaps import encapsulate

import idx
from idx.errors import FormatError, GeometryError, MissingDependency, UnitError
from idx.geometry.grids import Grid
from idx.io import dicom_pixels
from idx.io.volumes import read_ct
from idx.testing.dicom import write_ct_series, write_enhanced_ct, write_rtstruct
from idx.volume import CTVolume


def _write(tmp_path, **options):
    return write_ct_series(ct_of(), tmp_path, **options)


def _setter(**elements):
    """Edit that changes elements of slice 2 only."""

    def edit(index, ds):
        if index == 2:
            for keyword, value in elements.items():
                setattr(ds, keyword, value)

    return edit


def _truncate(fraction):
    def plant(tmp_path):
        file = _write(tmp_path)[3]
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * fraction)])
        return tmp_path

    return plant


def _truncate_compressed(syntax):
    def plant(tmp_path):
        file = _write(tmp_path, transfer_syntax=syntax)[3]
        file.write_bytes(file.read_bytes()[:-400])
        return tmp_path

    return plant


def _edited(**options):
    def plant(tmp_path):
        _write(tmp_path, **options)
        return tmp_path

    return plant


def _duplicate_position(tmp_path):
    _write(tmp_path, edit=_setter(ImagePositionPatient=[*ORIGIN_MM[:2], -97.5]))
    return tmp_path


def _duplicate_uid(tmp_path):
    files = _write(tmp_path)
    ds = pydicom.dcmread(files[2])
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(tmp_path / "other.dcm")
    return tmp_path


def _missing(*slices):
    def plant(tmp_path):
        files = _write(tmp_path)
        for index in slices:
            files[index].unlink()
        return tmp_path

    return plant


def _extra_slice(tmp_path):
    ct = ct_of()
    uids = {"series_uid": "1.2.3", "frame_of_reference_uid": "1.2.9"}
    write_ct_series(ct, tmp_path, **uids)
    between = CTVolume(ct.values[:1] // 2, ct.grid.crop((0, 0, 0), (1, *SHAPE[1:])))

    def edit(_, ds):
        ds.ImagePositionPatient = [*ORIGIN_MM[:2], -99.0]
        ds.SOPInstanceUID = "1.2.3.99"

    write_ct_series(between, tmp_path, prefix="extra", edit=edit, **uids)
    return tmp_path


def _tilted(tmp_path):
    affine = np.array(Grid.from_spacing(SHAPE, SPACING_MM, ORIGIN_MM).affine)
    affine[1, 2] = 2.5 * np.tan(np.radians(12.5))
    write_ct_series(ct_of(grid=Grid(SHAPE, affine)), tmp_path)
    return tmp_path


def _two_series(tmp_path):
    write_ct_series(ct_of(), tmp_path, prefix="a", series_description="Lung 1.0", series_uid="1.2.3")
    write_ct_series(ct_of(1), tmp_path, prefix="b", series_description="Soft", series_uid="1.2.4")
    return tmp_path


def _empty(tmp_path):
    return tmp_path


def _absent(tmp_path):
    return tmp_path / "nowhere"


def _text_file(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("no image")
    return file


def _text_named_dcm(tmp_path):
    file = tmp_path / "notes.dcm"
    file.write_text("no image")
    return file


def _empty_dcm(tmp_path):
    _write(tmp_path)[5].write_bytes(b"")
    return tmp_path


def _structure_set(tmp_path):
    _write(tmp_path / "ct")
    return write_rtstruct(box_mask(), tmp_path / "ct", tmp_path / "rs.dcm")


def _scouts_alone(tmp_path):
    return _edited(edit=lambda _, ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))(tmp_path)


def _enhanced(**changes):
    def plant(tmp_path):
        def edit(ds):
            if changes.get("frames"):
                del ds.PerFrameFunctionalGroupsSequence[0]
            if changes.get("same_place"):
                groups = ds.PerFrameFunctionalGroupsSequence
                groups[1].PlanePositionSequence = groups[0].PlanePositionSequence
            if changes.get("rescale"):
                del ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence

        return write_enhanced_ct(ct_of(), tmp_path / "enhanced.dcm", edit=edit)

    return plant


def _without(*keywords):
    def edit(index, ds):
        if index == 2:
            for keyword in keywords:
                delattr(ds, keyword)

    return _edited(edit=edit)


def _modality(tmp_path):
    return _edited(edit=lambda _, ds: setattr(ds, "Modality", "PT"))(tmp_path)


REFUSED = {
    "cut off in the pixels": (_truncate(0.6), FormatError, ["CT_0004.dcm", "Copy it again"]),
    "cut off in the header": (_truncate(0.25), FormatError, ["CT_0004.dcm", "Copy the file again"]),
    "cut off in the meta header": (_truncate(0.06), FormatError, ["CT_0004.dcm", "Copy the file again"]),
    "cut off to nothing": (_empty_dcm, FormatError, ["CT_0006.dcm", "0 bytes", "Copy the file again"]),
    "cut off RLE": (_truncate_compressed(uid.RLELossless), FormatError, ["CT_0004.dcm", "Copy it again"]),
    "cut off JPEG-LS": (_truncate_compressed(uid.JPEGLSLossless), FormatError, ["CT_0004.dcm", "Copy it again"]),
    "cut off JPEG 2000": (_truncate_compressed(uid.JPEG2000Lossless), FormatError, ["CT_0004.dcm", "Copy it again"]),
    "pixels absent": (_without("PixelData"), FormatError, ["CT_0003.dcm", "Copy it again"]),
    "two slices at one position": (_duplicate_position, GeometryError, ["duplicate", "CT_0002.dcm", "CT_0003.dcm", "Remove the copies"]),
    "one SOPInstanceUID, other pixels": (_duplicate_uid, GeometryError, ["duplicate", "CT_0003.dcm", "other.dcm", "Remove"]),
    "missing slice": (_missing(3), GeometryError, ["gap", "1 slice(s) missing", "-92.50 mm", "CT_0003.dcm", "CT_0005.dcm", "Copy the missing"]),
    "two missing slices": (_missing(1, 2), GeometryError, ["gap", "2 slice(s) missing", "-97.50 mm", "CT_0001.dcm", "CT_0004.dcm"]),
    "missing slice of three": (_missing(1, 4, 5), GeometryError, ["gap", "1 slice(s) missing", "-97.50 mm"]),
    "overlapping slices": (_extra_slice, GeometryError, ["overlapping", "extra_0001.dcm", "1.000 mm apart", "folder of their own"]),
    "irregular spacing": (
        _edited(edit=_setter(ImagePositionPatient=[*ORIGIN_MM[:2], -94.4])),
        GeometryError,
        ["evenly spaced", "CT_0003.dcm", "CT_0004.dcm", "resample"],
    ),
    "tilted gantry": (_tilted, GeometryError, ["tilt of 12.50 degrees", "dcm2niix"]),
    "slice shifted sideways": (_edited(edit=_setter(ImagePositionPatient=[-11.5, 8.25, -95.0])), GeometryError, ["straight line", "CT_0003.dcm", "1.00 mm"]),
    "mixed series": (_two_series, FormatError, ["1.2.3", "Lung 1.0", "1.2.4", "Soft", "6 slices", "series="]),
    "mixed orientation": (
        _edited(edit=_setter(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])),
        GeometryError,
        ["orientation", "CT_0001.dcm", "CT_0003.dcm", "folder of its own"],
    ),
    "mixed pixel spacing": (_edited(edit=_setter(PixelSpacing=[0.8, 0.8])), GeometryError, ["pixel spacing", "CT_0003.dcm", "folder of its own"]),
    "mixed size": (
        _edited(edit=_setter(Rows=SHAPE[2], Columns=SHAPE[1])),
        GeometryError,
        ["rows and columns", "34 x 36", "36 x 34", "CT_0003.dcm", "folder of its own"],
    ),
    "mixed frames of reference": (_edited(edit=_setter(FrameOfReferenceUID="1.2.77")), GeometryError, ["FrameOfReferenceUID", "CT_0003.dcm"]),
    "orientation that is no rotation": (
        _edited(edit=_setter(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])),
        GeometryError,
        ["perpendicular unit vectors", "CT_0003.dcm", "Export"],
    ),
    "pixel spacing of zero": (_edited(edit=_setter(PixelSpacing=[0.0, 0.8])), GeometryError, ["PixelSpacing", "CT_0003.dcm", "Export"]),
    "position absent": (_without("ImagePositionPatient"), FormatError, ["ImagePositionPatient", "CT_0003.dcm"]),
    "rescale absent": (_without("RescaleSlope"), UnitError, ["RescaleSlope", "CT_0003.dcm", "read_volume"]),
    "rescale to another unit": (_edited(edit=_setter(RescaleType="MGML")), UnitError, ["MGML", "CT_0003.dcm", "read_volume"]),
    "rescale beyond int16": (_edited(edit=_setter(RescaleSlope=100.0)), UnitError, ["-32768 to 32767", "CT_0003.dcm", "read_volume"]),
    "colour pixels": (
        _edited(edit=_setter(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8, BitsStored=8, HighBit=7)),
        FormatError,
        ["CT_0003.dcm"],
    ),
    "empty folder": (_empty, FormatError, ["must hold DICOM files; got none", "Pass the folder"]),
    "path that does not exist": (_absent, FormatError, ["nowhere", "must exist", "Check the spelling"]),
    "text file": (_text_file, FormatError, ["notes.txt", "Convert it"]),
    "text file named .dcm": (_text_named_dcm, FormatError, ["notes.dcm", "without a DICOM header", "Copy the file again"]),
    "structure set": (_structure_set, FormatError, ["rs.dcm", "RTSTRUCT", "read_mask"]),
    "other modality": (_modality, FormatError, ["must be CT; got PT", "read_volume"]),
    "scouts alone": (_scouts_alone, FormatError, ["localizer", "Pass the folder"]),
    "enhanced, frames without groups": (_enhanced(frames=True), FormatError, ["enhanced.dcm", "5 for 6 frames", "Export"]),
    "enhanced, two frames at one place": (_enhanced(same_place=True), GeometryError, ["enhanced.dcm frame 1", "enhanced.dcm frame 2", "duplicate"]),
    "enhanced without rescale": (_enhanced(rescale=True), UnitError, ["enhanced.dcm", "RescaleSlope", "read_volume"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_series_is_refused_with_file_and_remedy(tmp_path, case):
    plant, error, words = REFUSED[case]
    path = plant(tmp_path)
    with warnings.catch_warnings():
        # pydicom also warns about some of the planted defects; here the error is what counts.
        warnings.simplefilter("ignore")
        with pytest.raises(error) as caught:
            read_ct(path)
    message = str(caught.value)
    assert type(caught.value) is error
    assert not [word for word in words if word not in message], message
    assert str(tmp_path) in message


def test_transfer_syntax_that_is_no_image_codec_is_refused(tmp_path):
    for file in _write(tmp_path):
        ds = pydicom.dcmread(file)
        ds.PixelData = encapsulate([ds.PixelData])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = uid.MPEG2MPML
        ds.save_as(file)
    with pytest.raises(FormatError, match=r"MPEG2.*CT_000\d\.dcm.*uncompressed"):
        read_ct(tmp_path)


def test_decoder_that_is_not_installed_is_named(tmp_path, monkeypatch):
    class Absent:
        is_available = False
        missing_dependencies = ("pyjpegls - requires pyjpegls>=1.2",)

    _write(tmp_path, transfer_syntax=uid.JPEGLSLossless)
    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda _: Absent)
    with pytest.raises(MissingDependency, match=r"JPEG-LS.*CT_000\d\.dcm.*pyjpegls>=1\.2"):
        read_ct(tmp_path)


@pytest.mark.parametrize(("wanted", "n_matches"), [("nothing like it", 0), ("1.2", 2)])
def test_series_that_matches_none_or_several_is_refused(tmp_path, wanted, n_matches):
    _two_series(tmp_path)
    with pytest.raises(FormatError, match=f"{n_matches} that match") as caught:
        read_ct(tmp_path, series=wanted)
    assert "Lung 1.0" in str(caught.value)


def test_padding_is_counted_whole_though_slices_are_converted_in_threads(tmp_path, monkeypatch):
    grid = Grid.from_spacing((12, 3, 3), (1.0, 1.0, 2.0))
    values = np.full(grid.shape, 40, dtype=np.int16)
    values[:, 0] = -2000

    def count_slowly(array, count=np.count_nonzero):
        time.sleep(0.01)  # lets the other threads in between reading the sum and writing it
        return count(array)

    write_ct_series(CTVolume(values, grid), tmp_path, intercept_hu=0.0, edit=lambda _, ds: ds.add_new("PixelPaddingValue", "SS", -2000))
    monkeypatch.setattr(np, "count_nonzero", count_slowly)
    with idx.use_settings(workers=6):
        assert "36 voxels" in read_ct(tmp_path).header["padding"]


def test_an_error_in_one_slice_stops_the_others(tmp_path):
    path = _truncate(0.6)(tmp_path)
    with idx.use_settings(workers=1), pytest.raises(FormatError, match="CT_0004"):
        read_ct(path)
