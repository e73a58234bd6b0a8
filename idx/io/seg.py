"""Masks from DICOM Segmentation objects: binary, fractional and label maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import pixel_array

from idx._typing import BoolArray, FloatArray
from idx.errors import FormatError, GeometryError, PixelAccessError
from idx.geometry import Grid
from idx.io.axes import to_patient_axes
from idx.io.labels import Structure, choose_structure, require_same_frame
from idx.io.resampling import SPARSE_SLICES, index_offset, nearest_mask
from idx.provenance import Source
from idx.volume import Mask, Volume

FRACTION_INSIDE = 0.5
"""A voxel of a fractional segment is inside from this fraction (or probability) on."""
UNIFORM_SPACING_RTOL = 0.01
"""Frame positions must be whole multiples of their spacing to 1 % of it before they can be resampled."""


@dataclass(frozen=True, eq=False)
class _Frames:
    """The frames of one segment: pixels (n, y, x), the affine (4, 4) that takes index (x, y, 0) of each to mm, and what is stated of their depth."""

    values: BoolArray
    affines: tuple[FloatArray, ...]
    spacing_mm: float
    """SpacingBetweenSlices; 0 where it is not stated."""
    thickness_mm: float
    """SliceThickness; 0 where it is not stated."""


def read_seg(dataset: Dataset, path: Path, *, like: Volume, label: str | int | None = None, resample: bool = False) -> Mask:
    """Read one segment of a DICOM SEG on an image's grid.

    Parameters
    ----------
    dataset : pydicom Dataset
        SOP class Segmentation Storage or Label Map Segmentation Storage.
    path : Path
        File it came from, for messages and the mask's source.
    like : Volume
        Image whose grid the mask gets.
    label : str, int or None
        Segment Label or Segment Number; may be None where the file has one segment.
    resample : bool
        Whether frames on another grid may be resampled (nearest neighbour).

    Returns
    -------
    Mask
        bool (z, y, x) on ``like.grid``; planes without a frame are empty.

    Raises
    ------
    GeometryError
        If the frame of reference is another, the frames do not lie on the grid (see ``idx.io.resampling.SAME_VOXEL_TOLERANCE``) or on every slice
        of it, as those of a coarser image, and ``resample`` is False, or nothing is inside.
    FormatError
        If the label does not name one segment or a frame has no position.
    PixelAccessError
        If the pixels cannot be decoded.
    """
    segments = [Structure(int(s.SegmentNumber), str(s.get("SegmentLabel", s.SegmentNumber))) for s in dataset.get("SegmentSequence", [])]
    is_labelmap = str(dataset.get("SegmentationType", "")) == "LABELMAP"
    if is_labelmap:
        segments = [s for s in segments if s.number != 0]
    chosen = choose_structure(segments, label, path=str(path))
    require_same_frame(str(dataset.get("FrameOfReferenceUID", "")), like, path=str(path))
    frames = _segment_frames(dataset, chosen, path, is_labelmap=is_labelmap)
    values = _place(frames, like.grid, path)
    if values is None:
        if not resample:
            raise GeometryError(
                f"segment must lie on the image's grid {like.grid!r}; got frames of {frames.values.shape[1:]} (y, x) voxels elsewhere, {chosen} ('{path}'). "
                "Pass the image that it was drawn on as like=, or resample=True for the nearest voxels."
            )
        values = nearest_mask(*_stack(frames, path), like.grid)
    ids = {"label": chosen.name, "segment_number": str(chosen.number), "sop_instance_uid": str(dataset.get("SOPInstanceUID", ""))}
    return Mask(values, like.grid, chosen.name, Source(str(path), "seg", ids=ids)).require_voxels()


def _segment_frames(dataset: Dataset, chosen: Structure, path: Path, *, is_labelmap: bool) -> _Frames:
    try:
        pixels = pixel_array(dataset)
    except (AttributeError, ValueError, RuntimeError, InvalidDicomError) as error:
        raise PixelAccessError(f"segment pixels must be decodable; got: {error} ('{path}'). The file is damaged or truncated: fetch it again.") from error
    pixels = pixels.reshape(-1, int(dataset.Rows), int(dataset.Columns))
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence", []))
    if len(groups) != len(pixels):
        raise FormatError(f"each frame must have its functional groups; got {len(groups)} for {len(pixels)} frames ('{path}'). Export the SEG again.")
    shared = dataset.SharedFunctionalGroupsSequence[0] if dataset.get("SharedFunctionalGroupsSequence") else Dataset()
    wanted = list(range(len(pixels))) if is_labelmap else [i for i, g in enumerate(groups) if _segment_number(g, shared) == chosen.number]
    if not wanted:
        raise GeometryError(f"segment must have at least one frame; got none for {chosen} ('{path}'). Check that the label names the lesion.")
    if is_labelmap:
        values = pixels[wanted] == chosen.number
    elif str(dataset.SegmentationType) == "FRACTIONAL":
        values = pixels[wanted] >= FRACTION_INSIDE * float(dataset.get("MaximumFractionalValue", 255))
    else:
        values = pixels[wanted] != 0
    measures = _macro("PixelMeasuresSequence", groups[wanted[0]], shared, path)
    stated = (float(measures.get(name) or 0.0) for name in ("SpacingBetweenSlices", "SliceThickness"))
    return _Frames(values, tuple(_frame_affine(groups[i], shared, path) for i in wanted), *stated)


def _segment_number(group: Dataset, shared: Dataset) -> int | None:
    items = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
    return int(items[0].ReferencedSegmentNumber) if items else None


def _macro(name: str, group: Dataset, shared: Dataset, path: Path) -> Dataset:
    """Functional group of a frame, from the frame itself or shared by all."""
    items = group.get(name) or shared.get(name)
    if not items:
        raise FormatError(f"each frame must have a {name}; got none ('{path}'). Export the SEG again with its plane positions.")
    return items[0]


def _frame_affine(group: Dataset, shared: Dataset, path: Path) -> FloatArray:
    """Affine (4, 4) from index (x, y, 0) of a frame to mm; its third column is the unit normal."""
    orientation = _macro("PlaneOrientationSequence", group, shared, path)
    along_x, along_y = np.reshape(np.asarray(orientation.ImageOrientationPatient, dtype=np.float64), (2, 3))
    row_mm, column_mm = (float(v) for v in _macro("PixelMeasuresSequence", group, shared, path).PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_x * column_mm, along_y * row_mm
    affine[:3, 2] = np.cross(along_x, along_y)
    affine[:3, 3] = np.asarray(_macro("PlanePositionSequence", group, shared, path).ImagePositionPatient, dtype=np.float64)
    return affine


def _is_sparse(frames: _Frames, grid: Grid) -> bool:
    """Whether the frames were drawn on a coarser image: each meets a slice of the grid, and the slices between would stay empty."""
    normal = frames.affines[0][:3, 2]
    slice_mm = float(np.abs(normal @ grid.affine[:3, :3]).max())
    planes = _planes_mm(frames, normal)
    if len(planes) > 1 and float(np.diff(planes).min()) < SPARSE_SLICES * slice_mm:
        return False
    return frames.spacing_mm >= SPARSE_SLICES * slice_mm if frames.spacing_mm else len(planes) > 2


def _planes_mm(frames: _Frames, normal: FloatArray) -> FloatArray:
    """Different positions of frames along their normal, ascending, to a micrometre."""
    return np.unique(np.round([normal @ affine[:3, 3] for affine in frames.affines], 3))


def _place(frames: _Frames, grid: Grid, path: Path) -> BoolArray | None:
    """Copy frames whose voxels are voxels of the grid into it; None where one is not. Frames may be smaller than the grid's slices."""
    if _is_sparse(frames, grid):
        return None
    values = np.zeros(grid.shape, dtype=bool)
    for pixels, affine in zip(frames.values, frames.affines, strict=True):
        if not pixels.any():
            continue
        # Turned as the image reader turns slices, so that a frame of a prone patient meets the grid of its image.
        block, block_grid = to_patient_axes(pixels[None], affine, where=str(path))
        offset = index_offset(block_grid, grid)
        if offset is None or min(offset) < 0 or any(o + n > size for o, n, size in zip(offset, block.shape, grid.shape, strict=True)):
            return None
        z, y, x = (slice(o, o + n) for o, n in zip(offset, block.shape, strict=True))
        values[z, y, x] |= block
    return values


