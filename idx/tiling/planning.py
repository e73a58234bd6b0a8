"""Where the tiles of a slide lie: a pure plan, made without reading a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from idx._repr import card
from idx._typing import Array, FloatArray, IntArray, Pair, RGBArray
from idx.errors import GeometryError, UnitError
from idx.slide import SAME_SCALE_RTOL, Contours, Slide

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TileGrid:
    """Tiles of one size over a slide, in storage order (row by row). Make it with :func:`plan`.

    Three sizes are kept apart: what was *requested* (``size_px`` pixels of ``mpp`` um), what is *read* from the stored ``level`` (``scale``
    times as many pixels) and what it covers at *level 0* (in ``to_frame()``). Tiles and cores are half-open. The cores divide the slide without
    gap or overlap; a tile is its core and a halo of ``overlap_px / 2`` on every side, so it may reach over the border, where it is white.

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
        Share of the core (its part on the slide) that lies within the contours; 1 without contours.
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

    def __post_init__(self) -> None:
        for name, dtype in (("column", np.int64), ("row", np.int64), ("tissue_fraction", np.float64)):
            value = np.array(getattr(self, name), dtype=dtype)
            value.flags.writeable = False
            object.__setattr__(self, name, value)

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
    def origin_px(self) -> IntArray:
        """First pixel (x, y) of each tile, halo included, in the lattice of delivered pixels over the whole slide; (n, 2)."""
        return np.stack([self.column, self.row], axis=-1) * self.core_px - self.halo_px

    def read_rect_px(self, index: int) -> tuple[int, int, int, int]:
        """X, y, width and height of the pixels of the stored level that a tile is made from."""
        low = self.origin_px[index] * np.asarray(self.scale)
        high = (self.origin_px[index] + self.size_px) * np.asarray(self.scale)
        first, last = np.floor(low + 1e-6).astype(int), np.ceil(high - 1e-6).astype(int)
        return int(first[0]), int(first[1]), int(last[0] - first[0]), int(last[1] - first[1])

    def to_um(self, tile: Array, position_px: Array) -> FloatArray:
        """Map pixel positions (n, 2) (x, y) within tiles to um in the slide's frame; an integer position is a pixel centre.

        Parameters
        ----------
        tile : int or array (n,) of int
            Index of the tile of each position.
        position_px : array (n, 2)
        """
        lattice = self.origin_px[tile] + np.asarray(position_px, dtype=np.float64)
        # Pixel i of a lattice that is f times coarser has its centre at f*i + (f-1)/2 of the finer one.
        scale = np.asarray(self.scale)
        return self.slide.to_um(lattice * scale + (scale - 1.0) / 2.0, level=self.level)

    @property
    def core_bounds_um(self) -> FloatArray:
        """Left, top, right and bottom edge of each core in um, cut at the slide's border; (n, 4)."""
        return _core_bounds_um(self.slide, self.column, self.row, step_um=(self.core_px * self.mpp[0], self.core_px * self.mpp[1]))

    def core_contours(self) -> Contours:
        """Return the cores as one square polygon each, to be drawn."""
        left, top, right, bottom = self.core_bounds_um.T
        corners = np.stack([left, top, right, top, right, bottom, left, bottom], axis=-1).reshape(-1, 2)
        return Contours(corners, np.arange(len(self) + 1) * 4, np.arange(len(self) + 1), frame=self.slide.frame)

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

        per_pixel = np.asarray(self.scale) * self.slide.levels[self.level].downsample
        level0 = self.origin_px * per_pixel
        read = np.array([self.read_rect_px(i) for i in range(len(self))], dtype=np.int64).reshape(-1, 4)
        centre = self.to_um(np.arange(len(self)), np.full((len(self), 2), (self.size_px - 1) / 2.0))
        columns = {
            "column": self.column,
            "row": self.row,
            "level0_x_px": level0[:, 0],
            "level0_y_px": level0[:, 1],
            "level0_width_px": np.full(len(self), self.size_px * per_pixel[0]),
            "level0_height_px": np.full(len(self), self.size_px * per_pixel[1]),
            **{f"read_{name}_px": read[:, i] for i, name in enumerate(("x", "y", "width", "height"))},
            "centre_x_um": centre[:, 0],
            "centre_y_um": centre[:, 1],
            "tissue_fraction": self.tissue_fraction,
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self), name="tile"))

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        how = f"area-averaged x{self.scale[0]:.4g} from" if self.is_resampled else "read as stored from"
        return [
            ("tiles", f"{len(self):,}"),
            ("size", f"{self.size_px} px, {self.size_px * self.mpp[0]:.4g} um"),
            ("overlap", f"{self.overlap_px} px"),
            ("mpp (x, y)", f"{self.mpp[0]:.4g}, {self.mpp[1]:.4g} um/px"),
            ("pixels", f"{how} level {self.level} (1:{self.slide.levels[self.level].downsample:.4g})"),
        ]

    def __repr__(self) -> str:
        where = f"overlap {self.overlap_px} px, level {self.level} of '{self.slide.name}'"
        return f"TileGrid({len(self)} tiles of {self.size_px} px at {self.mpp[0]:.4g} um/px, {where})"

    def _repr_html_(self) -> str:
        return card("TileGrid", [("slide", self.slide.name), *self.facts()], [("cores of the tiles", self._sketch())])

    def _sketch(self, max_px: int = 280) -> RGBArray:
        """Cores drawn over the thumbnail."""
        from PIL import Image, ImageDraw

        thumbnail = self.slide.thumbnail(max_px)
        image = Image.fromarray(thumbnail)
        draw = ImageDraw.Draw(image)
        per_um = np.array([thumbnail.shape[1], thumbnail.shape[0]]) / np.asarray(self.slide.size_um)
        half = np.asarray(self.slide.mpp) / 2.0
        for bounds in self.core_bounds_um:
            (left, top), (right, bottom) = (bounds[:2] + half) * per_um, (bounds[2:] + half) * per_um
            draw.rectangle([float(left), float(top), float(right), float(bottom)], outline="#1f6f8b")
        return np.asarray(image)


