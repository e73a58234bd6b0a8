"""Filters that are defined by their gain at each frequency: Simoncelli wavelets and the Riesz transform."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial, prod

import torch

from idx.kernels.convolution import extend

Gain = Callable[[Sequence[torch.Tensor], Sequence[int]], torch.Tensor]
"""From whole frequencies (cycles per period, one broadcastable tensor an axis) and the periods in voxels to a factor."""
_VALUES_AT_ONCE = 1 << 21
"""Frequencies whose gain is computed together, so that no array of gains of the whole volume is made."""


def apply_gain(values: torch.Tensor, gain: Gain, axes: Sequence[int], margin: int, boundary: str) -> torch.Tensor:
    """Multiply the spectrum of a volume by a gain.

    Parameters
    ----------
    values : tensor (z, y, x), float64
    gain : callable
        Must give conjugate factors at opposite frequencies; a real volume then stays real.
    axes : sequence of int
        (0, 1, 2) to filter in space, (1, 2) to filter slice by slice.
    margin : int
        Voxels that the boundary condition adds at each end before the transform. A periodic volume needs none: the transform
        itself is periodic.
    boundary : str
        One of :data:`~idx.kernels.convolution.BOUNDARIES`.
    """
    margins = [(0, 0)] * 3
    if boundary != "periodic":
        # An odd period has no unpaired frequency, and a filter then treats all directions alike.
        for axis in axes:
            added = _odd_fast_length(values.shape[axis] + 2 * margin) - values.shape[axis]
            margins[axis] = (added // 2, added - added // 2)
    extended = extend(values, margins, boundary)
    periods = [extended.shape[axis] for axis in axes]
    spectrum = torch.fft.rfftn(extended, dim=tuple(axes))
    shape, whole = tuple(values.shape), tuple(extended.shape)
    del extended
    _multiply(spectrum, gain, axes, periods)
    response = torch.fft.irfftn(spectrum, s=periods, dim=tuple(axes))
    del spectrum
    if shape == whole:
        return response
    return response[tuple(slice(before, before + n) for (before, _), n in zip(margins, shape, strict=True))].contiguous()


def _multiply(spectrum: torch.Tensor, gain: Gain, axes: Sequence[int], periods: Sequence[int]) -> None:
    frequencies = []
    for axis, period in zip(axes, periods, strict=True):
        index = torch.arange(spectrum.shape[axis], dtype=torch.float64, device=spectrum.device)
        if axis != axes[-1]:
            index = torch.where(index < (period + 1) // 2, index, index - period)
        frequencies.append(index.reshape([-1 if a == axis else 1 for a in range(3)]))
    first = axes[0]
    others = spectrum.numel() // spectrum.shape[first] if first == 0 else spectrum.shape[2]
    step = max(1, _VALUES_AT_ONCE // others)
    for start in range(0, spectrum.shape[first], step):
        n = min(step, spectrum.shape[first] - start)
        factor = gain([frequencies[0].narrow(first, start, n), *frequencies[1:]], periods)
        spectrum.narrow(first, start, n).mul_(factor)


def simoncelli_gain(level: int) -> Gain:
    """Gain of the band-pass filter of a Simoncelli wavelet.

    Parameters
    ----------
    level : int
        From 1; each level halves the frequencies.

    Notes
    -----
    ``cos(pi / 2 * log2(2 v))`` for 1/4 <= v <= 1, else 0, where v is the radius in frequency space over ``2^(1 - level)`` times
    the Nyquist frequency. As in the reference response maps of IBSI 2, the samples of an axis are spread evenly from -1 to 1:
    on an axis with an even number of voxels no sample lies at 0, and what of the spectrum is not conjugate is left out, as
    taking the real part of the response does.
    """

    def window(frequencies: Sequence[torch.Tensor], periods: Sequence[int], side: int) -> torch.Tensor:
        squares = [((2 * side * f + (1 - n % 2)) / max(n - 1, 1)) ** 2 for f, n in zip(frequencies, periods, strict=True)]
        radius = sum(squares[1:], squares[0]).sqrt_().mul_(2.0 ** (level - 1))
        inside = (radius >= 0.25) & (radius <= 1.0)
        return torch.where(inside, torch.cos(torch.pi / 2 * torch.log2(2 * radius.clamp(min=0.25))), 0.0)

    def gain(frequencies: Sequence[torch.Tensor], periods: Sequence[int]) -> torch.Tensor:
        if all(n % 2 for n in periods):
            return window(frequencies, periods, 1)
        return (window(frequencies, periods, 1) + window(frequencies, periods, -1)).mul_(0.5)

    return gain


def riesz_gain(order: Sequence[int]) -> Gain:
    """Gain of a component of the Riesz transform.

    Parameters
    ----------
    order : sequence of int
        Order along each axis, in the order of the axes.

    Notes
    -----
    ``(-i)^L sqrt(L! / (l1! l2! l3!)) * v1^l1 v2^l2 v3^l3 / |v|^L`` with ``L = l1 + l2 + l3``; 0 at frequency 0 (IBSI AYRS).
    """
    total = sum(order)
    scale = (-1j) ** (total % 4) * (factorial(total) / prod(factorial(n) for n in order)) ** 0.5

    def gain(frequencies: Sequence[torch.Tensor], periods: Sequence[int]) -> torch.Tensor:
        v = [f / n for f, n in zip(frequencies, periods, strict=True)]
        squares = [a**2 for a in v]
        factor = sum(squares[1:], squares[0])
        factor = torch.where(factor > 0, factor, 1.0).pow_(-total / 2)
        for a, f, n, power in zip(v, frequencies, periods, order, strict=True):
            if power % 2:
                # Half a period has no opposite frequency: an odd gain must vanish there for the response to be real.
                a = torch.where(2 * f.abs() == n, 0.0, a)
            if power:
                factor = factor * a**power
        return factor * scale

    return gain


def _odd_fast_length(n: int) -> int:
    """Smallest odd length of at least n without prime factors above 7."""
    n += 1 - n % 2
    while True:
        rest = n
        for prime in (3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2
