"""What a report is told beside the case: numbers with their truth, and how a model did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from idx.errors import FormatError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class KeyNumber:
    """A number at the head of a report.

    Parameters
    ----------
    label : str
        What it is, such as "Lesion volume".
    value : float or None
        Measured value; None where it was not measured.
    unit : str
        Unit as shown, such as "mm³"; "" for counts.
    truth : float or None
        Known answer (of a phantom), shown beside the value with the difference.
    note : str
        Short remark below the number.
    digits : int
        Decimals shown.
    """

    label: str
    value: float | None
    unit: str = ""
    truth: float | None = None
    note: str = ""
    digits: int = 0


@dataclass(frozen=True, eq=False)
class SurvivalSummary:
    """What a report shows of an outcome model.

    Parameters
    ----------
    time_days : array (n,)
    event : array (n,)
        Whether the event happened.
    groups : Series or sequence of str (n,)
        Risk group of each patient, formed without looking at the outcome.
    c_index, c_index_low, c_index_high : float
        Concordance and its interval.
    blocks : DataFrame or None
        The same per block: index names, columns c_index, c_index_low, c_index_high and, where known, n_patients.
    description : str
        How it was validated.

    Raises
    ------
    FormatError
        If the c-index does not lie in its interval.
    """

    time_days: np.ndarray[Any, Any]
    event: np.ndarray[Any, Any]
    groups: pd.Series | Sequence[str]
    c_index: float
    c_index_low: float
    c_index_high: float
    blocks: pd.DataFrame | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if not self.c_index_low <= self.c_index <= self.c_index_high:
            raise FormatError(
                f"c-index must lie in its interval; got {self.c_index} in [{self.c_index_low}, {self.c_index_high}]. Check the order of the arguments."
            )

    @classmethod
    def from_evaluation(cls, evaluation: Any) -> SurvivalSummary:
        """Take what is shown from an ``idx.models.Evaluation``, or anything with its attributes.

        The groups are its ``high_risk``: cut at the training folds' median, never at the smallest p value.
        """
        import pandas as pd

        labels = np.where(np.asarray(evaluation.high_risk, dtype=bool), "High risk", "Low risk")
        outcome = evaluation.outcome
        return cls(
            time_days=np.asarray(outcome.time_days, dtype=np.float64),
            event=np.asarray(outcome.event, dtype=bool),
            groups=pd.Series(pd.Categorical(labels, categories=["Low risk", "High risk"], ordered=True)),
            c_index=float(evaluation.c_index),
            c_index_low=float(evaluation.c_index_low),
            c_index_high=float(evaluation.c_index_high),
            blocks=evaluation.blocks,
            description=(
                f"{evaluation.n_repeats} × {evaluation.n_splits}-fold cross-validation; {evaluation.confidence:.0%} bootstrap interval over patients. "
                "Risk is predicted for patients the model did not see; groups are cut at the training folds' median risk."
            ),
        )
