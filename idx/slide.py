"""Slides (lazy pyramids of RGB pixels) and contours drawn on them, in um."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np

from idx._repr import card
from idx._typing import Array, FloatArray, IntArray, Pair, RGBArray
from idx.errors import GeometryError, PixelAccessError, UnitError
from idx.geometry.affine import readonly
from idx.geometry.frames import SLIDE, Frame
from idx.geometry.grids import level0_position
from idx.provenance import Source

if TYPE_CHECKING:
    import torch
    from shapely import Polygon

SAME_SCALE_RTOL = 0.02
"""A stored level is used as it is when its scale agrees with the wanted one within 2 %: 0.499 asked at 0.5 must not resample."""

THUMBNAIL_BAND_PX = 1 << 24
"""Pixels of a stored level that a thumbnail reads at a time (48 MB)."""


@dataclass(frozen=True)
class Level:
    """One stored resolution of a slide.

    Parameters
    ----------
    width_px, height_px : int
    downsample : float
        Level-0 pixels per pixel of this level, the mean of both axes.
    doubt : str
        Why this level is read only when asked for by number, such as colours about which the file contradicts itself; mostly "".
    """

    width_px: int
    height_px: int
    downsample: float
    doubt: str = field(default="", compare=False)


@dataclass(frozen=True)
class TileRect:
    """A half-open rectangle of one stored level, in pixels of that level; it may reach over the border, where it is white."""

    level: int
    x_px: int
    y_px: int
    width_px: int
    height_px: int


@runtime_checkable
class PixelSource(Protocol):
    """Where a slide's pixels come from. Implementations live in ``idx.io`` and are safe to call from several threads."""

    @property
    def name(self) -> str:
        """Route taken: "tifffile", "openslide", "dicom" or "flat"."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """Stored levels, finest first."""
        ...

    def read_tiles_into(self, batch: RGBArray, tiles: Sequence[TileRect]) -> None:
        """Fill ``batch`` (n, height, width, 3) uint8 with n tiles of one size; beyond the border it is white."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


@runtime_checkable
class DevicePixelSource(PixelSource, Protocol):
    """A pixel source that also decodes on an accelerator."""

    def read_tiles_on_device(self, tiles: Sequence[TileRect], device: torch.device) -> torch.Tensor:
        """Return n tiles of one size as uint8 (n, height, width, 3) on the device; beyond the border they are white."""
        ...


