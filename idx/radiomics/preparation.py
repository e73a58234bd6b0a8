"""From an image and a mask to the region that is measured: cropping, resampling, re-segmentation, grey levels (IBSI 1, chapter 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idx._typing import BoolArray, FloatArray, IntArray, Triple
from idx.errors import FormatError, GeometryError, UnitError
from idx.geometry.grids import Grid
from idx.kernels.discretise import fixed_bin_number, fixed_bin_size
from idx.kernels.resample import centred_positions, interpolate_cubic, interpolate_linear
from idx.provenance import Setting
from idx.volume import Mask, Volume, require_same_grid

MASK_THRESHOLD = 0.5 - 1e-9
"""An interpolated voxel is inside from a half on; rounding in the interpolation must not decide an exact half."""
TIE_DIGITS = 6
"""Digits of an interpolated HU that are trusted: a spacing of 2.9999999999998 mm in a header must not decide which way 40.5 HU is rounded."""
ORTHOGONAL_TOLERANCE = 1e-4
"""Largest cosine between two image axes that still counts as a right angle (0.006 degrees)."""
DEFAULT_BIN_SIZE_HU = 25.0
AIR_HU = -1000.0
"""Lower edge of grey level 1 on CT where no intensity range is given."""
_INTERPOLATORS = {"linear": interpolate_linear, "cubic": interpolate_cubic}
MAX_LEVELS = 1024
"""More grey levels than this are a mistaken bin size: 13 co-occurrence matrices would need over 100 MB."""


@dataclass(frozen=True)
class Preparation:
    """Settings of the steps before a feature is measured.

    Parameters
    ----------
    spacing_mm : tuple of float or None
        Spacing (x, y, z) in mm to resample to; None measures on the image's own grid.
    resegment_hu : tuple of float or None
        Keep voxels of the intensity mask within this range (low, high), both included.
    outlier_sigma : float or None
        Keep voxels of the intensity mask within this many standard deviations of the mean.
    bin_size_hu : float or None
        Width of a grey level in HU.
    n_bins : int or None
        Number of grey levels between the smallest and the largest intensity.
    interpolation : str
        "linear" or "cubic" (splines), for the image; the mask is always interpolated linearly.
    """

    spacing_mm: Triple | None = None
    resegment_hu: tuple[float, float] | None = None
    outlier_sigma: float | None = None
    bin_size_hu: float | None = None
    n_bins: int | None = None
    interpolation: str = "linear"

    def __post_init__(self) -> None:
        if self.spacing_mm is not None and (len(self.spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing_mm)):
            raise GeometryError(f"spacing_mm must be one or three positive mm (x, y, z); got {self.spacing_mm}. Pass 2.0, or (1.0, 1.0, 3.0).")
        if self.interpolation not in _INTERPOLATORS:
            raise FormatError(f"interpolation must be 'linear' or 'cubic'; got '{self.interpolation}'. Pass one of them.")
        if self.resegment_hu is not None and not self.resegment_hu[0] < self.resegment_hu[1]:
            raise UnitError(f"resegment_hu must be (low, high) in HU with low < high; got {self.resegment_hu}. Pass for example (-1000, 400).")
        if self.outlier_sigma is not None and not self.outlier_sigma > 0:
            raise UnitError(f"outlier_sigma must be positive; got {self.outlier_sigma}. Pass 3.0, or None to keep all voxels.")
        if self.bin_size_hu is not None and self.n_bins is not None:
            raise UnitError(f"grey levels must be set by bin_size_hu or n_bins; got both ({self.bin_size_hu}, {self.n_bins}). Pass one of them.")
        if self.bin_size_hu is not None and not self.bin_size_hu > 0:
            raise UnitError(f"bin_size_hu must be positive; got {self.bin_size_hu}. Pass for example 25.0.")
        if self.n_bins is not None and not 2 <= self.n_bins <= MAX_LEVELS:
            raise UnitError(f"n_bins must be 2 to {MAX_LEVELS}; got {self.n_bins}. Pass for example 32.")

    @property
    def bin_edges_hu(self) -> tuple[float, float]:
        """Width of a grey level and lower edge of level 1 in HU, for bins of fixed size."""
        width = DEFAULT_BIN_SIZE_HU if self.bin_size_hu is None else self.bin_size_hu
        return width, AIR_HU if self.resegment_hu is None else self.resegment_hu[0]

    def step_params(self) -> dict[str, Setting]:
        """Settings that every feature depends on, as plain values that fit a file."""
        spacing, limits = self.spacing_mm, self.resegment_hu
        return {
            "spacing_mm": None if spacing is None else " x ".join(f"{s:g}" for s in spacing),
            "interpolation": None if spacing is None else self.interpolation,
            "resegment_hu": None if limits is None else f"{limits[0]:g} to {limits[1]:g}",
            "outlier_sigma": self.outlier_sigma,
        }

    def bin_params(self, quantity: str) -> dict[str, Setting]:
        """Settings of the grey levels, defaults filled in."""
        if self.n_bins is not None or quantity != "hu":
            return {"n_bins": self.n_bins}
        width, origin = self.bin_edges_hu
        return {"bin_size_hu": width, "bin_origin_hu": origin}


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
    """

    values: FloatArray
    mask: BoolArray
    intensity_mask: BoolArray
    grid: Grid
    quantity: str

    @property
    def spacing_mm(self) -> Triple:
        """Voxel spacing (x, y, z) in mm."""
        return self.grid.spacing_mm

    @property
    def intensities(self) -> FloatArray:
        """Intensities that count, (n,)."""
        return self.values[self.intensity_mask]


