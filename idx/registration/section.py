"""Place one slide in the CT: by landmarks, or by a search that a lesion mask and a pose prior make possible."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from idx._typing import Pair
from idx.errors import GeometryError
from idx.geometry import SectionTransform
from idx.registration.landmarks import LandmarkFit, Landmarks, fit_landmarks
from idx.registration.maps import SectionMaps, SectionPoints, section_points
from idx.registration.placement import Hypothesis, Placement
from idx.registration.pose import PoseBounds, PosePrior, Poses, distances_mm
from idx.registration.quality import N_CHANCE, chance_level, refusals, spread_of
from idx.registration.scoring import Scorer
from idx.registration.search import LesionSections, coarse_poses, random_poses, search
from idx.settings import current_settings, resolve_device
from idx.slide import Contours, Slide
from idx.volume import CTVolume, Mask, require_same_grid

COARSE_POINTS, QUALITY_POINTS = 350, 800
"""Points of the rasters on which every coarse pose and every resampled search is scored; about 2.5 and 1.7 mm apart on 40 mm of tissue."""
EXPECTED_HU_MPP = 150.0
"""Resolution of the expected-HU image, um per pixel: a fifth of a CT voxel."""
EDGE_DEG, EDGE_FRACTION = 0.5, 0.05
"""A best pose this near to a limit of the prior may lie beyond it."""
SHRINKAGE = (0.0, 0.25)
"""Linear shrinkage from the living lung to the slide: fixation and processing take up to a quarter of the length."""


def register_section(
    ct: CTVolume,
    slide: Slide,
    *,
    lesion: Mask | None = None,
    prior: PosePrior | None = None,
    landmarks: Landmarks | None = None,
    maps: SectionMaps | None = None,
    mirrored: bool | None = None,
    shrinkage: Pair = SHRINKAGE,
    device: str | torch.device | None = None,
    rng: np.random.Generator | None = None,
) -> Placement:
    """Find where a slide was cut, with its error in mm, or refuse and say what is missing.

    Parameters
    ----------
    ct : CTVolume
    slide : Slide
    lesion : Mask or None
        The lesion that the slide shows, on the CT's grid.
    prior : PosePrior or None
        What is known of the plane; needed for the search. ``PosePrior(normal, tolerance_deg=90)`` searches every plane, which takes longer
        and is often ambiguous.
    landmarks : Landmarks or None
        Three or more pairs place the slide by themselves; fewer belong into :meth:`PosePrior.from_landmarks`.
    maps : SectionMaps or None
        Outlines and expected HU of the slide; None computes tissue and expected HU with :mod:`idx.histology`.
    mirrored : bool or None
        Whether the slide's normal (x cross y) points against the prior's; None tries both.
    shrinkage : (low, high)
        Range of linear shrinkage, fractions of the length in vivo.
    device : str, torch.device or None
        Where planes are sampled; None means the setting.
    rng : numpy.random.Generator or None
        Randomness of the search; None starts one from the setting's seed.

    Returns
    -------
    Placement
        ``verdict`` "placed" with ``transform`` and ``error_mm``, or "refused" with ``reasons``. Landmarks are never refused for a large error,
        which ``error_mm`` states; with three pairs nothing is left to judge it by and it is None.

    Raises
    ------
    GeometryError
        If the landmarks do not fix a plane or come with a prior, maps or ``mirrored``, or mask and CT lie on different grids.

    Notes
    -----
    The search maximises ``dice + 0.5 (ncc_tissue + ncc_lesion + ncc_outside)`` over similarity transforms within the prior. It cannot follow a
    warped section; the error is that of the best plane's pose, judged by resampling the slide (see :mod:`idx.registration.quality`).
    """
    if lesion is not None:
        require_same_grid(ct, lesion.require_voxels())
    if landmarks is not None:
        needless = [name for name, given in (("prior", prior), ("maps", maps), ("mirrored", mirrored)) if given is not None]
        if needless:
            raise GeometryError(
                f"landmarks must be the only thing that places the slide; got {' and '.join(needless)} besides ({landmarks.where}). "
                "Leave them out, or turn the landmarks into a prior with PosePrior.from_landmarks."
            )
        return _by_landmarks(fit_landmarks(landmarks, source=slide.frame, target=ct.grid.frame), landmarks)
    if lesion is None:
        return _refused(
            "nothing says where the slide was cut: no lesion mask and no landmarks were given. Pass landmarks= (three pairs or more), or lesion= with prior=."
        )
    if prior is None:
        return _refused(
            "nothing is known of the plane: no prior was given, and outlines alone fit many planes alike. Pass prior=PosePrior.from_grossing_note('axial') "
            "(or 'coronal', 'sagittal'), or landmarks=."
        )
    if min(ct.grid.shape) < 2:
        raise GeometryError(f"a CT must have at least two voxels along each axis to be cut by a plane; got {ct.grid.shape} (z, y, x). Read the whole series.")
    maps = maps if maps is not None else maps_of(slide)
    if maps.tissue.frame != slide.frame:
        raise GeometryError(f"maps must be of the slide that is placed; got maps in {maps.tissue.frame} for a slide in {slide.frame}. Outline this slide.")
    points = section_points(maps)
    if points.area_mm2 < _smallest_section_mm2(points):
        return _refused(
            f"the slide shows no lesion section ({points.lesion_source}). Outline the lesion on the slide and pass maps=SectionMaps(..., lesion=...)."
        )
    rng = rng if rng is not None else np.random.default_rng(current_settings().seed)
    bounds = PoseBounds.from_prior(
        prior, lesion_centre_mm=lesion.centroid_mm, lesion_radius_mm=_lesion_radius_mm(lesion), shrinkage=shrinkage, mirrored=mirrored
    )
    return _Search(ct, lesion, slide, maps, points, bounds, resolve_device(device), rng).run()


def maps_of(slide: Slide, *, tissue: Contours | None = None, lesion: Contours | None = None) -> SectionMaps:
    """Maps of a slide by :mod:`idx.histology`.

    Parameters
    ----------
    slide : Slide
    tissue : Contours or None
        Outline of the section; found where it is not given.
    lesion : Contours or None
        Outline of the tumour, as a pathologist drew it; None lets it be derived from the expected HU.
    """
    from idx.histology import expected_hu, find_tissue

    tissue = tissue if tissue is not None else find_tissue(slide)
    image = expected_hu(slide, within=tissue, mpp=EXPECTED_HU_MPP)
    values = np.where(image.inside, image.values_hu, np.nan)
    return SectionMaps(tissue, lesion, values, image.origin_um, (image.spacing_um, image.spacing_um))


def _smallest_section_mm2(points: SectionPoints) -> float:
    """Smallest area in mm2 that counts as a lesion section: four cells of the raster."""
    return 4 * points.spacing_mm**2


def _lesion_radius_mm(lesion: Mask) -> float:
    """Largest distance of a voxel centre from the lesion's centroid."""
    box = lesion.bounding_box()
    index = np.argwhere(lesion.values[box]) + [s.start for s in box]
    return float(np.linalg.norm(lesion.grid.to_physical(index) - lesion.centroid_mm, axis=1).max())


