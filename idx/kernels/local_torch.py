"""Local statistics, shares and co-occurrence features on a torch device: the same numbers as the compiled kernels, in chunks of voxels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from idx._typing import FloatArray, IntArray
from idx.kernels.local_cooccurrence import COOCCURRENCE, INDEPENDENT_BITS, difference_weights, direction_pairs
from idx.kernels.local_statistics import SHARES, STATISTICS
from idx.kernels.neighbourhood import Neighbourhoods

CHUNK_BYTES = 256 * 2**20
"""Memory on the device that the arrays of one chunk of voxels may take together."""
_STATISTICS_ARRAYS = 12
_COOCCURRENCE_ARRAYS = 24
"""Arrays of one number per member, or per pair, that a chunk keeps at once (measured, rounded up)."""


def torch_statistics(around: Neighbourhoods, intensities: FloatArray, device: torch.device) -> FloatArray:
    """Do what :func:`idx.kernels.local_statistics.local_statistics` does, on a device."""
    placed = torch.as_tensor(around.place(intensities, np.nan, np.float64)).to(device, _float_type(device))
    return _in_chunks(around, placed, len(STATISTICS), _STATISTICS_ARRAYS * len(around.steps), _statistics)


def torch_shares(around: Neighbourhoods, levels: IntArray, device: torch.device) -> FloatArray:
    """Do what :func:`idx.kernels.local_statistics.local_shares` does, on a device."""
    placed = torch.as_tensor(around.place(levels, 0, np.int64), device=device)
    return _in_chunks(around, placed, len(SHARES), _STATISTICS_ARRAYS * len(around.steps), _shares)


def torch_cooccurrence(around: Neighbourhoods, levels: IntArray, n_levels: int, device: torch.device, *, merged: bool = False) -> FloatArray:
    """Do what :func:`idx.kernels.local_cooccurrence.local_cooccurrence` does, on a device."""
    placed = torch.as_tensor(around.place(levels, 0, np.int64), device=device)
    pairs, starts = direction_pairs(around, merged=merged)
    longest = int(np.diff(starts).max())
    # One row of pairs per matrix; the last member stands for none, and has level 0.
    rows = np.full((2, len(starts) - 1, longest), len(around.steps))
    for m in range(len(starts) - 1):
        rows[:, m, : starts[m + 1] - starts[m]] = pairs[starts[m] : starts[m + 1]].T
    first, second = torch.as_tensor(rows, device=device)
    weights = torch.as_tensor(difference_weights(n_levels)).to(device, _float_type(device))

    def measure(gathered: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(gathered, (0, 1))
        return _cooccurrence(padded[:, first], padded[:, second], weights)

    return _in_chunks(around, placed, len(COOCCURRENCE), _COOCCURRENCE_ARRAYS * rows[0].size, measure)


def _float_type(device: torch.device) -> torch.dtype:
    """float64 wherever the device has it; Apple's does not."""
    return torch.float32 if device.type == "mps" else torch.float64