def plan(
    slide: Slide,
    *,
    size_px: int = 256,
    mpp: float = 0.5,
    overlap_px: int = 0,
    within: Contours | None = None,
    min_tissue: float = 0.0,
    level: int | None = None,
) -> TileGrid:
    """Divide a slide into tiles without reading it.

    Parameters
    ----------
    slide : Slide
    size_px : int
        Side of a tile in delivered pixels, halo included.
    mpp : float
        um per delivered pixel. A stored level within 2 % of it is used as it is; otherwise the next finer level is area-averaged.
    overlap_px : int
        Pixels that neighbours share, even; half of it is the halo around each core.
    within : Contours or None
        Keep only tiles whose core meets these contours.
    min_tissue : float
        Least share (0 to 1) of the core, where it lies on the slide, that must be within the contours.
    level : int or None
        Read this stored level as it is; ``mpp`` is then the level's own and the argument is not used.

    Returns
    -------
    TileGrid
        Row by row. Border tiles are kept and padded with white.

    Raises
    ------
    UnitError
        If ``mpp`` is finer than the slide by more than 2 %: pixels are not invented.
    GeometryError
        If sizes do not fit together, the level does not exist or the contours lie in another frame.

    Examples
    --------
    >>> phantom = idx.testing.he_slide("slide.tif", mpp=0.5)  # doctest: +SKIP
    >>> grid = idx.tiling.plan(idx.open_slide("slide.tif"), size_px=512, overlap_px=64)  # doctest: +SKIP
    """
    _check_sizes(slide, size_px, overlap_px, min_tissue)
    chosen, delivered_mpp, scale = _choose_level(slide, mpp, level)
    stored = slide.levels[chosen]
    step = size_px - overlap_px
    # A sliver of less than a thousandth of a pixel is rounding of the scale, not slide.
    n_columns = int(np.ceil(stored.width_px / scale[0] / step - 1e-3 / step))
    n_rows = int(np.ceil(stored.height_px / scale[1] / step - 1e-3 / step))
    row, column = (index.ravel() for index in np.mgrid[0:n_rows, 0:n_columns])
    fraction = np.ones(len(row))
    if within is not None:
        if within.frame != slide.frame:
            raise GeometryError(
                f"contours must lie in the slide's frame; got {within.frame} for {slide.frame} (slide '{slide.name}'). Map them to this slide first."
            )
        fraction = _fraction_within(_core_bounds_um(slide, column, row, step_um=(step * delivered_mpp[0], step * delivered_mpp[1])), within)
        keep = (fraction > 0) & (fraction >= min_tissue)
        row, column, fraction = row[keep], column[keep], fraction[keep]
    return TileGrid(slide, chosen, size_px, overlap_px, delivered_mpp, scale, column, row, fraction)


