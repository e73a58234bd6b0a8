"""What a function said about the tiles of a plan, batch by batch and as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from idx._repr import card
from idx._typing import Array, IntArray
from idx.errors import IdxError
from idx.tiling.planning import TileGrid
from idx.tiling.reading import level0_rect

if TYPE_CHECKING:
    import pandas as pd

PENDING, DONE, FAILED = 0, 1, 2
"""Codes of ``TileResult.status``."""


@dataclass(frozen=True)
class TileFailure:
    """A tile that has no result.

    Parameters
    ----------
    tile : int
        Index into the plan.
    stage : str
        "read" where its pixels could not be had, "compute" where the function failed on it.
    error : Exception
        Names the tile and its place.
    """

    tile: int
    stage: str
    error: Exception


@dataclass(frozen=True, eq=False)
class TileBatch:
    """Results of some tiles.

    Parameters
    ----------
    tiles : int array (m,)
        Indices into the plan, ascending.
    values : array (m, ...), tuple of arrays, list or DataFrame
        As the function returned them, on the host. A DataFrame has a column ``tile`` that points into the plan. An empty list without tiles.
    failures : tuple of TileFailure
        Tiles that failed since the batch before.
    """

    tiles: IntArray
    values: Any
    failures: tuple[TileFailure, ...] = ()


@dataclass(frozen=True, eq=False)
class TileResult:
    """What a function said about the tiles of a plan.

    Parameters
    ----------
    values : array, tuple of arrays, list, DataFrame or zarr.Array
        Along the first axis in plan order; a DataFrame has a column ``tile`` that points into the plan and any number of rows per tile. Where a
        tile has no result, arrays hold NaN (0 or "" where there is no such value), lists hold None and tables no row: ``status`` says which.
    grid : TileGrid
    status : uint8 array (n,)
        0 pending (the run was cancelled before it), 1 done, 2 failed.
    errors : DataFrame
        One row per failed tile: ``tile``, ``level0_x_px``, ``level0_y_px``, ``stage`` ("read" or "compute") and ``error``.
    """

    values: Any
    grid: TileGrid
    status: Array
    errors: pd.DataFrame

    def __len__(self) -> int:
        return len(self.grid)

    @property
    def is_complete(self) -> bool:
        """Whether every tile has a result."""
        return bool((self.status == DONE).all())

    def batches(self, size: int = 64) -> Iterator[TileBatch]:
        """Yield the results of up to ``size`` tiles at a time, in plan order, as :func:`idx.tiling.stream` does; only those that are done."""
        done = np.flatnonzero(self.status == DONE)
        for first in range(0, len(done), size):
            tiles = done[first : first + size]
            yield TileBatch(tiles, taken(self.values, tiles))

    def _counts(self) -> str:
        n_done, n_failed = (int((self.status == code).sum()) for code in (DONE, FAILED))
        n_pending = len(self) - n_done - n_failed
        parts = [f"{n_done:,} done", f"{n_failed:,} failed" if n_failed else "", f"{n_pending:,} not run" if n_pending else ""]
        return ", ".join(part for part in parts if part)

    def __repr__(self) -> str:
        return f"TileResult({describe_values(self.values)} over {len(self.grid)} tiles of '{self.grid.slide.name}': {self._counts()})"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [("values", describe_values(self.values)), ("tiles", self._counts()), ("slide", self.grid.slide.name)]
        rows += [(f"tile {row.tile}", f"{row.stage}: {row.error}") for row in self.errors.head(5).itertuples()]
        if len(self.errors) > 5:
            rows.append(("...", f"{len(self.errors) - 5:,} more in .errors"))
        return card("TileResult", rows)


def failure_rows(failures: Sequence[TileFailure], grid: TileGrid) -> list[dict[str, Any]]:
    """Failures as rows of ``TileResult.errors``."""
    rows: list[dict[str, Any]] = []
    for failure in failures:
        x, y, _, _ = level0_rect(grid, failure.tile)
        rows.append({"tile": failure.tile, "level0_x_px": x, "level0_y_px": y, "stage": failure.stage, "error": str(failure.error)})
    return rows


def errors_frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows of failures as a table, one per tile, in plan order; the last word on a tile counts."""
    import pandas as pd

    types = {"tile": np.int64, "level0_x_px": np.float64, "level0_y_px": np.float64, "stage": object, "error": object}
    last = {row["tile"]: row for row in rows}
    return pd.DataFrame({name: np.array([last[tile][name] for tile in sorted(last)], dtype=dtype) for name, dtype in types.items()})


