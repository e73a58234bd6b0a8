"""Lesions in, one row each out: the entry point of radiomics."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from idx._progress import progress_bar
from idx._typing import FloatArray
from idx.errors import FormatError, UnitError
from idx.kernels.engine import Engine, engine_for
from idx.provenance import Provenance, Setting
from idx.radiomics.catalog import LEVEL_FAMILIES, Definition, aggregations_of, definitions
from idx.radiomics.filters import ImageFilter
from idx.radiomics.intensity import ARBITRARY_BINS, intensity_histogram, intensity_statistics, intensity_volume_histogram
from idx.radiomics.local_intensity import PEAK_RADIUS_MM, local_intensity_features
from idx.radiomics.naming import renamed
from idx.radiomics.preparation import Margin, Region, grey_levels, prepare, spacing_of
from idx.radiomics.settings import MULTIPLE, RadiomicsSettings
from idx.radiomics.shape import AUTOCORRELATION, autocorrelation_features, shape_features
from idx.radiomics.texture import LevelVolume, neighbour_features, run_features, zone_features
from idx.settings import current_settings, resolve_device
from idx.table import FeatureSpec, FeatureTable, Missing
from idx.volume import Mask, Volume

if TYPE_CHECKING:
    import torch

RESPONSE_ROUNDING = 1e-13
"""Share of an image's largest intensity below which differences of a response are rounding: a filtered constant is a constant."""
Found = Mapping[str, float | Missing] | Mapping[tuple[str, str], float | Missing]


def extract(
    ct: Volume,
    lesion: Mask | Iterable[Mask],
    settings: RadiomicsSettings | None = None,
    *,
    families: Sequence[str] | None = None,
    columns: str = "name",
    device: str | torch.device | None = None,
) -> FeatureTable:
    """Measure the radiomic features of one or several lesions (IBSI 1; with filters, IBSI 2).

    Parameters
    ----------
    ct : Volume
        CT in HU, or another image (then the intensities have its quantity as unit).
    lesion : Mask or iterable of Mask
        On the image's grid. Each label names a row.
    settings : RadiomicsSettings or None
        How lesions are prepared and what is measured; None measures all IBSI 1 features on the image's own grid, with grey levels of
        25 HU from -1000 HU and textures of the whole volume.
    families : sequence of str or None
        Some of ``idx.radiomics.FAMILIES`` instead of those of the settings.
    columns : str
        Names of the columns: "name", "ibsi_name", "ibsi_code" or "pyradiomics" (see :func:`idx.radiomics.renamed`).
    device : str or None
        "cpu" for compiled kernels on as many threads as the setting ``workers`` says, or a torch device; None means the setting.

    Returns
    -------
    FeatureTable
        One row per lesion, index "lesion". Each column's settings stand in its spec. A feature that is undefined for a lesion is missing with
        its reason in ``status``.

    Raises
    ------
    GeometryError
        If a mask is empty, lies on another grid, or loses all its voxels on the way.
    UnitError
        If grey levels cannot be made from the settings, or intensities inside a lesion are not finite.
    FormatError
        If there is no lesion, two have one label, or a family or a kind of column names is unknown.

    Notes
    -----
    Images with one slice, and lesions within one slice, are measured like any other; pass ``aggregations=("2d_averaged",)`` for textures in slices.

    Examples
    --------
    >>> from idx.geometry import Grid
    >>> grid = Grid.from_spacing((3, 4, 5), (0.8, 0.8, 1.5))
    >>> ct = idx.CTVolume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), grid)
    >>> lesion = idx.Mask(ct.values > 19, grid, "GTV-1")
    >>> table = idx.radiomics.extract(ct, lesion, families=["intensity", "shape"])
    >>> table["mean_intensity_hu"].to_dict()
    {'GTV-1': 39.5}
    """
    if not isinstance(ct, Volume):
        raise FormatError(f"ct must be a CTVolume or another Volume; got {type(ct).__name__}. Read it with idx.read_ct(path).")
    if settings is not None and not isinstance(settings, RadiomicsSettings):
        raise FormatError(f"settings must be RadiomicsSettings; got {type(settings).__name__}. Pass RadiomicsSettings(...) or RadiomicsSettings.ibsi('C').")
    chosen = settings or RadiomicsSettings()
    if families is not None:
        chosen = chosen.replace(families=tuple(families) if not isinstance(families, str) else families)
    lesions = _lesions(lesion)
    plans = [_Plan(chosen, image_filter, ct.quantity if image_filter is None else "response") for image_filter in chosen.filters]
    specs = [spec for plan in plans for spec in plan.specs]
    where = resolve_device(device)
    engine = engine_for(str(where))
    rows = {}
    with progress_bar(len(lesions), "measuring lesions") as advance:
        for mask in lesions:
            rows[mask.label] = _measure(ct, mask, plans, engine)
            advance(1)
    provenance = Provenance("idx.radiomics.extract", _run_params(chosen, ct.quantity), (_input_name(ct), *map(_input_name, lesions)), device=str(where))
    return renamed(FeatureTable.from_rows(rows, specs, index_name="lesion", provenance=provenance), columns)


