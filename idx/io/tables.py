"""Feature tables and contours on disk as Parquet.

Both are ordinary Parquet files for pandas, R or DuckDB; what a plain table cannot say stands as JSON in the file's metadata under the key ``idx``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from idx._typing import PathLike
from idx.errors import FormatError
from idx.io.records import (
    frame_from_record,
    frame_to_record,
    provenance_from_record,
    provenance_to_record,
    source_from_record,
    source_to_record,
)
from idx.slide import Contours
from idx.table import FeatureSpec, FeatureTable

METADATA_KEY = b"idx"
FORMAT_VERSION = 1
"""Version of the metadata; a file with a higher one is refused."""
STATUS_PREFIX = "status:"
"""Column ``status:<feature>`` holds the reason of each missing cell of a feature; it exists where there are any."""


def write_table(table: FeatureTable, path: PathLike) -> None:
    """Write a feature table with its definitions, reasons of missing cells and provenance.

    Parameters
    ----------
    table : FeatureTable
    path : path
        Parquet file; one column per feature, the index as a column of its own, and ``status:<feature>`` where cells are missing.
    """
    import pandas as pd

    status = {}
    for feature, group in table.status.groupby("feature", sort=False):
        reasons = pd.Series(group["reason"].to_numpy(), index=group["row"].to_numpy(), dtype=object)
        status[f"{STATUS_PREFIX}{feature}"] = reasons.reindex(table.values.index).astype("category")
    frame = pd.concat([table.values, pd.DataFrame(status, index=table.values.index)], axis=1) if status else table.values
    frame.index.name = table.values.index.name
    record = {
        "kind": "FeatureTable",
        "version": FORMAT_VERSION,
        "specs": [{"name": s.name, "unit": s.unit, "definition": s.definition, "ibsi_id": s.ibsi_id, "params": dict(s.params)} for s in table.specs],
        "provenance": provenance_to_record(table.provenance),
    }
    _write(pa.Table.from_pandas(frame, preserve_index=True), record, path)


def read_table(path: PathLike) -> FeatureTable:
    """Read a feature table that :func:`write_table` wrote; lines of ``status`` come in the order of features, then rows.

    Raises
    ------
    FormatError
        If the file is absent, damaged, from a newer idx, or no feature table.
    """
    import pandas as pd

    stored, record = _read(path, "FeatureTable")
    frame = stored.to_pandas()
    specs = tuple(FeatureSpec(**spec) for spec in record["specs"])
    gaps = []
    for spec in specs:
        column = f"{STATUS_PREFIX}{spec.name}"
        if column in frame:
            reasons = frame[column].dropna()
            gaps += [(row, spec.name, str(reason)) for row, reason in reasons.items()]
    values = frame[[spec.name for spec in specs]]
    return FeatureTable(
        values,
        specs,
        pd.DataFrame(gaps, columns=["row", "feature", "reason"]),
        provenance_from_record(record["provenance"]),
    )


def write_contours(contours: Contours, path: PathLike) -> None:
    """Write contours: one row per polygon with its label, the sizes of its rings (outline, then holes) and its vertices in um.

    Parameters
    ----------
    contours : Contours
    path : path
        Parquet file.
    """
    ring_sizes = np.diff(contours.ring_offsets)
    first_vertex = contours.ring_offsets[contours.polygon_offsets]
    stored = pa.table(
        {
            "label": pa.array(contours.labels, pa.string()),
            "ring_sizes": pa.LargeListArray.from_arrays(pa.array(contours.polygon_offsets, pa.int64()), pa.array(ring_sizes, pa.int64())),
            "x_um": pa.LargeListArray.from_arrays(pa.array(first_vertex, pa.int64()), pa.array(contours.vertices_um[:, 0])),
            "y_um": pa.LargeListArray.from_arrays(pa.array(first_vertex, pa.int64()), pa.array(contours.vertices_um[:, 1])),
        }
    )
    record = {
        "kind": "Contours",
        "version": FORMAT_VERSION,
        "frame": frame_to_record(contours.frame),
        "source": source_to_record(contours.source),
    }
    _write(stored, record, path)


def contours_from_table(path: PathLike) -> Contours:
    """Read contours that :func:`write_contours` wrote.

    Raises
    ------
    FormatError
        If the file is absent, damaged, from a newer idx, or holds no contours.
    """
    stored, record = _read(path, "Contours")
    sizes, x, y = (stored[name].combine_chunks() for name in ("ring_sizes", "x_um", "y_um"))
    ring_sizes = sizes.flatten().to_numpy()
    vertices = np.stack([x.flatten().to_numpy(), y.flatten().to_numpy()], axis=-1)
    return Contours(
        vertices,
        np.cumsum(np.concatenate([[0], ring_sizes])),
        np.cumsum(np.concatenate([[0], sizes.value_lengths().to_numpy()])),
        tuple(stored["label"].to_pylist()),
        frame_from_record(record["frame"]),
        source_from_record(record["source"]),
    )


def _write(table: pa.Table, record: Mapping[str, Any], path: PathLike) -> None:
    metadata = {**(table.schema.metadata or {}), METADATA_KEY: json.dumps(record).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


def _read(path: PathLike, kind: str) -> tuple[pa.Table, dict[str, Any]]:
    file = Path(path).expanduser()
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise FormatError(f"table must be a readable Parquet file; got {type(error).__name__}: {error} ('{file}'). Restore it from a copy.") from error
    metadata = table.schema.metadata or {}
    if METADATA_KEY not in metadata:
        raise FormatError(f"table must carry idx's definitions; got a plain Parquet file ('{file}'). Write it with idx.io.tables.")
    record: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    if record["version"] > FORMAT_VERSION:
        raise FormatError(f"table must be of version {FORMAT_VERSION} or lower; got {record['version']} ('{file}'). Update idx to read it.")
    if record["kind"] != kind:
        raise FormatError(f"table must hold {kind}; got {record['kind']} ('{file}'). Pass the right file.")
    return table, record
