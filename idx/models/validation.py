"""Honest evidence: everything is fitted inside the fold, and every figure has its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from idx._repr import card
from idx.errors import FormatError
from idx.models._sklearn import clone
from idx.models.blocks import Blocks, Survival
from idx.models.concordance import PairCounts, bootstrap_interval, pair_counts
from idx.models.split import patient_folds


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What cross-validation found.

    Parameters
    ----------
    c_index, c_index_low, c_index_high : float
        Harrell's c of out-of-fold risks, pairs compared within their test fold, with a bootstrap interval over patients.
    confidence : float
        Coverage of the interval.
    blocks : DataFrame
        The same for each block alone: columns c_index, c_index_low, c_index_high, n_patients.
    risk : Series
        Out-of-fold risk per patient, mean over repeats.
    high_risk : Series
        Whether the patient's out-of-fold risk exceeded the median risk of that fold's training patients (first repeat):
        the cut-point never sees the patient.
    outcome : Survival
    n_splits, n_repeats, seed : int

    Notes
    -----
    The interval covers the sampling of test patients, not the refitting of the model on another cohort, and is therefore a little narrow.
    """

    c_index: float
    c_index_low: float
    c_index_high: float
    confidence: float
    blocks: pd.DataFrame
    risk: pd.Series
    high_risk: pd.Series
    outcome: Survival
    n_splits: int
    n_repeats: int
    seed: int

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        rows: list[tuple[str, object]] = [
            ("patients", f"{len(self.outcome)}, {int(self.outcome.event.sum())} events"),
            ("c-index, all blocks", _interval(self.c_index, self.c_index_low, self.c_index_high)),
        ]
        rows += [(f"c-index, {name} alone", _interval(row.c_index, row.c_index_low, row.c_index_high)) for name, row in self.blocks.iterrows()]
        return [*rows, ("validation", f"{self.n_repeats} x {self.n_splits}-fold, {self.confidence:.0%} bootstrap interval over patients")]

    def __repr__(self) -> str:
        return f"Evaluation(c-index {_interval(self.c_index, self.c_index_low, self.c_index_high)}, {self.outcome!r})"

    def _repr_html_(self) -> str:
        return card("Evaluation", self.facts())


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def evaluate(
    model: Any,
    blocks: Blocks,
    outcome: Survival,
    *,
    n_splits: int = 5,
    n_repeats: int = 1,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Cross-validate a fusion model by patient.

    Parameters
    ----------
    model : estimator
        With ``fit(blocks, outcome)``, ``predict(blocks, patients)`` and ``predict_blocks(blocks, patients)``; cloned, never changed.
    blocks : Blocks
    outcome : Survival
        Patients to use; each must have at least one block.
    n_splits, n_repeats : int
        Folds, stratified by event, and how often they are redrawn.
    n_bootstrap : int
        Resamples of patients for the intervals.
    confidence : float
        Coverage of the intervals, in (0, 1).
    seed : int
        Seed of folds and resamples.

    Raises
    ------
    FormatError
        If a patient with an outcome has no block, or folds are too many for the events.
    """
    if not 0 < confidence < 1:
        raise FormatError(f"confidence must be between 0 and 1; got {confidence}. Pass 0.95 for a 95 % interval.")
    patients = outcome.patients
    columns = ["all", *blocks.names]
    risks = [pd.DataFrame(np.nan, index=patients, columns=columns) for _ in range(n_repeats)]
    folds = [pd.Series(-1, index=patients) for _ in range(n_repeats)]
    high_risk = pd.Series(False, index=patients, name="high_risk")
    for repeat, fold, train, test in patient_folds(outcome, n_splits=n_splits, n_repeats=n_repeats, seed=seed):
        fitted = clone(model).fit(blocks, outcome.take(train))
        risks[repeat].loc[test, "all"] = fitted.predict(blocks, test)
        risks[repeat].loc[test, list(blocks.names)] = fitted.predict_blocks(blocks, test)[list(blocks.names)]
        folds[repeat].loc[test] = fold
        if repeat == 0:
            high_risk.loc[test] = risks[0].loc[test, "all"] > fitted.predict(blocks, train).median()
    scores = {name: _score(name, risks, folds, outcome, n_bootstrap, confidence, seed) for name in columns}
    return Evaluation(
        *scores["all"][:3],
        confidence=confidence,
        blocks=pd.DataFrame(
            [scores[name] for name in blocks.names], index=list(blocks.names), columns=["c_index", "c_index_low", "c_index_high", "n_patients"]
        ),
        risk=pd.concat([r["all"] for r in risks], axis=1).mean(axis=1).rename("risk"),
        high_risk=high_risk,
        outcome=outcome,
        n_splits=n_splits,
        n_repeats=n_repeats,
        seed=seed,
    )


def _score(
    name: str, risks: list[pd.DataFrame], folds: list[pd.Series], outcome: Survival, n_bootstrap: int, confidence: float, seed: int
) -> tuple[float, float, float, int]:
    """c-index, its interval and the number of patients of one column of risks; repeats share the bootstrap draw."""
    time, event = outcome.time_days.to_numpy(), outcome.event.to_numpy()
    pairs: PairCounts | None = None
    for risk, fold in zip(risks, folds, strict=True):
        counted = pair_counts(time, event, risk[name].to_numpy(), groups=fold.to_numpy())
        pairs = counted if pairs is None else pairs + counted
    if pairs is None:
        raise FormatError("n_repeats must be at least 1; got 0. Pass n_repeats=1.")
    low, high = bootstrap_interval(pairs, n_resamples=n_bootstrap, confidence=confidence, rng=np.random.default_rng(seed))
    return float(pairs.c_index()), low, high, int(risks[0][name].notna().sum())
