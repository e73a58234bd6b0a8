"""Which features survive another scan and another reader: the same lesions measured under perturbations."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from idx._progress import progress_bar
from idx._repr import card
from idx._typing import Array, BoolArray, FloatArray
from idx.errors import FormatError, IdxError
from idx.provenance import Provenance
from idx.radiomics.extraction import extract
from idx.radiomics.perturbation import DEFAULT_PERTURBATIONS, Perturbation
from idx.radiomics.reliability import VERDICTS, check_confidence, check_kind, intraclass_correlation, verdict
from idx.radiomics.settings import RadiomicsSettings
from idx.settings import current_settings, in_force
from idx.table import FeatureTable
from idx.volume import Mask, Volume

if TYPE_CHECKING:
    import torch

DEFAULT_THRESHOLD = 0.9
UNDEFINED = {
    "constant": "the feature is equal in all lesions and perturbations",
    "too_few_lesions": "fewer than two lesions have the feature in every perturbation",
    "not_asked": "no intraclass correlation was asked for",
}
"""Codes of the table's ``reason``."""


@dataclass(frozen=True, eq=False)
class Stability:
    """How stable features are under perturbation.

    Parameters
    ----------
    table : DataFrame
        One row per feature: ``feature``, ``icc``, ``low``, ``high``, ``cov`` (median over lesions of the coefficient of variation within a lesion),
        ``n_lesions`` (that have the feature in every perturbation; the others were left out of its ICC), ``n_perturbations``, ``verdict`` (Koo and
        Li 2016, of ``low``) and ``reason`` (a code of ``UNDEFINED`` where there is no ICC, else empty).
    values : DataFrame
        Long table of everything that was measured: ``lesion``, ``perturbation``, ``feature``, ``value`` and ``reason`` (of a missing value, else empty).
    icc : str or None
        Which intraclass correlation it is.
    confidence : float
        Coverage of the interval from ``low`` to ``high``.
    perturbations : tuple of Perturbation
    provenance : Provenance
    """

    table: pd.DataFrame
    values: pd.DataFrame
    icc: str | None
    confidence: float
    perturbations: tuple[Perturbation, ...]
    provenance: Provenance

    def stable(self, threshold: float = DEFAULT_THRESHOLD, by: str = "low") -> list[str]:
        """Names of the features that are at least this reliable.

        Parameters
        ----------
        threshold : float
        by : str
            "low" asks it of the interval's lower end, "icc" of the estimate.

        Raises
        ------
        FormatError
            If no intraclass correlation was computed, or ``by`` is something else.
        """
        if by not in ("low", "icc"):
            raise FormatError(f"by must be 'low' or 'icc'; got {by!r}. Pass 'low' to ask it of the interval's lower end.")
        if self.icc is None:
            raise FormatError(
                "stable features need an intraclass correlation; got a study without one (icc=None). Measure several lesions with icc='ICC(1,1)'."
            )
        return list(self.table.loc[self.table[by] >= threshold, "feature"])

    @property
    def variation(self) -> pd.DataFrame:
        """Mean, standard deviation and coefficient of variation over perturbations, of each feature in each lesion.

        Columns ``lesion``, ``feature``, ``mean``, ``sd``, ``cov`` (NaN where the mean is zero) and ``n_perturbations`` (that have a value). A feature
        whose values lie around zero has a large ``cov`` without being unstable.
        """
        groups = self.values.groupby(["lesion", "feature"], sort=False)["value"]
        frame = groups.agg(mean="mean", sd="std", n_perturbations="count").reset_index()
        frame["cov"] = _variation(frame["mean"].to_numpy(), frame["sd"].to_numpy())
        return frame[["lesion", "feature", "mean", "sd", "cov", "n_perturbations"]]

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        n_lesions = self.values["lesion"].nunique()
        rows: list[tuple[str, object]] = [
            ("measured", f"{len(self.table)} features of {n_lesions} lesions under {len(self.perturbations)} perturbations"),
            ("missing values", int((self.values["reason"] != "").sum())),
        ]
        if self.icc is None:
            return [*rows, ("reliability", "not asked for")]
        counts = self.table["verdict"].value_counts()
        rows.append(
            ("reliability", ", ".join(f"{counts.get(name, 0)} {name}" for name in reversed(VERDICTS)) + f" (lower end of the {self.confidence:.0%} interval)")
        )
        undefined = int((self.table["reason"] != "").sum())
        return [*rows, ("kind", self.icc), *([("without an ICC", undefined)] if undefined else [])]

    def __repr__(self) -> str:
        reliable = "no ICC" if self.icc is None else f"{len(self.stable())} with {self.icc} of at least {DEFAULT_THRESHOLD} ({self.confidence:.0%} lower end)"
        return f"Stability({len(self.table)} features, {self.values['lesion'].nunique()} lesions, {len(self.perturbations)} perturbations; {reliable})"

    def _repr_html_(self) -> str:
        shown = self.table.sort_values("low" if self.icc else "cov", ascending=self.icc is None, kind="stable")
        return card("Stability", self.facts()) + shown.to_html(index=False, float_format=lambda v: f"{v:.3f}", max_rows=20)