def as_spacing(spacing_mm: float | Triple | None) -> Triple | None:
    """Spacing (x, y, z) in mm of one number for all axes or three."""
    if spacing_mm is None:
        return None
    if isinstance(spacing_mm, int | float):
        return (float(spacing_mm),) * 3
    return tuple(float(s) for s in spacing_mm)  # type: ignore[return-value]  # Preparation checks the length


def prepare(image: Volume, lesion: Mask, settings: Preparation) -> Region:
    """Crop, resample and re-segment a lesion in the order of IBSI 1.

    Parameters
    ----------
    image : Volume
        CT or another image, (z, y, x).
    lesion : Mask
        On the image's grid.
    settings : Preparation

    Returns
    -------
    Region
        Equal to what the whole image would give: the crop keeps the resampling grid of the whole.

    Raises
    ------
    GeometryError
        If the mask is empty, lies on another grid, or loses all voxels in a step; if the image axes are not at right angles.
    UnitError
        If HU settings are given for an image that is not in HU, or intensities inside are not finite.
    """
    lesion.require_voxels()
    require_same_grid(image, lesion)
    _require_axes(image.grid)
    if image.quantity != "hu" and (settings.resegment_hu is not None or settings.bin_size_hu is not None):
        raise UnitError(
            f"resegment_hu and bin_size_hu must be left out for an image that is not in HU; got quantity '{image.quantity}'. Use n_bins and outlier_sigma."
        )
    values, mask, grid = _cropped(image, lesion) if settings.spacing_mm is None else _resampled(image, lesion, settings.spacing_mm, settings.interpolation)
    if not np.isfinite(values[mask]).all():
        raise UnitError(f"intensities inside the lesion must be finite; got NaN or infinity (label '{lesion.label}'). Repair the image or shrink the mask.")
    return Region(values, mask, _resegmented(values, mask, lesion.label, settings), grid, image.quantity)


def grey_levels(region: Region, settings: Preparation) -> tuple[IntArray, int]:
    """Grey levels of the intensity mask (IBSI 1, section 2.7).

    Parameters
    ----------
    region : Region
    settings : Preparation
        With neither bin size nor number of bins, a CT has bins of 25 HU. Bins of fixed size start at the lower end of
        ``resegment_hu``, or at -1000 HU (air): levels mean the same in every lesion. Voxels below it belong to level 1.

    Returns
    -------
    levels : array (n,)
        Level 1..n_levels of each voxel of the intensity mask, in array order.
    n_levels : int
        ``n_bins``, or the highest level of the lesion.

    Raises
    ------
    UnitError
        If an image that is not in HU comes without ``n_bins``, or the bins are so narrow that levels exceed 1024.
    """
    if settings.n_bins is not None:
        return fixed_bin_number(region.intensities, n_bins=settings.n_bins), settings.n_bins
    if region.quantity != "hu":
        raise UnitError(f"n_bins must be given for an image that is not in HU; got None (quantity '{region.quantity}'). Pass n_bins=32, for example.")
    width, origin = settings.bin_edges_hu
    levels = fixed_bin_size(region.intensities, width=width, origin=origin)
    n_levels = int(levels.max())
    if n_levels > MAX_LEVELS:
        raise UnitError(f"grey levels must be at most {MAX_LEVELS}; got {n_levels} with bins of {width} HU. Pass a larger bin_size_hu, or resegment_hu.")
    return levels, n_levels