def _lesions(lesion: Mask | Iterable[Mask]) -> list[Mask]:
    lesions: list[Mask] = [lesion] if isinstance(lesion, Mask) else list(lesion) if isinstance(lesion, Iterable) else []
    strange = next((type(mask).__name__ for mask in lesions if not isinstance(mask, Mask)), None)
    if not lesions or strange is not None:
        raise FormatError(f"lesion must be a Mask or several; got {strange or type(lesion).__name__}. Read it with idx.read_mask(path, like=ct).")
    labels = [mask.label for mask in lesions]
    repeated = next((label for label in labels if labels.count(label) > 1), None)
    if repeated is not None:
        raise FormatError(f"each lesion must have a label of its own; got '{repeated}' twice. Rename one: dataclasses.replace(mask, label='...').")
    return lesions


@dataclass(frozen=True)
class _Plan:
    """What is measured on one image: the image itself, or the response of a filter."""

    settings: RadiomicsSettings
    image_filter: ImageFilter | None
    quantity: str

    def __post_init__(self) -> None:
        # Settings that cannot make grey levels are refused before anything is measured.
        if self.families & set(LEVEL_FAMILIES) and self.settings.n_bins is None:
            self.settings.bin_size_of(self.quantity)

    @cached_property
    def wanted(self) -> tuple[Definition, ...]:
        """Features to measure; the shape does not change under a filter."""
        chosen = definitions(self.settings.families, self.settings.features)
        return tuple(d for d in chosen if self.image_filter is None or d.family != "shape")

    @cached_property
    def families(self) -> set[str]:
        return {definition.family for definition in self.wanted}

    @cached_property
    def keys(self) -> set[str]:
        return {definition.key for definition in self.wanted}

    @cached_property
    def level_settings(self) -> RadiomicsSettings:
        """Settings that make grey levels of this image. Responses do not share the image's range: their bins lie at multiples of their size."""
        if self.settings.n_bins is not None:
            return self.settings
        own = self.image_filter is not None and not isinstance(self.settings.bin_origin, float | int)
        return self.settings.replace(bin_origin=MULTIPLE if own else self.settings.bin_origin_of(self.quantity))

    @cached_property
    def ivh(self) -> dict[str, float | int | None]:
        """Discretisation of the intensity-volume histogram."""
        size, number = self.settings.ivh_bin_size, self.settings.ivh_n_bins
        if size is None and number is None and self.quantity != "hu":
            number = ARBITRARY_BINS
        return {"bin_size": size, "n_bins": number}

    @cached_property
    def entries(self) -> list[tuple[Definition, str | None]]:
        """Feature and aggregation of every column."""
        return [(d, aggregation) for d in self.wanted for aggregation in aggregations_of(d.family, self.settings.aggregations)]

    @cached_property
    def specs(self) -> list[FeatureSpec]:
        """Specification of every column."""
        steps = self.settings.step_params()
        bins = self.level_settings.bin_params(self.quantity) if self.families & set(LEVEL_FAMILIES) else {}
        return [self._spec(definition, aggregation, steps, bins) for definition, aggregation in self.entries]

    def _spec(self, definition: Definition, aggregation: str | None, steps: dict[str, Setting], bins: dict[str, Setting]) -> FeatureSpec:
        params: dict[str, Setting] = {"key": definition.key, "family": definition.family, "formula": definition.formula, "settings": self.settings.name}
        params |= steps
        quantity = self.quantity
        if definition.family in LEVEL_FAMILIES:
            params |= bins
        if definition.family == "ivh":
            params |= {f"ivh_{name}": value for name, value in self.ivh.items()}
            quantity = "1" if self.ivh["n_bins"] is not None else self.quantity
        if aggregation is not None:
            params |= {"aggregation": aggregation, "distance_voxels": 1}
        spec = definition.spec(quantity, params | {"image": "original"}, aggregation=aggregation)
        if self.image_filter is None:
            return spec
        name = self.image_filter.name
        filtered = params | {"image": name} | {f"filter_{key}": value for key, value in self.image_filter.params().items()}
        return FeatureSpec(f"{name}_{spec.name}", spec.unit, f"{spec.definition} Of the response to: {self.image_filter.definition}", spec.ibsi_id, filtered)