class Collected:
    """Results of all tiles in memory, put in batch by batch."""

    def __init__(self, grid: TileGrid, resumed: TileResult | None = None) -> None:
        self.grid = grid
        self.status = np.zeros(len(grid), dtype=np.uint8)
        self._kind = ""
        self._arrays: tuple[Array, ...] = ()
        self._objects: list[Any] = []
        self._tables: list[pd.DataFrame] = []
        self._rows: list[dict[str, Any]] = []
        if resumed is not None:
            for batch in resumed.batches(1024):
                self.put(batch)

    def put(self, batch: TileBatch) -> None:
        """Take in the results of a batch."""
        if batch.failures:
            self._rows.extend(failure_rows(batch.failures, self.grid))
            self.status[[failure.tile for failure in batch.failures]] = FAILED
        if len(batch.tiles) == 0:
            return
        kind = kind_of(batch.values)
        check_same_kind(self._kind, kind, self.grid, int(batch.tiles[0]))
        if kind == "table":
            self._tables.append(batch.values)
        elif kind == "list":
            self._objects = self._objects or [None] * len(self.grid)
            for tile, value in zip(batch.tiles.tolist(), batch.values, strict=True):
                self._objects[tile] = value
        else:
            parts = parts_of(batch.values)
            self._arrays = self._arrays or tuple(blank(len(self.grid), part) for part in parts)
            check_alike(self._arrays, parts, self.grid, int(batch.tiles[0]))
            for whole, part in zip(self._arrays, parts, strict=True):
                whole[batch.tiles] = part
        self._kind = kind
        self.status[batch.tiles] = DONE

    def close(self) -> TileResult:
        """All results so far; an empty list where there are none."""
        values: Any = self._objects
        if self._kind == "table":
            values = in_plan_order(self._tables)
        elif self._kind == "array":
            values = self._arrays[0]
        elif self._kind == "tuple of arrays":
            values = self._arrays
        return TileResult(values, self.grid, self.status, errors_frame([row for row in self._rows if self.status[row["tile"]] == FAILED]))


def kind_of(values: Any) -> str:
    """Kind of result: "table", "list", "array" or "tuple of arrays"."""
    if is_frame(values):
        return "table"
    return "list" if isinstance(values, list) else "tuple of arrays" if isinstance(values, tuple) else "array"


def in_plan_order(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of batches as one, by tile."""
    import pandas as pd

    filled = [table for table in tables if len(table)] or list(tables[:1])
    return pd.concat(filled, ignore_index=True).sort_values("tile", kind="stable", ignore_index=True)


def parts_of(values: Any) -> tuple[Any, ...]:
    """Arrays of a result, as a tuple."""
    return values if isinstance(values, tuple) else (values,)


def blank(n: int, part: Array) -> Array:
    """Room for the results of ``n`` tiles like those of ``part``: NaN, NaT or None where there can be one, 0 or "" elsewhere."""
    room = np.zeros((n, *part.shape[1:]), dtype=part.dtype)
    missing = {"f": np.nan, "c": np.nan, "m": "NaT", "M": "NaT", "O": None}
    if part.dtype.kind in missing:
        room[...] = missing[part.dtype.kind]
    return room


def check_same_kind(before: str, now: str, grid: TileGrid, tile: int) -> None:
    """Refuse results of another kind (see :func:`kind_of`) than those of the tiles before; "" where there were none."""
    if before not in ("", now):
        raise IdxError(
            f"results must be alike for all tiles; got {now} after {before} (from tile {tile}, slide '{grid.slide.name}'). "
            "Return the same kind for every batch."
        )


def check_alike(whole: Sequence[Any], parts: Sequence[Any], grid: TileGrid, tile: int) -> None:
    """Refuse results of another number, shape or type than those of the tiles before."""
    if [(a.shape[1:], a.dtype) for a in whole] != [(a.shape[1:], a.dtype) for a in parts]:
        before, now = ([f"{tuple(a.shape[1:])} {a.dtype}" for a in arrays] for arrays in (whole, parts))
        raise IdxError(
            f"results must be alike for all tiles; got {', '.join(now)} per tile after {', '.join(before)} (from tile {tile}, slide '{grid.slide.name}'). "
            "Return one shape and type, or a list of objects."
        )


def taken(values: Any, tiles: IntArray) -> Any:
    """Results of some tiles out of those of all."""
    if isinstance(values, tuple):
        return tuple(taken(part, tiles) for part in values)
    if is_frame(values):
        # Tables are in plan order, so that the rows of a few tiles are found without a look at the others.
        column = values["tile"].to_numpy()
        rows = values.iloc[np.searchsorted(column, tiles[0], "left") : np.searchsorted(column, tiles[-1], "right")]
        return rows[rows["tile"].isin(tiles)]
    if isinstance(values, list):
        return [values[tile] for tile in tiles.tolist()]
    if isinstance(values, np.ndarray):
        return values[tiles]
    first, last = int(tiles[0]), int(tiles[-1]) + 1
    return values[first:last][tiles - first]


def is_frame(values: Any) -> bool:
    """Whether a result is a DataFrame, asked without importing pandas."""
    return hasattr(values, "columns") and hasattr(values, "assign")


def describe_values(values: Any) -> str:
    """Results in words."""
    if isinstance(values, tuple):
        return ", ".join(describe_values(value) for value in values)
    if is_frame(values):
        return f"table of {len(values):,} rows x {len(values.columns)} columns"
    if isinstance(values, list):
        return f"{len(values):,} objects"
    where = "" if isinstance(values, np.ndarray) else " in zarr"
    return f"array {values.shape} {values.dtype}{where}"
