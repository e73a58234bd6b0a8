"""Results of tiles on disk: a zarr group that grows batch by batch and survives a crash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from idx._typing import Array
from idx.errors import FormatError, IdxError
from idx.tiling.planning import TileGrid
from idx.tiling.results import DONE, FAILED, TileBatch, TileResult, blank, check_alike, errors_frame, failure_rows, in_plan_order, is_frame, kind_of, parts_of

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
    after its results are on disk.

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
        self._arrays: tuple[zarr.Array, ...] = ()
        is_there = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if is_there and not resume:
            raise IdxError(f"out must be new; got one that holds something ('{folder}'). Pass resume=True to go on with it, or another folder.")
        self._group = self._opened() if is_there else self._created()
        stored: Any = self._group["status"]
        self._status = stored
        self.status = np.asarray(stored[:])

    def _created(self) -> zarr.Group:
        import zarr

        try:
            group = zarr.open_group(self.folder, mode="w-")
        except OSError as error:
            raise IdxError(f"out must be a folder that can be written; got: {error} ('{self.folder}'). Pass another.") from error
        group.create_array("status", shape=(len(self.grid),), chunks=(max(1, min(len(self.grid), 1 << 16)),), dtype="uint8")
        source = self.grid.slide.source
        group.attrs.update(
            {"kind": "idx tile results", "fingerprint": self.grid.fingerprint, "slide": self.grid.slide.name, "path": None if source is None else source.path}
        )
        self.grid.to_frame().to_parquet(self.folder / "tiles.parquet")
        return group

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
        if "values" in group:
            values: Any = group["values"]
            self._arrays = tuple(values[name] for name in sorted(values, key=int))
        return group

    def put(self, batch: TileBatch) -> None:
        """Take in the results of a batch; they are written once the chunk that they belong to is complete."""
        if batch.failures:
            rows = failure_rows(batch.failures, self.grid)
            with (self.folder / _ERRORS).open("a", encoding="utf-8") as lines:
                lines.writelines(json.dumps(row) + "\n" for row in rows)
        if len(batch.tiles) and not is_frame(batch.values):
            self._check(batch)
        self._pending.append(batch)
        chunk = self._chunk_tiles
        last = max([*batch.tiles.tolist(), *(failure.tile for failure in batch.failures)], default=-1)
        first = min([*self._pending[0].tiles.tolist(), *(failure.tile for failure in self._pending[0].failures)], default=last)
        if (last + 1) // chunk > first // chunk:
            self._write()

    def _check(self, batch: TileBatch) -> None:
        if kind_of(batch.values) == "list":
            raise IdxError(f"results for out must be arrays, tuples of arrays or tables; got a list of objects ('{self.folder}'). Leave out= out.")
        parts = parts_of(batch.values)
        if not self._arrays:
            self._arrays = tuple(self._new_array(number, part) for number, part in enumerate(parts))
            self._group.attrs["is_tuple"] = isinstance(batch.values, tuple)
        check_alike(self._arrays, parts, self.grid, int(batch.tiles[0]))

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
            fill_value=one.flat[0].item() if one.size else 0,
        )
        return created

    @property
    def _chunk_tiles(self) -> int:
        """Tiles that are written at a time."""
        return min((array.chunks[0] for array in self._arrays), default=_CHUNK_TILES)

    def _write(self) -> None:
        """Write what is pending, then mark it."""
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
        for batch in self._pending:
            self.status[[failure.tile for failure in batch.failures]] = FAILED
            self.status[batch.tiles] = DONE
        self._pending = []
        self._status[:] = self.status

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
        rows = []
        if (self.folder / _ERRORS).exists():
            rows = [json.loads(line) for line in (self.folder / _ERRORS).read_text(encoding="utf-8").splitlines()]
        errors = errors_frame([row for row in rows if self.status[row["tile"]] == FAILED])
        return TileResult(self._values(), self.grid, self.status, errors)

    def _values(self) -> Any:
        if self._arrays:
            return self._arrays if self._group.attrs["is_tuple"] else self._arrays[0]
        parts = sorted((self.folder / _TABLES).glob("*.parquet"))
        return self._table(parts) if parts else []

    def _table(self, parts: Sequence[Path]) -> pd.DataFrame:
        """The table of all parts; of a tile that was written twice (a crash came before its mark) the later rows count."""
        import pandas as pd

        tables: list[pd.DataFrame] = []
        for part in sorted(parts, key=lambda path: path.stat().st_mtime_ns):
            table = pd.read_parquet(part)
            tables = [old[~old["tile"].isin(table["tile"])] for old in tables]
            tables.append(table)
        return in_plan_order(tables)
