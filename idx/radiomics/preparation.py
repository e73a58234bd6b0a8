"""From an image and a mask to the region that is measured: cropping, resampling, re-segmentation, grey levels (IBSI 1, chapter 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from idx._typing import BoolArray, FloatArray, IntArray, Triple
from idx.errors import GeometryError, UnitError
from idx.geometry.grids import Grid
from idx.kernels.discretise import fixed_bin_number, fixed_bin_size
from idx.kernels.resample import centred_positions, interpolate_cubic, interpolate_linear, interpolate_nearest
from idx.radiomics.settings import MAX_LEVELS, RadiomicsSettings
from idx.volume import Mask, Volume, require_same_grid

MASK_THRESHOLD = 0.5 - 1e-9
"""An interpolated voxel is inside from a half on; rounding in the interpolation must not decide an exact half."""
TIE_DIGITS = 6
"""Digits of an interpolated HU that are trusted: a spacing of 2.9999999999998 mm in a header must not decide which way 40.5 HU is rounded."""
MAX_INTENSITY = 1e60
"""Fourth powers of larger intensities, summed over a lesion, leave float64."""
ORTHOGONAL_TOLERANCE = 1e-4
"""Largest cosine between two image axes that still counts as a right angle (0.006 degrees)."""
_INTERPOLATORS = {"linear": interpolate_linear, "cubic": interpolate_cubic, "nearest": interpolate_nearest}

Margin = tuple[int, int, int] | None
"""Voxels (z, y, x) around the lesion that a step needs; None for the whole image."""


@dataclass(frozen=True, eq=False)
class Region:
    """A lesion ready to be measured.

    Parameters
    ----------
    values : array (z, y, x)
        Intensities of the box around the lesion, float64.
    mask : array (z, y, x)
        The lesion's shape (IBSI: morphological mask).
    intensity_mask : array (z, y, x)
        The voxels whose intensities count, after re-segmentation (IBSI: intensity mask).
    grid : Grid
        Where the box lies.
    quantity : str
        What the values are ("hu" on CT).
    around : array (z, y, x)
        Intensities of the box and its surroundings.
    inner : tuple of slice
        Where the box lies in ``around``.
    """

    values: FloatArray
    mask: BoolArray
    intensity_mask: BoolArray
    grid: Grid
    quantity: str
    around: FloatArray
    inner: tuple[slice, slice, slice]

    @property
    def spacing_mm(self) -> Triple:
        """Voxel spacing (x, y, z) in mm."""
        return self.grid.spacing_mm

    @cached_property
    def intensities(self) -> FloatArray:
        """Intensities that count, (n,)."""
        return self.values[self.intensity_mask]

    def with_response(self, response: FloatArray) -> Region:
        """Return the region on the response of a filter to ``around``; the masks stay those of the image."""
        return replace(self, values=np.ascontiguousarray(response[self.inner]), around=response, quantity="response")


def prepare(image: Volume, lesion: Mask, settings: RadiomicsSettings, *, margin_mm: float = 0.0, margin: Margin = (0, 0, 0)) -> Region:
    """Crop, resample and re-segment a lesion in the order of IBSI 1.

    Parameters
    ----------
    image : Volume
        CT or another image, (z, y, x).
    lesion : Mask
        On the image's grid.
    settings : RadiomicsSettings
    margin_mm : float
        How far around the lesion intensities are needed, in mm.
    margin : tuple of int or None
        The same in voxels (z, y, x) of the prepared image; None for the whole image.

    Returns
    -------
    Region
        Equal to what the whole image would give: the crop keeps the resampling grid of the whole.

    Raises
    ------
    GeometryError
        If the mask is empty, lies on another grid, or loses all voxels in a step; if the image axes are not at right angles.
    UnitError
        If intensities inside are not finite.
    """
    box = lesion.bounding_box()
    require_same_grid(image, lesion)
    _require_axes(image.grid)
    spacing = spacing_of(image, settings)
    reach = None if margin is None else tuple(max(m, int(np.floor(margin_mm / mm + 1e-9))) for m, mm in zip(margin, spacing[::-1], strict=True))
    if settings.spacing_mm is None:
        mask = np.ascontiguousarray(lesion.values[box])
        outer, inner = _widened(box, reach, image.grid.shape)
        around, grid = np.asarray(image.values[outer], dtype=np.float64), image.grid.crop((box[0].start, box[1].start, box[2].start), mask.shape)
    else:
        around, inner, mask, grid = _resampled(image, lesion, box, spacing, settings, reach)
    values = np.ascontiguousarray(around[inner])
    _require_sane(values[mask], image, lesion)
    return Region(values, mask, _resegmented(values, mask, _place(image, lesion), settings), grid, image.quantity, around, inner)


def _place(image: Volume, lesion: Mask) -> str:
    """Label of the lesion and the files it and its image came from, for an error."""
    files = [f"'{part.source.path}'" for part in (image, lesion) if part.source is not None]
    return ", ".join([f"label '{lesion.label}'", *files])


def _require_sane(intensities: FloatArray, image: Volume, lesion: Mask) -> None:
    if not np.isfinite(intensities).all():
        inside = bool(np.isfinite(image.values[lesion.values]).all())
        where = "near the lesion, where interpolation needs them," if inside else "inside the lesion"
        raise UnitError(f"intensities {where} must be finite; got NaN or infinity ({_place(image, lesion)}). Repair the image or shrink the mask.")
    largest = float(np.abs(intensities).max())
    if largest > MAX_INTENSITY:
        raise UnitError(f"intensities must be at most {MAX_INTENSITY:g} in size; got {largest:g} ({_place(image, lesion)}). Rescale the image.")


def spacing_of(image: Volume, settings: RadiomicsSettings) -> Triple:
    """Spacing (x, y, z) in mm of the prepared image."""
    wanted = settings.spacing_mm
    if wanted is None:
        return image.spacing_mm
    each = (wanted,) * 3 if isinstance(wanted, float | int) else wanted
    x, y, z = (own if new is None else float(new) for own, new in zip(image.spacing_mm, each, strict=True))
    return x, y, z


def grey_levels(region: Region, settings: RadiomicsSettings) -> tuple[IntArray, int]:
    """Grey levels of the intensity mask (IBSI 1, section 2.7).

    Parameters
    ----------
    region : Region
    settings : RadiomicsSettings
        With neither bin size nor number of bins, a CT has bins of 25 HU. Bins of fixed size start at the lower end of
        ``resegment_range``, or at -1000 HU (air): levels mean the same in every lesion. Voxels below it belong to level 1.

    Returns
    -------
    levels : array (n,)
        Level 1..n_levels of each voxel of the intensity mask, in array order.
    n_levels : int
        ``n_bins``, or the highest level of the lesion.

    Raises
    ------
    UnitError
        If an image that is not in HU comes without bins, or the bins are so narrow that levels exceed 1024.
    """
    intensities = region.intensities
    if settings.n_bins is not None:
        return fixed_bin_number(intensities, n_bins=settings.n_bins), settings.n_bins
    width, origin = settings.bin_size_of(region.quantity), settings.bin_origin_of(region.quantity)
    if isinstance(origin, str):
        origin = multiple_below(float(intensities.min()), width)
    levels = fixed_bin_size(intensities, width=width, origin=origin)
    n_levels = int(levels.max())
    if n_levels > MAX_LEVELS:
        raise UnitError(f"grey levels must be at most {MAX_LEVELS}; got {n_levels} with bins of {width:g}. Pass a larger bin_size, or resegment_range.")
    return levels, n_levels


def multiple_below(lowest: float, width: float) -> float:
    """Largest multiple of a bin width that is not above the smallest intensity: where PyRadiomics starts its bins."""
    return float(np.floor(lowest / width) * width)


def _require_axes(grid: Grid) -> None:
    cosines = grid.direction.T @ grid.direction - np.eye(3)
    if np.abs(cosines).max() > ORTHOGONAL_TOLERANCE:
        raise GeometryError(
            f"image axes must be at right angles to measure features; got a cosine of {np.abs(cosines).max():.3g} ({grid!r}). Resample a tilted image first."
        )
    if grid.frame.unit != "mm":
        raise GeometryError(f"image must lie in a frame measured in mm; got {grid.frame}. Transform it to the patient frame first.")


def _widened(box: Sequence[slice], reach: Sequence[int] | None, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, slice, slice]]:
    """Box with a margin, cut at the array's border, and where the box lies in it."""
    outer = tuple(slice(max(0, b.start - m), min(n, b.stop + m)) for b, m, n in zip(box, reach or shape, shape, strict=True))
    z, y, x = (slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, outer, strict=True))
    return outer, (z, y, x)