def _measure(ct: Volume, lesion: Mask, plans: Sequence[_Plan], engine: Engine) -> dict[str, float | Missing]:
    """One row: all columns of a lesion."""
    settings = plans[0].settings
    margin_mm = PEAK_RADIUS_MM if "local_intensity" in plans[0].families else 0.0
    region = prepare(ct, lesion, settings, margin_mm=margin_mm, margin=_margin(plans, spacing_of(ct, settings)))
    row: dict[str, float | Missing] = {}
    for plan in plans:
        measured = region
        if plan.image_filter is not None:
            if not np.isfinite(region.around).all():
                raise UnitError(
                    f"an image must be finite around a lesion to be filtered; got NaN or infinity (label '{lesion.label}'). Replace it, for example by the "
                    "value of air, first."
                )
            measured = region.with_response(_response(plan.image_filter, region, engine.device))
        found = _found(measured, plan, engine)
        for spec, (definition, aggregation) in zip(plan.specs, plan.entries, strict=True):
            row[spec.name] = found[definition.key if aggregation is None else (definition.key, aggregation)]
    return row


def _response(image_filter: ImageFilter, region: Region, device: str) -> FloatArray:
    """Response of a filter around a lesion; where it varies by no more than the rounding of the image's intensities it is a constant."""
    # An Apple device has no float64, which filters need.
    response = image_filter.apply(region.around, region.spacing_mm, device="cpu" if device.startswith("mps") else device)
    inside = response[region.inner][region.intensity_mask]
    return np.full(response.shape, inside.mean()) if np.ptp(inside) <= RESPONSE_ROUNDING * np.abs(region.around).max() else response


def _margin(plans: Sequence[_Plan], spacing_mm: tuple[float, float, float]) -> Margin:
    margins = [plan.image_filter.margin_voxels(spacing_mm) for plan in plans if plan.image_filter is not None]
    if any(margin is None for margin in margins):
        return None
    x, y, z = np.max([(0, 0, 0), *(margin for margin in margins if margin is not None)], axis=0)
    return int(z), int(y), int(x)


def _found(region: Region, plan: _Plan, engine: Engine) -> dict[str | tuple[str, str], float | Missing]:
    """Every feature of a region that the plan wants, from independent tasks on as many threads as the settings allow."""
    waiting = deque(_tasks(region, plan, engine))

    def work() -> list[Found]:
        done: list[Found] = []
        while True:
            try:
                task = waiting.popleft()
            except IndexError:
                return done
            done.append(task())

    helpers = min(current_settings().workers, len(waiting)) - 1 if engine.device == "cpu" else 0
    if helpers < 1:
        results = work()
    else:
        # The caller works too, and takes the first task, whose large arrays its memory then keeps for the next lesion.
        first = waiting.popleft()
        with ThreadPoolExecutor(helpers) as pool:
            others = [pool.submit(work) for _ in range(helpers)]
            results = [first(), *work(), *(found for other in others for found in other.result())]
    return {key: value for found in results for key, value in found.items()}