def _plane_spacing_mm(planes: FloatArray, frames: _Frames, path: Path) -> float:
    """Distance of neighbouring planes: as stated where the frames stand on such a grid (empty planes are often not stored), else the least seen."""
    if len(planes) == 1:
        spacing = frames.spacing_mm or frames.thickness_mm
        if not spacing:
            raise GeometryError(
                f"a segment of one plane must state its thickness to be resampled; got neither SpacingBetweenSlices nor SliceThickness ('{path}'). "
                "Pass the image that it was drawn on as like=."
            )
        return spacing
    least = float(np.diff(planes).min())
    # SliceThickness is no spacing: reconstructions overlap or leave gaps.
    n_steps = round(least / frames.spacing_mm) if frames.spacing_mm else 0
    return frames.spacing_mm if n_steps and abs(least - n_steps * frames.spacing_mm) <= UNIFORM_SPACING_RTOL * frames.spacing_mm else least


def _stack(frames: _Frames, path: Path) -> tuple[BoolArray, Grid]:
    """Sort frames along their normal into a volume with empty planes where frames are missing."""
    first = frames.affines[0]
    normal = first[:3, 2]
    if any(not np.allclose(a[:3, :2], first[:3, :2], atol=1e-4) for a in frames.affines):
        raise GeometryError(f"frames must be parallel and of one pixel size; got several orientations ('{path}'). Split the SEG by orientation.")
    depth = np.array([normal @ a[:3, 3] for a in frames.affines])
    planes = _planes_mm(frames, normal)
    spacing = _plane_spacing_mm(planes, frames, path)
    number = (depth - depth.min()) / spacing
    if np.abs(number - np.round(number)).max() > UNIFORM_SPACING_RTOL * max(1.0, float(number.max())):
        raise GeometryError(f"frames must be evenly spaced; got positions {planes.tolist()} mm ('{path}'). Export the SEG on one regular grid.")
    index = np.round(number).astype(np.int64)
    values = np.zeros((int(index.max()) + 1, *frames.values.shape[1:]), dtype=bool)
    for z, pixels in zip(index, frames.values, strict=True):
        values[z] |= pixels
    affine = np.array(frames.affines[int(np.argmin(depth))])
    affine[:3, 2] = normal * spacing
    return values, Grid(values.shape, affine)