def _resampled(
    image: Volume, lesion: Mask, box: Sequence[slice], spacing_mm: Triple, settings: RadiomicsSettings, reach: Sequence[int] | None
) -> tuple[FloatArray, tuple[slice, slice, slice], BoolArray, Grid]:
    """Image around the lesion, and the lesion, on the grid of another spacing that shares the image's middle."""
    whole = [centred_positions(n, old, new) for n, old, new in zip(image.grid.shape, image.spacing_mm[::-1], spacing_mm[::-1], strict=True)]
    # Only voxels nearer than one old index to the lesion can be touched by its interpolated mask.
    first = [int(np.searchsorted(axis, b.start - 1, side="right")) for axis, b in zip(whole, box, strict=True)]
    z, y, x = (axis[(axis > b.start - 1) & (axis < b.stop)] for axis, b in zip(whole, box, strict=True))
    missed = 0 in (len(z), len(y), len(x))
    inside = np.zeros((0, 0, 0), dtype=bool) if missed else interpolate_linear(lesion.values, (z, y, x)) >= MASK_THRESHOLD
    if not inside.any():  # a lesion thinner than the new spacing may fall between its samples
        raise GeometryError(
            f"lesion must keep at least one voxel when resampled; got none at {spacing_mm} mm ({_place(image, lesion)}). Pass a finer spacing_mm."
        )
    cut = _box_of(inside)
    kept = tuple(slice(start + c.start, start + c.stop) for start, c in zip(first, cut, strict=True))
    outer, inner = _widened(kept, reach, [len(axis) for axis in whole])
    z, y, x = (axis[o] for axis, o in zip(whole, outer, strict=True))
    values = _INTERPOLATORS[settings.interpolation](image.values, (z, y, x))
    if image.quantity == "hu" if settings.round_intensities is None else settings.round_intensities:
        # IBSI 1, section 2.4: CT numbers are integers again after interpolation.
        values = np.rint(np.round(values, TIE_DIGITS))
    affine = np.eye(4)
    affine[:3, :3] = image.grid.direction * np.asarray(spacing_mm)
    affine[:3, 3] = image.grid.to_physical([axis[k.start] for axis, k in zip(whole, kept, strict=True)])
    mask = np.ascontiguousarray(inside[cut])
    return values, inner, mask, Grid(mask.shape, affine, image.grid.frame)


def _box_of(inside: BoolArray) -> tuple[slice, slice, slice]:
    spans = [np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    z, y, x = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return z, y, x


def _resegmented(values: FloatArray, mask: BoolArray, place: str, settings: RadiomicsSettings) -> BoolArray:
    kept = mask
    if settings.resegment_range is not None:
        low, high = settings.resegment_range
        kept = kept & (values >= low) & (values <= high)
    if settings.outlier_sigma is not None and kept.any():
        mean, reach = values[kept].mean(), settings.outlier_sigma * values[kept].std()
        kept = kept & (np.abs(values - mean) <= reach)
    if not kept.any():
        inside = values[mask]
        raise GeometryError(
            f"re-segmentation must keep at least one voxel; got none of {inside.size} between {inside.min():g} and {inside.max():g} ({place}). "
            "Check resegment_range and that the mask belongs to this image."
        )
    return kept
