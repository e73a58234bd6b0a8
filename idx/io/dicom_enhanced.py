"""Enhanced multi-frame images: each frame's place and rescale from the shared and per-frame functional groups."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset

from idx.errors import FormatError
from idx.io.dicom_headers import SliceHeader, slice_header

_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence")


def frame_headers(ds: Dataset, file: Path) -> list[SliceHeader]:
    """Headers of all frames of one multi-frame file, in the order of its frames.

    Raises
    ------
    FormatError
        If the number of functional groups is not the number of frames, or a frame lacks its place.
    """
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    per_frame = ds.PerFrameFunctionalGroupsSequence
    n_frames = int(ds.get("NumberOfFrames") or 1)
    if len(per_frame) != n_frames:
        raise FormatError(
            f"enhanced DICOM must have one functional group a frame; got {len(per_frame)} for {n_frames} frames ('{file}'). "
            "Export the series again from its source."
        )
    return [slice_header(ds, file, _sources(groups, shared), frame=index) for index, groups in enumerate(per_frame)]


def _sources(groups: Dataset, shared: Dataset) -> list[Dataset]:
    """Items of the functional groups of one frame; what stands in the frame comes before what is shared."""
    return [item for owner in (groups, shared) for name in _GROUPS for item in (owner.get(name) or ())]