def _require_axes(grid: Grid) -> None:
    cosines = grid.direction.T @ grid.direction - np.eye(3)
    if np.abs(cosines).max() > ORTHOGONAL_TOLERANCE:
        raise GeometryError(
            f"image axes must be at right angles to measure features; got a cosine of {np.abs(cosines).max():.3g} ({grid!r}). Resample a tilted image first."
        )
    if grid.frame.unit != "mm":
        raise GeometryError(f"image must lie in a frame measured in mm; got {grid.frame}. Transform it to the patient frame first.")


def _cropped(image: Volume, lesion: Mask) -> tuple[FloatArray, BoolArray, Grid]:
    box = lesion.bounding_box()
    mask = lesion.values[box]
    start = (box[0].start, box[1].start, box[2].start)
    return np.asarray(image.values[box], dtype=np.float64), mask, image.grid.crop(start, mask.shape)


def _resampled(image: Volume, lesion: Mask, spacing_mm: Triple, interpolation: str) -> tuple[FloatArray, BoolArray, Grid]:
    """Image and mask on the grid of another spacing that shares the image's middle, cut to the lesion."""
    positions = []
    for n, old, new, box in zip(image.grid.shape, image.spacing_mm[::-1], spacing_mm[::-1], lesion.bounding_box(), strict=True):
        whole = centred_positions(n, old, new)
        # Only voxels nearer than one old index to the lesion can be touched by its interpolated mask.
        positions.append(whole[(whole > box.start - 1) & (whole < box.stop)])
    z, y, x = positions
    inside = interpolate_linear(lesion.values, (z, y, x)) >= MASK_THRESHOLD
    if not inside.any():  # a lesion thinner than the new spacing may fall between its samples
        raise GeometryError(
            f"lesion must keep at least one voxel when resampled; got none at {spacing_mm} mm (label '{lesion.label}'). Pass a finer spacing_mm."
        )
    cut = _box_of(inside)
    kept = (z[cut[0]], y[cut[1]], x[cut[2]])
    values = _INTERPOLATORS[interpolation](image.values, kept)
    if image.quantity == "hu":
        # IBSI 1, section 2.4: CT numbers are integers again after interpolation.
        values = np.rint(np.round(values, TIE_DIGITS))
    affine = np.eye(4)
    affine[:3, :3] = image.grid.direction * np.asarray(spacing_mm)
    affine[:3, 3] = image.grid.to_physical([position[0] for position in kept])
    return values, inside[cut], Grid(values.shape, affine, image.grid.frame)


def _box_of(inside: BoolArray) -> tuple[slice, slice, slice]:
    spans = [np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    z, y, x = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return z, y, x


def _resegmented(values: FloatArray, mask: BoolArray, label: str, settings: Preparation) -> BoolArray:
    kept = mask
    if settings.resegment_hu is not None:
        low, high = settings.resegment_hu
        kept = kept & (values >= low) & (values <= high)
    if settings.outlier_sigma is not None and kept.any():
        mean, reach = values[kept].mean(), settings.outlier_sigma * values[kept].std()
        kept = kept & (np.abs(values - mean) <= reach)
    if not kept.any():
        inside = values[mask]
        raise GeometryError(
            f"re-segmentation must keep at least one voxel; got none of {inside.size} between {inside.min():g} and {inside.max():g} (label '{label}'). "
            "Check resegment_hu and that the mask belongs to this image."
        )
    return kept
