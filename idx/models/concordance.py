"""Harrell's concordance index, by pairs, so that it can be restricted to a fold and bootstrapped over patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from idx._typing import BoolArray, FloatArray, IntArray
from idx.errors import FormatError


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Comparable pairs of patients.

    Parameters
    ----------
    concordant : array (n, n)
        1 where i failed before j and had the higher risk, 0.5 where the risks tie, else 0.
    comparable : array (n, n)
        1 where it is known that i failed before j.
    """

    concordant: FloatArray
    comparable: FloatArray

    def __add__(self, other: PairCounts) -> PairCounts:
        return PairCounts(self.concordant + other.concordant, self.comparable + other.comparable)

    def c_index(self, weights: FloatArray | None = None) -> FloatArray:
        """Share of concordant among comparable pairs; ``weights`` (..., n) counts each patient several times (bootstrap)."""
        w = np.ones(len(self.comparable)) if weights is None else weights
        total = ((w @ self.comparable) * w).sum(axis=-1)
        if np.any(total == 0):
            raise FormatError("a c-index must have at least one comparable pair; got none. Use fewer folds or more patients with events.")
        result: FloatArray = ((w @ self.concordant) * w).sum(axis=-1) / total
        return result


def pair_counts(time: npt.ArrayLike, event: npt.ArrayLike, risk: npt.ArrayLike, *, groups: IntArray | None = None) -> PairCounts:
    """Compare all pairs of patients.

    Parameters
    ----------
    time, event, risk : array (n,)
        Times, True for an event, and a risk: higher means an earlier event. The sign is never chosen from the data.
    groups : array of int (n,), optional
        Only pairs within one group count, such as a test fold: risks of different fits need not share a scale.
        A patient whose risk is NaN is in no pair.

    Notes
    -----
    A pair is comparable when the earlier time is an event; at equal times when exactly one is an event (Harrell et al., JAMA 1982;247:2543).
    """
    t, e, r = np.asarray(time, dtype=np.float64), np.asarray(event, dtype=bool), np.asarray(risk, dtype=np.float64)
    earlier = (t[:, None] < t[None, :]) | ((t[:, None] == t[None, :]) & ~e[None, :])
    known: BoolArray = earlier & e[:, None] & ~np.isnan(r)[:, None] & ~np.isnan(r)[None, :]
    if groups is not None:
        known &= groups[:, None] == groups[None, :]
    comparable = known.astype(np.float64)
    concordant = comparable * ((r[:, None] > r[None, :]) + 0.5 * (r[:, None] == r[None, :]))
    return PairCounts(concordant, comparable)


def bootstrap_interval(pairs: PairCounts, *, n_resamples: int, confidence: float, rng: np.random.Generator) -> tuple[float, float]:
    """Percentile interval of the c-index over patients drawn with replacement."""
    n = len(pairs.comparable)
    estimates = []
    for start in range(0, n_resamples, 100):
        draws = rng.integers(0, n, size=(min(100, n_resamples - start), n))
        weights = np.stack([np.bincount(draw, minlength=n) for draw in draws]).astype(np.float64)
        estimates.append(pairs.c_index(weights))
    low, high = np.quantile(np.concatenate(estimates), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
