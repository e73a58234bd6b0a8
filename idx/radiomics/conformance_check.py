"""Self-check: idx against the reference values of the Image Biomarker Standardisation Initiative, on files that a user has."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

import idx
from idx import io
from idx._progress import progress_bar
from idx._typing import PathLike
from idx.errors import FormatError, IdxError
from idx.radiomics.catalog import CATALOG, Definition
from idx.radiomics.conformance_sets import FILTERED_SETS, IBSI1_AGGREGATIONS, IBSI1_FAMILIES, IBSI1_SETS, RESPONSE_MAPS
from idx.radiomics.extraction import extract
from idx.settings import resolve_device
from idx.table import FeatureTable

MAP_TOLERANCE = 0.01
"""A response map matches where no voxel is off by more than this share of the reference's range (IBSI 2)."""
PRINTED_DIGITS = 3
"""A reference value without a printed tolerance must be met to its printed digits; IBSI prints three."""
REFERENCES = {
    "IBSI 1": "radiomics/ibsi1_reference_values.csv",
    "IBSI 2 maps": "radiomics/ibsi2_reference/reference_response_maps",
    "IBSI 2 features": "radiomics/ibsi2_reference/reference_feature_values/reference_values.csv",
}
IBSI1_COLUMNS = dict.fromkeys(("family", "feature", "parameter", "ibsi_id", "dataset", "aggregation", "consensus"), False) | {"value": True, "tolerance": True}
IBSI2_COLUMNS = {"filter_id": False, "feature": False, "feature_tag": False, "consensus_value": True, "tolerance": True}
ERRATA = Path(__file__).with_name("conformance_errata.csv")
"""Reference rows that are wrong or void themselves, each with its evidence."""


LEFT_OUT = "left out"


@dataclass(frozen=True)
class Check:
    """One reference value, or one response map, and what idx measured.

    Parameters
    ----------
    reference_set : str
        "digital_phantom", "config_A" ..., "maps", or a filter of IBSI 2 such as "3.B".
    feature : str
        Feature in IBSI's words, or the test of a response map.
    ibsi_id : str
        IBSI code; empty for maps.
    aggregation : str
        IBSI's words, empty where a feature has none.
    consensus : str
        Level of consensus that IBSI gives; empty where it gives none.
    reference, tolerance : float
        For a map 0 and 0.01, in shares of the reference's range.
    measured : float or None
        For a map the largest deviation of a voxel. None where nothing could be measured.
    reason : str
        Why the value does not match; empty where it does.
    """

    reference_set: str
    feature: str
    ibsi_id: str
    aggregation: str
    consensus: str
    reference: float
    tolerance: float
    measured: float | None
    reason: str = ""

    @property
    def matched(self) -> bool:
        """Whether the measured value lies within the tolerance."""
        return self.reason == ""


