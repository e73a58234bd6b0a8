"""Feature tables: numbers with units, definitions, provenance, and a reason for every missing cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from idx._repr import card
from idx._typing import FrozenMapping
from idx.errors import FormatError, UnitError
from idx.provenance import Provenance, Setting

if TYPE_CHECKING:
    import pandas as pd

REASONS: Mapping[str, str] = FrozenMapping(
    {
        "constant": "all values are equal, so the feature is undefined",
        "too_few_voxels": "the region has too few voxels for the definition",
        "too_few_pixels": "the object has too few pixels for the definition",
        "too_few_objects": "there are too few objects for the definition",
        "no_pairs": "no two neighbouring voxels lie in the region",
        "zero_mean": "the mean is zero, so a ratio to it is undefined",
        "zero_denominator": "the denominator of the definition is zero",
        "not_measured": "this row was not measured (another table's row without this feature)",
    }
)
"""Codes of missing cells and what they mean."""


@dataclass(frozen=True)
class FeatureSpec:
    """What a feature is.

    Parameters
    ----------
    name : str
        Column name, ending in the unit where it has one.
    unit : str
        "mm3", "hu", "um" ...; "1" for a pure number.
    definition : str
        One sentence, with the formula's source.
    ibsi_id : str or None
        Four-character IBSI code.
    params : mapping
        Settings that are part of the definition (bin width, neighbourhood).
    """

    name: str
    unit: str
    definition: str
    ibsi_id: str | None = None
    params: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not self.unit:
            raise UnitError(f"a feature must have a name and a unit; got name '{self.name}', unit '{self.unit}'. Use unit '1' for a pure number.")
        object.__setattr__(self, "params", FrozenMapping(dict(self.params)))


@dataclass(frozen=True)
class Missing:
    """A feature that is undefined for a valid object: takes the place of a number where rows are built."""

    reason: str

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise FormatError(f"reason must be one of {sorted(REASONS)}; got '{self.reason}'. Add its sentence to idx.table.REASONS.")


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of lesions, nuclei, tiles or slides.

    Parameters
    ----------
    values : DataFrame
        float64, one row per object with a named unique index, one column per spec in the same order.
    specs : sequence of FeatureSpec
    status : DataFrame
        Columns ``row``, ``feature``, ``reason``: one line for every missing cell, none for others.
    provenance : Provenance or None

    Raises
    ------
    FormatError
        If columns and specs differ, or a missing cell has no reason.
    """

    values: pd.DataFrame
    specs: tuple[FeatureSpec, ...]
    status: pd.DataFrame
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        specs = tuple(self.specs)
        names = [spec.name for spec in specs]
        if list(self.values.columns) != names or len(set(names)) != len(names):
            raise FormatError(
                f"table columns must be the specs' names, each once; got {list(self.values.columns)[:5]}... for {names[:5]}... "
                "Build the table with FeatureTable.from_rows."
            )
        if not self.values.index.is_unique:
            repeated = self.values.index[self.values.index.duplicated()][0]
            raise FormatError(f"table rows must be unique; got repeated '{repeated}'. Give each object its own name.")
        values = self.values.astype(np.float64)
        array = values.to_numpy()
        if np.isinf(array).any():
            row, column = np.argwhere(np.isinf(array))[0]
            raise FormatError(
                f"table values must be finite or missing with a reason; got {array[row, column]} in '{names[column]}' (row '{values.index[row]}'). "
                "Report a Missing reason instead."
            )
        gaps = {(values.index[r], names[c]) for r, c in np.argwhere(np.isnan(array))}
        coded = set(zip(self.status["row"], self.status["feature"], strict=True)) if len(self.status) else set()
        if gaps != coded or len(self.status) != len(coded):
            row, feature = sorted(gaps ^ coded, key=str)[0] if gaps ^ coded else next(iter(coded))
            raise FormatError(
                f"each missing cell must have exactly one reason; got a mismatch at row '{row}', feature '{feature}'. "
                "Report Missing(reason) where the value is undefined."
            )
        for reason in set(self.status["reason"]):
            Missing(reason)
        object.__setattr__(self, "specs", specs)
        object.__setattr__(self, "values", values)

    @classmethod
    def from_rows(
        cls,
        rows: Mapping[Any, Mapping[str, float | Missing]],
        specs: Sequence[FeatureSpec],
        *,
        index_name: str,
        provenance: Provenance | None = None,
    ) -> FeatureTable:
        """Build a table from one mapping per object; a :class:`Missing` becomes an empty cell with its reason.

        Raises
        ------
        FormatError
            If a row lacks a feature, has one too many, or a value is not finite.

        Examples
        --------
        >>> spec = FeatureSpec("volume_mm3", "mm3", "Voxel volume.", "YEKZ")
        >>> table = FeatureTable.from_rows({"a": {"volume_mm3": 8.0}}, [spec], index_name="lesion")
        >>> table["volume_mm3"].to_dict()
        {'a': 8.0}
        """
        import pandas as pd

        names = [spec.name for spec in specs]
        gaps: list[tuple[Any, str, str]] = []
        array = np.full((len(rows), len(names)), np.nan)
        for r, (row, features) in enumerate(rows.items()):
            if set(features) != set(names):
                raise FormatError(
                    f"a row must have exactly the table's features; got {sorted(set(features) ^ set(names))} too many or missing (row '{row}'). "
                    "Use Missing(reason) for an undefined value."
                )
            for c, name in enumerate(names):
                value = features[name]
                if isinstance(value, Missing):
                    gaps.append((row, name, value.reason))
                elif math.isfinite(value):
                    array[r, c] = value
                else:
                    raise FormatError(
                        f"a feature must be finite or Missing; got {value} in '{name}' (row '{row}'). Find where it becomes undefined and give the reason."
                    )
        values = pd.DataFrame(array, index=pd.Index(list(rows), name=index_name), columns=names)
        return cls(values, tuple(specs), _status_frame(gaps), provenance)

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, np.ndarray[Any, Any]],
        specs: Sequence[FeatureSpec],
        *,
        index: Iterable[Any],
        index_name: str,
        missing: Mapping[str, str] | None = None,
        provenance: Provenance | None = None,
    ) -> FeatureTable:
        """Build a table from whole columns (many nuclei); ``missing`` gives the reason of every NaN of a column."""
        import pandas as pd

        unknown = set(columns) ^ {spec.name for spec in specs}
        if unknown:
            raise FormatError(f"columns must be exactly the specs' names; got {sorted(unknown)} too many or missing. Pass one array for each FeatureSpec.")
        values = pd.DataFrame({spec.name: np.asarray(columns[spec.name], dtype=np.float64) for spec in specs}, index=pd.Index(list(index), name=index_name))
        gaps: list[tuple[Any, str, str]] = []
        for name in values.columns:
            for row in values.index[values[name].isna()]:
                if name not in (missing or {}):
                    raise FormatError(f"column '{name}' must be complete or come with a reason; got NaN in row '{row}'. Pass missing={{'{name}': reason}}.")
                gaps.append((row, name, Missing((missing or {})[name]).reason))
        return cls(values, tuple(specs), _status_frame(gaps), provenance)

    def __getitem__(self, name: str) -> pd.Series:
        """One feature as a Series over rows."""
        return self.values[name]

    def __len__(self) -> int:
        return len(self.values)

    def spec(self, name: str) -> FeatureSpec:
        """Return the definition of a feature.

        Raises
        ------
        KeyError
            If the table has no such feature.
        """
        for spec in self.specs:
            if spec.name == name:
                return spec
        raise KeyError(f"feature must be one of the table's {len(self.specs)}; got '{name}'. See table.values.columns.")

    def select(self, names: Sequence[str]) -> FeatureTable:
        """Return a table of some features, in the given order."""
        status = self.status[self.status["feature"].isin(names)].reset_index(drop=True)
        return replace(self, values=self.values[list(names)], specs=tuple(self.spec(n) for n in names), status=status)

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        rows: list[tuple[str, object]] = [
            ("rows", f"{len(self):,} ({self.values.index.name})"),
            ("features", len(self.specs)),
            ("missing cells", len(self.status)),
        ]
        if self.provenance:
            rows.append(("made by", f"{self.provenance.function} {self.provenance.version}"))
        return rows

    def __repr__(self) -> str:
        return f"FeatureTable({len(self)} rows ({self.values.index.name}) x {len(self.specs)} features, {len(self.status)} missing)"

    def _repr_html_(self) -> str:
        units = {spec.name: f"{spec.name} [{spec.unit}]" for spec in self.specs}
        shown = self.values.iloc[:8] if len(self) > 1 else self.values
        frame = shown.rename(columns=units)
        table = frame.T if len(self) <= 3 else frame
        return card("FeatureTable", self.facts()) + table.to_html(float_format=lambda v: f"{v:.5g}", max_rows=40, max_cols=12)


def _status_frame(gaps: Sequence[tuple[Any, str, str]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(gaps), columns=["row", "feature", "reason"])


def concat_rows(tables: Sequence[FeatureTable]) -> FeatureTable:
    """Stack tables of the same features (one per lesion, say) into one.

    Raises
    ------
    FormatError
        If there are none or their features differ.
    """
    import pandas as pd

    if not tables or any(table.specs != tables[0].specs for table in tables):
        raise FormatError(
            f"tables must be at least one and share their features to be stacked; got {[len(t.specs) for t in tables]} features. "
            "Extract them with the same settings."
        )
    status = pd.concat([t.status for t in tables], ignore_index=True)
    provenance = tables[0].provenance
    if provenance is not None:
        inputs = dict.fromkeys(name for t in tables if t.provenance for name in t.provenance.inputs)
        provenance = replace(provenance, inputs=tuple(inputs))
    return FeatureTable(pd.concat([t.values for t in tables]), tables[0].specs, status, provenance)
