"""Small changes to an image and a lesion's outline, such as another scan or another reader would make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from idx._typing import BoolArray, FloatArray, Triple
from idx.errors import GeometryError, UnitError
from idx.geometry.grids import Grid
from idx.radiomics.perturbation_steps import crop_box, measured_grid, noise_level, positions_in, resized, sampled
from idx.radiomics.preparation import MASK_THRESHOLD, TIE_DIGITS
from idx.radiomics.settings import RadiomicsSettings
from idx.volume import CTVolume, Mask, Volume, require_same_grid

AXES = ("x", "y", "z")
BORDER_VOXELS = 0.5 + 1e-3
"""An image ends half a voxel beyond its outermost centres; headers state spacings to about four digits."""
_SPLINE_ORDER = {"nearest": 0, "linear": 1, "cubic": 3}


@dataclass(frozen=True)
class Perturbation:
    """Another scan and another outline of the same lesion.

    The patient stays where they are; the grid on which the image is sampled is turned about the lesion's centroid and shifted. Image and mask are
    sampled on it in one step. Noise is added to the image before, the outline grows or shrinks after it.

    Parameters
    ----------
    translation_voxels : tuple of float
        Shift of the grid along its own axes (x, y, z), in voxels of the grid that is measured on. Whole voxels change nothing but rounding.
    rotation_deg : float
        Turn of the grid about the lesion's centroid.
    rotation_axis : str
        Axis of the image, "x", "y" or "z" (in the slice), that the grid is turned about, by the right-hand rule.
    noise_sd : float or None
        Standard deviation of the normal noise that is added to each voxel of the scan, in the image's unit. None means the image's own noise
        (:func:`noise_level`).
    growth_fraction : float
        Change of the lesion's volume: 0.2 grows it by a fifth, -0.2 shrinks it.
    repeat : int
        Number that tells perturbations apart which differ by the draw of the noise only.

    Notes
    -----
    Zwanenburg et al., Sci Rep 2019;9:614 ("Assessing robustness of radiomic features by image perturbation"). The added noise is white, that of a
    scanner is not.

    Examples
    --------
    >>> Perturbation(rotation_deg=13.0, growth_fraction=-0.1).name
    'rotation z 13 deg, volume -10 %'
    """

    translation_voxels: Triple = (0.0, 0.0, 0.0)
    rotation_deg: float = 0.0
    rotation_axis: str = "z"
    noise_sd: float | None = 0.0
    growth_fraction: float = 0.0
    repeat: int = 0

    def __post_init__(self) -> None:
        shift = tuple(float(t) for t in self.translation_voxels)
        if len(shift) != 3 or not np.isfinite((*shift, self.rotation_deg)).all():
            raise GeometryError(
                f"translation_voxels must be three finite voxels (x, y, z) and rotation_deg finite; got {self.translation_voxels}, {self.rotation_deg}. "
                "Pass for example (0.25, 0.25, 0.25) and 13.0."
            )
        if self.rotation_axis not in AXES:
            raise GeometryError(f"rotation_axis must be one of {', '.join(AXES)}; got {self.rotation_axis!r}. Pass 'z' to turn slices.")
        if self.noise_sd is not None and not (math.isfinite(self.noise_sd) and self.noise_sd >= 0):
            raise UnitError(f"noise_sd must be at least 0 in the image's unit, or None for its own noise; got {self.noise_sd}. Pass for example 10.0.")
        if not (math.isfinite(self.growth_fraction) and self.growth_fraction > -1):
            raise GeometryError(f"growth_fraction must be above -1; got {self.growth_fraction}. Pass for example -0.2 to shrink by 20 %.")
        object.__setattr__(self, "translation_voxels", shift)

    @property
    def moves(self) -> bool:
        """Whether the grid is turned or shifted."""
        return self.rotation_deg != 0 or any(self.translation_voxels)

    @property
    def name(self) -> str:
        """What is done, for people; "unperturbed" where it is nothing."""
        parts = []
        if self.rotation_deg:
            parts.append(f"rotation {self.rotation_axis} {self.rotation_deg:g} deg")
        if any(self.translation_voxels):
            parts.append("translation " + " ".join(f"{t:g}" for t in self.translation_voxels))
        if self.noise_sd != 0:
            parts.append("noise " + ("of the image" if self.noise_sd is None else f"{self.noise_sd:g}"))
        if self.growth_fraction:
            parts.append(f"volume {100 * self.growth_fraction:+g} %")
        return (", ".join(parts) or "unperturbed") + (f", repeat {self.repeat}" if self.repeat else "")

    def apply(self, image: Volume, lesion: Mask, rng: np.random.Generator, *, settings: RadiomicsSettings | None = None) -> tuple[Volume, Mask]:
        """Perturb an image and a lesion, cut to as much as the lesion's features depend on.

        Parameters
        ----------
        image : Volume
            CT or another image, (z, y, x).
        lesion : Mask
            On the image's grid.
        rng : Generator
            Draws the noise.
        settings : RadiomicsSettings or None
            What will be measured. Its spacing, interpolation and rounding are applied here, in the one step that turns and shifts, so that the
            result is to be measured with ``settings.replace(spacing_mm=None)``. None keeps the image's spacing.

        Returns
        -------
        image : Volume
            CTVolume for a CT whose intensities are rounded, else float64.
        lesion : Mask
            On the same grid, which lies in the patient where the turned and shifted scan lies.

        Raises
        ------
        GeometryError
            If the mask is empty, lies on another grid, loses all voxels, or has no room to grow in the image.
        UnitError
            If the image's own noise cannot be estimated.
        """
        lesion.require_voxels()
        require_same_grid(image, lesion)
        settings = settings or RadiomicsSettings()
        whole = self._moved(measured_grid(image, settings), lesion.centroid_mm)
        scanned, positions = _scanned(image.grid, whole, crop_box(lesion, whole, settings, growth_fraction=self.growth_fraction))
        within, grid = scanned.values, scanned.grid
        inside = (sampled(lesion.values, positions, order=1) >= MASK_THRESHOLD) & within
        if not inside.any():
            raise GeometryError(f"lesion must keep at least one voxel; got none (label '{lesion.label}', {self.name}). Pass a finer spacing_mm.")
        if self.growth_fraction:
            inside = resized(inside, grid.spacing_mm, round((1 + self.growth_fraction) * np.count_nonzero(inside)), within=within)
        # Samples at voxel centres need no interpolation: nearest is exact there.
        order = _SPLINE_ORDER[settings.interpolation] if self.moves or settings.spacing_mm is not None else 0
        sd = noise_level(image, lesion) if self.noise_sd is None else self.noise_sd
        values = sampled(image.values, positions, order=order, noise_sd=sd, rng=rng)
        return _as_image(image, values, grid, settings), Mask(inside, grid, lesion.label)

    def _moved(self, grid: Grid, centre_mm: Triple) -> Grid:
        """The grid turned about a point in mm and shifted."""
        axis = AXES.index(self.rotation_axis)
        turn = Rotation.from_rotvec(grid.direction[:, axis] * self.rotation_deg, degrees=True).as_matrix()
        turned = np.array(grid.affine)
        turned[:3, :3] = turn @ grid.affine[:3, :3]
        turned[:3, 3] = turn @ (grid.affine[:3, 3] - centre_mm) + centre_mm + turned[:3, :3] @ self.translation_voxels
        return Grid(grid.shape, turned if self.moves else grid.affine, grid.frame)


def perturbation_grid(
    *,
    rotation_deg: Sequence[float] = (0.0,),
    translation_voxels: Sequence[float] = (0.0,),
    growth_fraction: Sequence[float] = (0.0,),
    noise_sd: float | None = 0.0,
    n_repeats: int = 1,
) -> tuple[Perturbation, ...]:
    """Every combination of turns about z, shifts along each axis, and growth, each with noise.

    Parameters
    ----------
    rotation_deg, growth_fraction : sequence of float
        As of :class:`Perturbation`.
    translation_voxels : sequence of float
        Shifts of one axis; m of them make m**3 shifts in space.
    noise_sd : float or None
        As of :class:`Perturbation`.
    n_repeats : int
        How often each combination is made, with noise of its own.

    Examples
    --------
    >>> len(perturbation_grid(rotation_deg=(-13.0, 13.0), translation_voxels=(0.25, 0.75), growth_fraction=(-0.2, 0.0, 0.2)))
    48
    """
    shifts = itertools.product(translation_voxels, repeat=3)
    combined = itertools.product(rotation_deg, shifts, growth_fraction, range(n_repeats))
    return tuple(Perturbation((x, y, z), turn, "z", noise_sd, growth, repeat) for turn, (x, y, z), growth, repeat in combined)


DEFAULT_PERTURBATIONS = (
    Perturbation(),
    *(Perturbation(rotation_deg=turn) for turn in (-13.0, -6.5, 6.5, 13.0)),
    *(Perturbation(shift) for shift in ((0.25, 0.25, 0.25), (0.75, 0.75, 0.25), (0.25, 0.75, 0.75), (0.75, 0.25, 0.75))),
    *(Perturbation(noise_sd=None, repeat=repeat) for repeat in range(3)),
    *(Perturbation(growth_fraction=growth) for growth in (-0.2, -0.1, 0.1, 0.2)),
    Perturbation((0.25, 0.25, 0.25), -6.5, noise_sd=None, growth_fraction=-0.1),
    Perturbation((0.75, 0.75, 0.75), 6.5, noise_sd=None, growth_fraction=0.1),
)
"""The 18 perturbations of a study that names none: the scan as it is, each kind by itself, and two of all kinds together."""


def _scanned(source: Grid, whole: Grid, box: tuple[slice, slice, slice]) -> tuple[Mask, FloatArray]:
    """Where a box of a grid has the source's image, cut to the planes that have any, and the source's indices (3, z, y, x) of its samples."""
    z, y, x = box
    positions = positions_in(source, whole, box)
    within: BoolArray = np.ones(positions.shape[1:], dtype=bool)
    for position, n in zip(positions, source.shape, strict=True):
        within &= (position > -BORDER_VOXELS) & (position < n - 1 + BORDER_VOXELS)
    kept = Mask(within, whole.crop((z.start, y.start, x.start), within.shape), "scan").bounding_box()
    within = within[kept]
    start = (z.start + kept[0].start, y.start + kept[1].start, x.start + kept[2].start)
    return Mask(within, whole.crop(start, within.shape), "scan"), positions[:, *kept]


def _as_image(image: Volume, values: FloatArray, grid: Grid, settings: RadiomicsSettings) -> Volume:
    rounds = image.quantity == "hu" if settings.round_intensities is None else settings.round_intensities
    if rounds:
        values = np.rint(np.round(values, TIE_DIGITS))
    if rounds and isinstance(image, CTVolume):
        limits = np.iinfo(np.int16)
        return image.with_values(np.clip(values, limits.min, limits.max).astype(np.int16), grid)
    return Volume(values, grid, image.quantity, header=image.header)
