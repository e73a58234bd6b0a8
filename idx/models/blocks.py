"""Tables of several modalities, aligned by patient, and survival outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from idx._repr import card
from idx.errors import FormatError
from idx.table import FeatureTable


def _checked_block(name: str, block: pd.DataFrame | FeatureTable) -> pd.DataFrame:
    """Return a float64 frame with patients as index, or name the column that cannot be used."""
    frame = block.values if isinstance(block, FeatureTable) else block
    where = f"block '{name}'"
    if not frame.index.is_unique:
        repeated = frame.index[frame.index.duplicated()][0]
        raise FormatError(f"a block must have one row per patient; got several for '{repeated}' ({where}). Aggregate lesions or slides per patient first.")
    if not frame.columns.is_unique:
        repeated = frame.columns[frame.columns.duplicated()][0]
        raise FormatError(f"column names must be unique; got '{repeated}' twice ({where}). Rename or drop one.")
    for column in frame.columns:
        if not (pd.api.types.is_numeric_dtype(frame[column]) or pd.api.types.is_bool_dtype(frame[column])):
            raise FormatError(f"columns must be numbers; got {frame[column].dtype} in '{column}' ({where}). Encode the categories as 0/1 columns.")
    values = frame.astype(np.float64)
    for column in values.columns:
        finite = values[column].dropna()
        if np.isinf(finite).any():
            raise FormatError(f"values must be finite or missing; got inf in '{column}' ({where}). Find the division by zero or drop the column.")
        if finite.nunique() < 2:
            raise FormatError(f"columns must vary between patients; got a constant or empty '{column}' ({where}). Drop it.")
    return values


@dataclass(frozen=True, eq=False)
class Blocks:
    """Named modalities of the same patients; a patient may lack whole blocks.

    Parameters
    ----------
    tables : mapping of str to DataFrame or FeatureTable
        One row per patient, indexed by patient id; numbers only; NaN where a value is missing.
        A patient who is absent from a table, or whose row is all missing, lacks that block.

    Raises
    ------
    FormatError
        If a column is not numeric, infinite, constant or repeated, or a patient has several rows.

    Examples
    --------
    >>> blocks = Blocks({"ct": pd.DataFrame({"volume_mm3": [1.0, 2.0]}, index=["p1", "p2"])})
    >>> blocks.names, len(blocks)
    (('ct',), 2)
    """

    tables: Mapping[str, pd.DataFrame]

    def __post_init__(self) -> None:
        if not self.tables:
            raise FormatError("blocks must hold at least one modality; got none. Pass Blocks({'ct': table, 'pathology': table}).")
        checked = {name: _checked_block(name, block).dropna(how="all") for name, block in self.tables.items()}
        object.__setattr__(self, "tables", MappingProxyType(checked))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.tables)

    @property
    def patients(self) -> pd.Index:
        """All patients with at least one block, in order of first mention."""
        return pd.Index(list(dict.fromkeys(patient for table in self.tables.values() for patient in table.index)), name="patient")

    @property
    def presence(self) -> pd.DataFrame:
        """Which patient (row) has which block (column), bool."""
        patients = self.patients
        return pd.DataFrame({name: patients.isin(table.index) for name, table in self.tables.items()}, index=patients)

    def __len__(self) -> int:
        return len(self.patients)

    def take(self, patients: Iterable[object]) -> Mapping[str, pd.DataFrame]:
        """Return each block's rows for some patients, in their order; patients without the block are left out.

        The result is a plain mapping: a subset of patients may hold constant columns, which only a whole cohort must not.
        """
        wanted = pd.Index(list(patients), name="patient")
        return MappingProxyType({name: table.loc[wanted[wanted.isin(table.index)]] for name, table in self.tables.items()})

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [("patients", len(self))]
        rows += [
            (name, f"{table.shape[0]} patients x {table.shape[1]} features, {int(table.isna().sum().sum())} missing values")
            for name, table in self.tables.items()
        ]
        return card("Blocks", rows)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}: {table.shape[0]} x {table.shape[1]}" for name, table in self.tables.items())
        return f"Blocks({len(self)} patients; {parts})"


@dataclass(frozen=True, eq=False)
class Survival:
    """Right-censored times of patients.

    Parameters
    ----------
    time_days : Series
        Time from baseline to the event or to the last visit, positive days, indexed by patient.
    event : Series
        True where the event was seen, False where the patient was censored; same patients.

    Raises
    ------
    FormatError
        If a time is not positive, a value is missing, the patients differ, or nobody had an event.
    """

    time_days: pd.Series
    event: pd.Series

    def __post_init__(self) -> None:
        if not isinstance(self.time_days, pd.Series) or not isinstance(self.event, pd.Series):
            raise FormatError(
                f"time and event must be Series indexed by patient; got {type(self.time_days).__name__}. Wrap them: pd.Series(values, index=patients)."
            )
        time, event = self.time_days.astype(np.float64), self.event
        if not time.index.is_unique or set(time.index) != set(event.index) or len(time) != len(event):
            raise FormatError(f"time and event must be of the same patients, each once; got {len(time)} and {len(event)} rows. Index both by patient.")
        event = event.loc[time.index]
        if event.isna().any() or not set(np.unique(event.astype(np.float64))) <= {0.0, 1.0}:
            raise FormatError("event must be True or False for each patient; got other values. Code the event as 1 and censoring as 0.")
        bad = time.index[~(np.isfinite(time) & (time > 0))]
        if len(bad):
            raise FormatError(f"times must be positive days; got {time[bad[0]]} (patient '{bad[0]}'). Drop the patient or correct the date.")
        event = event.astype(bool)
        if not event.any():
            raise FormatError("at least one patient must have the event; got none. A model cannot be fitted to censored patients only.")
        object.__setattr__(self, "time_days", time.rename("time_days"))
        object.__setattr__(self, "event", event.rename("event"))

    @property
    def patients(self) -> pd.Index:
        """Patients in order."""
        return self.time_days.index

    def __len__(self) -> int:
        return len(self.time_days)

    def take(self, patients: Iterable[object]) -> Survival:
        """Return the outcome of some patients, in their order."""
        wanted = list(patients)
        return Survival(self.time_days.loc[wanted], self.event.loc[wanted])

    def __repr__(self) -> str:
        return f"Survival({len(self)} patients, {int(self.event.sum())} events, median follow-up {self.time_days.median():.0f} days)"
