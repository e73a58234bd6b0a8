"""Stain separation by optical density (Beer-Lambert)."""

from __future__ import annotations

import numpy as np

from idx._typing import FloatArray, RGBArray

HE_RUIFROK: FloatArray = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
"""Haematoxylin and eosin: their share of optical density in red, green and blue (Ruifrok & Johnston, Anal Quant Cytol Histol 2001;23:291-9)."""
HE_RUIFROK.flags.writeable = False

MIN_OD = 0.15 / np.log(10.0)
"""Pixels of less optical density in all channels do not tell stains apart; Macenko's 0.15 is in natural units."""


def optical_density(rgb: RGBArray, *, white: FloatArray | None = None) -> FloatArray:
    """Optical density -log10(I / I0) of uint8 pixels (..., 3); 0 where the pixel is brighter than the glass.

    Parameters
    ----------
    rgb : array (..., 3) uint8
    white : array (3,) or None
        I0, the glass; None means 255. A pixel of 0 counts as 1.
    """
    return _table(white)[rgb, np.arange(3)]


def _table(white: FloatArray | None) -> FloatArray:
    """Optical density of every uint8 value (256, 3) for each channel."""
    glass = np.full(3, 255.0) if white is None else np.asarray(white, dtype=np.float64)
    values = np.maximum(np.arange(256.0), 1.0)[:, None]
    return np.asarray(np.maximum(-np.log10(values / glass), 0.0))


def unmixing_matrix(vectors: FloatArray) -> FloatArray:
    """Matrix (3, 3) that turns densities of red, green, blue into amounts of stain 1, stain 2 and what neither explains.

    Parameters
    ----------
    vectors : array (2, 3)
        One row per stain; rows are brought to unit length, the third is their cross product.
    """
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    residual = np.cross(units[0], units[1])
    basis = np.concatenate([units, residual[None] / np.linalg.norm(residual)])
    return np.asarray(np.linalg.inv(basis))


def separate(rgb: RGBArray, *, vectors: FloatArray = HE_RUIFROK, white: FloatArray | None = None) -> FloatArray:
    """Amounts (..., 3) of both stains and the residual, float64; negative where a colour lies outside the stains' plane sector."""
    return np.asarray(optical_density(rgb, white=white) @ unmixing_matrix(vectors))


def stain_od(rgb: RGBArray, *, stain: int = 0, vectors: FloatArray = HE_RUIFROK, white: FloatArray | None = None) -> np.ndarray:
    """Amount of one stain as float32 (...); equals ``separate(...)[..., stain]`` and is several times faster."""
    # Unmixing is linear and pixels have 256 values, so each channel's share is a table.
    shares = (_table(white) * unmixing_matrix(vectors)[:, stain]).astype(np.float32)
    return np.asarray(shares[rgb[..., 0], 0] + shares[rgb[..., 1], 1] + shares[rgb[..., 2], 2])


def macenko_vectors(od: FloatArray, *, alpha: float = 1.0) -> FloatArray:
    """Estimate haematoxylin and eosin from the pixels of one slide.

    Parameters
    ----------
    od : array (n, 3)
        Optical densities of stained pixels (all channels at least :data:`MIN_OD`).
    alpha : float
        Percentile of angles taken as the extreme directions.

    Returns
    -------
    array (2, 3)
        Unit rows, haematoxylin first (it absorbs more red).

    Notes
    -----
    Macenko et al., ISBI 2009, pp. 1107-10: the plane of the two leading eigenvectors, and in it the robust extremes of the angle.
    """
    _, eigenvectors = np.linalg.eigh(np.cov(od.T))
    plane = eigenvectors[:, [2, 1]]
    # Eigenvectors have no sign; densities are positive.
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    projected = od @ plane
    angles = np.arctan2(projected[:, 1], projected[:, 0])
    extremes = np.percentile(angles, [alpha, 100.0 - alpha])
    vectors = np.stack([np.cos(extremes), np.sin(extremes)], axis=1) @ plane.T
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors if vectors[0, 0] > vectors[1, 0] else vectors[::-1].copy()


def otsu_threshold(values: FloatArray, *, low: float, high: float, n_bins: int = 256) -> float:
    """Otsu's threshold of values within ``[low, high]``; ``high`` when fewer than two bins are filled.

    Notes
    -----
    Otsu, IEEE Trans Syst Man Cybern 1979;9:62-6.
    """
    counts, edges = np.histogram(values, bins=n_bins, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2.0
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    if (counts > 0).sum() < 2:
        return high
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_below = np.cumsum(counts * centres) / below
        mean_above = (np.cumsum((counts * centres)[::-1]) / np.cumsum(counts[::-1]))[::-1]
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(edges[1 + int(np.nanargmax(between))])