def _check_sizes(slide: Slide, size_px: int, overlap_px: int, min_tissue: float) -> None:
    if size_px < 1 or overlap_px < 0 or overlap_px >= size_px or overlap_px % 2:
        raise GeometryError(
            f"size_px must be positive and overlap_px even and smaller than it; got size {size_px}, overlap {overlap_px} (slide '{slide.name}'). "
            "Pass for example size_px=512, overlap_px=64."
        )
    if not 0.0 <= min_tissue <= 1.0:
        raise GeometryError(f"min_tissue must be a share between 0 and 1; got {min_tissue} (slide '{slide.name}'). Pass for example 0.5.")


def _choose_level(slide: Slide, mpp: float, level: int | None) -> tuple[int, Pair, Pair]:
    """Stored level to read, um per delivered pixel, and level pixels per delivered pixel."""
    if level is not None:
        if not 0 <= level < len(slide.levels):
            raise GeometryError(f"level must be in 0..{len(slide.levels) - 1}; got {level} (slide '{slide.name}'). See slide.levels.")
        return level, _level_mpp(slide, level), (1.0, 1.0)
    if not (np.isfinite(mpp) and mpp > 0):
        raise UnitError(f"mpp must be a positive um per pixel; got {mpp} (slide '{slide.name}'). Pass for example mpp=0.5.")
    if max(slide.mpp) > mpp * (1 + SAME_SCALE_RTOL):
        raise UnitError(
            f"mpp must not be finer than the slide's {max(slide.mpp):.4g} um/px; got {mpp:g} (slide '{slide.name}'). Pass mpp={max(slide.mpp):.4g} or level=0."
        )
    chosen = slide.level_for(mpp)
    own = _level_mpp(slide, chosen)
    if all(abs(m / mpp - 1.0) <= SAME_SCALE_RTOL for m in own):
        return chosen, own, (1.0, 1.0)
    return chosen, (float(mpp), float(mpp)), (mpp / own[0], mpp / own[1])


def _level_mpp(slide: Slide, level: int) -> Pair:
    downsample = slide.levels[level].downsample
    return slide.mpp[0] * downsample, slide.mpp[1] * downsample


def _core_bounds_um(slide: Slide, column: IntArray, row: IntArray, *, step_um: Pair) -> FloatArray:
    """Edges (n, 4) of cores in um, cut at the slide's border. The slide begins half a level-0 pixel before the first pixel's centre."""
    step, half, size = np.asarray(step_um), np.asarray(slide.mpp) / 2.0, np.asarray(slide.size_um)
    place = np.stack([column, row], axis=-1)
    low, high = place * step, np.minimum((place + 1) * step, size)
    return np.concatenate([low - half, high - half], axis=-1)


def _fraction_within(bounds_um: FloatArray, within: Contours) -> FloatArray:
    """Share of each box that the union of the contours covers, by exact polygon areas."""
    import shapely

    fraction = np.zeros(len(bounds_um))
    if len(within) == 0 or len(bounds_um) == 0:
        return fraction
    union = shapely.union_all([shapely.make_valid(polygon) for polygon in within.polygons()])
    shapely.prepare(union)
    boxes = shapely.box(*bounds_um.T)
    fraction[shapely.contains(union, boxes)] = 1.0
    cut = np.flatnonzero((fraction == 0) & shapely.intersects(union, boxes))
    # Clipping a slide-sized polygon by every box is quadratic; clipping its parts row by row is not.
    parts = shapely.get_parts(union)
    tree = shapely.STRtree(parts)
    box_index, part_index = tree.query(boxes[cut], predicate="intersects")
    clipped = shapely.area(shapely.intersection(boxes[cut][box_index], parts[part_index]))
    covered = np.bincount(box_index, weights=clipped, minlength=len(cut))
    fraction[cut] = np.clip(covered / shapely.area(boxes[cut]), 0.0, 1.0)
    return fraction
