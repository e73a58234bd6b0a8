"""Gabor filters in the planes of a volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from idx._typing import Array
from idx.kernels.convolution import extend

REACH_SIGMA = 6.0
"""Standard deviations after which a Gabor kernel ends: its envelope has fallen to 1.5e-8."""
_VALUES_AT_ONCE = 1 << 22
"""Complex values that are transformed together: 64 MiB for each array in use."""


def gabor_reach(sigma: float, gamma: float, theta: float) -> tuple[int, int]:
    """Voxels (rows, columns) from the middle of a Gabor kernel to its end.

    Parameters
    ----------
    sigma : float
        Standard deviation of the envelope along the wave, in voxels.
    gamma : float
        Standard deviation along the wave over that across it.
    theta : float
        Direction of the wave in radians.
    """
    wide = sigma / gamma
    rows = np.hypot(sigma * np.sin(theta), wide * np.cos(theta))
    columns = np.hypot(sigma * np.cos(theta), wide * np.sin(theta))
    return int(np.ceil(REACH_SIGMA * rows)), int(np.ceil(REACH_SIGMA * columns))


def gabor_kernel(sigma: float, wavelength: float, gamma: float, theta: float) -> Array:
    """Complex Gabor kernel (rows, columns), its origin in the middle.

    Parameters
    ----------
    sigma, wavelength : float
        In voxels.
    gamma : float
        Spatial aspect ratio.
    theta : float
        Direction of the wave in radians, from the axis of columns towards that of rows.

    Notes
    -----
    IBSI Q88H: ``exp(-(u^2 + gamma^2 v^2) / (2 sigma^2) + 2 pi i u / wavelength)`` with u along the wave and v across it.
    """
    rows, columns = gabor_reach(sigma, gamma, theta)
    y, x = np.mgrid[-rows : rows + 1, -columns : columns + 1].astype(np.float64)
    u = x * np.cos(theta) + y * np.sin(theta)
    v = x * np.sin(theta) - y * np.cos(theta)
    return np.asarray(np.exp(-(u**2 + (gamma * v) ** 2) / (2.0 * sigma**2) + 2j * np.pi * u / wavelength))


def modulus_responses(values: torch.Tensor, kernels: Sequence[Array], axis: int, boundary: str, pooling: str) -> torch.Tensor:
    """Pool the moduli of the responses to complex kernels in all planes across one axis.

    Parameters
    ----------
    values : tensor (z, y, x), float64
    kernels : sequence of arrays (rows, columns)
        Complex, of odd sizes, the origin in the middle. Rows and columns are the two axes that remain, in array order.
    axis : int
        The axis across the planes: 0 for slices along z.
    boundary : str
        One of :data:`~idx.kernels.convolution.BOUNDARIES`.
    pooling : str
        "max" or "average".

    Notes
    -----
    Products of spectra, a few planes at a time, so that memory does not grow with the number of planes.
    """
    planes = values.movedim(axis, 0)
    rows, columns = (max(kernel.shape[side] // 2 for kernel in kernels) for side in (0, 1))
    size = [_fast_length(n + 2 * reach) for n, reach in zip(planes.shape[1:], (rows, columns), strict=True)]
    transfers = [_transfer(kernel, size, values.device) for kernel in kernels]
    pooled = torch.empty_like(planes, memory_format=torch.contiguous_format)
    step = max(1, _VALUES_AT_ONCE // (size[0] * size[1]))
    for start in range(0, planes.shape[0], step):
        some = planes[start : start + step]
        near = extend(some, ((0, 0), (rows, rows), (columns, columns)), boundary)
        spectrum = torch.fft.fft2(near, s=size)
        best = torch.zeros_like(some)  # no modulus is smaller
        for transfer in transfers:
            response = torch.fft.ifft2(spectrum * transfer)[:, rows : rows + some.shape[1], columns : columns + some.shape[2]].abs()
            if pooling == "max":
                torch.maximum(best, response, out=best)
            else:
                best.add_(response, alpha=1 / len(transfers))
        pooled[start : start + step] = best
    return pooled.movedim(0, axis)


def _transfer(kernel: Array, size: Sequence[int], device: torch.device) -> torch.Tensor:
    """Spectrum of a kernel whose middle is moved to the origin of a periodic plane."""
    plane = torch.zeros(*size, dtype=torch.complex128)
    plane[: kernel.shape[0], : kernel.shape[1]] = torch.from_numpy(kernel)
    return torch.fft.fft2(plane.roll((-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), dims=(0, 1)).to(device))


def _fast_length(n: int) -> int:
    """Smallest length of at least n without prime factors above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
