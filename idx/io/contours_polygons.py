"""Polygons as annotation files hold them: in level-0 pixels, the corner of the first pixel at (0, 0)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from idx._typing import FloatArray, Pair
from idx.errors import FormatError
from idx.geometry.frames import Frame
from idx.provenance import Source
from idx.slide import Contours

CORNER_PX = 0.5
"""Annotation programs count from the corner of the first pixel, idx from its centre."""


@dataclass(frozen=True, eq=False)
class PixelPolygon:
    """One outline with its holes, in corner pixels.

    Parameters
    ----------
    label : str
    rings : list of array (n, 2)
        Outline first, then holes.
    """

    label: str
    rings: list[FloatArray]


@dataclass
class Skipped:
    """Counts of what a file held and could not become a polygon."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str) -> None:
        """Count one more."""
        self.counts[reason] = self.counts.get(reason, 0) + 1

    def warn(self, path: Path) -> None:
        """Say what was left out, if anything was."""
        if self.counts:
            listing = ", ".join(f"{count} {reason}" for reason, count in sorted(self.counts.items()))
            warnings.warn(
                f"contours left out: {listing} ({path}). Draw them as polygons of at least three vertices if they are needed.", UserWarning, stacklevel=3
            )


def ring(points: object, path: Path) -> FloatArray:
    """Open ring (n, 2): a repeated last vertex is taken off.

    Raises
    ------
    FormatError
        If the points are not finite pairs of numbers.
    """
    try:
        vertices = np.asarray(points, dtype=np.float64)
        vertices = vertices.reshape(0, 2) if vertices.size == 0 else vertices[:, :2]
    except (ValueError, TypeError, IndexError) as error:
        raise FormatError(f"contour vertices must be pairs of numbers; got {str(points)[:60]} ({path}). Export the annotations again.") from error
    if vertices.ndim != 2 or vertices.shape[1] != 2 or not np.isfinite(vertices).all():
        raise FormatError(f"contour vertices must be finite pairs of numbers; got {str(points)[:60]} ({path}). Export the annotations again.")
    return vertices[:-1] if len(vertices) > 1 and np.array_equal(vertices[0], vertices[-1]) else vertices


def to_contours(polygons: Iterable[PixelPolygon], skipped: Skipped, *, mpp: Pair, frame: Frame, source: Source) -> Contours:
    """Contours in um, without rings of fewer than three vertices."""
    vertices, ring_sizes, ring_counts, labels = [np.empty((0, 2))], [0], [0], []
    for polygon in polygons:
        outline, *holes = polygon.rings
        if len(outline) < 3:
            skipped.add("outlines of fewer than 3 vertices")
            continue
        kept = [outline, *(hole for hole in holes if len(hole) >= 3)]
        for _ in range(1 + len(holes) - len(kept)):
            skipped.add("holes of fewer than 3 vertices")
        vertices.extend(kept)
        ring_sizes.extend(len(part) for part in kept)
        ring_counts.append(len(kept))
        labels.append(polygon.label)
    um = (np.concatenate(vertices) - CORNER_PX) * np.asarray(mpp)
    return Contours(um, np.cumsum(ring_sizes), np.cumsum(ring_counts), tuple(labels), frame, source)