@dataclass(frozen=True, eq=False)
class Slide:
    """A histology slide: nothing is decoded until asked.

    Parameters
    ----------
    pixels : PixelSource
        Where pixels come from.
    mpp : tuple of float
        um per level-0 pixel (x, y).
    name : str
        Short name, such as the file's.
    source : Source or None
        The file.
    frame : Frame
        Frame of its coordinates in um; the centre of the first level-0 pixel is the origin.
    magnification : float or None
        Objective power as the file states it; for display only.
    icc_profile : bytes or None
        What the colours of its pixels mean, where that is known.
    """

    pixels: PixelSource
    mpp: Pair
    name: str
    source: Source | None = None
    frame: Frame = SLIDE
    magnification: float | None = None
    icc_profile: bytes | None = None

    def __post_init__(self) -> None:
        mpp = (float(self.mpp[0]), float(self.mpp[1]))
        if not all(np.isfinite(m) and m > 0 for m in mpp):
            raise UnitError(f"mpp must be two positive um per pixel (x, y); got {self.mpp} (slide '{self.name}'). Pass open_slide(..., mpp=0.25).")
        object.__setattr__(self, "mpp", mpp)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Stored levels, finest first."""
        return self.pixels.levels

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height at level 0."""
        return self.levels[0].width_px, self.levels[0].height_px

    @property
    def size_um(self) -> Pair:
        """Width and height in um."""
        return self.size_px[0] * self.mpp[0], self.size_px[1] * self.mpp[1]

    def level_for(self, mpp: float) -> int:
        """Coarsest stored level at least as fine as ``mpp`` (within 2 %) whose pixels are not in doubt; level 0 where there is none."""
        return self._coarsest(mpp / max(self.mpp))

    def _coarsest(self, downsample: float) -> int:
        fine_enough = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * (1 + SAME_SCALE_RTOL) and not level.doubt]
        return fine_enough[-1] if fine_enough else 0

    def read_region(self, x_px: int, y_px: int, *, width_px: int, height_px: int, level: int = 0) -> RGBArray:
        """Read a rectangle of one stored level, in that level's pixels, as uint8 (y, x, 3); white beyond the border.

        Raises
        ------
        PixelAccessError
            If the level does not exist or a tile cannot be decoded.
        """
        if not 0 <= level < len(self.levels):
            raise PixelAccessError(f"level must be in 0..{len(self.levels) - 1}; got {level} (slide '{self.name}'). See slide.levels.")
        if width_px < 1 or height_px < 1:
            raise GeometryError(f"region must be at least 1 x 1 px; got {width_px} x {height_px} (slide '{self.name}'). Pass positive sizes.")
        batch = np.empty((1, height_px, width_px, 3), dtype=np.uint8)
        self.pixels.read_tiles_into(batch, [TileRect(level, int(x_px), int(y_px), width_px, height_px)])
        return batch[0]

    def thumbnail(self, max_px: int = 512) -> RGBArray:
        """Whole slide as uint8 (y, x, 3) whose longer side is at most ``max_px``, area-averaged from the nearest finer level."""
        from PIL import Image

        width, height = self.size_px
        scale = max(width, height) / max_px
        level = self._coarsest(max(1.0, scale))
        stored = self.levels[level]
        if max(stored.width_px, stored.height_px) <= max_px:
            return self.read_region(0, 0, width_px=stored.width_px, height_px=stored.height_px, level=level)
        columns, rows = max(1, round(width / scale)), max(1, round(height / scale))
        picture = np.empty((rows, columns, 3), dtype=np.uint8)
        # In bands of whole output rows: a slide without coarser levels would not fit in memory.
        step = max(1, round(rows * THUMBNAIL_BAND_PX / (stored.width_px * stored.height_px)))
        for first in range(0, rows, step):
            last = min(rows, first + step)
            top, bottom = first * stored.height_px / rows, last * stored.height_px / rows
            y, end = math.floor(top), min(stored.height_px, math.ceil(bottom))
            band = Image.fromarray(self.read_region(0, y, width_px=stored.width_px, height_px=end - y, level=level))
            box = (0, top - y, stored.width_px, min(bottom - y, end - y))
            picture[first:last] = np.asarray(band.resize((columns, last - first), Image.Resampling.BOX, box=box))
        return picture

    def to_um(self, position_px: Array, *, level: int = 0) -> FloatArray:
        """Map pixel positions (..., 2) (x, y) of a level to um in the slide's frame."""
        result: FloatArray = level0_position(position_px, self.levels[level].downsample) * np.asarray(self.mpp)
        return result

    def to_px(self, points_um: Array, *, level: int = 0) -> FloatArray:
        """Map points (..., 2) in um to fractional pixel positions (x, y) of a level."""
        s = self.levels[level].downsample
        result: FloatArray = (np.asarray(points_um, dtype=np.float64) / np.asarray(self.mpp) - (s - 1.0) / 2.0) / s
        return result

    def close(self) -> None:
        """Release the file."""
        self.pixels.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        width, height = self.size_px
        rows: list[tuple[str, object]] = [
            ("size", f"{width:,} x {height:,} px, {self.size_um[0] / 1000:.2f} x {self.size_um[1] / 1000:.2f} mm"),
            ("mpp (x, y)", f"{self.mpp[0]:.4g}, {self.mpp[1]:.4g} um/px"),
            ("levels", ", ".join(f"1:{level.downsample:.4g}" for level in self.levels)),
            ("pixels through", self.pixels.name),
        ]
        for doubt in dict.fromkeys(level.doubt for level in self.levels if level.doubt):
            numbers = ", ".join(str(number) for number, level in enumerate(self.levels) if level.doubt == doubt)
            rows.append((f"level {numbers}", f"in doubt: {doubt}"))
        if self.magnification:
            rows.append(("objective", f"{self.magnification:g}x (as stated by the file)"))
        return rows

    def __repr__(self) -> str:
        return f"Slide('{self.name}', {self.size_px[0]} x {self.size_px[1]} px, {self.mpp[0]:.4g} um/px, {len(self.levels)} levels, through {self.pixels.name})"

    def _repr_html_(self) -> str:
        return card(f"Slide {self.name}", self.facts(), [("thumbnail", self.thumbnail(280))])


