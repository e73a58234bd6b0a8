"""What the image filters share: dimensions, boundary, checks of image and settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from idx._typing import Array, FloatArray, Triple
from idx.errors import FormatError, GeometryError, MissingDependency, UnitError
from idx.kernels.convolution import BOUNDARIES, POOLINGS, Chain
from idx.provenance import Setting
from idx.settings import resolve_device

if TYPE_CHECKING:
    import torch

ISOTROPY_TOLERANCE = 1e-3
"""Largest relative difference of spacings that still counts as equal: headers state them to about four digits."""


@dataclass(frozen=True, kw_only=True)
class BaseFilter(ABC):
    """What all filters of this package share.

    Parameters
    ----------
    dimensions : int
        3 filters in space, 2 slice by slice along z.
    boundary : str
        What stands beyond the border of the image: "zero", "nearest" (the border's value), "periodic" (the image again) or
        "mirror" (the image turned over, the border voxel twice).
    """

    dimensions: int = 3
    boundary: str = "mirror"

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 3):
            raise FormatError(f"dimensions must be 2 (slice by slice) or 3; got {self.dimensions!r} ({type(self).__name__}). Pass one of them.")
        if self.boundary not in BOUNDARIES:
            raise FormatError(f"boundary must be one of {', '.join(BOUNDARIES)}; got {self.boundary!r} ({type(self).__name__}). Pass one of them.")

    @property
    def name(self) -> str:
        """Prefix of columns, a valid identifier, different for different settings; defaults are left out."""
        flat = "_2d" if self.dimensions == 2 else ""
        usual = next(field.default for field in fields(self) if field.name == "boundary")
        return self._stem() + flat + ("" if self.boundary == usual else f"_{self.boundary}")

    @property
    def definition(self) -> str:
        """What the filter does, in a sentence, with its IBSI code."""
        return f"{self._sentence()}, {'slice by slice' if self.dimensions == 2 else 'in space'}, boundary {self.boundary}"

    def params(self) -> dict[str, Setting]:
        """Settings as plain values that fit a file."""
        return {"filter": type(self).__name__} | {field.name: getattr(self, field.name) for field in fields(self)}

    def margin_voxels(self, spacing_mm: Triple) -> tuple[int, int, int] | None:
        """Voxels (x, y, z) around a box that decide the response in it.

        Parameters
        ----------
        spacing_mm : tuple
            Voxel spacing (x, y, z) in mm.

        Returns
        -------
        tuple of int or None
            A box grown by these, or up to the image's border, gives the responses of the whole image. None where every voxel
            of the image takes part: a periodic boundary, or a filter that is defined by its gain at each frequency.
        """
        if self.boundary == "periodic":
            return None
        z, y, x = self._reach(spacing_mm)
        return x, y, z

    def apply(self, values: Array, spacing_mm: Triple, *, device: str | torch.device | None = None) -> FloatArray:
        """Filter an image.

        Parameters
        ----------
        values : array (z, y, x)
            Finite intensities of any type.
        spacing_mm : tuple
            Voxel spacing (x, y, z) in mm.
        device : str, torch.device or None
            Where to compute, in float64; None means the setting.

        Returns
        -------
        array (z, y, x), float64

        Raises
        ------
        GeometryError
            If the array is not (z, y, x), or the spacing does not suit the filter.
        UnitError
            If an intensity is NaN or infinite.
        """
        tensor = as_tensor(values, spacing_mm, float64_device(device))
        return np.asarray(self._respond(tensor, spacing_mm).cpu().numpy())

    @abstractmethod
    def _stem(self) -> str:
        """Name without dimensions and boundary."""

    @abstractmethod
    def _sentence(self) -> str:
        """Definition without dimensions and boundary."""

    @abstractmethod
    def _reach(self, spacing_mm: Triple) -> tuple[int, int, int]:
        """Voxels (z, y, x) that decide a response, to either side."""

    @abstractmethod
    def _respond(self, values: torch.Tensor, spacing_mm: Triple) -> torch.Tensor:
        """Response (z, y, x) to a float64 tensor (z, y, x), which stays as it is."""


def float64_device(device: str | torch.device | None) -> torch.device:
    """Device that computes in float64: the one asked for, or where none was, the CPU in place of one that cannot."""
    target = resolve_device(device)
    if target.type != "mps":
        return target
    if device is None:
        return resolve_device("cpu")
    raise MissingDependency(f"device must compute in float64; got '{target}'. Pass device='cpu'.")


def as_tensor(values: Array, spacing_mm: Triple, device: torch.device) -> torch.Tensor:
    """Image as float64 tensor (z, y, x) on a device, after checking it and its spacing."""
    import torch

    if np.ndim(values) != 3 or 0 in np.shape(values):
        raise GeometryError(f"image must be a non-empty array (z, y, x); got shape {np.shape(values)}. Give a 2-D image a first axis: values[None].")
    if len(spacing_mm) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise GeometryError(f"spacing_mm must be three positive mm (x, y, z); got {spacing_mm}. Pass for example (1.0, 1.0, 3.0).")
    array = np.ascontiguousarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UnitError("intensities must be finite to be filtered; got NaN or infinity. Fill them first, with air (-1000 HU) for example.")
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)


def require_isotropic(spacing_mm: Triple, dimensions: int, what: str) -> None:
    """Raise unless voxels have equal edges, in the slice for a filter that works slice by slice."""
    edges = spacing_mm[:dimensions]
    if max(edges) > min(edges) * (1 + ISOTROPY_TOLERANCE):
        remedy = "Resample first: pass spacing_mm=1.0" + (", or filter slice by slice with dimensions=2." if dimensions == 3 else ".")
        raise GeometryError(f"voxels must be isotropic for {what}; got {spacing_mm} mm (x, y, z). {remedy}")


def label(value: float) -> str:
    """Number as part of an identifier: 1.5 is "1p5"."""
    return repr(float(value)).removesuffix(".0").replace(".", "p").replace("-", "m").replace("+", "")


def require_positive(value: float, what: str, unit: str) -> None:
    """Raise unless a size is a positive number."""
    if not (np.isfinite(value) and value > 0):
        raise UnitError(f"{what} must be positive {unit}; got {value!r}. Pass for example {what}=3.0.")


def require_pooling(pooling: str | None, what: str) -> None:
    """Raise unless a way of pooling rotations is known."""
    if pooling is not None and pooling not in POOLINGS:
        raise FormatError(f"{what} must be None, 'max' or 'average'; got {pooling!r}. Pass one of them.")


def in_array_order(per_letter: list[Chain]) -> tuple[Chain, Chain, Chain]:
    """Chains along (z, y, x) of chains given along x, y and, in space, z."""
    x, y, z = [*per_letter, ()][:3]
    return z, y, x
