"""DICOM slides: what the class demands, offset tables, and what pydicom makes of them. Pixels are compared in tests/tiling/test_converting*.py."""

import numpy as np
import pydicom
import pytest
import slide_files as make
from pydicom.encaps import generate_frames, parse_basic_offsets
from written_slides import to_write

from idx.errors import FormatError
from idx.io import slides_writing_dicom
from idx.io.slides import open_slide
from idx.io.slides_writing import LossyCompression, tile_encoder
from idx.io.slides_writing_dicom import write_dicom

SIZES = ((150, 100), (75, 50))
FACTS = {"sizes_px": SIZES, "mpp": (0.25, 0.5), "offset_um": (10.0, 20.0), "source_size_um": (1000.0, 500.0), "magnification": 20.0}


def tiles(slide):
    rng = np.random.default_rng(0)
    encode = tile_encoder(slide)
    return [(level, encode(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))) for level in (0, 1) for _ in range(slide.n_tiles(level))]


def written(folder, **options):
    slide = to_write(**{**FACTS, **options})
    blocks = tiles(slide)
    write_dicom(folder, slide, blocks)
    return [pydicom.dcmread(folder / f"level-{level}.dcm") for level in (0, 1)], blocks


def test_levels_are_instances_of_one_slide(tmp_path):
    (fine, coarse), _ = written(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PyramidUID", "ContainerIdentifier", "AcquisitionDateTime"):
        assert fine[name].value == coarse[name].value
    assert fine.SOPInstanceUID != coarse.SOPInstanceUID
    assert fine.SOPInstanceUID == fine.file_meta.MediaStorageSOPInstanceUID
    assert [level.InstanceNumber for level in (fine, coarse)] == [1, 2]
    assert [list(level.ImageType) for level in (fine, coarse)] == [["DERIVED", "PRIMARY", "VOLUME", "NONE"], ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]]
    assert [level.NumberOfFrames for level in (fine, coarse)] == [6, 2]
    assert {level.DimensionOrganizationType for level in (fine, coarse)} == {"TILED_FULL"}


def test_spacing_is_that_of_each_level_and_in_the_order_of_dicom(tmp_path):
    levels, _ = written(tmp_path)
    for level, factor in zip(levels, (1, 2), strict=True):
        # Distance between rows first, then between columns.
        assert list(level.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing) == [0.0005 * factor, 0.00025 * factor]
        assert (level.ImagedVolumeWidth, level.ImagedVolumeHeight) == pytest.approx((150 * 0.25e-3, 100 * 0.5e-3))
        assert (level.TotalPixelMatrixColumns, level.TotalPixelMatrixRows) == SIZES[factor - 1]


def test_pixels_of_all_levels_lie_in_one_place_on_the_glass(tmp_path):
    """Centre of pixel (i, j) by the standard's formula; the lattice of a coarser level is that of the finest one."""
    levels, _ = written(tmp_path)

    def place_mm(level, i, j):
        origin = level.TotalPixelMatrixOriginSequence[0]
        rows, columns = np.array(level.ImageOrientationSlide[:3], float), np.array(level.ImageOrientationSlide[3:], float)
        down, right = (float(v) for v in level.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing)
        first = np.array([origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem, 0], float)
        return first + rows * right * i + columns * down * j

    np.testing.assert_allclose(place_mm(levels[1], 3, 5), (place_mm(levels[0], 6, 10) + place_mm(levels[0], 7, 11)) / 2, atol=1e-9)
    # The upper left corner of the region, 10 and 20 um from that of the slide, whose lower right corner is the origin of the glass.
    corner = place_mm(levels[0], -0.5, -0.5)
    np.testing.assert_allclose(corner, [0.480, 0.990, 0.0], atol=1e-9)
    # Not mirrored: seen from above, with z towards the eye, right and down span a plane that looks away.
    assert place_mm(levels[0], 1, 0)[1] < place_mm(levels[0], 0, 0)[1]
    assert place_mm(levels[0], 0, 1)[0] < place_mm(levels[0], 0, 0)[0]