@dataclass(frozen=True, eq=False)
class Contours:
    """Polygons on a slide, in um, stored flat so that a hundred thousand nuclei are three arrays.

    Parameters
    ----------
    vertices_um : array (n_vertices, 2)
        All vertices (x, y); rings are open (the first vertex is not repeated).
    ring_offsets : array (n_rings + 1,)
        Ring r is ``vertices_um[ring_offsets[r]:ring_offsets[r + 1]]``.
    polygon_offsets : array (n_polygons + 1,)
        Polygon p is the rings ``polygon_offsets[p]:polygon_offsets[p + 1]``; the first is its outline, the others are holes.
    labels : tuple of str
        One class name per polygon ("" where none is given).
    frame : Frame
        The slide's frame.
    """

    vertices_um: FloatArray
    ring_offsets: IntArray
    polygon_offsets: IntArray
    labels: tuple[str, ...] = ()
    frame: Frame = SLIDE
    source: Source | None = field(default=None)

    def __post_init__(self) -> None:
        vertices = readonly(self.vertices_um if np.size(self.vertices_um) else np.empty((0, 2)))
        rings, polygons = (np.array(o, dtype=np.int64) for o in (self.ring_offsets, self.polygon_offsets))
        labels = tuple(self.labels) or ("",) * (len(polygons) - 1)
        consistent = (
            len(rings) > 0
            and len(polygons) > 0
            and rings[0] == polygons[0] == 0
            and rings[-1] == len(vertices)
            and polygons[-1] == len(rings) - 1
            and (len(rings) == 1 or np.diff(rings).min() >= 3)
            and (len(polygons) == 1 or np.diff(polygons).min() >= 1)
            and len(labels) == len(polygons) - 1
        )
        if vertices.ndim != 2 or vertices.shape[1] != 2 or not consistent or not np.isfinite(vertices).all():
            raise GeometryError(
                f"contours must be finite rings of at least three vertices with matching offsets and labels; got {vertices.shape} vertices, "
                f"{len(rings) - 1} rings, {len(polygons) - 1} polygons, {len(labels)} labels ({self.frame}). Build them with Contours.from_polygons."
            )
        rings.flags.writeable = polygons.flags.writeable = False
        for name, value in (("vertices_um", vertices), ("ring_offsets", rings), ("polygon_offsets", polygons), ("labels", labels)):
            object.__setattr__(self, name, value)

    @classmethod
    def from_polygons(cls, polygons: Iterable[Polygon], *, labels: Sequence[str] = (), frame: Frame = SLIDE, source: Source | None = None) -> Contours:
        """Build contours from shapely polygons in um; one label per polygon.

        Raises
        ------
        GeometryError
            If a polygon is empty or is another kind of shape.
        """
        vertices, ring_sizes, ring_counts = [np.empty((0, 2))], [0], [0]
        for polygon in polygons:
            if polygon.geom_type != "Polygon" or polygon.is_empty:
                raise GeometryError(
                    f"contours must be built from non-empty polygons; got {polygon.geom_type}{' (empty)' if polygon.is_empty else ''} ({frame}). "
                    "Split multipolygons into their .geoms and drop empty shapes."
                )
            rings = [np.asarray(r.coords)[:-1, :2] for r in (polygon.exterior, *polygon.interiors)]
            vertices.extend(rings)
            ring_sizes.extend(len(r) for r in rings)
            ring_counts.append(len(rings))
        return cls(np.concatenate(vertices), np.cumsum(ring_sizes), np.cumsum(ring_counts), tuple(labels), frame, source)

    def __len__(self) -> int:
        return len(self.polygon_offsets) - 1

    def rings(self, index: int) -> list[FloatArray]:
        """Open rings (n, 2) in um of one polygon: outline first, then holes."""
        first, last = self.polygon_offsets[index], self.polygon_offsets[index + 1]
        return [self.vertices_um[self.ring_offsets[r] : self.ring_offsets[r + 1]] for r in range(first, last)]

    def polygons(self) -> Iterator[Polygon]:
        """Yield shapely polygons in um."""
        import shapely

        for index in range(len(self)):
            outline, *holes = self.rings(index)
            yield shapely.Polygon(outline, holes)

    def _ring_areas_um2(self) -> FloatArray:
        """Unsigned area of every ring by the shoelace formula."""
        if len(self.vertices_um) == 0:
            return np.zeros(0)
        starts, ends = self.ring_offsets[:-1], self.ring_offsets[1:]
        following = np.arange(1, len(self.vertices_um) + 1)
        following[ends - 1] = starts
        # Relative to each ring's first vertex: large slide coordinates would cost digits.
        local = self.vertices_um - np.repeat(self.vertices_um[starts], np.diff(self.ring_offsets), axis=0)
        cross = local[:, 0] * local[following, 1] - local[following, 0] * local[:, 1]
        result: FloatArray = np.abs(np.add.reduceat(cross, starts)) / 2.0
        return result

    @property
    def areas_um2(self) -> FloatArray:
        """Area of each polygon (n,) in um2, holes taken out."""
        if len(self) == 0:
            return np.zeros(0)
        areas = -self._ring_areas_um2()
        areas[self.polygon_offsets[:-1]] *= -1
        result: FloatArray = np.add.reduceat(areas, self.polygon_offsets[:-1])
        return result

    @property
    def centroids_um(self) -> FloatArray:
        """Centre of mass of each polygon (n, 2) in um, holes taken out."""
        import shapely

        points = shapely.centroid(np.array(list(self.polygons()), dtype=object))
        return np.stack([shapely.get_x(points), shapely.get_y(points)], axis=-1).reshape(-1, 2)

    @property
    def bounds_um(self) -> tuple[float, float, float, float]:
        """X and y of the lower and upper corner of all contours in um.

        Raises
        ------
        GeometryError
            If there are no contours.
        """
        if len(self) == 0:
            raise GeometryError(f"contours must hold at least one polygon to have bounds; got none ({self.frame}). Check the region or the threshold.")
        low, high = self.vertices_um.min(axis=0), self.vertices_um.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def select(self, keep: Array) -> Contours:
        """Return the polygons picked by a bool mask or by indices, in order."""
        chosen = np.arange(len(self))[keep].reshape(-1)
        rings, polygon_offsets = _gather(chosen, self.polygon_offsets)
        vertices, ring_offsets = _gather(rings, self.ring_offsets)
        labels = tuple(self.labels[i] for i in chosen.tolist())
        return Contours(self.vertices_um[vertices], ring_offsets, polygon_offsets, labels, self.frame, self.source)

    def with_labels(self, labels: Sequence[str]) -> Contours:
        """Return the same polygons with other labels."""
        return replace(self, labels=tuple(labels))

    def __repr__(self) -> str:
        kinds = sorted({label for label in self.labels if label})
        return f"Contours({len(self)} polygons, {self.areas_um2.sum() / 1e6:.3g} mm2{', ' + ', '.join(kinds) if kinds else ''}, frame {self.frame.name})"

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        counts = Counter(label or "(no class)" for label in self.labels)
        rows: list[tuple[str, object]] = [("polygons", f"{len(self):,}"), ("area", f"{self.areas_um2.sum() / 1e6:.4g} mm2"), ("frame", str(self.frame))]
        return rows + [(name, f"{n:,}") for name, n in counts.items()]

    def _repr_html_(self) -> str:
        return card("Contours", self.facts(), [("outlines", self._sketch())] if len(self) else [])

    def _sketch(self, size_px: int = 160) -> RGBArray:
        """Filled outlines drawn to fit a square picture."""
        from PIL import Image, ImageDraw

        left, top, right, bottom = self.bounds_um
        scale = (size_px - 8) / max(right - left, bottom - top, 1e-9)
        image = Image.new("RGB", (size_px, size_px), "white")
        draw = ImageDraw.Draw(image)
        for index in range(len(self)):
            for number, ring in enumerate(self.rings(index)):
                corners = [(float(x), float(y)) for x, y in (ring - (left, top)) * scale + 4]
                draw.polygon(corners, fill="white" if number else "#c9a3c4", outline="#5b2a5e")
        return np.asarray(image)


def _gather(chosen: IntArray, offsets: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of the members of chosen groups in a flat layout of groups, and the offsets of the layout that they make."""
    sizes = np.diff(offsets)[chosen]
    taken = np.r_[0, np.cumsum(sizes)]
    return np.repeat(offsets[:-1][chosen] - taken[:-1], sizes) + np.arange(taken[-1]), taken
