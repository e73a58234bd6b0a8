"""A lung with vessels and one lobulated, part-solid lesion, as a continuous function of the point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from idx._typing import BoolArray, FloatArray
from idx.testing._noise import FourierTexture

BLOOD_HU = 40.0
LOBE_SHARPNESS = (3.0, 9.0)
"""Range of the von Mises concentrations of the lobes: a lobe is 40 to 70 degrees wide."""
MIN_SLOPE_RADIUS = 0.05
"""The radial function has no direction at the centre; below this fraction of the radius its slope is not used."""


def gauss_step(distance_mm: FloatArray, sigma_mm: float) -> FloatArray:
    """Edge of a half space seen through a Gaussian point spread: 1 deep inside (negative distance), 0 far outside."""
    result: FloatArray = 0.5 * special.erfc(distance_mm / (np.sqrt(2.0) * sigma_mm))
    return result


@dataclass(frozen=True, eq=False)
class LobulatedShape:
    """A star-shaped body: radius ``r0 (1 + sum_k a_k exp(s_k (d . u_k - 1)))`` in direction d.

    Parameters
    ----------
    base_mm : float
        r0.
    axes : array (n_lobes, 3)
        Unit vectors u_k.
    heights : array (n_lobes,)
        a_k; negative ones are notches.
    sharpness : array (n_lobes,)
        s_k.
    """

    base_mm: float
    axes: FloatArray
    heights: FloatArray
    sharpness: FloatArray

    @classmethod
    def draw(cls, rng: np.random.Generator, *, radius_mm: float, n_lobes: int) -> LobulatedShape:
        """Draw lobes and notches, and scale the body to the volume of a ball of ``radius_mm``."""
        axes = rng.standard_normal((n_lobes, 3))
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        heights = np.where(np.arange(n_lobes) % 4 == 3, rng.uniform(-0.22, -0.12, n_lobes), rng.uniform(0.15, 0.4, n_lobes))
        unit = cls(1.0, axes, heights, rng.uniform(*LOBE_SHARPNESS, n_lobes))
        return cls(radius_mm * float(np.cbrt(4 / 3 * np.pi / unit.volume_mm3())), axes, heights, unit.sharpness)

    @property
    def reach_mm(self) -> float:
        """No point of the surface is farther from the centre than this."""
        return self.base_mm * (1.0 + float(np.clip(self.heights, 0.0, None).sum()))

    def _bumps(self, directions: FloatArray) -> FloatArray:
        bumps: FloatArray = self.heights * np.exp(self.sharpness * (directions @ self.axes.T - 1.0))
        return bumps

    def radius_mm(self, directions: FloatArray) -> FloatArray:
        """Distance from the centre to the surface along unit vectors (..., 3)."""
        result: FloatArray = self.base_mm * (1.0 + self._bumps(directions).sum(axis=-1))
        return result

    def distance_mm(self, offsets: FloatArray) -> FloatArray:
        """Signed distance to the surface, to first order (exact zero set), at offsets (..., 3) from the centre; negative inside."""
        length = np.linalg.norm(offsets, axis=-1)
        directions = offsets / np.maximum(length, 1e-12)[..., None]
        bumps = self._bumps(directions)
        radius = self.base_mm * (1.0 + bumps.sum(axis=-1))
        weighted = bumps * self.sharpness
        gradient = self.base_mm * (weighted @ self.axes - (weighted * (directions @ self.axes.T)).sum(axis=-1)[..., None] * directions)
        slope = np.linalg.norm(gradient, axis=-1) / np.maximum(length, MIN_SLOPE_RADIUS * self.base_mm)
        result: FloatArray = (length - radius) / np.sqrt(1.0 + slope**2)
        return result

    def volume_mm3(self, n_nodes: int = 96) -> float:
        """Volume by quadrature of r^3 / 3 over the sphere: Gauss-Legendre in cos(theta), trapezoid in phi (both converge exponentially)."""
        cosines, weights = np.polynomial.legendre.leggauss(n_nodes)
        phi = np.arange(2 * n_nodes) * np.pi / n_nodes
        sines = np.sqrt(1.0 - cosines**2)
        directions = np.stack([sines[:, None] * np.cos(phi), sines[:, None] * np.sin(phi), np.broadcast_to(cosines[:, None], (n_nodes, 2 * n_nodes))], axis=-1)
        return float((weights[:, None] * self.radius_mm(directions) ** 3).sum() * np.pi / n_nodes / 3.0)


@dataclass(frozen=True, eq=False)
class VesselTree:
    """Tapered tubes: segment k runs from ``starts[k]`` to ``ends[k]`` and its radius from ``radii[k, 0]`` to ``radii[k, 1]``, in mm."""

    starts: FloatArray
    ends: FloatArray
    radii: FloatArray

    @classmethod
    def draw(cls, rng: np.random.Generator, centre: FloatArray, *, reach_mm: float, root_radius_mm: float, n_trees: int = 3, depth: int = 4) -> VesselTree:
        """Grow trees that start at distance ``reach_mm`` from the centre, pass near it and branch on the way."""
        segments: list[tuple[FloatArray, FloatArray, float, float]] = []
        for _ in range(n_trees):
            start = rng.standard_normal(3)
            start *= reach_mm / np.linalg.norm(start)
            target = rng.standard_normal(3)
            target *= 0.4 * reach_mm / np.linalg.norm(target)
            heading = (target - start) / np.linalg.norm(target - start)
            tips = [(centre + start, heading, root_radius_mm)]
            for level in range(depth):
                length = reach_mm * 0.75 * 0.8**level
                grown = []
                for position, direction, radius in tips:
                    for radius_ratio in (0.85, 0.6)[: 1 if level == 0 else 2]:
                        turned = direction + rng.normal(0, 0.15 if level == 0 else 0.45, 3)
                        turned /= np.linalg.norm(turned)
                        end = position + length * turned
                        segments.append((position, end, radius, radius * radius_ratio))
                        grown.append((end, turned, radius * radius_ratio))
                tips = grown
        return cls(np.array([s[0] for s in segments]), np.array([s[1] for s in segments]), np.array([s[2:] for s in segments]))

    def distance_mm(self, points: FloatArray) -> FloatArray:
        """Signed distance (...,) to the nearest wall; negative in the lumen."""
        # About the middle of the tree, so that squares of large coordinates cost no digits; dot products only, no (..., 3) temporary per segment.
        middle = self.starts.mean(axis=0)
        local = points - middle
        length2 = np.einsum("...i,...i->...", local, local)
        nearest = np.full(points.shape[:-1], np.inf)
        for start, end, (first, last) in zip(self.starts - middle, self.ends - middle, self.radii, strict=True):
            axis = end - start
            offset_on_axis = local @ axis - start @ axis
            along = np.clip(offset_on_axis / (axis @ axis), 0.0, 1.0)
            squared = length2 - 2.0 * (local @ start) + (start @ start) + along * (along * (axis @ axis) - 2.0 * offset_on_axis)
            np.minimum(nearest, np.sqrt(np.maximum(squared, 0.0)) - (first + (last - first) * along), out=nearest)
        return nearest


@dataclass(frozen=True, eq=False)
class LungField:
    """Attenuation everywhere: parenchyma, vessels and a lesion with a solid core in a part-solid rim.

    Parameters
    ----------
    centre : array (3,)
        Centre of the lesion (x, y, z), mm.
    shape : LobulatedShape
    vessels : VesselTree
    parenchyma, lesion_texture : FourierTexture
    core_fraction : float
        The solid core is the lesion shrunk by this factor about its centre.
    lung_hu, rim_hu, core_hu, lung_texture_hu, lesion_texture_hu : float
        Mean attenuation and standard deviation of the texture.
    psf_mm : float
        Standard deviation of the Gaussian by which edges are smoothed (partial volume).
    """

    centre: FloatArray
    shape: LobulatedShape
    vessels: VesselTree
    parenchyma: FourierTexture
    lesion_texture: FourierTexture
    core_fraction: float
    lung_hu: float
    rim_hu: float
    core_hu: float
    lung_texture_hu: float
    lesion_texture_hu: float
    psf_mm: float

    def lesion_distance_mm(self, points: FloatArray) -> FloatArray:
        """Signed distance (...,) to the lesion's surface, negative inside; its zero set is exact, its size is right to first order."""
        return self.shape.distance_mm(points - self.centre)

    def core_distance_mm(self, points: FloatArray) -> FloatArray:
        """Signed distance (...,) to the surface of the solid core."""
        return self.core_fraction * self.shape.distance_mm((points - self.centre) / self.core_fraction)

    def inside(self, points: FloatArray) -> BoolArray:
        """Whether points (..., 3) lie in the lesion."""
        offsets = points - self.centre
        length = np.linalg.norm(offsets, axis=-1)
        result: BoolArray = length <= self.shape.reach_mm
        directions = offsets[result] / np.maximum(length[result], 1e-12)[..., None]
        result[result] = length[result] <= self.shape.radius_mm(directions)
        return result

    def hu_at(self, points: FloatArray) -> FloatArray:
        """Noise-free attenuation (...,) in HU at points (..., 3) in mm."""
        lung = self.lung_hu + self.lung_texture_hu * self.parenchyma(points)
        vessel = gauss_step(self.vessels.distance_mm(points), self.psf_mm)
        hu = lung + vessel * (BLOOD_HU - lung)
        # Beyond six standard deviations of the smoothing the lesion's share is below 1e-9.
        near = np.linalg.norm(points - self.centre, axis=-1) < self.shape.reach_mm + 6 * self.psf_mm
        where = points[near]
        lesion = gauss_step(self.lesion_distance_mm(where), self.psf_mm)
        core = gauss_step(self.core_distance_mm(where), self.psf_mm)
        body = self.rim_hu + core * (self.core_hu - self.rim_hu) + self.lesion_texture_hu * self.lesion_texture(where)
        # A vessel that enters the rim stays visible in it.
        body = np.maximum(body, self.rim_hu + vessel[near] * (BLOOD_HU - self.rim_hu))
        hu[near] += lesion * (body - hu[near])
        result: FloatArray = np.maximum(hu, -1000.0)
        return result
