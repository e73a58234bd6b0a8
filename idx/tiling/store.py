"""Results of tiles on disk: a zarr group that grows batch by batch and survives a crash."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from idx._typing import Array
from idx.errors import FormatError, IdxError
from idx.tiling.planning import TileGrid
from idx.tiling.results import (
    DONE,
    FAILED,
    TileBatch,
    TileResult,
    blank,
    check_alike,
    check_same_kind,
    errors_frame,
    failure_rows,
    in_plan_order,
    is_frame,
    kind_of,
    parts_of,
)

if TYPE_CHECKING:
    import pandas as pd
    import zarr

_CHUNK_BYTES, _CHUNK_TILES = 4 << 20, 4096
"""Most of a chunk: results are on disk once their chunk is complete, so small ones must not wait for ever."""
_ERRORS = "errors.jsonl"
_TABLES = "tables"


class Stored:
    """Results of all tiles in a folder, put in batch by batch in plan order.

    The folder is a zarr group: ``status`` (n,) uint8, ``values/0`` and so on (n, ...), attributes that say of which plan they are; tables lie in
    ``tables/*.parquet``, the plan in ``tiles.parquet`` and failures in ``errors.jsonl``. Whole chunks are written, and a tile is marked done only
    after its results are on disk. A crash at any moment leaves no folder, or one that can be resumed.

    Parameters
    ----------
    grid : TileGrid
    folder : Path
        Must not exist, or be empty, unless ``resume``.
    resume : bool
        Go on with what the folder holds; the plan must be the same.
    """

    def __init__(self, grid: TileGrid, folder: Path, *, resume: bool) -> None:
        self.grid = grid
        self.folder = folder
        self._pending: list[TileBatch] = []
        self._kind = ""
        self._arrays: tuple[zarr.Array, ...] = ()
        is_there = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if is_there and not resume:
            raise IdxError(f"out must be new; got one that holds something ('{folder}'). Pass resume=True to go on with it, or another folder.")
        self._group = self._opened() if is_there else self._created()
        stored: Any = self._group["status"]
        self._status = stored
        self.status = np.asarray(stored[:])

    def _created(self) -> zarr.Group:
        """A new folder, prepared beside its place and renamed into it: one that a crash left half made could be neither begun nor resumed."""
        import zarr

        stage = self.folder.parent / f".{self.folder.name}.{secrets.token_hex(4)}.tmp"
        source = self.grid.slide.source
        try:
            group = zarr.open_group(stage, mode="w-")
            group.create_array("status", shape=(len(self.grid),), chunks=(max(1, min(len(self.grid), 1 << 16)),), dtype="uint8")
            path = None if source is None else source.path
            group.attrs.update({"kind": "idx tile results", "fingerprint": self.grid.fingerprint, "slide": self.grid.slide.name, "path": path})
            self.grid.to_frame().to_parquet(stage / "tiles.parquet")
            if self.folder.exists():
                self.folder.rmdir()  # it is empty
            stage.rename(self.folder)
        except OSError as error:
            raise IdxError(f"out must be a folder that can be written; got: {error} ('{self.folder}'). Pass another.") from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        return zarr.open_group(self.folder, mode="r+")

    def _opened(self) -> zarr.Group:
        import zarr

        try:
            group = zarr.open_group(self.folder, mode="r+")
            kind = group.attrs.get("kind")
        except (OSError, ValueError, KeyError) as error:
            raise FormatError(f"out must be the folder of a run to be resumed; got: {error} ('{self.folder}'). Pass another folder.") from error
        if kind != "idx tile results" or "status" not in group:
            raise FormatError(f"out must be the folder of a run to be resumed; got something else ('{self.folder}'). Pass another folder.")
        same = (group.attrs.get("fingerprint"), group.attrs.get("slide")) == (self.grid.fingerprint, self.grid.slide.name)
        if not same:
            raise FormatError(
                f"a run must be resumed with the plan and the slide that it was begun with; got another plan, or slide '{self.grid.slide.name}' for "
                f"'{group.attrs.get('slide')}' ('{self.folder}'). Use that plan, or pass another folder."
            )
        # Arrays count once all of them are there; before, nothing was written into them.
        held: Any = group
        self._kind, n_arrays = held.attrs.get("results", ("", 0))
        self._arrays = tuple(held[f"values/{number}"] for number in range(n_arrays))
        return group

    def put(self, batch: TileBatch) -> None:
        """Take in the results of a batch; they are written once the chunk that they belong to is complete."""
        if batch.failures:
            rows = failure_rows(batch.failures, self.grid)
            with (self.folder / _ERRORS).open("a", encoding="utf-8") as lines:
                # A line of its own each, though a crash cut off the one before.
                lines.writelines("\n" + json.dumps(row) for row in rows)
        if len(batch.tiles):
            self._check(batch)
        self._pending.append(batch)
        chunk = self._chunk_tiles
        last = max([*batch.tiles.tolist(), *(failure.tile for failure in batch.failures)], default=-1)
        first = min([*self._pending[0].tiles.tolist(), *(failure.tile for failure in self._pending[0].failures)], default=last)
        if (last + 1) // chunk > first // chunk:
            self._write()

    def _check(self, batch: TileBatch) -> None:
        """Refuse results of another kind than those before; the first decide what the folder holds."""
        kind, first = kind_of(batch.values), int(batch.tiles[0])
        if kind == "list":
            raise IdxError(f"results for out must be arrays, tuples of arrays or tables; got a list of objects ('{self.folder}'). Leave out= out.")
        check_same_kind(self._kind, kind, self.grid, first)
        parts = () if kind == "table" else parts_of(batch.values)
        if not self._kind:
            self._arrays = tuple(self._new_array(number, part) for number, part in enumerate(parts))
            self._group.attrs["results"] = [kind, len(parts)]  # one entry: each is written for itself
            self._kind = kind
        check_alike(self._arrays, parts, self.grid, first)

    def _new_array(self, number: int, part: Array) -> zarr.Array:
        n = len(self.grid)
        one = blank(1, part)
        if part.dtype.hasobject:
            raise IdxError(f"results for out must be numbers; got {part.dtype} ('{self.folder}'). Return tensors, or a table.")
        chunk = max(1, min(n, _CHUNK_TILES, _CHUNK_BYTES // max(1, one.nbytes)))
        created: zarr.Array = self._group.create_array(
            f"values/{number}",
            shape=(n, *part.shape[1:]),
            chunks=(chunk, *(max(1, length) for length in part.shape[1:])),
            dtype=part.dtype,
            fill_value=one.flat[0] if one.size else None,
            overwrite=True,  # a crash may have come before it counted
        )
        return created

    @property
    def _chunk_tiles(self) -> int:
        """Tiles that are written at a time."""
        return min((array.chunks[0] for array in self._arrays), default=_CHUNK_TILES)

    def _write(self) -> None:
        """Write what is pending, then mark it.

        Raises
        ------
        IdxError
            If the folder does not take it.
        """
        try:
            self._write_results()
            for batch in self._pending:
                self.status[[failure.tile for failure in batch.failures]] = FAILED
                self.status[batch.tiles] = DONE
            self._status[:] = self.status
        except (OSError, TypeError, ValueError, NotImplementedError) as error:
            raise IdxError(
                f"results must be written to out; got {type(error).__name__}: {error} ('{self.folder}'). Make room, or return columns of one type each, "
                "and go on with resume=True."
            ) from error
        self._pending = []

    def _write_results(self) -> None:
        done = [batch for batch in self._pending if len(batch.tiles)]
        tables = [batch.values for batch in done if is_frame(batch.values)]
        if tables:
            folder = self.folder / _TABLES
            folder.mkdir(exist_ok=True)
            first, last = int(done[0].tiles[0]), int(done[-1].tiles[-1])
            part = folder / f"tiles-{first:08d}-{last:08d}.parquet"
            in_plan_order(tables).to_parquet(part.with_suffix(".partial"), index=False)
            part.with_suffix(".partial").replace(part)
        elif done:
            self._write_arrays(done)

    def _write_arrays(self, done: Sequence[TileBatch]) -> None:
        tiles = np.concatenate([batch.tiles for batch in done])
        first, last = int(tiles[0]), int(tiles[-1]) + 1
        for number, array in enumerate(self._arrays):
            rows = np.concatenate([parts_of(batch.values)[number] for batch in done])
            if len(rows) < last - first:
                # Between them lie tiles that failed, or were done in an earlier run.
                whole = np.asarray(array[first:last])
                whole[tiles - first] = rows
                rows = whole
            array[first:last] = rows

    def close(self) -> TileResult:
        """Write what is pending and return all results so far."""
        if self._pending:
            self._write()
        errors = errors_frame([row for row in self._error_rows() if self.status[row["tile"]] == FAILED])
        return TileResult(self._values(), self.grid, self.status, errors)

    def _error_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of all failures so far; a line that a crash cut off is of a tile that was not marked."""
        file = self.folder / _ERRORS
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)

    def _values(self) -> Any:
        if self._arrays:
            return self._arrays if self._kind == "tuple of arrays" else self._arrays[0]
        parts = sorted((self.folder / _TABLES).glob("*.parquet"))
        return self._table(parts) if parts else []

    def _table(self, parts: Sequence[Path]) -> pd.DataFrame:
        """Rows of all tiles that are done; of a tile that was written twice (a crash came before its mark) the later rows count."""
        import pandas as pd

        tables: list[pd.DataFrame] = []
        for part in sorted(parts, key=lambda path: path.stat().st_mtime_ns):
            table = pd.read_parquet(part)
            tables = [old[~old["tile"].isin(table["tile"])] for old in tables]
            tables.append(table)
        whole = in_plan_order(tables)
        return whole[self.status[whole["tile"].to_numpy()] == DONE].reset_index(drop=True)
