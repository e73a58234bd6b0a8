"""Feature tables as HTML: values with units, definitions, IBSI codes, and the reason of every missing cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from idx.report.page import table, text
from idx.table import REASONS, FeatureSpec, FeatureTable

FEW_ROWS = 3
"""Tables of up to this many objects are shown value by value, longer ones by their quartiles."""

_UNITS = {"1": "", "um": "µm", "um2": "µm²", "mm2": "mm²", "mm3": "mm³", "hu": "HU", "hu2": "HU²", "1/mm": "1/mm", "1/um": "1/µm", "1/mm2": "1/mm²"}


def unit(name: str) -> str:
    """Unit as printed: "um2" becomes "µm²", "1" nothing; an unknown one stays as it is."""
    return _UNITS.get(name, name.replace("hu ", "HU ").replace("mm3", "mm³"))


def number(value: float) -> str:
    """Five significant digits, thousands grouped, a real minus sign.

    Examples
    --------
    >>> number(5391.25), number(-0.000123456), number(3.0)
    ('5,391.2', '−0.00012346', '3')
    """
    magnitude = abs(value)
    if magnitude >= 1e7 or 0 < magnitude < 1e-4:
        shown = f"{value:.4e}" if magnitude >= 1e7 or magnitude < 1e-6 else f"{value:.5g}"
        if "e-05" in shown or "e-06" in shown:
            shown = f"{value:.9f}".rstrip("0")
    elif magnitude >= 1e4:
        shown = f"{value:,.0f}"
    else:
        digits = 4 - (int(np.floor(np.log10(magnitude))) if magnitude else 0)
        shown = f"{value:,.{max(0, digits)}f}"
        if "." in shown:
            shown = shown.rstrip("0").rstrip(".")
    return shown.replace("-", "−")


def feature_table(features: FeatureTable, *, label: str) -> str:
    """HTML of a table: one line per feature, grouped by family."""
    few = len(features) <= FEW_ROWS
    if few:
        columns = ["Value"] if len(features) == 1 else [str(row) for row in features.values.index]
    else:
        columns = ["Lower quartile", "Median", "Upper quartile", "Missing"]
    with_codes = any(spec.ibsi_id for spec in features.specs)
    head = [("Feature", "name"), *((column, "num") for column in columns), ("Unit", "unit")]
    head += [("IBSI", "code")] if with_codes else []
    head += [("Definition", "def")]
    reasons = {(row, feature): reason for row, feature, reason in features.status.itertuples(index=False)}
    groups = []
    for family, specs in _families(features.specs):
        lines = []
        for spec in specs:
            cells = _values(features, spec, reasons) if few else _quartiles(features, spec)
            code = [text(spec.ibsi_id or "")] if with_codes else []
            lines.append([_name(spec), *cells, text(unit(spec.unit)), *code, f"<div>{text(spec.definition)}</div>"])
        groups.append((family, lines))
    return table(head, groups, label=label)


def _name(spec: FeatureSpec) -> str:
    params = ", ".join(f"{key} = {value}" for key, value in spec.params.items())
    tip = spec.definition + (f" ({params})" if params else "") + (f" IBSI {spec.ibsi_id}." if spec.ibsi_id else "")
    return f'<span title="{text(tip)}">{text(spec.name)}</span>'


def _missing(reason: str) -> str:
    return f'<span class="missing" title="{text(REASONS.get(reason, reason))}">{text(reason.replace("_", " "))}</span>'


def _values(features: FeatureTable, spec: FeatureSpec, reasons: dict[tuple[object, str], str]) -> list[str]:
    cells = []
    for row, value in features[spec.name].items():
        cells.append(number(float(value)) if np.isfinite(value) else _missing(reasons[(row, spec.name)]))
    return cells


def _quartiles(features: FeatureTable, spec: FeatureSpec) -> list[str]:
    values = features[spec.name].to_numpy()
    present = values[np.isfinite(values)]
    n_missing = len(values) - len(present)
    quartiles = [number(float(q)) for q in np.quantile(present, (0.25, 0.5, 0.75))] if len(present) else ["–"] * 3
    gaps = "0"
    if n_missing:
        why = features.status.loc[features.status["feature"] == spec.name, "reason"].value_counts()
        tip = "; ".join(f"{n}: {REASONS.get(reason, reason)}" for reason, n in why.items())
        gaps = f'<span class="missing" title="{text(tip)}">{n_missing:,} ({text(", ".join(str(r).replace("_", " ") for r in why.index))})</span>'
    return [*quartiles, gaps]


def _families(specs: Sequence[FeatureSpec]) -> list[tuple[str, list[FeatureSpec]]]:
    """Specs in their order, grouped by the IBSI family of their code; one unnamed group where none has a code."""
    from idx.radiomics.catalog import CATALOG

    family_of = {d.ibsi_id: d.family for d in CATALOG.values()}
    groups: dict[str, list[FeatureSpec]] = {}
    for spec in specs:
        family = family_of.get(spec.ibsi_id or "", "other" if any(s.ibsi_id in family_of for s in specs) else "")
        groups.setdefault(family, []).append(spec)
    return [(_title(family), members) for family, members in groups.items()]


def _title(family: str) -> str:
    words = family.replace("_", " ")
    return words.upper() if len(words) <= 5 and words.isalpha() and words.startswith(("gl", "ng", "ivh")) else words.capitalize()
