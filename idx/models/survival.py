"""Cox regression of one block (lifelines), with preparation that is learnt inside ``fit``."""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
import pandas as pd

from idx._optional import require
from idx.errors import FormatError
from idx.models._sklearn import BaseEstimator
from idx.models.blocks import Survival

CONVERGENCE = 1e-12
"""Newton decrement at which the fit stops; lifelines' own 1e-7 leaves the fifth digit of a coefficient open."""


class CoxModel(BaseEstimator):
    """Ridge-penalised Cox model (Efron ties) of one table.

    Missing values become the training median, features are standardised with the training mean and standard deviation, and features that
    are constant or empty in the training patients are left out: all inside ``fit``.

    Parameters
    ----------
    penalizer : float
        Strength of the ridge penalty on standardised coefficients (lifelines' convention: mean log-likelihood minus penalizer/2 * |beta|^2).

    Attributes
    ----------
    coefficients_ : Series
        Log hazard ratio per standard deviation of each kept feature.
    medians_, means_, scales_ : Series
        What the training patients taught.
    baseline_hazard_ : DataFrame
        Breslow baseline cumulative hazard over days.

    Notes
    -----
    Cox, J R Stat Soc B 1972;34:187; ties: Efron, JASA 1977;72:557.
    """

    def __init__(self, *, penalizer: float = 0.1) -> None:
        self.penalizer = penalizer

    def fit(self, table: pd.DataFrame, outcome: Survival) -> Self:
        """Fit to patients (rows of ``table``), all of whom must be in ``outcome``.

        Raises
        ------
        FormatError
            If a patient has no outcome, or no feature varies.
        """
        lifelines = require("lifelines", extra="models", purpose="Cox models")
        unknown = table.index.difference(outcome.patients)
        if len(unknown):
            raise FormatError(f"each patient must have an outcome; got none for '{unknown[0]}' ({len(unknown)} in all). Drop them or add their follow-up.")
        self.medians_ = table.median()
        filled = table.fillna(self.medians_)
        varying = filled.columns[filled.notna().all() & (filled.std() > 1e-12 * filled.abs().max())]
        if len(varying) == 0:
            raise FormatError(f"at least one feature must vary between training patients; got none of {table.shape[1]}. Use fewer folds.")
        self.feature_names_in_ = np.asarray(table.columns, dtype=object)
        self.means_, self.scales_ = filled[varying].mean(), filled[varying].std()
        survival = outcome.take(table.index)
        frame = self._standardise(table).assign(time_days=survival.time_days, event=survival.event.astype(float))
        fitter = lifelines.CoxPHFitter(penalizer=self.penalizer)
        with warnings.catch_warnings():
            # lifelines re-raises these as ConvergenceError where they matter; pandas deprecations inside it are not ours.
            warnings.simplefilter("ignore", category=FutureWarning)
            warnings.simplefilter("ignore", category=lifelines.exceptions.ApproximationWarning)
            fitter.fit(frame, duration_col="time_days", event_col="event", fit_options={"precision": CONVERGENCE})
        self.coefficients_ = fitter.params_.rename("log_hazard_ratio_per_sd")
        self.baseline_hazard_ = fitter.baseline_cumulative_hazard_
        return self

    def _standardise(self, table: pd.DataFrame) -> pd.DataFrame:
        return (table[self.means_.index].fillna(self.medians_[self.means_.index]) - self.means_) / self.scales_

    def predict(self, table: pd.DataFrame) -> pd.Series:
        """Return the log partial hazard of each row; higher means an earlier event.

        Raises
        ------
        FormatError
            If a feature of the training table is absent.
        """
        absent = [name for name in self.feature_names_in_ if name not in table.columns]
        if absent:
            raise FormatError(f"table must have the features of training; got none called '{absent[0]}'. Extract it with the same settings.")
        return (self._standardise(table) @ self.coefficients_).rename("risk")
