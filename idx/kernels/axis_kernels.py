"""Kernels along one axis: Gaussian and its second derivative, Laws, wavelets."""

from __future__ import annotations

import numpy as np
import pywt

from idx.kernels.convolution import Chain, Kernel

_LAWS = {
    "L3": (1, 2, 1),
    "E3": (-1, 0, 1),
    "S3": (-1, 2, -1),
    "L5": (1, 4, 6, 4, 1),
    "E5": (-1, -2, 0, 2, 1),
    "S5": (-1, 0, 2, 0, -1),
    "W5": (-1, 2, 0, -2, 1),
    "R5": (1, -4, 6, -4, 1),
}
LAWS_NAMES = tuple(_LAWS)


def laws_kernel(name: str) -> Kernel:
    """Laws kernel of unit length (root of the summed squares) by name, such as "L5" (level) or "E3" (edge)."""
    weights = np.array(_LAWS[name], dtype=np.float64)
    return tuple((weights / np.sqrt(np.sum(weights**2))).tolist())


def box_kernel(support: int) -> Kernel:
    """Mean over an odd number of voxels."""
    return (1.0 / support,) * support


def gaussian_kernels(sigma: float, cutoff_sigma: float) -> tuple[Kernel, Kernel]:
    """Gaussian and its second derivative, both sampled at the voxels.

    Parameters
    ----------
    sigma : float
        In voxels.
    cutoff_sigma : float
        The kernels end ``floor(cutoff_sigma * sigma + 0.5)`` voxels from their middle.

    Notes
    -----
    The Laplacian of a Gaussian is the sum over the axes of one second derivative times the Gaussians along the others: a
    kernel sampled in a box is exactly separable so.
    """
    reach = gaussian_reach(sigma, cutoff_sigma)
    squared = np.arange(-reach, reach + 1, dtype=np.float64) ** 2
    gaussian = np.exp(-squared / (2.0 * sigma**2)) / (np.sqrt(2.0 * np.pi) * sigma)
    return tuple(gaussian.tolist()), tuple(((squared / sigma**4 - 1.0 / sigma**2) * gaussian).tolist())


def gaussian_reach(sigma: float, cutoff_sigma: float) -> int:
    """Voxels from the middle of a Gaussian kernel to its end."""
    return int(np.floor(cutoff_sigma * sigma + 0.5))


def wavelet_chain(wavelet: str, band: str, level: int) -> Chain:
    """Kernels of the undecimated wavelet transform along one axis.

    Parameters
    ----------
    wavelet : str
        Name of a discrete wavelet of PyWavelets, such as "db3".
    band : str
        "L" (low-pass) or "H" (high-pass) at the last level; earlier levels are low-pass.
    level : int
        From 1.

    Notes
    -----
    A kernel of even length gets a zero at its end, so that it has a middle (IBSI 2). The kernels of level l have
    ``2^(l - 1) - 1`` zeros between their weights (a trous).
    """
    filters = pywt.Wavelet(wavelet)
    chain = []
    for step in range(level):
        weights = list(filters.dec_hi if band == "H" and step == level - 1 else filters.dec_lo)
        if len(weights) % 2 == 0:
            weights.append(0.0)
        spread = np.zeros((len(weights) - 1) * 2**step + 1)
        spread[:: 2**step] = weights
        chain.append(tuple(spread.tolist()))
    return tuple(chain)


def wavelet_names() -> list[str]:
    """Names of the discrete wavelets of PyWavelets."""
    return list(pywt.wavelist(kind="discrete"))


def chain_reach(chain: Chain) -> int:
    """Voxels that a chain reaches to either side."""
    return sum(len(kernel) // 2 for kernel in chain)
