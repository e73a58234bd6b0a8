"""Settings of a radiomics run as one small value: how the image is prepared and what is measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from idx._typing import PathLike
from idx.errors import FormatError, GeometryError, UnitError
from idx.provenance import Setting
from idx.radiomics.catalog import FAMILIES, definitions

if TYPE_CHECKING:
    from idx.radiomics.filters import ImageFilter

INTERPOLATIONS = ("linear", "cubic", "nearest")
AGGREGATIONS = ("2d_averaged", "2d_slice_merged", "2.5d_direction_merged", "2.5d_merged", "3d_averaged", "3d_merged")
"""IBSI aggregations of co-occurrence and run length matrices: BTW3, SUJT, JJUI, ZW7Z, ITBB, IAZD. The other texture families know the part
before the underscore only: 2d (8QNN), 2.5d (62GR), 3d (KOBO)."""
DEFAULT_BIN_SIZE_HU = 25.0
AIR_HU = -1000.0
"""Lower edge of grey level 1 on CT where no intensity range is given."""
MAX_LEVELS = 1024
"""More grey levels than this are a mistaken bin size: 13 co-occurrence matrices would need over 100 MB."""
MULTIPLE = "multiple"
"""``bin_origin`` of PyRadiomics: the largest multiple of the bin size that is not above the lesion's smallest intensity."""

