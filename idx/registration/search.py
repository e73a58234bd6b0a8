"""The search for a section's pose: every plane the prior allows, coarse to fine, many hypotheses kept.

1. Planes on a cone of normals times depths; for each the lesion's section gives centre and scale. Every turn of the slide, and both
   facings where unknown, is scored on a coarse raster.
2. The best poses that differ by millimetres are refined side by side by the cross-entropy method (sample, keep the best, fit, repeat).
3. The best distinct results are refined once more on the fine raster: these are the hypotheses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idx._typing import FloatArray, IntArray
from idx.registration.maps import SectionPoints
from idx.registration.pose import PoseBounds, Poses, distances_mm
from idx.registration.scoring import Scorer, Scores
from idx.volume import Mask

NORMAL_STEP_DEG, TURN_STEP_DEG = 6.0, 6.0
DEPTH_STEP = 0.12
"""Coarse step of depth as a fraction of the tissue's radius, about as much as 6 degrees move a point there."""
MAX_COARSE_POSES = 60_000
"""Wider priors are searched in wider steps to stay below this."""
MAX_LESION_POINTS = 8000
"""Voxels of the lesion that stand for it when its sections are measured."""
DISTINCT = 0.2
"""Poses nearer than this fraction of the tissue's radius are one hypothesis during the search."""
N_COARSE, N_FINE = 48, 10
"""Hypotheses that enter the first and the second refinement."""
POPULATION, ELITES = 56, 12
SPREADS = (0.15, 0.06)
"""Standard deviation of the first samples of the two refinements, fractions of the tissue's radius."""
GENERATIONS = (10, 14)
MIN_SECTION_FRACTION = 0.1
"""A plane that cuts less of the lesion than this fraction of the area on the slide misses it."""


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Distinct poses with their scores, best first."""

    poses: Poses
    scores: Scores

    def take(self, index: IntArray) -> Hypotheses:
        """Return the hypotheses at indices, in their order."""
        return Hypotheses(self.poses.take(index), self.scores.take(index))


def cone_normals(normal: FloatArray, tolerance_rad: float, step_rad: float) -> FloatArray:
    """Unit vectors (m, 3) about ``step_rad`` apart within ``tolerance_rad`` of a unit normal, the normal first."""
    x, y = plane_basis(normal[None])
    vectors = [normal]
    n_rings = int(np.ceil(tolerance_rad / step_rad - 1e-9))
    for angle in tolerance_rad * np.arange(1, n_rings + 1) / max(n_rings, 1):
        around = np.linspace(0, 2 * np.pi, max(3, round(2 * np.pi * np.sin(angle) / step_rad)), endpoint=False)[:, None]
        vectors.extend(np.cos(angle) * normal + np.sin(angle) * (np.cos(around) * x + np.sin(around) * y))
    return np.array(vectors)


def plane_basis(normals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two unit vectors (m, 3) that with the unit normals (m, 3) make right-handed frames."""
    helper = np.eye(3)[np.argmin(np.abs(normals), axis=1)]
    x = np.cross(helper, normals)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, np.cross(normals, x)


def frames(normals: FloatArray, turns_rad: FloatArray) -> FloatArray:
    """Rotations (m, 3, 3) whose third column is a normal and whose first is turned by an angle about it."""
    x, y = plane_basis(normals)
    first = np.cos(turns_rad)[:, None] * x + np.sin(turns_rad)[:, None] * y
    return np.stack([first, np.cross(normals, first), normals], axis=-1)


