"""Tiles of one size over a slide, as a value: positions, sizes and areas, no pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from idx._typing import Array, FloatArray, IntArray, Pair
from idx.errors import GeometryError
from idx.slide import Contours, Slide

if TYPE_CHECKING:
    import pandas as pd

_ROUNDING_PX = 1e-6
"""A stored pixel is not read for less than this share of it: that much is rounding of the scale, not slide."""
SLIVER_PX = 1e-3
"""A delivered pixel that would show less than this share of itself is not delivered."""


@dataclass(frozen=True)
class Requested:
    """What a plan was asked for, where that need not be what it delivers.

    Parameters
    ----------
    mpp : float or None
        um per pixel; None where a stored level was chosen.
    size_um, overlap_um : float or None
        None where sizes were given in pixels.
    """

    mpp: float | None = None
    size_um: float | None = None
    overlap_um: float | None = None


@dataclass(frozen=True, eq=False)
class TileGrid:
    """Tiles of one size over a slide, in storage order. Make it with :func:`plan`.

    Three sizes are kept apart: what is *delivered* (``size_px`` pixels of ``mpp`` um; what was asked for stands in ``requested``), what is *read*
    from the stored ``level`` (``scale`` times as many pixels) and what it covers at *level 0* (in ``to_frame()``). Tiles and cores are half-open.
    The cores divide the slide without gap or overlap; a tile is its core and a halo of ``overlap_px / 2`` on every side, so it may reach over the
    border, where it is white.

    Parameters
    ----------
    slide : Slide
        The slide that was planned; none of its pixels is touched.
    level : int
        Stored level that is read.
    size_px, overlap_px : int
        Side of a tile and what two neighbours share, in pixels as delivered.
    mpp : tuple of float
        um per delivered pixel (x, y); the stored level's own where it was near enough to be used as it is.
    scale : tuple of float
        Pixels of the stored level per delivered pixel (x, y); exactly 1 where nothing is resampled.
    column, row : array (n,) of int
        Place of each tile in the full lattice of cores.
    tissue_fraction : array (n,)
        Share of the core (its part on the slide) that lies within the contours or the mask; 1 without them.
    offset_px : tuple of int
        Pixel (x, y) of the stored level at which the lattice of delivered pixels begins; (0, 0) for a whole slide.
    extent_px : tuple of int
        Width and height of the lattice in delivered pixels; (0, 0) means up to the slide's far corner.
    requested : Requested
        What was asked for.
    """

    slide: Slide
    level: int
    size_px: int
    overlap_px: int
    mpp: Pair
    scale: Pair
    column: IntArray
    row: IntArray
    tissue_fraction: FloatArray
    offset_px: tuple[int, int] = (0, 0)
    extent_px: tuple[int, int] = (0, 0)
    requested: Requested = Requested()

    def __post_init__(self) -> None:
        for name, dtype in (("column", np.int64), ("row", np.int64), ("tissue_fraction", np.float64)):
            value = np.array(getattr(self, name), dtype=dtype)
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        if not len(self.column) == len(self.row) == len(self.tissue_fraction):
            raise GeometryError(
                f"column, row and tissue_fraction must have one entry per tile; got {len(self.column)}, {len(self.row)} and {len(self.tissue_fraction)} "
                f"(slide '{self.slide.name}'). Use plan(...) and grid.select(...)."
            )
        if self.extent_px == (0, 0):
            stored = self.slide.levels[self.level]
            object.__setattr__(self, "extent_px", lattice_size(stored.width_px, stored.height_px, offset_px=self.offset_px, scale=self.scale))

    def __len__(self) -> int:
        return len(self.column)

    @property
    def halo_px(self) -> int:
        """Delivered pixels around the core on each side."""
        return self.overlap_px // 2

    @property
    def core_px(self) -> int:
        """Side of the core in delivered pixels; also the step from tile to tile."""
        return self.size_px - self.overlap_px

    @property
    def is_resampled(self) -> bool:
        """Whether pixels are area-averaged from a finer level."""
        return self.scale != (1.0, 1.0)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the full lattice of cores, whether or not they are in the plan."""
        width, height = self.extent_px
        return -(-height // self.core_px), -(-width // self.core_px)

    @cached_property
    def origin_px(self) -> IntArray:
        """First pixel (x, y) of each tile, halo included, in the lattice of delivered pixels; (n, 2)."""
        return _readonly(np.stack([self.column, self.row], axis=-1) * self.core_px - self.halo_px)

    @cached_property
    def read_rects_px(self) -> IntArray:
        """X, y, width and height (n, 4) of the pixels of the stored level that each tile is made from."""
        low, high = self._read_edges_px(self.origin_px)
        return _readonly(np.concatenate([low, high - low], axis=1))

    @cached_property
    def read_size_px(self) -> tuple[int, int]:
        """Width and height in the stored level that are enough for every tile of the lattice.

        Where scales are not whole numbers, neighbouring tiles are made from rectangles that differ by a pixel; this is the largest.
        """
        rows, columns = self.shape
        last = np.arange(max(rows, columns))
        low, high = self._read_edges_px(np.stack([last, last], axis=-1) * self.core_px - self.halo_px)
        width, height = (int((high - low)[:count, axis].max()) for axis, count in enumerate((columns, rows)))
        return width, height

    def _read_edges_px(self, origin_px: IntArray) -> tuple[IntArray, IntArray]:
        """Half-open edges (n, 2) in the stored level of tiles that begin at ``origin_px``."""
        scale = np.asarray(self.scale)
        low = np.floor(origin_px * scale + _ROUNDING_PX).astype(np.int64)
        high = np.ceil((origin_px + self.size_px) * scale - _ROUNDING_PX).astype(np.int64)
        return low + self.offset_px, high + self.offset_px

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything that says which pixels are delivered, in which order.

        Two plans of one fingerprint fit the same slide: it holds the slide's levels and mpp, not its name, path or pixels, nor the tissue fractions.
        """
        numbers = [
            *([level.width_px, level.height_px, level.downsample] for level in self.slide.levels),
            list(self.slide.mpp),
            [self.level, self.size_px, self.overlap_px],
            list(self.mpp),
            list(self.scale),
            list(self.offset_px),
            list(self.extent_px),
        ]
        digest = hashlib.sha256(json.dumps(numbers).encode())
        for places in (self.column, self.row):
            digest.update(np.ascontiguousarray(places, dtype="<i8").tobytes())
        return digest.hexdigest()

    def lattice_to_um(self, position_px: Array) -> FloatArray:
        """Map pixel positions (..., 2) (x, y) of the lattice of delivered pixels to um in the slide's frame; an integer is a pixel centre."""
        # Pixel i of a lattice that is f times coarser has its centre at f*i + (f-1)/2 of the finer one.
        scale = np.asarray(self.scale)
        return self.slide.to_um(np.asarray(position_px, dtype=np.float64) * scale + (scale - 1.0) / 2.0 + self.offset_px, level=self.level)

    def um_to_lattice(self, points_um: Array) -> FloatArray:
        """Map points (..., 2) in um to fractional pixel positions (x, y) of the lattice of delivered pixels."""
        scale = np.asarray(self.scale)
        result: FloatArray = (self.slide.to_px(points_um, level=self.level) - self.offset_px - (scale - 1.0) / 2.0) / scale
        return result

    def to_um(self, tile: Array, position_px: Array) -> FloatArray:
        """Map pixel positions (n, 2) (x, y) within tiles to um in the slide's frame; an integer position is a pixel centre.

        Parameters
        ----------
        tile : int or array (n,) of int
            Index of the tile of each position.
        position_px : array (n, 2)
        """
        return self.lattice_to_um(self.origin_px[tile] + np.asarray(position_px, dtype=np.float64))

    @property
    def bounds_um(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom edge in um of what is planned: the lattice of delivered pixels, cut at the slide's border."""
        low, high = self._edges_um(np.zeros(2)), self._edges_um(np.asarray(self.extent_px, dtype=np.float64))
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def core_lines_um(self) -> tuple[FloatArray, FloatArray]:
        """Edges x (n_columns + 1,) and y (n_rows + 1,) in um of the full lattice of cores, cut at the border of what is planned."""
        rows, columns = self.shape
        lines = np.arange(max(rows, columns) + 1)[:, None] * self.core_px
        edges = self._edges_um(np.broadcast_to(lines, (len(lines), 2)))
        return edges[: columns + 1, 0], edges[: rows + 1, 1]

    @property
    def core_bounds_um(self) -> FloatArray:
        """Left, top, right and bottom edge of each core in um, cut at the border of what is planned; (n, 4)."""
        x, y = self.core_lines_um
        return np.stack([x[self.column], y[self.row], x[self.column + 1], y[self.row + 1]], axis=-1)

    def _edges_um(self, edge_px: Array) -> FloatArray:
        """Edges (..., 2) between delivered pixels, in um. The slide begins half a level-0 pixel before the first pixel's centre."""
        downsample, mpp = self.slide.levels[self.level].downsample, np.asarray(self.slide.mpp)
        level0 = (np.minimum(edge_px, self.extent_px) * np.asarray(self.scale) + self.offset_px) * downsample
        result: FloatArray = (np.minimum(level0, self.slide.size_px) - 0.5) * mpp
        return result

    def core_contours(self) -> Contours:
        """Return the cores as one square polygon each, to be drawn."""
        left, top, right, bottom = self.core_bounds_um.T
        corners = np.stack([left, top, right, top, right, bottom, left, bottom], axis=-1).reshape(-1, 2)
        return Contours(corners, np.arange(len(self) + 1) * 4, np.arange(len(self) + 1), frame=self.slide.frame)

    def select(self, keep: Array | slice) -> TileGrid:
        """Return the tiles picked by a bool mask (n,), by indices (negative ones count from the end) or by a slice, in the order given.

        Raises
        ------
        GeometryError
            If the mask has another length or an index is not in the plan.
        """
        chosen = np.arange(len(self))[keep] if isinstance(keep, slice) else np.asarray(keep)
        if chosen.dtype == np.bool_:
            fits, indices = chosen.shape == (len(self),), np.flatnonzero(chosen)
        else:
            indices = chosen.astype(np.int64) if chosen.size == 0 else chosen
            fits = chosen.ndim == 1 and indices.dtype.kind in "iu" and not bool(((indices < -len(self)) | (indices >= len(self))).any())
        if not fits:
            raise GeometryError(
                f"keep must be a bool mask of {len(self)} tiles or indices into them; got {chosen.dtype} {chosen.shape} (slide '{self.slide.name}'). "
                "Pass for example grid.tissue_fraction > 0.5."
            )
        return replace(self, column=self.column[indices], row=self.row[indices], tissue_fraction=self.tissue_fraction[indices])

    @overload
    def __getitem__(self, position: int | np.integer[Any]) -> pd.Series[float]: ...
    @overload
    def __getitem__(self, position: Array | slice) -> TileGrid: ...
    def __getitem__(self, position: int | np.integer[Any] | Array | slice) -> pd.Series[float] | TileGrid:
        """Row of :meth:`to_frame` by its number; or :meth:`select` for a slice, a mask or indices."""
        if not isinstance(position, int | np.integer):
            return self.select(position)
        if not -len(self) <= position < len(self):
            raise IndexError(f"tile must be one of {len(self)}; got {position} (slide '{self.slide.name}'). Count from 0.")
        row = self.select(np.array([position])).to_frame().iloc[0]
        return row.rename(int(position) % len(self))

    def __iter__(self) -> Iterator[pd.Series[float]]:
        """Rows of :meth:`to_frame`, one by one."""
        return (row for _, row in self.to_frame().iterrows())

    def as_map(self, values: Array, *, missing: Any = np.nan) -> Array:
        """Put one value per tile (n, ...) where the tiles lie: (rows, columns, ...) of the full lattice, ``missing`` where there is none.

        Raises
        ------
        GeometryError
            If there is not one value per tile.

        Examples
        --------
        >>> share = grid.as_map(grid.tissue_fraction, missing=0.0)  # doctest: +SKIP
        """
        given = np.asarray(values)
        if given.shape[:1] != (len(self),):
            raise GeometryError(f"values must be one per tile ({len(self)}); got {given.shape} (slide '{self.slide.name}'). Pass result.values of this plan.")
        placed = np.full(self.shape + given.shape[1:], missing, dtype=np.result_type(given.dtype, missing))
        placed[self.row, self.column] = given
        return placed

    def tile_at(self, points_um: Array) -> IntArray:
        """Tile whose core holds each point (n, 2) (x, y) in um of the slide's frame; -1 where none of the plan does."""
        position = self.um_to_lattice(points_um).reshape(-1, 2)
        inside = ((position >= -0.5) & (position < np.asarray(self.extent_px) - 0.5)).all(axis=1)
        column, row = np.floor((position[inside] + 0.5) / self.core_px).astype(np.int64).T
        tile = np.full(len(position), -1, dtype=np.int64)
        tile[inside] = self.as_map(np.arange(len(self)), missing=-1)[row, column]
        return tile

    def to_frame(self) -> pd.DataFrame:
        """Return one row per tile.

        Returns
        -------
        DataFrame
            Index ``tile``. ``column``, ``row``; ``level0_x_px``, ``level0_y_px``, ``level0_width_px``, ``level0_height_px`` (the tile with its
            halo, from its first pixel's corner, fractional where levels are not whole multiples); ``read_x_px``, ``read_y_px``, ``read_width_px``,
            ``read_height_px`` (in the stored level); ``centre_x_um``, ``centre_y_um``; ``tissue_fraction``.
        """
        import pandas as pd

        downsample = self.slide.levels[self.level].downsample
        level0 = (self.origin_px * np.asarray(self.scale) + self.offset_px) * downsample
        size = np.asarray(self.scale) * (downsample * self.size_px)
        centre = self.lattice_to_um(self.origin_px + (self.size_px - 1) / 2.0)
        columns = {
            "column": self.column,
            "row": self.row,
            "level0_x_px": level0[:, 0],
            "level0_y_px": level0[:, 1],
            "level0_width_px": np.full(len(self), size[0]),
            "level0_height_px": np.full(len(self), size[1]),
            **{f"read_{name}_px": self.read_rects_px[:, i] for i, name in enumerate(("x", "y", "width", "height"))},
            "centre_x_um": centre[:, 0],
            "centre_y_um": centre[:, 1],
            "tissue_fraction": self.tissue_fraction,
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self), name="tile"))

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        how = f"area-averaged x{self.scale[0]:.4g} from" if self.is_resampled else "read as stored from"
        mean_mpp, asked, (rows, columns) = float(np.mean(self.mpp)), self.requested, self.shape
        facts: list[tuple[str, object]] = [
            ("tiles", f"{len(self):,} of {rows * columns:,} ({rows:,} rows x {columns:,} columns)"),
            ("size", f"{self.size_px} px, {self._in_um(self.size_px)}{_unless_same(asked.size_um, self.size_px * mean_mpp, 'um')}"),
            ("overlap", f"{self.overlap_px} px, {self._in_um(self.overlap_px)}{_unless_same(asked.overlap_um, self.overlap_px * mean_mpp, 'um')}"),
            ("mpp (x, y)", f"{self.mpp[0]:.4g}, {self.mpp[1]:.4g} um/px{_unless_same(asked.mpp, mean_mpp, 'um/px')}"),
            ("pixels", f"{how} level {self.level} (1:{self.slide.levels[self.level].downsample:.4g})"),
        ]
        if not self.is_whole_slide:
            left, top, right, bottom = self.bounds_um
            facts.append(("region", f"x {left:,.6g} to {right:,.6g} um, y {top:,.6g} to {bottom:,.6g} um"))
        if len(self) and self.tissue_fraction.min() < 1.0:
            facts.append(("share within", f"{self.tissue_fraction.mean():.0%} on average, {self.tissue_fraction.min():.2g} at least"))
        return facts

    def _in_um(self, n_px: int) -> str:
        x, y = (f"{n_px * m:.5g}" for m in self.mpp)
        return f"{x} um" if x == y else f"{x} x {y} um"

    @property
    def is_whole_slide(self) -> bool:
        """Whether the lattice covers the whole slide, not a region of it."""
        stored = self.slide.levels[self.level]
        whole = lattice_size(stored.width_px, stored.height_px, offset_px=(0, 0), scale=self.scale)
        return self.offset_px == (0, 0) and self.extent_px == whole

    def __repr__(self) -> str:
        where = f"overlap {self.overlap_px} px, level {self.level} of '{self.slide.name}'"
        return f"TileGrid({len(self)} tiles of {self.size_px} px at {self.mpp[0]:.4g} um/px, {where})"

    def _repr_html_(self) -> str:
        from idx.tiling.drawing import plan_html  # only who looks at a plan loads what draws it

        return plan_html(self)


def _unless_same(asked: float | None, delivered: float, unit: str) -> str:
    return "" if asked is None or abs(asked - delivered) <= 1e-6 * delivered else f" (asked: {asked:.5g} {unit})"


def lattice_size(right_px: float, bottom_px: float, *, offset_px: tuple[int, int], scale: Pair) -> tuple[int, int]:
    """Delivered pixels (width, height) that cover a stored level from ``offset_px`` to an edge in its pixels."""
    width, height = (max(1, int(np.ceil((edge - first) / s - SLIVER_PX))) for edge, first, s in zip((right_px, bottom_px), offset_px, scale, strict=True))
    return width, height


def _readonly(values: IntArray) -> IntArray:
    values.flags.writeable = False
    return values