Spacing = float | tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class RadiomicsSettings:
    """How a lesion is prepared and which of its features are measured (IBSI 1, chapter 2).

    Parameters
    ----------
    name : str
        Name of this choice of settings, such as "IBSI configuration C"; it stands in the provenance.
    spacing_mm : float, tuple or None
        Spacing, one number or (x, y, z) in mm, that image and mask are resampled to, on a grid with the image's middle (IBSI grid
        alignment). None in a tuple keeps the spacing of that axis: (2.0, 2.0, None) resamples slices. None measures on the image's own grid.
    interpolation : str
        "linear", "cubic" (splines) or "nearest", for the intensities. The mask is interpolated linearly and counts as inside from one half on.
    round_intensities : bool or None
        Whether interpolated intensities are rounded to whole numbers. None rounds CT numbers only.
    resegment_range : tuple of float or None
        Only intensities within (low, high), both included, in the image's unit, count; the shape stays.
    outlier_sigma : float or None
        Only intensities within this many standard deviations of the mean (of those in ``resegment_range``) count.
    bin_size : float or None
        Width of a grey level in the image's unit (IBSI Q3RU). None means 25 HU on CT when ``n_bins`` is not given.
    n_bins : int or None
        Number of grey levels between the smallest and the largest intensity (IBSI K15C), instead of a width.
    bin_origin : float, "multiple" or None
        Lower edge of level 1 for bins of fixed size. None takes the low end of ``resegment_range`` where that is finite, or -1000 HU on CT;
        "multiple" anchors bins at multiples of their size, as PyRadiomics does, so that levels count from the lesion's smallest intensity.
    ivh_bin_size, ivh_n_bins : float, int or None
        Discretisation for the intensity-volume histogram. None for both takes the intensities as they are, in steps of one unit.
    aggregations : tuple of str
        Some of ``AGGREGATIONS``; every texture feature is measured for each. Slices are those of the array's z axis.
    families : tuple of str
        Some of ``idx.radiomics.FAMILIES``.
    features : tuple of str or None
        Keys of the catalogue to measure of these families; None measures all of them.
    filters : tuple
        Images to measure: None stands for the image itself, a filter of ``idx.radiomics`` for its response to it.

    Examples
    --------
    >>> RadiomicsSettings(spacing_mm=1.0, bin_size=25.0).aggregations
    ('3d_merged',)
    >>> RadiomicsSettings.ibsi("E").interpolation
    'cubic'
    """

    name: str = ""
    spacing_mm: Spacing | None = None
    interpolation: str = "linear"
    round_intensities: bool | None = None
    resegment_range: tuple[float, float] | None = None
    outlier_sigma: float | None = None
    bin_size: float | None = None
    n_bins: int | None = None
    bin_origin: float | str | None = None
    ivh_bin_size: float | None = None
    ivh_n_bins: int | None = None
    aggregations: tuple[str, ...] = ("3d_merged",)
    families: tuple[str, ...] = FAMILIES
    features: tuple[str, ...] | None = None
    filters: tuple[ImageFilter | None, ...] = (None,)

    def __post_init__(self) -> None:
        for field in ("aggregations", "families", "features", "filters"):
            given = getattr(self, field)
            if given is not None and not isinstance(given, str):
                object.__setattr__(self, field, tuple(given) if isinstance(given, Iterable) else (given,))
        for field in ("outlier_sigma", "bin_size", "ivh_bin_size"):
            object.__setattr__(self, field, _number(field, getattr(self, field)))
        for field in ("n_bins", "ivh_n_bins"):
            object.__setattr__(self, field, _whole(field, getattr(self, field)))
        if not isinstance(self.bin_origin, str):
            object.__setattr__(self, "bin_origin", _number("bin_origin", self.bin_origin))
        self._check_interpolation()
        self._check_range()
        _check_bins("grey levels", "bin_size", self.bin_size, "n_bins", self.n_bins)
        _check_bins("intensity-volume histogram", "ivh_bin_size", self.ivh_bin_size, "ivh_n_bins", self.ivh_n_bins)
        if self.n_bins is not None and self.n_bins > MAX_LEVELS:
            raise UnitError(f"n_bins must be 2 to {MAX_LEVELS}; got {self.n_bins}. Pass for example 32.")
        if isinstance(self.bin_origin, str) and self.bin_origin != MULTIPLE:
            raise UnitError(f"bin_origin must be a number in the image's unit, 'multiple' or None; got '{self.bin_origin}'. Pass for example -1000.0.")
        unknown = [a for a in self.aggregations if a not in AGGREGATIONS]
        if unknown or not self.aggregations or isinstance(self.aggregations, str):
            raise FormatError(f"aggregations must be some of {', '.join(AGGREGATIONS)}; got {self.aggregations!r}. Pass ('3d_merged',) for isotropic voxels.")
        if not self.filters or not all(f is None or (hasattr(f, "apply") and not isinstance(f, type)) for f in self.filters):
            raise FormatError(f"filters must be filters of idx.radiomics, or None for the image itself; got {self.filters!r}. Pass for example (None,).")
        names = [None if f is None else f.name for f in self.filters]
        if len(set(names)) != len(names):
            raise FormatError(f"filters must differ from each other; got {names}. Pass each once.")
        definitions(self.families, self.features)

    def _check_interpolation(self) -> None:
        spacing = self.spacing_mm
        if spacing is not None:
            several = isinstance(spacing, Iterable) and not isinstance(spacing, str)
            given = tuple(_number("spacing_mm", mm) for mm in (spacing if several else (spacing,)))  # type: ignore[union-attr]
            if len(given) not in (1, 3) or not all(mm is None or mm > 0 for mm in given):
                raise GeometryError(f"spacing_mm must be one or three positive mm (x, y, z); got {spacing}. Pass 2.0, or (1.0, 1.0, None).")
            object.__setattr__(self, "spacing_mm", given[0] if len(set(given)) == 1 else given)
        if self.interpolation not in INTERPOLATIONS:
            raise FormatError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}; got '{self.interpolation}'. Pass one of them.")

    def _check_range(self) -> None:
        limits = self.resegment_range
        if limits is not None:
            try:
                low, high = (float(limit) for limit in limits)
            except (TypeError, ValueError):
                low, high = math.nan, math.nan
            if not low < high:
                raise UnitError(f"resegment_range must be (low, high) in the image's unit with low < high; got {limits}. Pass for example (-1000, 400).")
            object.__setattr__(self, "resegment_range", (low, high))
        if self.outlier_sigma is not None and not self.outlier_sigma > 0:
            raise UnitError(f"outlier_sigma must be positive; got {self.outlier_sigma}. Pass 3.0, or None to keep all voxels.")

    @classmethod
    def ibsi(cls, configuration: str) -> Self:
        """Settings of an IBSI 1 configuration, "A" to "E".

        Notes
        -----
        IBSI reference manual, section 5.2.2. A and B are measured in slices, C to E in 3-D.

        Raises
        ------
        FormatError
            If there is no such configuration.
        """
        if configuration not in _IBSI:
            raise FormatError(f"an IBSI configuration must be one of {', '.join(_IBSI)}; got '{configuration}'. Pass for example 'C'.")
        return cls(name=f"IBSI configuration {configuration}", **_IBSI[configuration])  # type: ignore[arg-type]

    @classmethod
    def from_pyradiomics(cls, parameters: PathLike | Mapping[str, object]) -> Self:
        """Settings that measure what a PyRadiomics parameter file (YAML, or its content) asks for.

        Parameters
        ----------
        parameters : path or mapping
            A parameter file of PyRadiomics, or its sections ``setting``, ``imageType`` and ``featureClass``.

        Raises
        ------
        FormatError
            If the file cannot be read, or asks for something that idx does not do; the message names the entry and what to do instead.

        Notes
        -----
        Where PyRadiomics departs from IBSI and idx follows IBSI is listed in ``idx.radiomics.PYRADIOMICS_DEVIATIONS``.
        """
        from idx.radiomics.pyradiomics import settings_from_parameters

        return cls(**settings_from_parameters(parameters))  # type: ignore[arg-type]

    def replace(self, **changes: object) -> Self:
        """Return these settings with some fields changed.

        Examples
        --------
        >>> RadiomicsSettings.ibsi("C").replace(bin_size=10.0).bin_size
        10.0
        """
        return replace(self, **changes)  # type: ignore[arg-type]

    def bin_origin_of(self, quantity: str) -> float | str:
        """Lower edge of level 1 of bins of fixed size on an image of a quantity, or "multiple".

        Raises
        ------
        UnitError
            If nothing says where the bins start.
        """
        if self.bin_origin is not None:
            return self.bin_origin
        if self.resegment_range is not None and math.isfinite(self.resegment_range[0]):
            return float(self.resegment_range[0])
        if quantity == "hu":
            return AIR_HU
        raise UnitError(
            f"bin_origin must be given for bins of fixed size on an image that is not in HU; got None (quantity '{quantity}'). "
            "Pass bin_origin=0.0, 'multiple' or resegment_range, or n_bins instead of bin_size."
        )

    def bin_size_of(self, quantity: str) -> float:
        """Width of a grey level on an image of a quantity.

        Raises
        ------
        UnitError
            If neither ``bin_size`` nor ``n_bins`` says how an image that is not in HU becomes grey levels.
        """
        if self.bin_size is not None:
            return self.bin_size
        if quantity == "hu":
            return DEFAULT_BIN_SIZE_HU
        raise UnitError(f"n_bins or bin_size must be given for an image that is not in HU; got None (quantity '{quantity}'). Pass n_bins=32, for example.")

    def step_params(self) -> dict[str, Setting]:
        """Settings that every feature depends on, as plain values that fit a file."""
        limits, spacing = self.resegment_range, self.spacing_mm
        each = (spacing,) * 3 if isinstance(spacing, float | int) else spacing
        return {
            "spacing_mm": None if each is None else " x ".join("own" if mm is None else f"{mm:g}" for mm in each),
            "interpolation": None if spacing is None else self.interpolation,
            "round_intensities": self.round_intensities,
            "resegment_range": None if limits is None else f"{limits[0]:g} to {limits[1]:g}",
            "outlier_sigma": self.outlier_sigma,
        }

    def bin_params(self, quantity: str) -> dict[str, Setting]:
        """Settings of the grey levels, defaults filled in."""
        if self.n_bins is not None:
            return {"n_bins": self.n_bins}
        return {"bin_size": self.bin_size_of(quantity), "bin_origin": self.bin_origin_of(quantity)}

    def ivh_params(self) -> dict[str, Setting]:
        """Settings of the intensity-volume histogram."""
        return {"ivh_bin_size": self.ivh_bin_size, "ivh_n_bins": self.ivh_n_bins}


