"""Splits by patient: no patient is ever on both sides."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from idx.errors import FormatError
from idx.models._sklearn import StratifiedKFold
from idx.models.blocks import Survival


def patient_folds(outcome: Survival, *, n_splits: int, n_repeats: int, seed: int) -> Iterator[tuple[int, int, pd.Index, pd.Index]]:
    """Yield (repeat, fold, training patients, test patients), stratified by event.

    Raises
    ------
    FormatError
        If there are fewer events than folds.
    """
    n_events = int(outcome.event.sum())
    if not 2 <= n_splits <= min(n_events, len(outcome) - n_events or n_events):
        raise FormatError(f"n_splits must be between 2 and the number of patients with (and without) the event; got {n_splits} for {outcome!r}. Use fewer.")
    for repeat in range(n_repeats):
        folds = StratifiedKFold(n_splits, shuffle=True, random_state=seed + repeat)
        for fold, (train, test) in enumerate(folds.split(outcome.patients, outcome.event)):
            yield repeat, fold, outcome.patients[train], outcome.patients[test]
