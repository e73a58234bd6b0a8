"""Nuclei: what each class looks like, where they go, and their exact outlines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import spatial

from idx._typing import Array, BoolArray, FloatArray, IntArray
from idx.slide import Contours

N_VERTICES = 24
ANGLES = np.arange(N_VERTICES) * (2 * np.pi / N_VERTICES)
GAP_UM = 0.8
"""Least clear distance between the circles about two nuclei: no two outlines touch."""


@dataclass(frozen=True)
class CellType:
    """How nuclei of one class are drawn.

    Parameters
    ----------
    label : str
    semi_um : tuple of float
        Mean long and short semi-axis.
    spread : float
        Relative standard deviation of the size.
    irregularity : float
        Relative amplitude of the outline's deviation from an ellipse.
    optical_density : float
        Mean amount of haematoxylin.
    rim, clumps : float
        Contrast of the nuclear membrane and of the chromatin.
    has_nucleolus : bool
    """

    label: str
    semi_um: tuple[float, float]
    spread: float
    irregularity: float
    optical_density: float
    rim: float
    clumps: float
    has_nucleolus: bool = False


CELL_TYPES = (
    CellType("tumour", (6.3, 4.9), 0.16, 0.07, 0.46, 0.30, 0.20, True),
    CellType("lymphocyte", (3.9, 3.6), 0.06, 0.02, 0.86, 0.05, 0.14),
    CellType("stroma", (7.6, 2.3), 0.14, 0.03, 0.60, 0.10, 0.12),
)
TUMOUR, LYMPHOCYTE, STROMA = range(3)


@dataclass(frozen=True, eq=False)
class Cells:
    """Nuclei in um of the slide's frame.

    Parameters
    ----------
    centres_um : array (n, 2)
    kinds : array (n,)
        Index into ``CELL_TYPES``.
    semi_um : array (n, 2)
        Long and short semi-axis.
    angles : array (n,)
        Direction of the long axis, radians from x towards y.
    profiles : array (n, 24)
        Radius of each vertex relative to the ellipse.
    """

    centres_um: FloatArray
    kinds: IntArray
    semi_um: FloatArray
    angles: FloatArray
    profiles: FloatArray

    def __len__(self) -> int:
        return len(self.kinds)

    def select(self, keep: Array) -> Cells:
        """Return some of the nuclei."""
        return Cells(self.centres_um[keep], self.kinds[keep], self.semi_um[keep], self.angles[keep], self.profiles[keep])

    @property
    def reach_um(self) -> FloatArray:
        """Radius (n,) of the circle about each centre that holds its outline."""
        result: FloatArray = np.linalg.norm(self.vertices_um - self.centres_um[:, None], axis=-1).max(axis=1)
        return result

    @property
    def vertices_um(self) -> FloatArray:
        """Outline (n, 24, 2) of each nucleus."""
        local = self.profiles[..., None] * self.semi_um[:, None] * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1)
        cos, sin = np.cos(self.angles), np.sin(self.angles)
        rotation = np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)
        result: FloatArray = self.centres_um[:, None] + np.einsum("nij,nkj->nki", rotation, local)
        return result

    def contours(self) -> Contours:
        """Outlines with their class as label."""
        n = len(self)
        labels = tuple(CELL_TYPES[k].label for k in self.kinds)
        return Contours(self.vertices_um.reshape(-1, 2), np.arange(n + 1) * N_VERTICES, np.arange(n + 1), labels)


def draw_cells(rng: np.random.Generator, centres_um: FloatArray, kinds: IntArray, angles: FloatArray) -> Cells:
    """Draw size and outline of nuclei whose place, class and direction are given."""
    n = len(kinds)
    semi = np.array([t.semi_um for t in CELL_TYPES])[kinds]
    spread, irregularity = (np.array([getattr(t, name) for t in CELL_TYPES])[kinds] for name in ("spread", "irregularity"))
    semi = semi * np.clip(1 + spread * rng.standard_normal(n), 0.7, 1.45)[:, None]
    profiles = np.ones((n, N_VERTICES))
    for order in (2, 3, 4):
        profiles += (irregularity * rng.uniform(0.2, 1.0, n) / (order - 1))[:, None] * np.cos(order * ANGLES + rng.uniform(0, 2 * np.pi, (n, 1)))
    return Cells(centres_um, kinds, semi, angles, profiles)


def without_overlap(cells: Cells) -> BoolArray:
    """Which nuclei to keep, first come first served, so that the circles about any two stay ``GAP_UM`` apart."""
    reach = cells.reach_um
    keep = np.ones(len(cells), dtype=bool)
    if len(cells) < 2:
        return keep
    pairs = spatial.cKDTree(cells.centres_um).query_pairs(2 * reach.max() + GAP_UM, output_type="ndarray")
    apart = np.linalg.norm(cells.centres_um[pairs[:, 0]] - cells.centres_um[pairs[:, 1]], axis=1)
    pairs = pairs[apart < reach[pairs].sum(axis=1) + GAP_UM]
    for first, second in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]:
        if keep[first] and keep[second]:
            keep[second] = False
    return keep


def plant(
    rng: np.random.Generator,
    *,
    size_um: tuple[float, float],
    density_per_mm2: Callable[[FloatArray], FloatArray],
    fibre_angle: Callable[[FloatArray], FloatArray],
    peak_per_mm2: float,
) -> Cells:
    """Plant nuclei by a Poisson process thinned to a density, and drop those that would overlap.

    Parameters
    ----------
    size_um : tuple of float
        Width and height of the field.
    density_per_mm2 : callable
        Maps points (n, 2) to the wanted density of each class (n, 3), before overlaps are dropped.
    fibre_angle : callable
        Maps points (n, 2) to the direction of stroma nuclei.
    peak_per_mm2 : float
        At least the largest sum of densities.
    """
    n = int(rng.poisson(peak_per_mm2 * size_um[0] * size_um[1] * 1e-6))
    points = rng.uniform(0, 1, (n, 2)) * size_um
    limits = np.cumsum(density_per_mm2(points), axis=1) / peak_per_mm2
    kinds = (rng.uniform(0, 1, (n, 1)) >= limits).sum(axis=1)
    points, kinds = points[kinds < 3], kinds[kinds < 3]
    angles = rng.uniform(0, np.pi, len(kinds))
    spindle = kinds == STROMA
    angles[spindle] = fibre_angle(points[spindle]) + rng.normal(0, 0.15, int(spindle.sum()))
    cells = draw_cells(rng, points, kinds, angles)
    return cells.select(without_overlap(cells))