@dataclass(frozen=True)
class Conformance:
    """How much of IBSI's references is met.

    Parameters
    ----------
    checks : tuple of Check
    errata : tuple of dict
        Reference rows that are wrong or empty themselves, with the evidence; ``use`` says whether they were left out.
    absent : tuple of str
        References or images that the folder does not hold.
    device : str
    """

    checks: tuple[Check, ...]
    errata: tuple[Mapping[str, str], ...]
    absent: tuple[str, ...]
    device: str

    @property
    def matched(self) -> int:
        """Number of references that are met."""
        return sum(check.matched for check in self.checks)

    @property
    def missed(self) -> tuple[Check, ...]:
        """References that are not met."""
        return tuple(check for check in self.checks if not check.matched)

    def by_set(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Matched and total by reference set and level of consensus."""
        counts: dict[str, dict[str, tuple[int, int]]] = {}
        for check in self.checks:
            levels = counts.setdefault(check.reference_set, {})
            matched, total = levels.get(check.consensus, (0, 0))
            levels[check.consensus] = matched + check.matched, total + 1
        return counts

    def by_feature(self) -> dict[str, str]:
        """Whether the references of a feature are "matched", "partly" or "not", by IBSI's name and code."""
        found: dict[str, list[bool]] = {}
        for check in self.checks:
            found.setdefault(f"{check.feature} [{check.ibsi_id}]" if check.ibsi_id else check.feature, []).append(check.matched)
        return {feature: "matched" if all(met) else "partly" if any(met) else "not" for feature, met in found.items()}

    def to_json(self) -> str:
        """All counts, every miss with its reason, and every measured value."""
        verdicts = Counter(self.by_feature().values())
        summary = {
            "matched": self.matched,
            "total": len(self.checks),
            "missed": len(self.missed),
            "features_matched": verdicts["matched"],
            "features_partly": verdicts["partly"],
            "features_not": verdicts["not"],
        }
        sets = {name: {level or "no level given": {"matched": m, "total": n} for level, (m, n) in levels.items()} for name, levels in self.by_set().items()}
        content = {
            "summary": summary,
            "sets": sets,
            "misses": [asdict(check) for check in self.missed],
            "errata": [dict(row) for row in self.errata],
            "absent": list(self.absent),
            "features": self.by_feature(),
            "checks": [asdict(check) for check in self.checks],
            "idx_version": idx.__version__,
            "device": self.device,
        }
        return json.dumps(content, indent=1)

    def __repr__(self) -> str:
        return f"Conformance({self.matched} of {len(self.checks)} references matched, {len(self.missed)} missed, {len(self.absent)} sets absent)"


def conformance(data: PathLike, *, device: str | None = None) -> Conformance:
    """Measure IBSI's phantoms and compare with its reference values.

    Parameters
    ----------
    data : path
        Folder with ``radiomics/ibsi1_reference_values.csv``, ``radiomics/ibsi2_reference`` and the phantoms as NIfTI in
        ``ct/ibsi1_digital_phantom``, ``ct/ibsi1_ct_phantom``, ``ct/ibsi2_digital_phantoms`` and ``ct/ibsi2_ct_phantom``. What is not there is
        named in ``absent``.
    device : str or None
        As for :func:`idx.radiomics.extract`.

    Raises
    ------
    FormatError
        If the folder holds none of the references.
    """
    folder = Path(data).expanduser()
    if not any((folder / path).exists() for path in REFERENCES.values()):
        raise FormatError(f"data must be a folder with IBSI's references, such as {REFERENCES['IBSI 1']}; got '{folder}'. See idx.radiomics.conformance.")
    where = str(resolve_device(device))
    errata = _read_errata()
    checks: list[Check] = []
    absent: list[str] = []
    sets = {**dict.fromkeys(IBSI1_SETS, _ibsi1), **dict.fromkeys(RESPONSE_MAPS, _map), **dict.fromkeys(FILTERED_SETS, _filtered)}
    with progress_bar(len(sets), "measuring IBSI's phantoms") as advance:
        for name, measure in sets.items():
            try:
                checks += measure(folder, name, where)
            except _AbsentError as error:
                absent.append(str(error))
            advance(1)
    named = [row for row in errata if any(_is_named(check, row) for check in checks)]
    valid = [check for check in checks if not any(_is_named(check, row) and row["use"] == LEFT_OUT for row in errata)]
    return Conformance(tuple(valid), tuple(named), tuple(dict.fromkeys(absent)), where)


class _AbsentError(Exception):
    """A file that the folder does not hold."""


def _present(path: Path, folder: Path) -> Path:
    if not path.exists():
        raise _AbsentError(str(path.relative_to(folder)))
    return path


def _read_errata() -> list[dict[str, str]]:
    with ERRATA.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _is_named(check: Check, row: Mapping[str, str]) -> bool:
    return check.feature == row["feature"] and check.aggregation == row["aggregation"] and row["reference_set"] in ("all", check.reference_set)


def _rows(path: Path, delimiter: str, columns: Mapping[str, bool]) -> list[dict[str, str]]:
    """Rows of a reference table, with its columns and numbers checked; ``columns`` says of each whether it holds numbers."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=delimiter)
        absent = [column for column in columns if column not in (reader.fieldnames or ())]
        if absent:
            raise FormatError(f"a table of references must have the columns {', '.join(columns)}; got none named {', '.join(absent)} ('{path}'). Restore it.")
        rows = [{column: (row[column] or "").strip() for column in columns} for row in reader]
    for number, row in enumerate(rows, start=2):
        for column, is_number in columns.items():
            if is_number and row[column] and not _is_number(row[column]):
                raise FormatError(f"column '{column}' must hold numbers; got '{row[column]}' (line {number} of '{path}'). Correct the line.")
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _phantom(folder: Path, name: str) -> tuple[Path, Path]:
    nifti = folder / "ct" / name / "nifti"
    return _present(nifti / "image" / "phantom.nii.gz", folder), _present(nifti / "mask" / "mask.nii.gz", folder)


def _measured(folder: Path, phantom: str, settings: object, device: str) -> FeatureTable | str:
    """Features of a phantom, or the error that stood in the way."""
    image, mask = _phantom(folder, phantom)
    try:
        ct = io.read_ct(image)
        return extract(ct, io.read_mask(mask, like=ct), settings, device=device)  # type: ignore[arg-type]
    except IdxError as error:
        return str(error)


def _ibsi1(folder: Path, name: str, device: str) -> Iterator[Check]:
    path = _present(folder / REFERENCES["IBSI 1"], folder)
    phantom, settings = IBSI1_SETS[name]
    names = {(definition.family, definition.ibsi_name): definition for definition in CATALOG.values()}
    rows = [row for row in _rows(path, ",", IBSI1_COLUMNS) if row["dataset"] == name]
    table = _measured(folder, phantom, settings, device)
    columns = _columns(table)
    for row in rows:
        feature = row["feature"].replace("\u2019", "'") + (f" ({row['parameter']})" if row["parameter"] else "")
        definition = names.get((IBSI1_FAMILIES.get(row["family"], ""), feature))
        aggregation = IBSI1_AGGREGATIONS.get(row["aggregation"])
        reference = float(row["value"] or "nan")
        yield _compared(
            Check(
                name,
                feature,
                row["ibsi_id"] if definition is None else definition.ibsi_id,
                row["aggregation"],
                row["consensus"],
                reference,
                _tolerance(reference, row["tolerance"]),
                None,
            ),
            table,
            None if definition is None else columns.get((definition.key, aggregation)),
            definition,
        )


def _tolerance(reference: float, printed: str) -> float:
    """Printed tolerance, or half a unit of the third digit."""
    if printed:
        return float(printed)
    return 0.0 if reference == 0.0 else float(0.5 * 10.0 ** (np.floor(np.log10(abs(reference))) - PRINTED_DIGITS + 1))


def _columns(table: FeatureTable | str) -> dict[tuple[object, object], str]:
    if isinstance(table, str):
        return {}
    return {(spec.params["key"], spec.params.get("aggregation")): spec.name for spec in table.specs}


def _result(check: Check, measured: float | None, reason: str) -> Check:
    return replace(check, measured=measured, reason=reason)


def _compared(check: Check, table: FeatureTable | str, column: str | None, definition: Definition | None) -> Check:
    """The check with the measured value, and the reason where it does not match."""
    if isinstance(table, str):
        return _result(check, None, f"the phantom could not be measured: {table}")
    if definition is None or column is None:
        return _result(check, None, "idx does not measure this feature")
    value = float(table[column].iloc[0])
    if np.isnan(value):
        return _result(check, None, f"undefined: {table.status.set_index('feature')['reason'][column]}")
    if np.isnan(check.reference):
        return _result(check, value, "the reference has no value")
    apart = abs(value - check.reference)
    # The tolerance is a decimal number: its edge must not be lost to rounding.
    if apart <= check.tolerance * (1 + 1e-9):
        return _result(check, value, "")
    return _result(check, value, f"off by {apart:.4g}, {apart / check.tolerance:.3g} times the tolerance" if check.tolerance else f"off by {apart:.4g}")


def _map(folder: Path, name: str, device: str) -> Iterator[Check]:
    phantom, image_filter = RESPONSE_MAPS[name]
    reference_path = _present(_present(folder / REFERENCES["IBSI 2 maps"], folder) / f"{name}-ValidCRM.nii", folder)
    image_path = _present(folder / "ct" / "ibsi2_digital_phantoms" / "nifti" / phantom / "image" / f"{phantom}.nii.gz", folder)
    check = Check("maps", f"response map {name.replace('_', '.')}", "", "", "", 0.0, MAP_TOLERANCE, None)
    try:
        image, reference = io.read_volume(image_path, quantity="arbitrary"), io.read_volume(reference_path, quantity="response")
        response = image_filter.apply(image.values, image.spacing_mm, device=device)
    except IdxError as error:
        yield _result(check, None, f"the map could not be made: {error}")
        return
    if response.shape != reference.values.shape:
        yield _result(check, None, f"the reference has another shape: {reference.values.shape} for {response.shape}")
        return
    deviation = np.abs(response - reference.values) / float(np.ptp(reference.values))
    largest = float(deviation.max())
    share = float((deviation <= MAP_TOLERANCE).mean())
    yield _result(
        check, largest, "" if largest <= MAP_TOLERANCE else f"{share:.1%} of the voxels lie within the tolerance; the largest deviation is {largest:.2%}"
    )


def _filtered(folder: Path, name: str, device: str) -> Iterator[Check]:
    path = _present(folder / REFERENCES["IBSI 2 features"], folder)
    rows = [row for row in _rows(path, ";", IBSI2_COLUMNS) if row["filter_id"] == name]
    table = _measured(folder, "ibsi2_ct_phantom", FILTERED_SETS[name], device)
    columns = _columns(table)
    for row in rows:
        definition = CATALOG.get(_IBSI2_TAGS.get(row["feature_tag"], ""))
        text, tolerance = row["consensus_value"], row["tolerance"]
        reference = float(text) if text else float("nan")
        check = Check(name, row["feature"], "" if definition is None else definition.ibsi_id, "", "", reference, _tolerance(reference, tolerance), None)
        yield _compared(check, table, None if definition is None else columns.get((definition.key, None)), definition)


_IBSI2_TAGS = {
    "stat_mean": "mean_intensity",
    "stat_var": "intensity_variance",
    "stat_skew": "intensity_skewness",
    "stat_kurt": "intensity_kurtosis",
    "stat_median": "median_intensity",
    "stat_min": "minimum_intensity",
    "stat_p10": "intensity_p10",
    "stat_p90": "intensity_p90",
    "stat_max": "maximum_intensity",
    "stat_iqr": "intensity_interquartile_range",
    "stat_range": "intensity_range",
    "stat_mad": "intensity_mean_absolute_deviation",
    "stat_rmad": "intensity_robust_mean_absolute_deviation",
    "stat_medad": "intensity_median_absolute_deviation",
    "stat_cov": "intensity_coefficient_of_variation",
    "stat_qcod": "intensity_quartile_coefficient_of_dispersion",
    "stat_energy": "intensity_energy",
    "stat_rms": "intensity_root_mean_square",
}
