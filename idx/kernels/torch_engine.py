"""The engine on a torch device: neighbours and runs by whole-array operations, integers counted exactly in any order of the threads."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch.nn.functional import pad

from idx._typing import Array, IntArray
from idx.kernels.engine import Engine, NeighbourCounts
from idx.kernels.torch_space import cube_counts, moran_geary, sphere_means
from idx.kernels.torch_zones import border_distance, find_zones, flat_steps, padded_on, slices_of
from idx.settings import resolve_device


def torch_engine(device: str) -> Engine:
    """Engine that works on a torch device.

    Parameters
    ----------
    device : str
        A torch device, such as "cuda" or "cpu".

    Raises
    ------
    MissingDependency
        If the device is not there.

    Notes
    -----
    Arrays go to the device once per call, and results come back once. Apple's devices (mps) have no float64: there ``sphere_means`` and
    ``moran_geary`` are done by torch on the CPU, never in float32. All else counts integers and needs none.

    Examples
    --------
    >>> engine = torch_engine("cpu")
    >>> engine.border_distance(np.ones((1, 3, 3), dtype=bool), in_slice=True)[0].tolist()
    [[1, 1, 1], [1, 2, 1], [1, 1, 1]]
    """
    whole = resolve_device(device)
    real = _with_float64(whole)
    return Engine(
        count_neighbours=partial(count_neighbours, device=whole),
        count_runs=partial(count_runs, device=whole),
        find_zones=partial(find_zones, device=whole),
        border_distance=partial(border_distance, device=whole),
        cube_counts=partial(cube_counts, device=whole),
        sphere_means=partial(sphere_means, device=real),
        moran_geary=partial(moran_geary, device=real),
        device=str(whole),
    )


def _with_float64(device: torch.device) -> torch.device:
    """Return the device, or the CPU where it has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def count_neighbours(levels: Array, n_levels: int, *, in_slice: bool, device: torch.device) -> NeighbourCounts:
    """Count neighbouring levels; see :class:`idx.kernels.engine.Engine`."""
    padded = padded_on(levels, device)
    steps = flat_steps(padded, in_slice=in_slice)
    n_slices = len(levels) if in_slice else 1
    flat = padded.flatten()
    at = flat.nonzero()[:, 0]
    centre = flat[at]
    # Slices are kept apart by their place in the codes. A neighbour outside the region is level 0, a column of its own that is dropped.
    row = slices_of(at, padded, in_slice=in_slice) * n_levels + centre - 1
    n_rows, n_columns = n_slices * n_levels, n_levels + 1
    n, total, equal = (torch.zeros_like(centre) for _ in range(3))
    pairs = torch.empty((len(steps), n_rows * n_columns), dtype=torch.int64, device=device)
    for d, step in enumerate(steps):
        ahead, behind = flat[at + step], flat[at - step]
        pairs[d] = torch.bincount(row * n_columns + ahead, minlength=n_rows * n_columns)
        for neighbour in (ahead, behind):
            n += neighbour > 0
            total += neighbour
            equal += neighbour == centre
    one_sense = pairs.view(len(steps), n_slices, n_levels, n_columns)[..., 1:].transpose(0, 1)
    most = 2 * len(steps) + 1
    dependences = torch.bincount(row * most + equal, minlength=n_rows * most).view(n_slices, n_levels, most)
    # |level - total / n| is an integer over n. Integers are summed for each n, so that the sum does not depend on the threads' order.
    by_number = row * most + n
    apart = torch.zeros(n_rows * most, dtype=torch.int64, device=device).index_add_(0, by_number, (centre * n - total).abs().long())
    numbers = torch.bincount(by_number, minlength=n_rows * most).view(n_slices, n_levels, most)[..., 1:]
    tone_difference = (apart.view(n_slices, n_levels, most)[..., 1:].cpu().numpy() / np.arange(1, most)).sum(axis=-1)
    return NeighbourCounts(
        (one_sense + one_sense.transpose(-1, -2)).contiguous().cpu().numpy(), dependences.cpu().numpy(), numbers.sum(dim=-1).cpu().numpy(), tone_difference
    )


def count_runs(levels: Array, n_levels: int, *, in_slice: bool, device: torch.device) -> IntArray:
    """Count runs by level and length; see :class:`idx.kernels.engine.Engine`.

    Notes
    -----
    In the padded volume every line of a direction is an arithmetic progression of flat indices, so that a reshape to (rows, step) and a
    transposition lay all lines of the direction end to end. A run is then a stretch without change. The first row lies in the border of
    zeros, for no step is larger than the first voxel's index: each line starts with a zero, and lines stay apart.
    """
    padded = padded_on(levels, device)
    steps = flat_steps(padded, in_slice=in_slice)
    n_slices = len(levels) if in_slice else 1
    longest = max(levels.shape[1:] if in_slice else levels.shape)
    flat = padded.flatten()
    runs = torch.empty((n_slices, len(steps), n_levels, longest), dtype=torch.int64, device=device)
    for d, step in enumerate(steps):
        n_rows = -(-flat.numel() // step)
        lines = pad(flat, (0, n_rows * step - flat.numel())).view(n_rows, step).T.flatten()
        start = (lines[1:] != lines[:-1]).nonzero()[:, 0] + 1
        length = torch.diff(start, append=start.new_tensor([lines.numel()]))
        inside = lines[start] > 0
        start, length = start[inside], length[inside]
        at = start % n_rows * step + start // n_rows
        row = slices_of(at, padded, in_slice=in_slice) * n_levels + lines[start] - 1
        runs[:, d] = torch.bincount(row * longest + length - 1, minlength=n_slices * n_levels * longest).view(n_slices, n_levels, longest)
    return np.asarray(runs.cpu().numpy())
