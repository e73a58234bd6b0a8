"""Wavelet filters of IBSI 2: separable, Simoncelli, and the Riesz transform on top of an isotropic filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from idx._typing import Array, FloatArray, Triple
from idx.errors import FormatError
from idx.kernels import axis_kernels
from idx.kernels.convolution import Chain, convolve, convolve_rotated, extend
from idx.kernels.spectral import Gain, apply_gain, riesz_gain, simoncelli_gain
from idx.provenance import Setting
from idx.radiomics.filters import LaplacianOfGaussian
from idx.radiomics.filters_base import BaseFilter, as_tensor, float64_device, in_array_order, require_isotropic, require_pooling

MAX_LEVEL = 8
"""Deepest level: its kernels spread over hundreds of voxels."""
RIESZ_MARGIN = 32
"""Voxels added around an image before a Riesz transform: its tails are as wide as those of the filter below it, and wider ones small."""


def _require_level(level: int, what: str) -> None:
    if not (isinstance(level, int) and 1 <= level <= MAX_LEVEL):
        raise FormatError(f"level must be 1 to {MAX_LEVEL}; got {level!r} ({what}). Pass for example 1.")


@dataclass(frozen=True)
class SeparableWavelet(BaseFilter):
    """A band of the undecimated separable wavelet transform (IBSI 25BO).

    Parameters
    ----------
    wavelet : str
        Name of a discrete wavelet of PyWavelets, such as "haar", "db3" or "coif1".
    band : str
        "L" (low-pass) or "H" (high-pass) along x, y and, in space, z: such as "LLH".
    level : int
        From 1; at level n the band is taken of the low-pass of level n - 1 along all axes.
    rotations : str or None
        "max" or "average" over all rotations by right angles, 4 in the slice and 24 in space; None takes the band as given.
    dimensions, boundary
        See :class:`~idx.radiomics.filters_base.BaseFilter`.

    Examples
    --------
    >>> SeparableWavelet("haar", "LLH", boundary="periodic").apply(np.ones((2, 2, 2)), (1.0, 1.0, 1.0)).tolist()
    [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]
    """

    wavelet: str
    band: str
    level: int = 1
    rotations: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wavelet not in axis_kernels.wavelet_names():
            raise FormatError(f"wavelet must be a discrete wavelet of PyWavelets; got {self.wavelet!r}. Pass for example 'haar', 'db3' or 'coif1'.")
        if len(self.band) != self.dimensions or not set(self.band) <= {"L", "H"}:
            example = "LH" if self.dimensions == 2 else "LLH"
            raise FormatError(
                f"band must be {self.dimensions} letters L or H; got {self.band!r} with dimensions={self.dimensions}. Pass for example '{example}'."
            )
        _require_level(self.level, "SeparableWavelet")
        require_pooling(self.rotations, "rotations")

    def _stem(self) -> str:
        return f"wavelet_{self.wavelet.replace('.', 'p')}_{self.band.lower()}_{self.level}{'' if self.rotations is None else '_' + self.rotations}"

    def _sentence(self) -> str:
        pooled = "" if self.rotations is None else f", {self.rotations} over rotations by right angles"
        return f"undecimated {self.wavelet} wavelet, band {self.band} of level {self.level}{pooled} (IBSI 25BO)"

    def _chains(self) -> tuple[Chain, Chain, Chain]:
        return in_array_order([axis_kernels.wavelet_chain(self.wavelet, band, self.level) for band in self.band])

    def _reach(self, spacing_mm: Triple) -> tuple[int, int, int]:
        z, y, x = (axis_kernels.chain_reach(chain) for chain in self._chains())
        return z, y, x

    def _respond(self, values: torch.Tensor, spacing_mm: Triple) -> torch.Tensor:
        if self.rotations is None:
            return convolve(values, self._chains(), self.boundary)
        require_isotropic(spacing_mm, self.dimensions, "a wavelet that is pooled over rotations")
        return convolve_rotated(values, self._chains(), self.boundary, self.rotations)

    def decimated(self, values: Array, spacing_mm: Triple, *, device: str | torch.device | None = None) -> FloatArray:
        """Response of the decimated transform, which keeps every other voxel after each level.

        Parameters
        ----------
        values, spacing_mm, device
            As for :meth:`apply`.

        Returns
        -------
        array (z, y, x), float64
            ``ceil(n / 2)`` voxels a level along each filtered axis, the first of them at the image's first voxel.

        Raises
        ------
        FormatError
            If the filter pools over rotations: the kept voxels would differ between them.
        """
        if self.rotations is not None:
            raise FormatError(f"rotations must be None to decimate; got {self.rotations!r} ({self.name}). Use apply, or a filter without rotations.")
        tensor = as_tensor(values, spacing_mm, float64_device(device))
        every = (slice(None, None, 1 if self.dimensions == 2 else 2), slice(None, None, 2), slice(None, None, 2))
        for step in range(1, self.level + 1):
            bands = self.band if step == self.level else "L" * self.dimensions
            chains = in_array_order([axis_kernels.wavelet_chain(self.wavelet, band, 1) for band in bands])
            tensor = convolve(tensor, chains, self.boundary)[every].contiguous()
        return np.asarray(tensor.cpu().numpy())


@dataclass(frozen=True)
class SimoncelliWavelet(BaseFilter):
    """Band-pass response of the non-separable Simoncelli wavelet (IBSI LODD): the same in every direction.

    Parameters
    ----------
    level : int
        From 1, the finest; each level halves the frequencies.
    dimensions
        See :class:`~idx.radiomics.filters_base.BaseFilter`.
    boundary : str
        "periodic", the spectrum of the image itself, as for the references of IBSI 2. Under another boundary the image is first
        extended to either side, by 32 voxels at level 1 and twice as many at each further level.

    Notes
    -----
    The filter is its gain at each frequency, so that every voxel takes part in every response. IBSI spreads the n frequencies of
    an axis evenly from -1 to 1 times Nyquist, which stretches them by n / (n - 1): responses depend a little on the size of the
    image, extended or not.
    """

    level: int = 1
    boundary: str = field(default="periodic", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_level(self.level, "SimoncelliWavelet")

    def _stem(self) -> str:
        return f"simoncelli_{self.level}"

    def _sentence(self) -> str:
        return f"Simoncelli wavelet, band-pass of level {self.level} (IBSI LODD)"

    def margin_voxels(self, spacing_mm: Triple) -> None:
        """None: the whole image takes part."""

    def _reach(self, spacing_mm: Triple) -> tuple[int, int, int]:
        margin = 16 << self.level
        return margin if self.dimensions == 3 else 0, margin, margin

    def _gain(self) -> Gain:
        return simoncelli_gain(self.level)

    def _respond(self, values: torch.Tensor, spacing_mm: Triple) -> torch.Tensor:
        require_isotropic(spacing_mm, self.dimensions, "a Simoncelli wavelet")
        return apply_gain(values, self._gain(), _axes(self.dimensions), self._reach(spacing_mm)[2], self.boundary)


@dataclass(frozen=True)
class RieszFilter(BaseFilter):
    """A component of the Riesz transform of an isotropic filter's response (IBSI AYRS): its direction, without more of it.

    Parameters
    ----------
    base : LaplacianOfGaussian or SimoncelliWavelet
        Dimensions and boundary are its.
    order : tuple of int
        Orders along x, y and, in space, z: (1, 0, 0) is like a first derivative along x, (0, 2, 0) like a second along y.

    Notes
    -----
    Steering by the structure tensor is not built: IBSI 2 found no valid reference for it. Every voxel takes part in every
    response; unless the boundary is periodic, the image is first extended.
    """

    base: LaplacianOfGaussian | SimoncelliWavelet
    order: Sequence[int]
    dimensions: int = field(init=False)
    boundary: str = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.base, LaplacianOfGaussian | SimoncelliWavelet):
            raise FormatError(f"base must be a LaplacianOfGaussian or SimoncelliWavelet; got {type(self.base).__name__} (RieszFilter). Pass one of them.")
        object.__setattr__(self, "dimensions", self.base.dimensions)
        object.__setattr__(self, "boundary", self.base.boundary)
        object.__setattr__(self, "order", tuple(self.order))
        if len(self.order) != self.dimensions or not all(isinstance(n, int) and 0 <= n <= 9 for n in self.order) or not any(self.order):
            raise FormatError(
                f"order must be {self.dimensions} whole numbers of 0 to 9, not all 0; got {self.order} with dimensions={self.dimensions} of the base. "
                f"Pass for example {(1, 0, 0)[: self.dimensions]}."
            )

    @property
    def name(self) -> str:
        """Prefix of columns: the orders, then the base's name."""
        return f"{self._stem()}_{self.base.name}"

    def _stem(self) -> str:
        return "riesz_" + "".join(map(str, self.order))

    def _sentence(self) -> str:
        return f"Riesz transform of order {self.order} (IBSI AYRS) of the {self.base._sentence()}"

    def params(self) -> dict[str, Setting]:
        """Settings as plain values that fit a file, those of the base under "base_"."""
        return {"filter": "RieszFilter", "order": ", ".join(map(str, self.order))} | {f"base_{key}": value for key, value in self.base.params().items()}

    def margin_voxels(self, spacing_mm: Triple) -> None:
        """None: the whole image takes part."""

    def _reach(self, spacing_mm: Triple) -> tuple[int, int, int]:
        z, y, x = (n and n + RIESZ_MARGIN for n in self.base._reach(spacing_mm))
        return z, y, x

    def _respond(self, values: torch.Tensor, spacing_mm: Triple) -> torch.Tensor:
        require_isotropic(spacing_mm, self.dimensions, "a Riesz transform")
        turn = riesz_gain(self.order[::-1])
        axes, margin = _axes(self.dimensions), self._reach(spacing_mm)[2]
        if isinstance(self.base, SimoncelliWavelet):
            band = self.base._gain()
            return apply_gain(values, lambda *at: turn(*at) * band(*at), axes, margin, self.boundary)
        if self.boundary == "periodic":
            return apply_gain(self.base._respond(values, spacing_mm), turn, axes, 0, "periodic")
        # What lies beyond the border is filtered too, since the transform looks there.
        margins = [(margin, margin) if axis in axes else (0, 0) for axis in range(3)]
        extended = apply_gain(self.base._respond(extend(values, margins, self.boundary), spacing_mm), turn, axes, 0, "periodic")
        return extended[tuple(slice(before, before + n) for (before, _), n in zip(margins, values.shape, strict=True))].contiguous()


def _axes(dimensions: int) -> tuple[int, ...]:
    return tuple(range(3 - dimensions, 3))
