"""Compiled kernels on one thread and several, and torch, against one plain loop over voxels."""

from functools import cache, partial

import neighbourhood_oracle as plain
import numpy as np
import pytest
import torch

from idx.kernels import local_torch, neighbourhood
from idx.kernels.local_cooccurrence import COOCCURRENCE, local_cooccurrence
from idx.kernels.local_statistics import SHARES, STATISTICS, local_shares, local_statistics
from idx.kernels.neighbourhood import Neighbourhoods, ball_footprint, cube_footprint
from idx.radiomics.intensity import intensity_statistics
from idx.table import Missing

SPACING = (0.8, 1.1, 2.5)
KINDS = {
    "cube": (lambda shape: cube_footprint(1, within=shape), lambda inside, voxel: plain.cube(inside, voxel, 1)),
    "ball": (lambda shape: ball_footprint(2.6, SPACING, within=shape), lambda inside, voxel: plain.ball(inside, voxel, 2.6, SPACING)),
    "whole": (lambda shape: ball_footprint(50.0, SPACING, within=shape), lambda inside, voxel: inside),
}
ENGINES = {
    "compiled": (local_statistics, local_shares, local_cooccurrence),
    "threads": tuple(partial(kernel, workers=2) for kernel in (local_statistics, local_shares, local_cooccurrence)),
    "torch": tuple(
        partial(kernel, device=torch.device("cpu")) for kernel in (local_torch.torch_statistics, local_torch.torch_shares, local_torch.torch_cooccurrence)
    ),
}


# Shape, share of voxels inside, spread of intensities.
REGIONS = {"dense": ((5, 6, 7), 0.9, 12), "sparse": ((4, 7, 6), 0.25, 3), "flat": ((1, 8, 9), 0.6, 2)}


@cache
def make_region(name):
    """Region, intensities and levels: isolated voxels, equal neighbours and means of zero occur, and one region has one slice."""
    rng = np.random.default_rng(8)
    shape, share, spread = REGIONS[name]
    inside = rng.random(shape) < share
    intensities = rng.integers(-spread + 1, spread, inside.sum()).astype(np.float64)
    return inside, intensities, (intensities - intensities.min()).astype(np.int64) // 2 + 1


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch):
    monkeypatch.setattr(neighbourhood, "MIN_VOXELS_PER_TASK", 5)
    # Few enough bytes that even these regions take several chunks.
    monkeypatch.setattr(local_torch, "CHUNK_BYTES", 2_000_000)
    return ENGINES[request.param]


def around(inside, kind):
    return Neighbourhoods.of(inside, KINDS[kind][0](inside.shape))


def neighbourhoods(inside, kind):
    return [KINDS[kind][1](inside, voxel) for voxel in np.argwhere(inside)]


def place(inside, values):
    placed = np.zeros(inside.shape, dtype=values.dtype)
    placed[inside] = values
    return placed


@cache
def expected_statistics(name, kind):
    inside, intensities, _ = make_region(name)
    placed = place(inside, intensities)
    rows = [intensity_statistics(placed[near]) for near in neighbourhoods(inside, kind)]
    return np.array([[np.nan if isinstance(row[key], Missing) else row[key] for key in STATISTICS] for row in rows])


@cache
def expected_cooccurrence(name, kind, merged):
    inside, _, levels = make_region(name)
    placed = place(inside, levels)
    rows = [plain.cooccurrence(np.where(near, placed, 0), n_levels(levels), merged=merged) for near in neighbourhoods(inside, kind)]
    return np.array([[row.get(key, np.nan) for key in COOCCURRENCE] for row in rows])


def n_levels(levels):
    """Levels above the highest that occurs count in the normalised features."""
    return int(levels.max()) + 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REGIONS)
def test_statistics(name, engine, kind):
    inside, intensities, _ = make_region(name)
    np.testing.assert_allclose(engine[0](around(inside, kind), intensities), expected_statistics(name, kind), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REGIONS)
def test_shares(name, engine, kind):
    inside, _, levels = make_region(name)
    placed = place(inside, levels)
    expected = []
    for near in neighbourhoods(inside, kind):
        share = np.bincount(placed[near]) / near.sum()
        expected.append([plain.entropy(share), np.sum(share**2)])
    assert SHARES == ("histogram_entropy", "histogram_uniformity")
    np.testing.assert_allclose(engine[1](around(inside, kind), levels), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REGIONS)
def test_cooccurrence(name, engine, kind, merged):
    inside, _, levels = make_region(name)
    measured = engine[2](around(inside, kind), levels, n_levels(levels), merged=merged)
    expected = expected_cooccurrence(name, kind, merged).copy()
    # The root in the last feature turns a rounding error of 1e-16 of independent levels into 1e-8: squares are compared.
    squared = COOCCURRENCE.index("glcm_information_correlation_2")
    measured[:, squared] **= 2
    expected[:, squared] **= 2
    np.testing.assert_allclose(measured, expected, rtol=1e-9, atol=1e-11)


def test_engines_agree_on_many_members(monkeypatch):
    """Above 64 values the compiled sort is another one, and above 512 voxels several threads work."""
    rng = np.random.default_rng(12)
    inside = rng.random((9, 14, 15)) < 0.8
    intensities = rng.normal(40.0, 60.0, inside.sum())
    levels = rng.integers(1, 200, inside.sum())
    near = Neighbourhoods.of(inside, cube_footprint(2))
    for compiled, threads, on_torch, given in zip(*ENGINES.values(), [(intensities,), (levels,), (levels, 200)], strict=True):
        expected = compiled(near, *given)
        np.testing.assert_array_equal(threads(near, *given), expected)
        np.testing.assert_allclose(on_torch(near, *given), expected, rtol=1e-9, atol=1e-9)