def _in_chunks(
    around: Neighbourhoods, placed: torch.Tensor, n_features: int, numbers_per_voxel: int, measure: Callable[[torch.Tensor], torch.Tensor]
) -> FloatArray:
    """Measure (chunk, k) gathered neighbours at a time, so that memory does not grow with the region."""
    out = np.empty((len(around.positions), n_features))
    size = max(CHUNK_BYTES // (8 * numbers_per_voxel), 1)
    steps = torch.as_tensor(around.steps, device=placed.device)
    for start in range(0, len(out), size):
        positions = torch.as_tensor(around.positions[start : start + size], device=placed.device)
        out[start : start + size] = measure(placed[positions[:, None] + steps]).cpu().numpy()
    return out


def _statistics(gathered: torch.Tensor) -> torch.Tensor:
    x, _ = torch.where(gathered.isnan(), torch.inf, gathered).sort(dim=1)
    there = x.isfinite()
    n = there.sum(dim=1)
    x = torch.where(there, x, 0.0)

    def average(values: torch.Tensor, kept: torch.Tensor = there) -> torch.Tensor:
        return torch.where(kept, values, 0.0).sum(dim=1) / kept.sum(dim=1)

    minimum, maximum = x[:, 0], x.gather(1, n[:, None] - 1)[:, 0]
    mean = average(x)
    deviation = x - mean[:, None]
    square = deviation**2
    constant = minimum == maximum
    variance = torch.where(constant, 0.0, average(square))
    p10, p25, median, p75, p90 = (_percentile(x, n, share) for share in (0.10, 0.25, 0.50, 0.75, 0.90))
    robust = there & (x >= p10[:, None]) & (x <= p90[:, None])
    energy = (x**2).sum(dim=1)
    # 0 / 0 is NaN, and each statistic that is undefined for a constant or without voxels comes out so.
    columns = [
        mean,
        variance,
        average(square * deviation) / variance**1.5,
        average(square * square) / variance**2 - 3.0,
        median,
        minimum,
        p10,
        p90,
        maximum,
        p75 - p25,
        maximum - minimum,
        average(deviation.abs()),
        average((x - average(x, robust)[:, None]).abs(), robust),
        average((x - median[:, None]).abs()),
        torch.where(mean == 0, torch.nan, variance.sqrt() / mean),
        torch.where(p75 + p25 == 0, torch.nan, (p75 - p25) / (p75 + p25)),
        energy,
        (energy / n).sqrt(),
    ]
    for undefined_if_constant in (2, 3):
        columns[undefined_if_constant] = torch.where(constant, torch.nan, columns[undefined_if_constant])
    return torch.stack(columns, dim=1)


def _percentile(x: torch.Tensor, n: torch.Tensor, share: float) -> torch.Tensor:
    """Linear percentile of the first n of sorted values, rounded exactly as numpy's."""
    place = share * (n - 1).to(x.dtype)
    below = place.floor().long()
    weight = place - below
    low = x.gather(1, below[:, None])[:, 0]
    high = x.gather(1, torch.minimum(below + 1, n - 1)[:, None])[:, 0]
    up, down = (high - low) * weight, (high - low) * (1.0 - weight)
    return torch.where(weight < 0.5, low + up, high - down)


def _multiplicity(codes: torch.Tensor) -> torch.Tensor:
    """How often each code of a row occurs in it; the result is in sorted order, as sums over all codes need no other."""
    ordered, _ = codes.sort(dim=-1)
    return torch.searchsorted(ordered, ordered, right=True) - torch.searchsorted(ordered, ordered)


def _entropy(codes: torch.Tensor, there: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Entropy in bits of the codes of each row: the mean over the codes of log2 (all / equal ones)."""
    # Absent codes are given one of their own, and their logarithms taken off again.
    absent = (~there).sum(dim=-1)
    n = there.sum(dim=-1).to(dtype)
    equal = _multiplicity(torch.where(there, codes, -1)).to(dtype)
    logs = equal.log2().sum(dim=-1) - absent * absent.clamp(min=1).to(dtype).log2()
    return (n.log2() - logs / n).clamp(min=0.0)


def _shares(gathered: torch.Tensor) -> torch.Tensor:
    there = gathered > 0
    n = there.sum(dim=-1).to(_float_type(gathered.device))
    # Absent neighbours have the code 0 of their own: they are as often squared as they are many.
    squares = _multiplicity(gathered).sum(dim=-1) - (~there).sum(dim=-1) ** 2
    return torch.stack([_entropy(gathered, there, n.dtype), squares / n**2], dim=1)


def _cooccurrence(first: torch.Tensor, second: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Features (n, 25) of the pairs (n, matrices, pairs) of levels, averaged over matrices; level 0 is no voxel."""
    dtype = weights.dtype
    there = (first > 0) & (second > 0)
    low, high = torch.where(there, torch.minimum(first, second), 0), torch.where(there, torch.maximum(first, second), 0)
    n = there.sum(dim=-1).to(dtype)

    def average(values: torch.Tensor) -> torch.Tensor:
        return torch.where(there, values, 0.0).sum(dim=-1) / n

    apart, together = high - low, high + low
    mean = average(together.to(dtype)) / 2.0
    difference_mean = average(apart.to(dtype))
    a, b = low - mean[..., None], high - mean[..., None]
    s = a + b
    tendency = average(s**2)
    variance = average(a**2 + b**2) / 2.0
    varied = (torch.where(there, low, weights.shape[1] + 1).amin(dim=-1) < high.amax(dim=-1)) & (n > 0)
    largest, joint_entropy, squares = _joint(low, high, there, n)
    level_entropy = _entropy(torch.cat([low, high], dim=-1), torch.cat([there, there], dim=-1), dtype)
    information = 2.0 * level_entropy - joint_entropy
    inverse, inverse_normalised, moment, moment_normalised, inverse_variance = (average(weight[apart]) for weight in weights)
    features = torch.stack(
        [
            largest,
            mean,
            variance,
            joint_entropy,
            difference_mean,
            average((apart - difference_mean[..., None]) ** 2),
            _entropy(apart, there, dtype),
            2.0 * mean,
            tendency,
            _entropy(together, there, dtype),
            squares,
            average(apart.to(dtype) ** 2),
            difference_mean,
            inverse,
            inverse_normalised,
            moment,
            moment_normalised,
            inverse_variance,
            torch.where(varied, average(a * b) / variance, torch.nan),
            average((low * high).to(dtype)),
            tendency,
            average(s**3),
            average(s**4),
            torch.where(varied, (joint_entropy - 2.0 * level_entropy) / level_entropy, torch.nan),
            torch.where(information > INDEPENDENT_BITS, (-torch.expm1(-2.0 * information)).clamp(min=0.0).sqrt(), 0.0),
        ],
        dim=-1,
    )
    # A matrix without pairs is 0 / 0 in every feature, and an average that skips NaN skips it.
    return torch.where((n > 0)[..., None], features, torch.nan).nanmean(dim=1)


def _joint(low: torch.Tensor, high: torch.Tensor, there: torch.Tensor, n: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Joint maximum, entropy and angular second moment of symmetric matrices."""
    width = int(high.max()) + 1
    codes, _ = torch.where(there, low * width + high, -1).sort(dim=-1)
    some = codes >= 0
    equal = torch.searchsorted(codes, codes, right=True) - torch.searchsorted(codes, codes)
    # A pair of equal levels is one cell of twice its count; a pair of others is two cells of its count.
    on_diagonal = codes // width == codes % width
    in_cell = torch.where(some, torch.where(on_diagonal, 2 * equal, equal), 0).to(n.dtype)
    total = 2.0 * n
    logs = in_cell.clamp(min=1.0).log2().sum(dim=-1)
    # Every pair stands for two entries of the matrix, each of probability in_cell / total.
    return in_cell.amax(dim=-1) / total, (total.log2() - logs / n).clamp(min=0.0), 2.0 * in_cell.sum(dim=-1) / total**2