@dataclass(frozen=True, eq=False)
class LesionSections:
    """Where planes cut the lesion: centre (m, 3) in mm and area (m,) in mm2 of each section."""

    points_mm: FloatArray
    point_volume_mm3: float
    slab_mm: float

    @classmethod
    def of(cls, lesion: Mask, rng: np.random.Generator) -> LesionSections:
        """Take voxel centres of a lesion, thinned at random when there are many."""
        index = np.argwhere(lesion.values)
        kept = index if len(index) <= MAX_LESION_POINTS else index[rng.choice(len(index), MAX_LESION_POINTS, replace=False)]
        return cls(lesion.grid.to_physical(kept), lesion.volume_mm3 / len(kept), max(lesion.grid.spacing_mm))

    def cut(self, normals: FloatArray, centre_mm: FloatArray, depths_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Centres (m, 3) and areas (m,) of the sections of planes with unit normals (m, 3) at signed depths (m,) from a point."""
        local = self.points_mm - centre_mm
        centres, areas = np.empty((len(normals), 3)), np.empty(len(normals))
        for i, (normal, depth) in enumerate(zip(normals, depths_mm, strict=True)):
            distance = local @ normal - depth
            weight = np.maximum(1 - np.abs(distance) / self.slab_mm, 0.0)
            total = weight.sum()
            areas[i] = total * self.point_volume_mm3 / self.slab_mm
            middle = weight @ (local - distance[:, None] * normal) / total if total > 0 else depth * normal
            centres[i] = centre_mm + middle
        return centres, areas


def _planes(bounds: PoseBounds, radius_mm: float) -> tuple[FloatArray, FloatArray, float]:
    """Normals (m, 3), depths (m,) and the turn step of the coarse grid, in wider steps where the prior is wide."""
    widen = 1.0
    while True:
        normals = cone_normals(bounds.normal, bounds.tolerance_rad, np.radians(NORMAL_STEP_DEG) * widen)
        n_depths = 1 + 2 * int(np.ceil(bounds.tolerance_mm / (DEPTH_STEP * radius_mm * widen)))
        if len(normals) * n_depths * len(bounds.facings) * 360 / (TURN_STEP_DEG * widen) <= MAX_COARSE_POSES:
            break
        widen *= 1.15
    depths = np.linspace(-bounds.tolerance_mm, bounds.tolerance_mm, n_depths)
    return np.repeat(normals, n_depths, axis=0), np.tile(depths, len(normals)), TURN_STEP_DEG * widen


def coarse_poses(bounds: PoseBounds, sections: LesionSections, section: SectionPoints) -> Poses:
    """Every pose of the coarse grid whose plane cuts the lesion; the section's centroid takes the slide's reference point."""
    normals, depths, turn_step = _planes(bounds, section.radius_mm)
    centres, areas = sections.cut(normals, bounds.centre_mm, depths)
    hit = areas >= MIN_SECTION_FRACTION * section.area_mm2
    normals, centres, areas = normals[hit], centres[hit], areas[hit]
    turns = np.radians(np.arange(0, 360, turn_step))
    scale = np.clip(np.sqrt(areas / section.area_mm2), *bounds.scale)
    each, turn = np.repeat(np.arange(len(normals)), len(turns)), np.tile(turns, len(normals))
    return Poses.join(*(Poses(frames(facing * normals[each], turn), centres[each], scale[each]) for facing in bounds.facings))


def random_poses(bounds: PoseBounds, sections: LesionSections, area_mm2: float, *, n: int, rng: np.random.Generator) -> Poses:
    """Poses drawn evenly from the prior, centred on the lesion's section like the coarse grid: what chance would place."""
    x, y = plane_basis(bounds.normal[None])
    cosine = rng.uniform(np.cos(bounds.tolerance_rad), 1.0, n)[:, None]
    around = rng.uniform(0, 2 * np.pi, n)[:, None]
    normals = cosine * bounds.normal + np.sqrt(1 - cosine**2) * (np.cos(around) * x + np.sin(around) * y)
    depths = rng.uniform(-bounds.tolerance_mm, bounds.tolerance_mm, n)
    centres, areas = sections.cut(normals, bounds.centre_mm, depths)
    hit = areas >= MIN_SECTION_FRACTION * area_mm2
    facing = rng.choice(bounds.facings, n)[hit, None]
    turns = rng.uniform(0, 2 * np.pi, n)[hit]
    return Poses(frames(facing * normals[hit], turns), centres[hit], np.clip(np.sqrt(areas[hit] / area_mm2), *bounds.scale))


def distinct(hypotheses: Hypotheses, points_mm: FloatArray, *, n: int, apart_mm: float) -> Hypotheses:
    """Return at most ``n`` hypotheses, best first, none nearer than ``apart_mm`` to a better one."""
    waiting = np.argsort(-hypotheses.scores.total, kind="stable")
    kept: list[int] = []
    while len(waiting) and len(kept) < n:
        best = waiting[:1]
        kept.append(int(best[0]))
        distance = distances_mm(hypotheses.poses.take(waiting), hypotheses.poses.take(best), points_mm)[:, 0]
        waiting = waiting[distance >= apart_mm]
    return hypotheses.take(np.array(kept, dtype=np.int64))


def refine(
    scorer: Scorer, starts: Poses, bounds: PoseBounds, *, spread_mm: float, generations: int, rng: np.random.Generator, weights: FloatArray | None = None
) -> Hypotheses:
    """Improve each start by the cross-entropy method, all starts in one batch.

    Parameters
    ----------
    starts : Poses
        k poses.
    spread_mm : float
        Standard deviation of the first samples, as displacement at the tissue's radius.
    weights : array (k, n) or None
        Weight of each slide point for each start; None for ones.

    Returns
    -------
    Hypotheses
        The best pose met from each start, in order of the starts.
    """
    k, radius = len(starts), scorer.section.radius_mm
    weights = np.ones((k, len(scorer.section.points_mm))) if weights is None else weights
    mean, factor = np.zeros((k, 7)), np.tile(np.eye(7) * spread_mm, (k, 1, 1))
    best_step = np.zeros((k, 7))
    groups = np.arange(k)
    for generation in range(generations):
        steps = mean[:, None] + np.einsum("kij,kpj->kpi", factor, rng.standard_normal((k, POPULATION, 7)))
        steps[:, 0] = best_step
        poses = bounds.clamp(starts.take(np.repeat(groups, POPULATION)).moved(steps.reshape(-1, 7), radius))
        scores = scorer.score(poses, weights)
        order = np.argsort(-scores.total, axis=1, kind="stable")[:, :ELITES]
        elites = np.take_along_axis(steps, order[:, :, None], axis=1)
        best_step = elites[:, 0]
        rank_weight = np.log(ELITES + 0.5) - np.log(np.arange(1, ELITES + 1))
        rank_weight /= rank_weight.sum()
        mean = np.einsum("e,kei->ki", rank_weight, elites)
        centred = elites - mean[:, None]
        covariance = np.einsum("e,kei,kej->kij", rank_weight, centred, centred)
        # Twelve elites cannot hold a 7 x 7 covariance open: a shrinking floor keeps the search from collapsing early.
        floor = (0.5 * spread_mm * 0.75**generation) ** 2
        factor = np.linalg.cholesky(covariance + floor * np.eye(7))
    chosen = groups * POPULATION + order[:, 0]
    flat = scores.reshape(-1)
    return Hypotheses(poses, flat).take(chosen)


def search(coarse: Scorer, fine: Scorer, starts: Poses, bounds: PoseBounds, *, rng: np.random.Generator) -> Hypotheses:
    """Score all starts coarsely, refine the distinct best twice, and return the distinct results, best first."""
    points, radius = _representatives(fine), fine.section.radius_mm
    apart = DISTINCT * radius
    found = distinct(Hypotheses(starts, coarse.score(starts)), points, n=N_COARSE, apart_mm=apart)
    found = refine(coarse, found.poses, bounds, spread_mm=SPREADS[0] * radius, generations=GENERATIONS[0], rng=rng)
    found = distinct(found, points, n=N_FINE, apart_mm=apart)
    found = refine(fine, found.poses, bounds, spread_mm=SPREADS[1] * radius, generations=GENERATIONS[1], rng=rng)
    return distinct(found, points, n=N_FINE, apart_mm=apart)


def _representatives(scorer: Scorer, n: int = 40) -> FloatArray:
    """About ``n`` tissue points spread evenly through the raster, for distances between poses."""
    inside = scorer.section.inside_mm
    return inside[:: max(1, len(inside) // n)]
