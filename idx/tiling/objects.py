"""Stitched objects as a value: outlines in um and what is known of each object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from idx._repr import card
from idx._typing import Array, BoolArray, FloatArray, IntArray
from idx.errors import GeometryError
from idx.kernels.outlines import trace
from idx.slide import Contours
from idx.tiling.grid import TileGrid
from idx.tiling.resolving import Objects

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class StitchedObjects:
    """Objects found in overlapping tiles, each once, in the slide's frame.

    Parameters
    ----------
    contours : Contours
        One polygon per object along the edges of its pixels, holes kept; labels are class names.
    object_id : array (n,) of int
        1.. in the order in which objects were finished: the value of the object in :func:`idx.tiling.stitch_label_image` of the same tiles.
    tile : array (n,) of int
        Tile whose view of the object counts; of one that was joined, the tile that holds most of it.
    label : array (n,) of int
        Its number in that tile's label image.
    area_um2 : array (n,)
        Number of its pixels times their size: the area of the polygon.
    centroid_um : array (n, 2)
        Mean (x, y) of its pixels' centres.
    is_cut : array (n,) of bool
        Whether it reaches the rim of what the tiles saw (where the plan ends within the slide, or a tile failed), so that some may be missing.
    """

    contours: Contours
    object_id: IntArray
    tile: IntArray
    label: IntArray
    area_um2: FloatArray
    centroid_um: FloatArray
    is_cut: BoolArray

    def __post_init__(self) -> None:
        for name, dtype in (("object_id", np.int64), ("tile", np.int64), ("label", np.int64), ("area_um2", np.float64), ("is_cut", np.bool_)):
            value = np.array(getattr(self, name), dtype=dtype)
            value.flags.writeable = False
            object.__setattr__(self, name, value)
            if value.shape != (len(self.contours),):
                raise GeometryError(
                    f"{name} must have one entry per outline ({len(self.contours)}); got {value.shape} ({self.contours.frame}). Build it with stitch_labels."
                )

    def __len__(self) -> int:
        return len(self.contours)

    def select(self, keep: Array) -> StitchedObjects:
        """Return the objects picked by a bool mask (n,) or by indices, in the order given."""
        chosen = np.arange(len(self))[keep].reshape(-1)
        return StitchedObjects(
            self.contours.select(chosen),
            self.object_id[chosen],
            self.tile[chosen],
            self.label[chosen],
            self.area_um2[chosen],
            self.centroid_um[chosen],
            self.is_cut[chosen],
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per object.

        Returns
        -------
        DataFrame
            Index ``object_id``. ``tile``, ``label`` (its number in that tile), ``class``, ``area_um2``, ``centroid_x_um``, ``centroid_y_um``, ``is_cut``.
        """
        import pandas as pd

        columns = {
            "tile": self.tile,
            "label": self.label,
            "class": list(self.contours.labels),
            "area_um2": self.area_um2,
            "centroid_x_um": self.centroid_um[:, 0],
            "centroid_y_um": self.centroid_um[:, 1],
            "is_cut": self.is_cut,
        }
        return pd.DataFrame(columns, index=pd.Index(self.object_id, name="object_id"))

    def __repr__(self) -> str:
        return f"StitchedObjects({len(self):,} objects, {self.area_um2.sum() / 1e6:.3g} mm2, {int(self.is_cut.sum()):,} cut)"

    def _repr_html_(self) -> str:
        rows = [*self.contours.facts()]
        if len(self):
            rows += [("median area", f"{np.median(self.area_um2):.4g} um2"), ("cut at the rim", f"{int(self.is_cut.sum()):,}")]
        return card("StitchedObjects", rows, [("outlines", self.contours._sketch())] if len(self) else [])


def outlined(objects: Objects, grid: TileGrid, *, classes: Sequence[str], first_id: int) -> StitchedObjects:
    """Outline objects and bring them into the slide's frame; ids count from ``first_id``."""
    outlines = trace(objects.spans, objects.offsets)
    if len(classes):
        # An object without votes has no class.
        best = np.where(objects.votes.any(axis=1), objects.votes.argmax(axis=1) + 1, 0)
        names = tuple(("", *classes)[k] for k in best.tolist())
    else:
        names = ()
    vertices = grid.lattice_to_um(outlines.corners - 0.5)
    return StitchedObjects(
        Contours(vertices, outlines.ring_offsets, outlines.object_offsets, names, grid.slide.frame, grid.slide.source),
        np.arange(first_id, first_id + len(objects)),
        objects.tile,
        objects.label,
        outlines.area_px.astype(np.float64) * (grid.mpp[0] * grid.mpp[1]),
        grid.lattice_to_um(outlines.centroid_px),
        objects.is_cut,
    )


def joined(pieces: Sequence[StitchedObjects]) -> StitchedObjects:
    """All objects of some pieces (at least one), one after the other."""
    contours = [piece.contours for piece in pieces]
    ring_sizes = np.concatenate([np.diff(c.ring_offsets) for c in contours])
    ring_counts = np.concatenate([np.diff(c.polygon_offsets) for c in contours])
    return StitchedObjects(
        Contours(
            np.concatenate([c.vertices_um for c in contours]),
            np.r_[0, np.cumsum(ring_sizes)],
            np.r_[0, np.cumsum(ring_counts)],
            tuple(name for c in contours for name in c.labels),
            contours[0].frame,
            contours[0].source,
        ),
        *(np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("object_id", "tile", "label", "area_um2", "centroid_um", "is_cut")),
    )
