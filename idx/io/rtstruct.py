"""Masks from DICOM RT Structure Sets: planar contours rasterised on an image's grid."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from idx._typing import BoolArray, FloatArray
from idx.errors import FormatError, GeometryError
from idx.geometry import Grid
from idx.io.labels import Structure, choose_structure, require_same_frame
from idx.io.resampling import SPARSE_SLICES
from idx.provenance import Source
from idx.volume import Mask, Volume

AREA_TYPES = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contour Geometric Types (3006,0042) that enclose an area."""
PLANE_SPREAD_SLICES = 0.1
"""A contour lies in one slice plane when its vertices differ by no more than this many slices along the slice axis."""
SAME_PLANE_SLICES = 0.05
"""Contours whose mean positions along the slice axis differ by no more than this many slices were drawn in one plane: vertices are rounded, and
planes of a slightly tilted drawing have a mean that depends on where the contour lies."""
INDEX_DECIMALS = 8
"""Vertices are rounded to 1e-8 voxels: a vertex drawn on a pixel centre stays there, whatever the last bits of the affine. At 1e-5 a voxel of the
IBSI 1 phantom that lies 5e-6 voxels inside is lost."""
BORDER_VOXELS = 0.501
"""A contour may reach to the outer edge of the border voxels, and a thousandth of a voxel more for rounded headers."""


def read_rtstruct(dataset: Dataset, path: Path, *, like: Volume, label: str | int | None = None, resample: bool = False) -> Mask:
    """Rasterise one structure of an RTSTRUCT on an image's grid.

    A voxel belongs to the structure when its centre lies inside an odd number of the contours of its slice (even-odd rule): holes, keyholes and
    several parts need no special case. A centre exactly on an edge belongs to the structure on the low x or low y side only (half-open), so that
    neighbouring structures never share it. Contours are brought to index coordinates by the grid's inverse affine: oblique and tilted
    grids are no special case either.

    Parameters
    ----------
    dataset : pydicom Dataset
    path : Path
        File it came from, for messages and the mask's source.
    like : Volume
        Image whose grid the mask gets.
    label : str, int or None
        ROI Name or ROI Number; may be None where the file has one structure.
    resample : bool
        Whether to accept contours that were not drawn on this grid: planes further apart than the slices then fill the slices nearest to them,
        and what reaches over the image's border is cut off.

    Returns
    -------
    Mask
        bool (z, y, x) on ``like.grid``.

    Raises
    ------
    GeometryError
        If the frame of reference is another, a contour is off the grid or not parallel to its slices, the planes are sparse, or nothing is inside.
    FormatError
        If the label does not name one structure.

    Notes
    -----
    A plane between two slices goes to the nearest slice (exactly between: the higher index). Of several planes that are nearest to one slice, the
    closest to it is used alone, because the voxel centres lie in that plane. Contours that are given twice count once. Contours that enclose no
    area (POINT, OPEN_PLANAR, OPEN_NONPLANAR) are left out with a warning that counts them.
    """
    rois = {int(roi.ROINumber): roi for roi in dataset.get("StructureSetROISequence", [])}
    chosen = choose_structure([Structure(number, str(roi.get("ROIName", number))) for number, roi in rois.items()], label, path=str(path))
    require_same_frame(str(rois[chosen.number].get("ReferencedFrameOfReferenceUID", "")), like, path=str(path))
    contours = _closed_contours(dataset, chosen, path)
    planes = _planes([like.grid.to_index(c) for c in contours], chosen, path)
    if not resample:
        _check_sampling(planes, like.grid, chosen, path)
    values = np.zeros(like.grid.shape, dtype=bool)
    for z, position in _assign_slices(sorted(planes), like.grid.shape[0], fill_between=resample).items():
        values[z] = fill_even_odd(planes[position], like.grid.shape[1:])
    ids = {"label": chosen.name, "roi_number": str(chosen.number), "sop_instance_uid": str(dataset.get("SOPInstanceUID", ""))}
    return Mask(values, like.grid, chosen.name, Source(str(path), "rtstruct", ids=ids)).require_voxels()


def _closed_contours(dataset: Dataset, chosen: Structure, path: Path) -> list[FloatArray]:
    """Vertices (n, 3) in mm of every contour that encloses an area."""
    items = [c for roi in dataset.get("ROIContourSequence", []) if int(roi.ReferencedROINumber) == chosen.number for c in roi.get("ContourSequence", [])]
    kinds: Counter[str] = Counter()
    contours = []
    for item in items:
        kind = str(item.get("ContourGeometricType", ""))
        numbers = np.asarray(item.get("ContourData", []), dtype=np.float64)
        if numbers.size % 3:
            raise FormatError(
                f"contour data must be triples (x, y, z); got {numbers.size} numbers in {chosen} ('{path}'). The file is damaged: export it again."
            )
        if kind in AREA_TYPES and numbers.size >= 9:
            contours.append(numbers.reshape(-1, 3))
        else:
            kinds[kind or "untyped"] += 1
    if kinds:
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        warnings.warn(f"contours without an area were left out of {chosen}: {counts} ('{path}')", stacklevel=4)
    if not contours:
        raise GeometryError(
            f"structure must have at least one closed contour; got none in {chosen} ('{path}'). "
            "Check that the label names the lesion, or draw and export it again."
        )
    return contours


