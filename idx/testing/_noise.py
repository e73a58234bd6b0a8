"""Smooth random fields of unit variance, on a grid and as functions of the point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from idx._typing import FloatArray

Float32Array = npt.NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float | tuple[float, ...]) -> Float32Array:
    """Periodic Gaussian noise with correlation length ``sigma`` (in samples, per axis), mean 0, variance 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap")
    result: Float32Array = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    return result


@dataclass(frozen=True, eq=False)
class FourierTexture:
    """A random function of the point: a sum of cosines, of variance 1, the same at any resolution.

    Parameters
    ----------
    wave_vectors : array (n_modes, n)
        In radians per unit of the points.
    phases : array (n_modes,)
    """

    wave_vectors: FloatArray
    phases: FloatArray

    @classmethod
    def draw(cls, rng: np.random.Generator, ndim: int, *, wavelength: tuple[float, float], n_modes: int = 12) -> FourierTexture:
        """Draw modes of random direction whose wavelengths spread log-uniformly between two lengths."""
        directions = rng.standard_normal((n_modes, ndim))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = np.exp(rng.uniform(np.log(wavelength[0]), np.log(wavelength[1]), size=(n_modes, 1)))
        return cls(2 * np.pi * directions / lengths, rng.uniform(0, 2 * np.pi, n_modes))

    def __call__(self, points: FloatArray) -> FloatArray:
        """Values (...,) at points (..., n)."""
        total = np.zeros(points.shape[:-1])
        for vector, phase in zip(self.wave_vectors, self.phases, strict=True):
            total += np.cos(points @ vector + phase)
        result: FloatArray = total * np.sqrt(2.0 / len(self.phases))
        return result
