"""Small slides in every container that idx reads, made from one known picture."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import tifffile
from PIL import Image, ImageCms
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

WIDTH, HEIGHT, TILE = 333, 270, 64
APERIO = "Aperio Image Library v12\n333x270 [0,0 333x270] (64x64) {codec}|AppMag = 20|MPP = 0.5030|Filename = A12"


def picture(width: int = WIDTH, height: int = HEIGHT, *, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise, so that neither a shift nor a swap of channels goes unseen."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 / width, y * 255 / height, 127 + 100 * np.sin(x / 17) * np.cos(y / 23)], axis=-1)
    return np.clip(smooth + np.random.default_rng(seed).normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def halved(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Mean of factor x factor pixels; an incomplete border is cut off, as scanners do."""
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def write_tiff(path: Path, *, compression=None, levels=(1, 4), bigtiff=False, description=None, predictor=None, mpp=0.25, **options) -> np.ndarray:
    """Pyramid of tiled pages, the lower ones flagged as reduced."""
    pixels = picture()
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
        for factor in levels:
            tiff.write(
                halved(pixels, factor),
                tile=(TILE, TILE),
                photometric="rgb",
                compression=compression,
                predictor=predictor,
                subfiletype=int(factor > 1),
                description=description if factor == 1 else None,
                metadata=None,
                resolution=(1e4 / mpp / factor,) * 2 if mpp else None,
                resolutionunit="CENTIMETER" if mpp else None,
                **options,
            )
    return pixels


def write_ome(path: Path, *, unit="µm", size=0.25) -> np.ndarray:
    """OME-TIFF whose pyramid lies in SubIFDs."""
    pixels = picture()
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit, "PhysicalSizeY": size, "PhysicalSizeYUnit": unit}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(pixels, tile=(TILE, TILE), photometric="rgb", compression="deflate", subifds=2, metadata=metadata)
        for factor in (2, 4):
            tiff.write(halved(pixels, factor), tile=(TILE, TILE), photometric="rgb", compression="deflate", subfiletype=1)
    return pixels


def _frames(pixels: np.ndarray) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
    rows, columns = -(-pixels.shape[0] // TILE), -(-pixels.shape[1] // TILE)
    padded = np.zeros((rows * TILE, columns * TILE, 3), dtype=np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    corners = [(x * TILE, y * TILE) for y in range(rows) for x in range(columns)]
    return [padded[y : y + TILE, x : x + TILE] for x, y in corners], corners


def dicom_level(
    pixels: np.ndarray,
    *,
    mpp: float,
    series: str,
    sparse_without: tuple[int, ...] | None = None,
    jpeg: bool = False,
    jfif: bool = False,
    flavour: str = "VOLUME",
) -> Dataset:
    """One whole-slide instance; ``sparse_without`` drops frames and writes the others in reverse order with positions, ``jfif`` lies of its colours."""
    frames, corners = _frames(pixels)
    level = Dataset()
    level.file_meta = FileMetaDataset()
    level.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    level.file_meta.MediaStorageSOPClassUID = level.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    level.file_meta.MediaStorageSOPInstanceUID = level.SOPInstanceUID = generate_uid()
    level.SeriesInstanceUID, level.Modality = series, "SM"
    level.ImageType = ["ORIGINAL", "PRIMARY", flavour, "NONE"]
    level.SamplesPerPixel, level.PhotometricInterpretation, level.PlanarConfiguration = 3, "RGB", 0
    level.BitsAllocated, level.BitsStored, level.HighBit, level.PixelRepresentation = 8, 8, 7, 0
    level.Rows = level.Columns = TILE
    level.TotalPixelMatrixRows, level.TotalPixelMatrixColumns = pixels.shape[:2]
    measures = Dataset()
    measures.PixelSpacing = [mpp / 1e3, mpp / 1e3]
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    level.SharedFunctionalGroupsSequence = [shared]
    level.DimensionOrganizationType = "TILED_FULL"
    if sparse_without is not None:
        kept = [number for number in reversed(range(len(frames))) if number not in sparse_without]
        level.DimensionOrganizationType = "TILED_SPARSE"
        level.PerFrameFunctionalGroupsSequence = [_position(*corners[number]) for number in kept]
        frames = [frames[number] for number in kept]
    level.NumberOfFrames = len(frames)
    level.PixelData = encapsulate([_jpeg(frame, rgb=not jfif) for frame in frames]) if jpeg else b"".join(frame.tobytes() for frame in frames)
    if len(level.PixelData) % 2:
        level.PixelData += b"\0"
    level["PixelData"].VR = "OB"
    return level


def _position(x: int, y: int) -> Dataset:
    position = Dataset()
    position.ColumnPositionInTotalImagePixelMatrix, position.RowPositionInTotalImagePixelMatrix = x + 1, y + 1
    frame = Dataset()
    frame.PlanePositionSlideSequence = [position]
    return frame


def _jpeg(frame: np.ndarray, *, rgb: bool = True) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95, subsampling=0, keep_rgb=rgb)
    return buffer.getvalue()


def save_dicom(level: Dataset, path: Path) -> Path:
    pydicom.dcmwrite(path, level, enforce_file_format=True)
    return path


def write_dicom(folder: Path, *, series: str = "1.2.3.4", **options) -> np.ndarray:
    """Two levels, a label and a thumbnail."""
    folder.mkdir(exist_ok=True)
    pixels = picture()
    for factor in (1, 4):
        without = options.get("sparse_without") if factor == 1 else None
        level = dicom_level(halved(pixels, factor), mpp=0.25 * factor, series=series, jpeg=options.get("jpeg", False), sparse_without=without)
        save_dicom(level, folder / f"{series}_{factor}.dcm")
    for flavour in ("LABEL", "THUMBNAIL"):
        save_dicom(dicom_level(picture(50, 40), mpp=9.0, series=series, flavour=flavour), folder / f"{series}_{flavour}.dcm")
    return pixels


@cache
def srgb_profile() -> bytes:
    """Made once: the profile states the second in which it was made."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