def _refused(*reasons: str) -> Placement:
    return Placement(None, None, "refused", reasons)


def _by_landmarks(fit: LandmarkFit, landmarks: Landmarks) -> Placement:
    notes = []
    if fit.error_mm is None:
        notes.append(f"the error is unknown: {len(landmarks)} pairs leave none to check the fit with ({landmarks.where}). Mark a fourth and fifth pair.")
    outliers = [f"'{landmarks.names[i]}' ({fit.left_out_mm[i]:.1f} mm)" for i in np.flatnonzero(fit.is_outlier)]
    if outliers:
        notes.append(f"pair {', '.join(outliers)} lies further from the fit of the others than chance explains ({landmarks.where}). Check it on both images.")
    scores = {"n_pairs": float(len(landmarks)), "residual_mm": float(np.sqrt((fit.residual_mm**2).mean()))}
    estimates = {"left_out_mm": fit.error_mm, "propagated_mm": fit.propagated_mm}
    scores |= {name: value for name, value in estimates.items() if value is not None}
    evidence = {"model": fit.model, "landmarks": landmarks.where}
    return Placement(fit.transform, fit.error_mm, "placed", tuple(notes), "landmarks", scores, (Hypothesis(fit.transform, scores, 0.0),), evidence)


@dataclass(frozen=True, eq=False)
class _Search:
    """One search with all its inputs."""

    ct: CTVolume
    lesion: Mask
    slide: Slide
    maps: SectionMaps
    points: SectionPoints
    bounds: PoseBounds
    device: torch.device
    rng: np.random.Generator

    def run(self) -> Placement:
        sections = LesionSections.of(self.lesion, self.rng)
        starts = coarse_poses(self.bounds, sections, self.points)
        if len(starts) == 0:
            return _refused(
                "no plane within the prior cuts the lesion. Check the prior's centre and tolerance_mm, and that mask and prior use patient coordinates (LPS)."
            )
        coarse, medium, fine = self._scorer(COARSE_POINTS), self._scorer(QUALITY_POINTS), self._scorer(None)
        found = search(coarse, fine, starts, self.bounds, rng=self.rng)
        spread = spread_of(medium, found, self.bounds, rng=self.rng)
        by_chance = random_poses(self.bounds, sections, self.points.area_mm2, n=N_CHANCE, rng=self.rng)
        chance = chance_level(fine, by_chance if len(by_chance) else starts.take(self.rng.choice(len(starts), N_CHANCE)))
        best = found.scores.at(0)
        reasons = refusals(best, spread, found, chance=chance, points_mm=self.points.inside_mm)
        hypotheses = self._hypotheses(found.poses, [found.scores.at(i) for i in range(len(found.poses))])
        scores = {
            **best,
            **chance,
            "pose_spread_mm": spread.pose_mm,
            "local_misfit_mm": spread.misfit_mm,
            "far_share": spread.far_share,
            "shrinkage": 1 - 1 / float(found.poses.scale[0]),
        }
        evidence = self._evidence(found.poses)
        if reasons:
            return Placement(None, None, "refused", tuple(reasons), "mask_search", scores, hypotheses, evidence)
        return Placement(hypotheses[0].transform, spread.error_mm, "placed", tuple(self._cautions(found.poses)), "mask_search", scores, hypotheses, evidence)

    def _scorer(self, n_points: int | None) -> Scorer:
        section = self.points if n_points is None else section_points(self.maps, n_points=n_points, reference_um=self.points.reference_um)
        reach = float(np.linalg.norm(self.points.points_mm, axis=1).max()) * self.bounds.scale[1] + _lesion_radius_mm(self.lesion)
        return Scorer.build(self.ct, self.lesion, section, reach_mm=reach, device=self.device)

    def _transform(self, poses: Poses, index: int) -> SectionTransform:
        return poses.section(index, self.points.reference_um, source=self.slide.frame, target=self.ct.grid.frame)

    def _hypotheses(self, poses: Poses, scores: list[dict[str, float]]) -> tuple[Hypothesis, ...]:
        distance = distances_mm(poses, poses.take(slice(0, 1)), self.points.inside_mm)[:, 0]
        return tuple(Hypothesis(self._transform(poses, i), scores[i], float(distance[i])) for i in range(len(poses)))

    def _evidence(self, poses: Poses) -> dict[str, str | float | bool]:
        return {
            "lesion_outline": self.points.lesion_source,
            "compared": "outline and expected HU" if self.points.has_hu else "outline only: no expected HU was given",
            "mirrored": bool(self.bounds.is_mirrored(poses)[0]),
            "angle_from_prior_deg": float(self.bounds.angle_deg(poses)[0]),
            "depth_from_prior_mm": float(self.bounds.depth_mm(poses)[0]),
        }

    def _cautions(self, poses: Poses) -> list[str]:
        notes = []
        limit_deg = np.degrees(self.bounds.tolerance_rad)
        if self.bounds.angle_deg(poses)[0] > limit_deg - EDGE_DEG:
            notes.append(
                f"the best plane lies at the edge of the prior ({limit_deg:.1f} degrees from its normal): the true plane may lie beyond. Widen tolerance_deg."
            )
        if abs(self.bounds.depth_mm(poses)[0]) > self.bounds.tolerance_mm * (1 - EDGE_FRACTION):
            notes.append(
                f"the best plane lies at the edge of the prior ({self.bounds.tolerance_mm:.1f} mm from its centre): the true one may lie beyond. "
                "Widen tolerance_mm."
            )
        return notes