def _number(name: str, given: object) -> float | None:
    """Finite number of whatever type it came as."""
    if given is None:
        return None
    try:
        number = math.nan if isinstance(given, str | bool) else float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UnitError(f"{name} must be a finite number; got {given!r}. Pass for example 25.0.")
    return number


def _whole(name: str, given: object) -> int | None:
    if given is None:
        return None
    number = _number(name, given)
    if number != int(number):  # type: ignore[arg-type]
        raise UnitError(f"{name} must be a whole number; got {given!r}. Pass for example 32.")
    return int(number)


def _check_bins(what: str, size_name: str, size: float | None, number_name: str, number: int | None) -> None:
    if size is not None and number is not None:
        raise UnitError(f"{what} must be set by {size_name} or {number_name}; got both ({size}, {number}). Pass one of them.")
    if size is not None and not (math.isfinite(size) and size > 0):
        raise UnitError(f"{size_name} must be positive; got {size}. Pass for example 25.0.")
    if number is not None and number < 2:
        raise UnitError(f"{number_name} must be at least 2; got {number}. Pass for example 32.")


_IN_SLICES: dict[str, object] = {"aggregations": AGGREGATIONS[:4], "resegment_range": (-500.0, 400.0)}
_IN_3D: dict[str, object] = {"aggregations": AGGREGATIONS[4:], "spacing_mm": 2.0}
_IBSI: dict[str, dict[str, object]] = {
    "A": _IN_SLICES | {"bin_size": 25.0},
    "B": _IN_SLICES | {"spacing_mm": (2.0, 2.0, None), "n_bins": 32},
    "C": _IN_3D | {"resegment_range": (-1000.0, 400.0), "bin_size": 25.0, "ivh_bin_size": 2.5},
    "D": _IN_3D | {"outlier_sigma": 3.0, "n_bins": 32},
    "E": _IN_3D | {"interpolation": "cubic", "resegment_range": (-1000.0, 400.0), "outlier_sigma": 3.0, "n_bins": 32, "ivh_n_bins": 1000},
}
