"""How far a placement found by search can be believed: its error in mm, what chance would score, and when to refuse.

The score of a pose is a mean over the slide. Giving blocks of the slide random weights (Bayesian bootstrap; Rubin, Ann Stat
1981;9:130) and searching again shows how far the best pose moves when other parts of the slide count: hypotheses that score alike
take turns at being best. That spread is the error of the pose for a section that a plane can follow.

A section is warped besides, and a pose that bends to the warp is wrong elsewhere. So each part of the slide is also placed by itself,
under weights that fade with the distance from it: how far it moves from where the whole put it shows the misfit there. The expected
error is the root of the sum of both squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idx._typing import FloatArray
from idx.registration.maps import SectionPoints
from idx.registration.pose import PoseBounds, Poses, distances_mm
from idx.registration.scoring import Scorer
from idx.registration.search import Hypotheses, refine

N_REPLICATES = 16
REPLICATE_GENERATIONS = 10
REPLICATE_SPREAD = 0.07
"""Standard deviation of the first samples, as a fraction of the tissue's radius."""
WINDOW_FRACTION = 0.4
"""Standard deviation of a local window as a fraction of the tissue's radius: a few windows across the section."""
WINDOW_STEP = 1.5
"""Distance of window centres in standard deviations."""
MIN_WINDOW_WEIGHT = 0.5
"""A window is used where at least this share of a full one lies on tissue."""
FAR_MM, FAR_FRACTION = 5.0, 0.5
"""Poses further apart than this, or this fraction of the tissue's radius where that is less, tell two different stories."""
MAX_FAR_SHARE = 0.1
"""Largest share of replicates that may prefer a pose that is far from the best one."""
MIN_DICE = 0.5
"""Below this the lesion's section and its outline on the slide are not one shape."""
N_CHANCE = 400
CHANCE_QUANTILE = 0.99


@dataclass(frozen=True, eq=False)
class Spread:
    """How the best pose moves when other parts of the slide count.

    Parameters
    ----------
    resampled_mm : array (replicates,)
        Root mean square distance over the tissue of each replicate's best pose from the best pose.
    local_mm : array (windows,)
        The same within each local window, of the pose that the window prefers.
    far_mm : float
        Distance from which a replicate tells another story.
    """

    resampled_mm: FloatArray
    local_mm: FloatArray
    far_mm: float

    @property
    def pose_mm(self) -> float:
        """Error of the pose by resampling."""
        return float(np.sqrt((self.resampled_mm**2).mean()))

    @property
    def misfit_mm(self) -> float:
        """Local misfit of the placed section."""
        return float(np.sqrt((self.local_mm**2).mean()))

    @property
    def error_mm(self) -> float:
        """Expected error of a tissue point."""
        return float(np.hypot(self.pose_mm, self.misfit_mm))

    @property
    def far_share(self) -> float:
        """Share of the replicates that prefer a far pose, 0-1."""
        return float((self.resampled_mm > self.far_mm).mean())


def spread_of(scorer: Scorer, found: Hypotheses, bounds: PoseBounds, *, rng: np.random.Generator) -> Spread:
    """Search again from the hypotheses, with random weights on the slide's blocks and with local windows."""
    section = scorer.section
    random_weight = rng.exponential(size=(N_REPLICATES, int(section.block.max()) + 1))[:, section.block]
    windows = local_windows(section)
    # All hypotheses under each replicate's weights: the search goes on from its favourite. Windows start from the best pose.
    everywhere = Poses.join(*(found.poses for _ in range(N_REPLICATES)))
    favourite = scorer.score(everywhere, random_weight).total.argmax(axis=1)
    starts = found.poses.take(np.concatenate([favourite, np.zeros(len(windows), dtype=np.int64)]))
    weights = np.vstack([random_weight, windows])
    moved = refine(scorer, starts, bounds, spread_mm=REPLICATE_SPREAD * section.radius_mm, generations=REPLICATE_GENERATIONS, rng=rng, weights=weights).poses
    best = found.poses.take(slice(0, 1))
    resampled = distances_mm(moved.take(slice(0, N_REPLICATES)), best, section.inside_mm)[:, 0]
    offset = moved.take(slice(N_REPLICATES, None)).apply(section.points_mm) - best.apply(section.points_mm)
    on_tissue = windows * section.is_inside
    local = np.sqrt(((offset**2).sum(-1) * on_tissue).sum(1) / on_tissue.sum(1))
    return Spread(resampled, local, min(FAR_MM, FAR_FRACTION * section.radius_mm))


def local_windows(section: SectionPoints) -> FloatArray:
    """Gaussian weights (windows, n) on a lattice, where it lies mostly on tissue."""
    width = WINDOW_FRACTION * section.radius_mm
    inside = section.is_inside.astype(np.float64)
    low, high = section.points_mm.min(axis=0), section.points_mm.max(axis=0)
    x, y = (np.linspace(a, b, 2 + int((b - a) / (WINDOW_STEP * width)))[1:-1] for a, b in zip(low, high, strict=True))
    centres = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    windows = np.exp(-0.5 * ((section.points_mm[None] - centres[:, None]) ** 2).sum(-1) / width**2)
    share = (windows * inside).sum(1) * section.spacing_mm**2 / (2 * np.pi * width**2)
    kept = share >= min(MIN_WINDOW_WEIGHT, float(share.max()))
    return windows[kept]


def chance_level(scorer: Scorer, poses: Poses) -> dict[str, float]:
    """Mean and upper quantile of the score of random poses within the prior."""
    total = scorer.score(poses).total
    return {"chance_mean": float(total.mean()), "chance_q99": float(np.quantile(total, CHANCE_QUANTILE))}


def refusals(best: dict[str, float], spread: Spread, found: Hypotheses, *, chance: dict[str, float], points_mm: FloatArray) -> list[str]:
    """Reasons in words why the best pose must not be used; empty where it may."""
    reasons = []
    if best["total"] <= chance["chance_q99"]:
        reasons.append(
            f"chance level: the best score {best['total']:.3f} is not above the 99th percentile {chance['chance_q99']:.3f} of random poses within the prior. "
            "Check that slide and CT show one lesion, or mark landmarks."
        )
    if best["dice"] < MIN_DICE:
        reasons.append(
            f"no section of the lesion looks like its outline on the slide: Dice {best['dice']:.2f} is below {MIN_DICE}. "
            "Check the mask, the outline, the prior and the range of shrinkage."
        )
    if spread.far_share > MAX_FAR_SHARE:
        rivals = distances_mm(found.poses, found.poses.take(slice(0, 1)), points_mm)[:, 0]
        far = np.flatnonzero(rivals > spread.far_mm)
        rival = f"; one lies {rivals[far[0]]:.1f} mm away and scores {found.scores.total[far[0]]:.3f} against {best['total']:.3f}" if len(far) else ""
        reasons.append(
            f"ambiguous: poses more than {spread.far_mm:.1f} mm apart score alike, {spread.far_share:.0%} of the resampled scores prefer one{rival}. "
            "Narrow the prior, give mirrored=, or mark landmarks."
        )
    return reasons