def _planes(contours: Sequence[FloatArray], chosen: Structure, path: Path) -> dict[float, list[FloatArray]]:
    """Group contours, given as indices (n, 3) (z, y, x), by their position along the slice axis; each holds (n, 2) (x, y) indices."""
    outlines: list[tuple[float, FloatArray]] = []
    for contour in contours:
        index = np.round(contour, INDEX_DECIMALS)
        spread = float(np.ptp(index[:, 0]))
        if spread > PLANE_SPREAD_SLICES:
            raise GeometryError(
                f"contours must lie in the image's slice planes; got one that crosses {spread:.2f} slices in {chosen} ('{path}'). "
                "Read it with the image that it was drawn on as like=, or export it as DICOM SEG or NIfTI."
            )
        outlines.append((float(index[:, 0].mean()), index[:, :0:-1]))
    planes: dict[float, list[FloatArray]] = {}
    first = -np.inf
    for position, outline in sorted(outlines, key=lambda pair: pair[0]):
        # Not by rounded positions, which would part contours of one plane that lie on both sides of a rounding step, and lose one of them.
        if position - first > SAME_PLANE_SLICES:
            first = position
        known = planes.setdefault(round(first, 2), [])
        if not any(np.array_equal(outline, other) for other in known):
            known.append(outline)
    return planes


def _check_sampling(planes: dict[float, list[FloatArray]], grid: Grid, chosen: Structure, path: Path) -> None:
    low, high = -BORDER_VOXELS, np.array(grid.shape[::-1]) - 1 + BORDER_VOXELS
    for z, outlines in planes.items():
        vertices = np.concatenate(outlines)
        corners = np.array([[*vertices.min(axis=0), z], [*vertices.max(axis=0), z]])
        if (corners[0] < low).any() or (corners[1] > high).any():
            reach = f"{corners[0].round(1).tolist()} to {corners[1].round(1).tolist()} for {grid.shape[::-1]} voxels (x, y, z)"
            raise GeometryError(
                f"contours must lie inside the image; got a contour of {chosen} at voxels {reach} ('{path}'). "
                "Check that it is not a mask of another patient or scan; if the image is cropped, pass resample=True to cut the mask at its border."
            )
    gaps = np.diff(sorted(planes))
    if len(gaps) >= 2 and gaps.min() >= SPARSE_SLICES:
        raise GeometryError(
            f"contours must lie on every slice; got planes {np.median(gaps):.3g} slices apart in {chosen} ('{path}'). "
            "They were drawn on a coarser image: pass that image as like=, or resample=True to let each plane fill the slices nearest to it."
        )


def _assign_slices(positions: Sequence[float], n_slices: int, *, fill_between: bool) -> dict[int, float]:
    """Plane position for each slice that has one: the closest of the planes within half a slice, or half a plane spacing if that is more."""
    planes = np.asarray(positions)
    spacing = float(np.median(np.diff(planes))) if fill_between and len(planes) > 1 else 1.0
    reach = max(1.0, spacing) / 2.0
    assigned = {}
    for z in range(n_slices):
        distance = planes - z
        # Half-open: a plane exactly between two slices goes to the higher one only.
        near = planes[(distance >= -reach) & (distance < reach)]
        if len(near):
            assigned[z] = float(near[np.argmin(np.abs(near - z))])
    return assigned


def fill_even_odd(outlines: Sequence[FloatArray], shape: tuple[int, int]) -> BoolArray:
    """Pixels (y, x) whose centre is inside an odd number of outlines.

    Parameters
    ----------
    outlines : sequence of array (n, 2)
        Vertices (x, y) in pixels, an integer being a pixel centre; the last joins the first.
    shape : tuple of int
        (y, x); what lies outside is cut off.

    Notes
    -----
    Each edge toggles, in every row that it crosses, all pixels from its crossing on; the parity of toggles is the even-odd rule. Edges are walked
    from low to high y, so that the two sides of a keyhole's channel cross at identical positions and cancel.
    """
    rows, columns = shape
    toggles = np.zeros((rows, columns + 1), dtype=np.int32)
    for outline in outlines:
        start, end = outline, np.roll(outline, -1, axis=0)
        swap = start[:, 1] > end[:, 1]
        low, high = np.where(swap[:, None], end, start), np.where(swap[:, None], start, end)
        first = np.clip(np.ceil(low[:, 1]), 0, rows).astype(np.int64)
        last = np.clip(np.ceil(high[:, 1]), 0, rows).astype(np.int64)
        edge = np.repeat(np.arange(len(outline)), last - first)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - (last - first), last - first) + first[edge]
        slope = (row - low[edge, 1]) / (high[edge, 1] - low[edge, 1])
        crossing = low[edge, 0] + slope * (high[edge, 0] - low[edge, 0])
        column = np.clip(np.ceil(crossing), 0, columns).astype(np.int64)
        np.add.at(toggles, (row, column), 1)
    inside: BoolArray = (np.cumsum(toggles, axis=1)[:, :columns] & 1).astype(bool)
    return inside
