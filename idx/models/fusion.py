"""Fusion of modalities: one model per block, combined so that a missing block costs nobody their prediction."""

from __future__ import annotations

from typing import Any, Self

import pandas as pd

from idx.errors import FormatError
from idx.models._sklearn import BaseEstimator, clone
from idx.models.blocks import Blocks, Survival
from idx.models.survival import CoxModel


class LateFusion(BaseEstimator):
    """Mean of the blocks' z-scored risks, over the blocks that a patient has.

    Parameters
    ----------
    estimator : estimator or None
        Model of one block with ``fit(table, outcome)`` and ``predict(table)``; cloned per block. None means ``CoxModel()``.

    Attributes
    ----------
    models_ : dict
        Fitted model of each block.
    centres_, scales_ : dict
        Mean and standard deviation of each block's risk over its training patients.

    Notes
    -----
    Each block learns from every training patient who has it; z-scores use training patients only.

    Examples
    --------
    >>> patients = idx.testing.cohort(60, seed=1)
    >>> outcome = Survival(patients.time_days, patients.event)
    >>> model = LateFusion().fit(Blocks(patients.blocks), outcome)
    >>> model.predict(Blocks(patients.blocks)).shape
    (60,)
    """

    def __init__(self, *, estimator: Any = None) -> None:
        self.estimator = estimator

    def fit(self, blocks: Blocks, outcome: Survival) -> Self:
        """Fit each block's model to the patients of ``outcome`` who have the block.

        Raises
        ------
        FormatError
            If a patient with an outcome has no block at all.
        """
        self._require_blocks(blocks, outcome.patients)
        self.models_, self.centres_, self.scales_ = {}, {}, {}
        for name, table in blocks.take(outcome.patients).items():
            model = clone(self.estimator) if self.estimator is not None else CoxModel()
            risk = model.fit(table, outcome.take(table.index)).predict(table)
            self.models_[name] = model
            self.centres_[name], self.scales_[name] = float(risk.mean()), float(risk.std(ddof=0)) or 1.0
        return self

    @staticmethod
    def _require_blocks(blocks: Blocks, patients: pd.Index) -> None:
        without = patients.difference(blocks.patients)
        if len(without):
            raise FormatError(f"each patient must have at least one block; got none for '{without[0]}' ({len(without)} in all). Leave them out of the outcome.")

    def predict_blocks(self, blocks: Blocks, patients: pd.Index | None = None) -> pd.DataFrame:
        """Return z-scored risks, one row per patient, one column per block; NaN where the patient lacks the block."""
        wanted = blocks.patients if patients is None else patients
        absent = [name for name in self.models_ if name not in blocks.names]
        if absent:
            raise FormatError(f"blocks must include those of training; got no '{absent[0]}'. Pass the same modalities as in training.")
        tables = blocks.take(wanted)
        scores = {name: (model.predict(tables[name]) - self.centres_[name]) / self.scales_[name] for name, model in self.models_.items()}
        return pd.DataFrame(scores, index=wanted)

    def predict(self, blocks: Blocks, patients: pd.Index | None = None) -> pd.Series:
        """Return one risk per patient (all of ``blocks`` unless given); higher means an earlier event."""
        wanted = blocks.patients if patients is None else patients
        self._require_blocks(blocks, wanted)
        return self.predict_blocks(blocks, wanted).mean(axis=1).rename("risk")