def stability(
    images: Volume | Sequence[Volume],
    lesions: Mask | Sequence[Mask],
    settings: RadiomicsSettings | None = None,
    *,
    perturbations: Sequence[Perturbation] | None = None,
    icc: str | None = "ICC(1,1)",
    confidence: float = 0.95,
    names: Sequence[str] | None = None,
    seed: int | None = None,
    workers: int | None = None,
    device: str | torch.device | None = None,
    progress: bool | None = None,
) -> Stability:
    """Measure lesions under perturbations and say how reliable each feature is.

    Parameters
    ----------
    images : Volume or sequence of Volume
        One image that holds all lesions, or one for each lesion. A sequence that reads an image when it is asked for keeps one in memory.
    lesions : Mask or sequence of Mask
        On the grid of their image.
    settings : RadiomicsSettings or None
        What is measured. With ``spacing_mm`` the image is interpolated once: onto the turned and shifted grid of that spacing.
    perturbations : sequence of Perturbation or None
        None takes the 18 of ``DEFAULT_PERTURBATIONS``; :func:`perturbation_grid` combines.
    icc : str or None
        "ICC(1,1)" takes perturbations as drawn at random for each lesion; "ICC(A,1)" knows that all lesions had the same ones and counts their
        common effect against the feature; "ICC(C,1)" forgives a common effect. None computes none: all that one lesion allows.
    confidence : float
        Coverage of the two-sided interval.
    names : sequence of str or None
        Names of the lesions, each once. None takes their labels, numbered where two are equal.
    seed : int or None
        Of the noise; None means the setting. A lesion's noise depends on the seed, its name and the perturbation only, not on the order or the number
        of workers.
    workers : int or None
        Threads; None means the setting.
    device : str, torch.device or None
        Where features are computed; None means the setting.
    progress : bool or None
        Whether a bar may appear; None means the setting.

    Returns
    -------
    Stability

    Raises
    ------
    FormatError
        If there is one lesion and an ICC is asked for, if names or perturbations repeat, or their number is wrong.
    GeometryError
        If a mask is empty, lies on another grid, or vanishes under a perturbation; a note says which lesion and perturbation it was.

    Notes
    -----
    Perturbations after Zwanenburg et al., Sci Rep 2019;9:614; intervals after McGraw and Wong, Psychol Methods 1996;1:30-46. The ICC compares the
    scatter within lesions with the differences between them: it holds for lesions as different as these. A feature that is missing for a lesion in one
    perturbation is judged without this lesion. Koo and Li advise at least 30 lesions.

    Examples
    --------
    >>> scans = [idx.testing.ball(radius_mm=r, spacing_mm=1.0) for r in (4.0, 5.0, 6.0)]
    >>> shape = RadiomicsSettings(families=("shape",), features=("voxel_volume", "elongation"))
    >>> turns = [Perturbation(rotation_deg=turn) for turn in (-10.0, 0.0, 10.0)]
    >>> study = stability([s.ct for s in scans], [s.mask for s in scans], shape, perturbations=turns)
    >>> study.stable()
    ['voxel_volume_mm3']
    """
    settings = settings or RadiomicsSettings()
    masks = [lesions] if isinstance(lesions, Mask) else lesions
    chosen = DEFAULT_PERTURBATIONS if perturbations is None else tuple(perturbations)
    named = _lesion_names(masks, names)
    _check(images, len(named), chosen, icc, confidence)
    seed = current_settings().seed if seed is None else seed
    tables = _measured(images, masks, named, settings, chosen, seed=seed, workers=workers, device=device, progress=progress)
    values = _long(tables, named, chosen)
    features = list(tables[0].values.columns)
    cube = values["value"].to_numpy().reshape(len(named), len(chosen), len(features))
    made = Provenance(
        "idx.radiomics.stability",
        settings.step_params()
        | {"settings": settings.name, "icc": icc, "confidence": confidence, "seed": seed, "perturbations": "; ".join(p.name for p in chosen)},
        tuple(named),
        tables[0].provenance.device if tables[0].provenance else "cpu",
    )
    return Stability(_judged(cube, features, icc, confidence), values, icc, confidence, chosen, made)


def _lesion_names(lesions: Sequence[Mask], names: Sequence[str] | None) -> list[str]:
    if names is None:
        labels = [lesion.label for lesion in lesions]
        return labels if len(set(labels)) == len(labels) else [f"{i} {label}" for i, label in enumerate(labels, 1)]
    if len(names) != len(lesions) or len(set(names)) != len(names):
        raise FormatError(f"names must be one for each of {len(lesions)} lesions, each once; got {list(names)}. Leave them out to number the labels.")
    return list(names)