def _tasks(region: Region, plan: _Plan, engine: Engine) -> list[Callable[[], Found]]:
    """Pieces of work, the longest first."""
    families, keys = plan.families, plan.keys
    tasks: list[Callable[[], Found]] = []
    if not keys.isdisjoint(AUTOCORRELATION):
        tasks.append(lambda: autocorrelation_features(region, engine))
    if families & set(LEVEL_FAMILIES):
        tasks += _level_tasks(region, plan, engine)
    if not (keys - set(AUTOCORRELATION)).isdisjoint(d.key for d in plan.wanted if d.family == "shape"):
        tasks.append(lambda: shape_features(region, keys, engine))
    if "local_intensity" in families:
        tasks.append(lambda: local_intensity_features(region, engine))
    if "intensity" in families:
        tasks.append(lambda: intensity_statistics(region.intensities))
    if "ivh" in families:
        limits = plan.settings.resegment_range if plan.image_filter is None else None
        tasks.append(lambda: intensity_volume_histogram(region.intensities, limits=limits, **plan.ivh))  # type: ignore[arg-type]
    return tasks


def _level_tasks(region: Region, plan: _Plan, engine: Engine) -> list[Callable[[], Found]]:
    levels, n_levels = grey_levels(region, plan.level_settings)
    placed = np.zeros(region.values.shape, dtype=np.int32)
    placed[region.intensity_mask] = levels
    volume = LevelVolume(placed, n_levels, region.mask)
    by_family: dict[str, tuple[str, ...]] = {family: _textures_of(family, plan.settings.aggregations) for family in plan.families}
    neighbours: dict[str, tuple[str, ...]] = {family: by_family[family] for family in ("glcm", "ngtdm", "ngldm") if family in by_family}
    zones: dict[str, tuple[str, ...]] = {family: by_family[family] for family in ("glszm", "gldzm") if family in by_family}
    tasks: list[Callable[[], Found]] = []
    if "glrlm" in by_family:
        tasks.append(lambda: run_features(volume, by_family["glrlm"], engine))
    if zones:
        tasks.append(lambda: zone_features(volume, zones, engine))
    if neighbours:
        tasks.append(lambda: neighbour_features(volume, neighbours, engine))
    if "histogram" in by_family:
        tasks.append(lambda: intensity_histogram(levels, n_levels))
    return tasks


def _textures_of(family: str, aggregations: Collection[str]) -> tuple[str, ...]:
    return tuple(a for a in aggregations_of(family, tuple(aggregations)) if a is not None)


def _run_params(settings: RadiomicsSettings, quantity: str) -> dict[str, Setting]:
    """Settings of a run as plain values."""
    params: dict[str, Setting] = {"settings": settings.name, **settings.step_params(), "n_bins": settings.n_bins, "bin_size": settings.bin_size}
    if settings.n_bins is None and (quantity == "hu" or settings.bin_size is not None):
        params["bin_size"] = settings.bin_size_of(quantity)
    params |= {
        "bin_origin": settings.bin_origin,
        "ivh_bin_size": settings.ivh_bin_size,
        "ivh_n_bins": settings.ivh_n_bins,
        "aggregations": ", ".join(settings.aggregations),
        "families": ", ".join(settings.families),
        "features": None if settings.features is None else ", ".join(settings.features),
        "images": ", ".join("original" if f is None else f.name for f in settings.filters),
    }
    return params


def _input_name(image: Volume | Mask) -> str:
    if image.source is not None:
        return image.source.path
    return f"{type(image).__name__} in memory"
