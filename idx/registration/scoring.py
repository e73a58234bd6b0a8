"""How well a section at a pose looks like the slide: overlap of outlines and correlation of attenuation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from idx._typing import FloatArray, IntArray
from idx.geometry.grids import Grid
from idx.kernels.plane_sampling import sample_planes
from idx.registration.maps import SectionPoints
from idx.registration.pose import Poses
from idx.volume import CTVolume, Mask

NCC_WEIGHT = 0.5
"""Weight of each of the three correlations beside an overlap of weight 1."""
HU_WINDOW = (-1000.0, 300.0)
"""CT values are clipped to this before they are compared: bone and contrast say nothing about a section."""
CROP_MARGIN_VOXELS = 2


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of poses, each array of one shape.

    Parameters
    ----------
    dice : array
        Soft Dice coefficient of the lesion's section and its outline on the slide, 0-1.
    ncc_tissue, ncc_lesion, ncc_outside : array
        Correlation of expected and CT attenuation over the tissue, and inside and outside the outline, -1 to 1; 0 where no expected HU
        is known or one of them is constant.
    """

    dice: FloatArray
    ncc_tissue: FloatArray
    ncc_lesion: FloatArray
    ncc_outside: FloatArray

    @property
    def total(self) -> FloatArray:
        """``dice + 0.5 (ncc_tissue + ncc_lesion + ncc_outside)``."""
        return self.dice + NCC_WEIGHT * (self.ncc_tissue + self.ncc_lesion + self.ncc_outside)

    def reshape(self, *shape: int) -> Scores:
        """Return the same scores in another shape."""
        return Scores(*(a.reshape(shape) for a in self._parts()))

    def take(self, index: IntArray) -> Scores:
        """Return the scores at indices."""
        return Scores(*(a[index] for a in self._parts()))

    def _parts(self) -> tuple[FloatArray, ...]:
        return self.dice, self.ncc_tissue, self.ncc_lesion, self.ncc_outside

    def at(self, index: int) -> dict[str, float]:
        """Return one pose's scores by name."""
        return {name: float(getattr(self, name)[index]) for name in ("dice", "ncc_tissue", "ncc_lesion", "ncc_outside", "total")}


@dataclass(frozen=True, eq=False)
class Scorer:
    """Compares slide points with CT and lesion mask on planes.

    Parameters
    ----------
    volumes : tensor (2, z, y, x)
        Smoothed HU and smoothed lesion mask around the lesion, float32.
    to_index : array (4, 4)
        Maps patient points (mm) to voxel indices (x, y, z) of ``volumes``.
    section : SectionPoints
    """

    volumes: torch.Tensor
    to_index: FloatArray
    section: SectionPoints

    @classmethod
    def build(cls, ct: CTVolume, lesion: Mask, section: SectionPoints, *, reach_mm: float, device: torch.device) -> Scorer:
        """Crop CT and mask to ``reach_mm`` around the lesion's centroid and smooth them as the slide's maps are."""
        box, grid = _crop(ct.grid, np.asarray(lesion.centroid_mm), reach_mm)
        hu = np.clip(ct.values[box].astype(np.float64), *HU_WINDOW)
        sigma = [section.smoothing_mm / s for s in reversed(grid.spacing_mm)]
        smoothed = [ndimage.gaussian_filter(v, sigma, mode="nearest") for v in (hu, lesion.values[box].astype(np.float64))]
        volumes = torch.as_tensor(np.stack(smoothed), dtype=torch.float32, device=device)
        return cls(volumes, np.linalg.inv(np.asarray(grid.affine, dtype=np.float64)), section)

    def score(self, poses: Poses, weights: FloatArray | None = None) -> Scores:
        """Score poses (b,), or k groups of p poses (b = k p) each under its own point weights (k, n).

        Returns
        -------
        Scores
            Arrays (b,) without weights, (k, p) with.
        """
        sampled = self._sample(poses)
        n = len(self.section.points_mm)
        groups = 1 if weights is None else len(weights)
        hu, mask = (sampled[:, c].reshape(groups, -1, n) for c in range(2))
        weight = torch.ones((1, n), dtype=hu.dtype, device=hu.device) if weights is None else self._tensor(weights)
        outline, tissue = self._tensor(self.section.lesion), self._tensor(self.section.tissue)
        overlap = _sums(mask, weight * outline)
        dice = 2 * overlap / (_sums(mask, weight) + (weight * outline).sum(1, keepdim=True)).clamp_min(1e-6)
        expected = self._tensor(self.section.hu)
        regions = (tissue, tissue * outline, tissue * (1 - outline))
        parts = (dice, *(_ncc(hu, expected, weight * region) for region in regions))
        scores = Scores(*(p.double().cpu().numpy() for p in parts))
        return scores.reshape(-1) if weights is None else scores

    def _sample(self, poses: Poses) -> torch.Tensor:
        axes = self.to_index[:3, :3] @ poses.axes
        origins = poses.centre_mm @ self.to_index[:3, :3].T + self.to_index[:3, 3]
        return sample_planes(self.volumes, self._tensor(axes), self._tensor(origins), points=self._tensor(self.section.points_mm))

    def _tensor(self, values: FloatArray) -> torch.Tensor:
        return torch.as_tensor(np.array(values), dtype=torch.float32, device=self.volumes.device)


def _crop(grid: Grid, centre_mm: FloatArray, reach_mm: float) -> tuple[tuple[slice, slice, slice], Grid]:
    """Slices and grid of the part of a grid within ``reach_mm`` of a point, at least two voxels per axis."""
    centre = grid.to_index(centre_mm)
    reach = reach_mm / np.asarray(grid.spacing_mm)[::-1] + CROP_MARGIN_VOXELS
    start = np.clip(np.floor(centre - reach), 0, np.maximum(np.array(grid.shape) - 2, 0)).astype(int)
    stop = np.clip(np.ceil(centre + reach) + 1, start + 2, grid.shape).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return (z, y, x), grid.crop((z.start, y.start, x.start), (z.stop - z.start, y.stop - y.start, x.stop - x.start))


def _sums(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted sums (k, p) of values (k, p, n) under weights (k, n)."""
    return torch.einsum("kpn,kn->kp", values, weight)


def _ncc(hu: torch.Tensor, expected: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted correlation (k, p) of HU (k, p, n) with the expected (n,); 0 where either is constant or no point counts."""
    total = weight.sum(1, keepdim=True).clamp_min(1e-6)
    centred = expected - (weight * expected).sum(1, keepdim=True) / total
    variance_expected = (weight * centred**2).sum(1, keepdim=True) / total
    # A fixed offset keeps float32 sums of squares from losing the variance of nearly constant tissue.
    shifted = hu - (weight * expected).sum(1, keepdim=True)[..., None] / total[..., None]
    mean = _sums(shifted, weight) / total
    variance = _sums(shifted**2, weight) / total - mean**2
    covariance = _sums(shifted, weight * centred) / total
    # Below 1 HU^2 there is no texture to correlate.
    usable = (variance > 1.0) & (variance_expected > 1.0)
    return torch.where(usable, covariance / (variance.clamp_min(1.0) * variance_expected.clamp_min(1.0)).sqrt(), torch.zeros_like(covariance))