def _check(images: Volume | Sequence[Volume], n_lesions: int, perturbations: tuple[Perturbation, ...], icc: str | None, confidence: float) -> None:
    if not isinstance(images, Volume) and len(images) != n_lesions:
        raise FormatError(f"images must be one, or one for each lesion; got {len(images)} images for {n_lesions} lesions. Repeat an image that holds several.")
    names = [p.name for p in perturbations]
    if len(names) < 2 or len(set(names)) != len(names):
        raise FormatError(f"perturbations must be at least 2, no two alike; got {names}. Give each noise its own repeat, or leave them out.")
    check_confidence(confidence)
    if icc is not None:
        check_kind(icc)
    if n_lesions < (1 if icc is None else 2):
        raise FormatError(
            f"lesions must be at least 2 for an intraclass correlation, better 30; got {n_lesions}. "
            "Pass more lesions, or icc=None and look at .variation of the one."
        )


def _measured(
    images: Volume | Sequence[Volume],
    lesions: Sequence[Mask],
    names: list[str],
    settings: RadiomicsSettings,
    perturbations: tuple[Perturbation, ...],
    *,
    seed: int,
    workers: int | None,
    device: str | torch.device | None,
    progress: bool | None,
) -> list[FeatureTable]:
    """One table per lesion and perturbation, lesion by lesion."""
    tables: list[FeatureTable] = []
    caller = current_settings()
    # The threads are spent on perturbations; what is measured inside one must not open as many again.
    inner = replace(caller, workers=1)

    def measure(image: Volume, lesion: Mask, name: str, perturbation: Perturbation) -> FeatureTable:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(perturbation.name.encode())])
        try:
            with in_force(inner):
                perturbed = perturbation.apply(image, lesion, rng, settings=settings)
                return extract(*perturbed, settings.replace(spacing_mm=None), device=device)
        except IdxError as error:
            error.add_note(f"lesion '{name}', perturbation '{perturbation.name}'")
            raise

    pool = ThreadPoolExecutor(workers or caller.workers, thread_name_prefix="idx-stability")
    try:
        with progress_bar(len(names) * len(perturbations), "perturbing lesions", shown=progress) as advance:
            for image, lesion, name in zip(_each(images, len(names)), lesions, names, strict=True):
                for job in [pool.submit(measure, image, lesion, name, perturbation) for perturbation in perturbations]:
                    tables.append(job.result())
                    advance(1)
    finally:
        pool.shutdown(cancel_futures=True)
    return tables


def _each(images: Volume | Sequence[Volume], n: int) -> Iterator[Volume]:
    return iter([images] * n) if isinstance(images, Volume) else iter(images)


def _long(tables: list[FeatureTable], names: list[str], perturbations: tuple[Perturbation, ...]) -> pd.DataFrame:
    features = list(tables[0].values.columns)
    index = pd.MultiIndex.from_product([names, [p.name for p in perturbations], features], names=["lesion", "perturbation", "feature"])
    reasons = [dict(zip(table.status["feature"], table.status["reason"], strict=True)) for table in tables]
    frame = pd.DataFrame(
        {
            "value": np.concatenate([table.values[features].to_numpy().ravel() for table in tables]),
            "reason": [reason.get(feature, "") for reason in reasons for feature in features],
        },
        index=index,
    )
    return frame.reset_index()


def _judged(cube: FloatArray, features: list[str], icc: str | None, confidence: float) -> pd.DataFrame:
    """One row per feature, from values (lesions, perturbations, features)."""
    complete: BoolArray = np.asarray(np.isfinite(cube).all(axis=1))
    n_lesions = complete.sum(axis=0)
    reliability = np.full((3, len(features)), np.nan)
    reasons: Array = np.where(n_lesions < 2, "too_few_lesions", "constant").astype(object)
    if icc is None:
        reasons[:] = "not_asked"
    else:
        for kept, columns in _by_lesions(complete[:, n_lesions >= 2], np.flatnonzero(n_lesions >= 2)):
            reliability[:, columns] = intraclass_correlation(cube[kept][:, :, columns], kind=icc, confidence=confidence)
        reasons[np.isfinite(reliability[0])] = ""
    within = _variation(cube.mean(axis=1), cube.std(axis=1, ddof=1))
    low = reliability[1]
    return pd.DataFrame(
        {
            "feature": features,
            "icc": reliability[0],
            "low": low,
            "high": reliability[2],
            "cov": [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan for column in within.T],
            "n_lesions": n_lesions,
            "n_perturbations": cube.shape[1],
            "verdict": ["" if np.isnan(limit) else verdict(limit) for limit in low],
            "reason": reasons,
        }
    )


def _by_lesions(complete: BoolArray, columns: Array) -> Iterator[tuple[BoolArray, Array]]:
    """Features that have the same lesions, together: (lesions, features)."""
    patterns, group = np.unique(complete.T, axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        yield np.asarray(pattern), columns[group.ravel() == i]


def _variation(mean: FloatArray, sd: FloatArray) -> FloatArray:
    return np.divide(sd, np.abs(mean), out=np.full(mean.shape, np.nan), where=mean != 0)