@pytest.mark.parametrize("has_basic", [True, False])
def test_offset_tables_lead_to_each_frame(tmp_path, monkeypatch, has_basic):
    if not has_basic:
        monkeypatch.setattr(slides_writing_dicom, "_MOST_BASIC_BYTES", 0)
    (fine, _), blocks = written(tmp_path, compression="jpeg2000", quality=100)
    assert any(len(block) % 2 for _, block in blocks)  # padding is part of the question
    padded = [block + b"\0" * (len(block) % 2) for level, block in blocks if level == 0]
    basic = parse_basic_offsets(fine.PixelData)
    assert len(basic) == (6 if has_basic else 0)
    extended = None if has_basic else (fine.ExtendedOffsetTable, fine.ExtendedOffsetTableLengths)
    assert list(generate_frames(fine.PixelData, number_of_frames=6, extended_offsets=extended)) == padded
    offsets = basic if has_basic else np.frombuffer(fine.ExtendedOffsetTable, "<u8").tolist()
    assert offsets == np.cumsum([0, *(len(block) + 8 for block in padded[:-1])]).tolist()
    assert open_slide(tmp_path).levels[0].width_px == 150


@pytest.mark.parametrize(
    ("options", "syntax", "photometric", "is_exact"),
    [
        ({"compression": "none"}, "1.2.840.10008.1.2.1", "RGB", True),
        ({"compression": "jpeg2000", "quality": 100}, "1.2.840.10008.1.2.4.90", "YBR_RCT", True),
        ({"compression": "jpeg2000", "quality": 98}, "1.2.840.10008.1.2.4.91", "YBR_ICT", False),
        ({"compression": "jpeg", "quality": 100}, "1.2.840.10008.1.2.4.50", "YBR_FULL_422", False),
    ],
)
def test_pydicom_decodes_the_frames(tmp_path, options, syntax, photometric, is_exact):
    rng = np.random.default_rng(0)
    slide = to_write(**FACTS, **options)
    pixels = [np.repeat(np.repeat(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), 4, axis=0), 4, axis=1) for _ in range(8)]
    encode = tile_encoder(slide)
    write_dicom(tmp_path, slide, [(0, encode(p)) for p in pixels[:6]] + [(1, encode(p)) for p in pixels[6:]])
    fine = pydicom.dcmread(tmp_path / "level-0.dcm")
    assert (fine.file_meta.TransferSyntaxUID, fine.PhotometricInterpretation) == (syntax, photometric)
    difference = np.abs(fine.pixel_array.astype(int) - np.stack(pixels[:6]))
    assert difference.max() <= (0 if is_exact else 12)
    assert fine.LossyImageCompression == ("00" if is_exact else "01")


def test_loss_is_stated_for_good_with_the_ratio_that_was_reached(tmp_path):
    (fine, _), blocks = written(tmp_path, before=LossyCompression("ISO_10918_1", 15.25))
    assert fine.LossyImageCompression == "01"
    assert list(fine.LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_10918_1"]
    reached = 6 * 64 * 64 * 3 / sum(len(block) + len(block) % 2 for level, block in blocks if level == 0)
    assert [float(ratio) for ratio in fine.LossyImageCompressionRatio] == pytest.approx([15.25, reached], abs=0.006)
    (tmp_path / "again").mkdir()
    (lossless, _), _ = written(tmp_path / "again", compression="none", before=LossyCompression("ISO_10918_1", 15.25))
    assert (lossless.LossyImageCompression, lossless.LossyImageCompressionMethod) == ("01", "ISO_10918_1")


def test_colours_are_srgb_unless_the_source_says_otherwise(tmp_path):
    profile = make.srgb_profile() + b"\0\0"
    (plain, _), _ = written(tmp_path)
    (tmp_path / "own").mkdir()
    (own, _), _ = written(tmp_path / "own", icc_profile=profile)
    assert b"sRGB" in plain.OpticalPathSequence[0].ICCProfile or plain.OpticalPathSequence[0].ColorSpace == "SRGB"
    assert own.OpticalPathSequence[0].ICCProfile == profile
    assert "ColorSpace" not in own.OpticalPathSequence[0]
    assert own.OpticalPathSequence[0].ObjectiveLensPower == 20


def test_nobody_is_named_and_no_identifier_is_used_twice(tmp_path):
    (one, _), _ = written(tmp_path)
    (tmp_path / "again").mkdir()
    (two, _), _ = written(tmp_path / "again")
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate", "ReferringPhysicianName"):
        assert not one[name].value
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "ContainerIdentifier", "FrameOfReferenceUID"):
        assert one[name].value != two[name].value
    assert one.SpecimenDescriptionSequence[0].SpecimenUID != two.SpecimenDescriptionSequence[0].SpecimenUID


def test_what_dicom_cannot_hold_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(FormatError, match="'jpeg2000' with quality=100"):
        write_dicom(tmp_path, to_write(compression="deflate"), [])
    with pytest.raises(FormatError, match=r"at most 4 GiB; got 28 GiB"):
        write_dicom(tmp_path, to_write(sizes_px=((100_000, 100_000),), compression="none"), [])
    assert not list(tmp_path.iterdir())
