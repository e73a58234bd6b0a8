"""Nuclei without a network: contrast of haematoxylin, a threshold fitted once per slide, and steepest ascent to each nucleus's peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from idx._typing import Array, BoolArray, IntArray, RGBArray
from idx.errors import UnitError
from idx.histology.stain import StainBasis, fit_stain, sample_pixels
from idx.histology.tissue import find_tissue
from idx.kernels.labels import climb, largest_parts, select
from idx.kernels.stain import otsu_threshold
from idx.slide import SAME_SCALE_RTOL, Contours, Slide

if TYPE_CHECKING:
    import torch

# Tuned on dsb2018_he (58 tiles, CC0) by random search; never on MoNuSeg, which is kept for evaluation.
WANTED_MPP = 0.5
COARSEST_MPP = 1.0
"""At 1 um per pixel a lymphocyte is seven pixels wide; below that neighbours cannot be told apart."""
_SMOOTH_UM = 0.35
_BACKGROUND_UM, _BACKGROUND_SHARE = 8.0, 0.5
_THRESHOLD_SHARE = 0.9
MIN_CONTRAST_OD = 0.05
"""Least contrast of a nucleus with half its surroundings: keeps the noise of slides without nuclei out."""
_DISTANCE_CAP_UM, _DISTANCE_SMOOTH_UM = 10.0, 0.4
_PEAK_UM_PER_OD, _PEAK_SMOOTH_UM = 4.0, 1.2
_MERGE_UM, _MERGE_DEPTH_UM = 3.5, 0.5
_INK_SHARE = 0.3
_MIN_PART_UM2, _MIN_HOLE_UM2 = 12.0, 6.0
MIN_AREA_UM2, MAX_AREA_UM2 = 10.0, 400.0
"""A pyknotic lymphocyte has about 15 um2; tumour nuclei seldom exceed 300 um2."""


@dataclass(frozen=True, eq=False)
class ClassicalNuclei:
    """The classical nucleus model, fitted to one slide; a :class:`idx.algorithms.NucleusModel`.

    Parameters
    ----------
    mpp : float
        um per pixel of the tiles it wants.
    stain : StainBasis
        Colours of the slide's stains.
    threshold_od : float
        Contrast above which a pixel belongs to a nucleus; the same for all tiles of the slide.
    """

    mpp: float
    stain: StainBasis
    threshold_od: float

    def __call__(self, batch: torch.Tensor) -> IntArray:
        """Map uint8 (n, y, x, 3) to instance labels int32 (n, y, x)."""
        return np.stack([self.segment(tile) for tile in batch.cpu().numpy()])

    def segment(self, rgb: RGBArray) -> IntArray:
        """Label the nuclei of one picture (y, x, 3) uint8; int32 (y, x), 1..n.

        Notes
        -----
        Every step looks no further than some tens of um, so that a tile with a halo gives the same nuclei as the whole slide.
        """
        from scipy.ndimage import distance_transform_edt, gaussian_filter

        haematoxylin = self.stain.haematoxylin_od(rgb)
        # Blue and green ink absorbs red without green, which unmixing sees as negative eosin.
        is_ink = self.stain.eosin_od(rgb) < -_INK_SHARE * haematoxylin
        foreground = _without_specks((nuclear_contrast(haematoxylin, self.mpp) > self.threshold_od) & ~is_ink, self.mpp)
        # Touching nuclei are parted where they are narrow or pale: depth within the foreground plus darkness, in um.
        depth = np.minimum(distance_transform_edt(foreground) * self.mpp, _DISTANCE_CAP_UM).astype(np.float32)
        elevation = gaussian_filter(depth, _DISTANCE_SMOOTH_UM / self.mpp, truncate=3.0)
        elevation += _PEAK_UM_PER_OD * gaussian_filter(haematoxylin, _PEAK_SMOOTH_UM / self.mpp, truncate=3.0)
        labels = largest_parts(climb(elevation, foreground, radius_px=max(1, round(_MERGE_UM / self.mpp)), min_depth=_MERGE_DEPTH_UM))
        area = np.bincount(labels.ravel())[1:] * self.mpp**2
        return select(labels, (area >= MIN_AREA_UM2) & (area <= MAX_AREA_UM2))


def nuclear_contrast(haematoxylin: Array, mpp: float) -> Array:
    """Haematoxylin less half its mean within about 8 um, float32 (y, x): pale nuclei in pale tissue and dark ones in dark count alike."""
    from scipy.ndimage import gaussian_filter

    near = gaussian_filter(haematoxylin, _SMOOTH_UM / mpp, truncate=3.0)
    around = gaussian_filter(haematoxylin, _BACKGROUND_UM / mpp, truncate=2.0)
    return np.asarray(near - _BACKGROUND_SHARE * around)


def _without_specks(mask: BoolArray, mpp: float) -> BoolArray:
    """Drop parts and fill holes that are too small to be nuclei or chromatin gaps worth keeping."""
    from scipy.ndimage import label

    parts, _ = label(mask)
    sizes = np.bincount(parts.ravel())
    kept = sizes >= _MIN_PART_UM2 / mpp**2
    kept[0] = False
    mask = kept[parts]
    gaps, _ = label(~mask)
    sizes = np.bincount(gaps.ravel())
    filled = sizes < _MIN_HOLE_UM2 / mpp**2
    filled[0] = False
    return np.asarray(mask | filled[gaps])


def fit_classical(slide: Slide, *, within: Contours | None = None) -> ClassicalNuclei:
    """Fit the classical model to a slide: its glass, and one threshold from tiles spread over the tissue.

    Parameters
    ----------
    slide : Slide
    within : Contours or None
        Tissue to fit on; None finds it.

    Raises
    ------
    UnitError
        If the slide is coarser than 1 um per pixel.
    """
    if max(slide.mpp) > COARSEST_MPP:
        raise UnitError(
            f"mpp must be at most {COARSEST_MPP:g} um per pixel to find nuclei, which are 5 to 12 um wide; got {max(slide.mpp):.4g} (slide '{slide.name}'). "
            "Scan at 20x (0.5 um/px) or finer."
        )
    mpp = max(slide.mpp) if max(slide.mpp) > WANTED_MPP * (1 + SAME_SCALE_RTOL) else WANTED_MPP
    stain = fit_stain(slide)
    tissue = find_tissue(slide) if within is None else within
    region = tissue if len(tissue) else None
    contrast = sample_pixels(slide, within=region, mpp=mpp, of=lambda rgb: nuclear_contrast(stain.haematoxylin_od(rgb), mpp))
    otsu = otsu_threshold(contrast, low=-0.5, high=1.5)
    return ClassicalNuclei(mpp, stain, max(MIN_CONTRAST_OD, _THRESHOLD_SHARE * otsu))
