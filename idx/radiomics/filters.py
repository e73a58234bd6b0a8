"""Image filters of IBSI 2 whose kernels end after a few voxels: mean, Laplacian of Gaussian, Laws, Gabor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from idx._typing import Array, FloatArray, Triple
from idx.errors import FormatError, GeometryError, UnitError
from idx.kernels import axis_kernels
from idx.kernels.convolution import POOLINGS, Chain, along_axis, axis_operator, convolve, convolve_rotated
from idx.kernels.gabor import gabor_kernel, gabor_reach, modulus_responses
from idx.provenance import Setting
from idx.radiomics.filters_base import ISOTROPY_TOLERANCE, BaseFilter, in_array_order, label, require_isotropic, require_pooling, require_positive

MIN_SIGMA_VOXELS = 0.75
"""Smallest standard deviation of a sampled Laplacian of Gaussian: at 0.75 voxels its weights sum to 0.1 % of their absolute values, at 0.5 to 17 %."""


@runtime_checkable
class ImageFilter(Protocol):
    """What a filter of an image offers; any object with these serves where a filter is asked for."""

    @property
    def name(self) -> str:
        """Prefix of columns, a valid identifier, different for different settings."""

    @property
    def definition(self) -> str:
        """What the filter does, in a sentence, with its IBSI code."""

    def params(self) -> Mapping[str, Setting]:
        """Settings as plain values that fit a file."""

    def margin_voxels(self, spacing_mm: Triple) -> tuple[int, int, int] | None:
        """Voxels (x, y, z) around a box that decide the response in it, or None where the whole image does."""

    def apply(self, values: Array, spacing_mm: Triple, *, device: str | torch.device | None = None) -> FloatArray:
        """Response (z, y, x), float64, to an image (z, y, x) of spacing (x, y, z) in mm."""


@dataclass(frozen=True)
class MeanFilter(BaseFilter):
    """Mean over a box of voxels (IBSI S60F).

    Parameters
    ----------
    support : int
        Edge of the box in voxels, odd.
    dimensions, boundary
        See :class:`~idx.radiomics.filters_base.BaseFilter`.

    Examples
    --------
    >>> MeanFilter(3).apply(np.eye(3)[None], (1.0, 1.0, 1.0)).round(2)[0, 1].tolist()
    [0.33, 0.33, 0.33]
    """

    support: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.support, int) and self.support > 0 and self.support % 2):
            raise UnitError(f"support must be a positive odd number of voxels; got {self.support!r} (MeanFilter). Pass for example 5.")

    def _stem(self) -> str:
        return f"mean_{self.support}"

    def _sentence(self) -> str:
        return f"mean over a box of {self.support} voxels (IBSI S60F)"

    def _chains(self) -> tuple[Chain, Chain, Chain]:
        return in_array_order([(axis_kernels.box_kernel(self.support),)] * self.dimensions)

    def _reach(self, spacing_mm: Triple) -> tuple[int, int, int]:
        z, y, x = (axis_kernels.chain_reach(chain) for chain in self._chains())
        return z, y, x

    def _respond(self, values: torch.Tensor, spacing_mm: Triple) -> torch.Tensor:
        return convolve(values, self._chains(), self.boundary)


@dataclass(frozen=True)
class LaplacianOfGaussian(BaseFilter):
    """Laplacian of Gaussian (IBSI L6PA): bright blobs of about its size are negative, dark ones positive.

    Parameters
    ----------
    sigma_mm : float
        Standard deviation of the Gaussian in mm.
    cutoff_sigma : float
        Standard deviations after which the kernel ends.
    scale_normalised : bool
        Multiply by the squared standard deviation, so that responses of different sizes compare (not in IBSI; ITK and
        PyRadiomics do so).
    dimensions, boundary
        See :class:`~idx.radiomics.filters_base.BaseFilter`.

    Notes
    -----
    IBSI samples the kernel in voxels: the unit is intensity per squared voxel edge. On voxels that are not isotropic, which
    IBSI leaves open, the kernel is isotropic in mm and that edge is the geometric mean of the voxel's.
    """

    sigma_mm: float
    cutoff_sigma: float = 4.0
    scale_normalised: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.sigma_mm, "sigma_mm", "mm")
        require_positive(self.cutoff_sigma, "cutoff_sigma", "standard deviations")

    def _stem(self) -> str:
        cutoff = "" if self.cutoff_sigma == 4.0 else f"_cutoff{label(self.cutoff_sigma)}"
        return f"log_{label(self.sigma_mm)}mm{cutoff}{'_normalised' if self.scale_normalised else ''}"

    def _sentence(self) -> str:
        normalised = ", times its squared sigma" if self.scale_normalised else ""
        return f"Laplacian of a Gaussian of {self.sigma_mm:g} mm cut off at {self.cutoff_sigma:g} sigma{normalised} (IBSI L6PA)"

    def _sigma_voxels(self, spacing_mm: Triple) -> list[float]:
        """Standard deviation along (z, y, x) in voxels; 0 along an axis that is not filtered."""
        sigma = [self.sigma_mm / mm for mm in spacing_mm[: self.dimensions]]
        if min(sigma) < MIN_SIGMA_VOXELS:
            raise GeometryError(
                f"sigma_mm must be at least {MIN_SIGMA_VOXELS} voxels to be sampled; got {self.sigma_mm} mm on voxels of {spacing_mm} mm (x, y, z). "
                "Resample to a finer spacing_mm, pass a larger sigma_mm, or dimensions=2 where only slices are thick."
            )
        return [*[0.0] * (3 - self.dimensions), *sigma[::-1]]

    def _reach(self, spacing_mm: Triple) -> tuple[int, int, int]:
        z, y, x = (axis_kernels.gaussian_reach(sigma, self.cutoff_sigma) for sigma in self._sigma_voxels(spacing_mm))
        return z, y, x

    def _respond(self, values: torch.Tensor, spacing_mm: Triple) -> torch.Tensor:
        edge = float(np.prod(spacing_mm[: self.dimensions])) ** (1 / self.dimensions)
        scale = (self.sigma_mm / edge) ** 2 if self.scale_normalised else 1.0
        # Smoothed along the axes so far, and the sum of second derivatives along them.
        smooth: torch.Tensor = values
        curved: torch.Tensor | None = None
        for axis, sigma in enumerate(self._sigma_voxels(spacing_mm)):
            if not sigma:
                continue
            gaussian, second = axis_kernels.gaussian_kernels(sigma, self.cutoff_sigma)
            # From one voxel of this axis to the common edge.
            second = tuple(weight * (edge / spacing_mm[2 - axis]) ** 2 * scale for weight in second)
            n = values.shape[axis]
            smoothing, bending = (axis_operator((kernel,), n, self.boundary) for kernel in (gaussian, second))
            bent = along_axis(smooth, bending, axis)
            curved = bent if curved is None else bent.add_(along_axis(curved, smoothing, axis))
            if axis < 2:
                smooth = along_axis(smooth, smoothing, axis)
        assert curved is not None
        return curved


@dataclass(frozen=True)
class LawsFilter(BaseFilter):
    """Laws texture kernels (IBSI JTXT).

    Parameters
    ----------
    kernels : str
        One kernel along x, y and, in space, z: such as "E5L5S5". L3, E3, S3, L5, E5, S5, W5, R5 are known.
    rotations : str or None
        "max" or "average" over all rotations by right angles, 4 in the slice and 24 in space; None takes the kernels as given.
    energy_voxels : int or None
        Mean of the absolute response over a box of this many voxels to either side (texture energy); None leaves it out.
    dimensions, boundary
        See :class:`~idx.radiomics.filters_base.BaseFilter`.
    """

    kernels: str
    rotations: str | None = None
    energy_voxels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.kernels) != 2 * self.dimensions or not all(name in axis_kernels.LAWS_NAMES for name in self._names()):
            example = "L5E5" if self.dimensions == 2 else "L5E5E5"
            raise FormatError(
                f"kernels must be {self.dimensions} of {', '.join(axis_kernels.LAWS_NAMES)}; got {self.kernels!r} with dimensions={self.dimensions}. "
                f"Pass for example '{example}'."
            )
        require_pooling(self.rotations, "rotations")
        if self.energy_voxels is not None and not (isinstance(self.energy_voxels, int) and self.energy_voxels > 0):
            raise UnitError(f"energy_voxels must be a positive number of voxels or None; got {self.energy_voxels!r} (LawsFilter). Pass for example 7.")

    def _names(self) -> list[str]:
        return [self.kernels[i : i + 2] for i in range(0, len(self.kernels), 2)]

    def _stem(self) -> str:
        energy = "" if self.energy_voxels is None else f"_energy{self.energy_voxels}"
        return f"laws_{self.kernels.lower()}{'' if self.rotations is None else '_' + self.rotations}{energy}"

    def _sentence(self) -> str:
        pooled = "" if self.rotations is None else f", {self.rotations} over rotations by right angles"
        energy = "" if self.energy_voxels is None else f", texture energy within {self.energy_voxels} voxels"
        return f"Laws kernels {self.kernels}{pooled}{energy} (IBSI JTXT)"

    def _chains(self) -> tuple[Chain, Chain, Chain]:
        return in_array_order([(axis_kernels.laws_kernel(name),) for name in self._names()])

    def _reach(self, spacing_mm: Triple) -> tuple[int, int, int]:
        reach = [axis_kernels.chain_reach(chain) for chain in self._chains()]
        if self.rotations is not None:
            reach = [max(reach) if n else 0 for n in reach]
        z, y, x = (n + (self.energy_voxels or 0) if n else 0 for n in reach)
        return z, y, x

    def _respond(self, values: torch.Tensor, spacing_mm: Triple) -> torch.Tensor:
        if self.rotations is None:
            response = convolve(values, self._chains(), self.boundary)
        else:
            require_isotropic(spacing_mm, self.dimensions, "Laws kernels that are pooled over rotations")
            response = convolve_rotated(values, self._chains(), self.boundary, self.rotations)
        if self.energy_voxels is None:
            return response
        box = in_array_order([(axis_kernels.box_kernel(2 * self.energy_voxels + 1),)] * self.dimensions)
        return convolve(response.abs_(), box, self.boundary)


@dataclass(frozen=True)
class GaborFilter(BaseFilter):
    """Modulus of the response to a Gabor kernel in planes (IBSI Q88H).

    Parameters
    ----------
    sigma_mm : float
        Standard deviation of the envelope along the wave, in mm.
    wavelength_mm : float
        Wavelength in mm, at least two voxels.
    gamma : float
        Spatial aspect ratio: the standard deviation across the wave is ``sigma_mm / gamma``.
    theta_deg : float
        Direction of the wave in degrees, in a slice from x towards y.
    theta_step_deg : float or None
        Pool over the directions ``theta_deg + k * theta_step_deg`` of a full turn; None takes one direction.
    pooling : str
        "average" or "max" over directions, and in space over planes.
    dimensions : int
        2 filters the slices along z; 3 pools over the planes orthogonal to z, y and x.
    boundary
        See :class:`~idx.radiomics.filters_base.BaseFilter`.

    Notes
    -----
    The kernel ends where its envelope has fallen to 1.5e-8. A turn by 180 degrees conjugates the kernel and leaves the modulus
    of the response to a real image alone: such directions are computed once.
    """

    sigma_mm: float
    wavelength_mm: float
    gamma: float = 1.0
    theta_deg: float = 0.0
    theta_step_deg: float | None = None
    pooling: str = "average"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.sigma_mm, "sigma_mm", "mm")
        require_positive(self.wavelength_mm, "wavelength_mm", "mm")
        require_positive(self.gamma, "gamma", "(a ratio)")
        if not np.isfinite(self.theta_deg):
            raise UnitError(f"theta_deg must be finite degrees; got {self.theta_deg!r} (GaborFilter). Pass for example 45.0.")
        step = self.theta_step_deg
        if step is not None and not (np.isfinite(step) and step > 0 and abs(360.0 / step - round(360.0 / step)) < 1e-9):
            raise UnitError(f"theta_step_deg must divide 360 degrees; got {step!r} (GaborFilter). Pass for example 45.0, or None for one direction.")
        if self.pooling not in POOLINGS:
            raise FormatError(f"pooling must be 'max' or 'average'; got {self.pooling!r} (GaborFilter). Pass one of them.")

    def _stem(self) -> str:
        step = "" if self.theta_step_deg is None else f"_step{label(self.theta_step_deg)}"
        return (
            f"gabor_s{label(self.sigma_mm)}mm_l{label(self.wavelength_mm)}mm_g{label(self.gamma)}_t{label(self.theta_deg)}{step}"
            f"{'' if self.pooling == 'average' else '_max'}"
        )

    def _sentence(self) -> str:
        step = "" if self.theta_step_deg is None else f" and on in steps of {self.theta_step_deg:g} degrees"
        planes = "" if self.dimensions == 2 and not step else f", {self.pooling} over directions" + (" and orthogonal planes" if self.dimensions == 3 else "")
        return (
            f"modulus of the Gabor response of sigma {self.sigma_mm:g} mm, wavelength {self.wavelength_mm:g} mm, aspect ratio {self.gamma:g}, "
            f"{self.theta_deg:g} degrees{step}{planes} (IBSI Q88H)"
        )

    def _directions(self) -> list[float]:
        """Directions in radians that differ in the modulus of the response, each as often as any other."""
        if self.theta_step_deg is None:
            return [float(np.deg2rad(self.theta_deg))]
        n = round(360.0 / self.theta_step_deg)
        # An even number of directions holds the opposite of each.
        return [float(np.deg2rad(self.theta_deg + k * self.theta_step_deg)) for k in range(n // 2 if n % 2 == 0 else n)]

    def _reach(self, spacing_mm: Triple) -> tuple[int, int, int]:
        sigma = self.sigma_mm / spacing_mm[0]
        reaches = [gabor_reach(sigma, self.gamma, theta) for theta in self._directions()]
        rows, columns = (max(reach[side] for reach in reaches) for side in (0, 1))
        return (0, rows, columns) if self.dimensions == 2 else (rows, max(rows, columns), columns)

    def _respond(self, values: torch.Tensor, spacing_mm: Triple) -> torch.Tensor:
        require_isotropic(spacing_mm, self.dimensions, "a Gabor filter")
        mm = spacing_mm[0]
        if self.wavelength_mm < 2 * mm * (1 - ISOTROPY_TOLERANCE):
            raise GeometryError(
                f"wavelength_mm must be at least two voxels; got {self.wavelength_mm} mm on voxels of {mm:g} mm. "
                "Pass a longer wavelength_mm or resample to a finer spacing_mm."
            )
        kernels = [gabor_kernel(self.sigma_mm / mm, self.wavelength_mm / mm, self.gamma, theta) for theta in self._directions()]
        if self.dimensions == 2:
            return modulus_responses(values, kernels, 0, self.boundary, self.pooling)
        pooled = modulus_responses(values, kernels, 0, self.boundary, self.pooling)
        for axis in (1, 2):
            response = modulus_responses(values, kernels, axis, self.boundary, self.pooling)
            if self.pooling == "average":
                pooled.add_(response)
            else:
                torch.maximum(pooled, response, out=pooled)
        return pooled.div_(3) if self.pooling == "average" else pooled
