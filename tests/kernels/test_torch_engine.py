"""The torch engine against loops over voxels and scipy.ndimage."""

from itertools import groupby, product

import numpy as np
import pytest
import torch
from scipy import ndimage

from idx.errors import MissingDependency
from idx.kernels import torch_engine as module
from idx.kernels.engine import DIRECTIONS_2D, DIRECTIONS_3D
from idx.kernels.torch_engine import torch_engine

SPACING_MM = (0.7, 0.9, 2.5)
"""Unequal, so that a swapped axis shows."""


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")])])
def engine(request):
    return torch_engine(request.param)


def with_holes(shape, values, seed):
    return np.random.default_rng(seed).choice(values, size=shape).astype(np.int32)


def disconnected():
    levels = np.zeros((6, 7, 9), dtype=np.uint8)
    levels[:2, :3, :4] = with_holes((2, 3, 4), [1, 2], 3)
    levels[4:, 5:, 6:] = with_holes((2, 2, 3), [1, 2], 4)
    return levels


def one_voxel_inside():
    levels = np.zeros((3, 4, 5), dtype=np.int64)
    levels[1, 2, 3] = 2
    return levels


def snake():
    """One zone whose first and last voxels are hundreds of steps apart, wound around another."""
    levels = np.full((1, 31, 32), 2, dtype=np.int16)
    levels[0, ::4] = levels[0, 1::4] = 1
    levels[0, 2::8, -1] = levels[0, 3::8, -1] = levels[0, 6::8, 0] = levels[0, 7::8, 0] = 1
    return levels


LESIONS = {
    "holes": with_holes((5, 6, 7), [0, 1, 2, 3, 4], 0),
    "gaps between levels": with_holes((4, 5, 6), [0, 1, 3, 7], 1),
    "an empty slice": with_holes((4, 5, 6), [1, 2], 2) * np.array([1, 0, 1, 1])[:, None, None],
    "disconnected": disconnected(),
    "one slice": with_holes((1, 8, 7), [0, 1, 2], 5),
    "one column": with_holes((9, 1, 1), [1, 2], 6),
    "one voxel": np.ones((1, 1, 1), dtype=np.int32),
    "one voxel inside": one_voxel_inside(),
    "constant, up to the border": np.ones((3, 4, 5), dtype=np.uint8),
    "near the percolation threshold": with_holes((3, 24, 25), [1, 2, 3], 7),
    "snake": snake(),
    "many levels": with_holes((3, 6, 5), np.arange(0, 1025, 64), 8).astype(np.uint16),
}
each_lesion = pytest.mark.parametrize("levels", LESIONS.values(), ids=LESIONS.keys())
in_slice_or_not = pytest.mark.parametrize("in_slice", [False, True])


def inside(shape, at):
    return all(0 <= i < n for i, n in zip(at, shape, strict=True))


def neighbours_by_loops(levels, n_levels, in_slice):
    directions = DIRECTIONS_2D if in_slice else DIRECTIONS_3D
    s = len(levels) if in_slice else 1
    pairs = np.zeros((s, len(directions), n_levels, n_levels), dtype=np.int64)
    dependences = np.zeros((s, n_levels, 2 * len(directions) + 1), dtype=np.int64)
    toned, difference = np.zeros((s, n_levels), dtype=np.int64), np.zeros((s, n_levels))
    for at in np.argwhere(levels):
        level, plane = levels[tuple(at)] - 1, at[0] if in_slice else 0
        found = []
        for d, direction in enumerate(directions):
            for sense in (1, -1):
                other = tuple(at + sense * np.array(direction))
                if inside(levels.shape, other) and levels[other] > 0:
                    pairs[plane, d, level, levels[other] - 1] += 1
                    found.append(levels[other] - 1)
        dependences[plane, level, found.count(level)] += 1
        if found:
            toned[plane, level] += 1
            difference[plane, level] += abs(float(level) - np.mean(found))
    return pairs, dependences, toned, difference


def runs_by_lines(levels, n_levels, in_slice):
    directions = DIRECTIONS_2D if in_slice else DIRECTIONS_3D
    longest = max(levels.shape[1:] if in_slice else levels.shape)
    runs = np.zeros((len(levels) if in_slice else 1, len(directions), n_levels, longest), dtype=np.int64)
    for d, direction in enumerate(np.array(directions)):
        for start in np.argwhere(np.ones(levels.shape)):
            if inside(levels.shape, start - direction):
                continue
            line, at = [], start
            while inside(levels.shape, at):
                line.append(levels[tuple(at)])
                at = at + direction
            for level, run in groupby(line):
                if level > 0:
                    runs[start[0] if in_slice else 0, d, level - 1, len(list(run)) - 1] += 1
    return runs


def zones_by_level(levels, distance, in_slice):
    structure = np.ones((3, 3, 3))
    if in_slice:
        structure[[0, 2]] = 0
    zones = []
    for level in np.unique(levels[levels > 0]):
        labels, n = ndimage.label(levels == level, structure)
        for one in range(1, n + 1):
            at = np.flatnonzero(labels == one)
            plane = at[0] // levels[0].size if in_slice else 0
            zones.append((at[0], plane, level, len(at), distance.flat[at].min()))
    return np.array(sorted(zones))[:, 1:].T


def taxicab(mask, in_slice):
    if in_slice:
        return np.stack([ndimage.distance_transform_cdt(np.pad(plane, 1), "taxicab")[1:-1, 1:-1] for plane in mask])
    return ndimage.distance_transform_cdt(np.pad(mask, 1), "taxicab")[1:-1, 1:-1, 1:-1]


@in_slice_or_not
@each_lesion
def test_neighbours_equal_loops(engine, levels, in_slice):
    n_levels = int(levels.max())
    counts = engine.count_neighbours(levels, n_levels, in_slice=in_slice)
    pairs, dependences, toned, difference = neighbours_by_loops(levels, n_levels, in_slice)
    np.testing.assert_array_equal(counts.pairs, pairs)
    np.testing.assert_array_equal(counts.dependences, dependences)
    np.testing.assert_array_equal(counts.toned, toned)
    np.testing.assert_allclose(counts.tone_difference, difference, rtol=1e-13, atol=1e-12)
    assert [part.dtype for part in counts] == [np.int64, np.int64, np.int64, np.float64]


@in_slice_or_not
@each_lesion
def test_runs_equal_grouped_lines(engine, levels, in_slice):
    n_levels = int(levels.max())
    runs = engine.count_runs(levels, n_levels, in_slice=in_slice)
    assert runs.dtype == np.int64
    np.testing.assert_array_equal(runs, runs_by_lines(levels, n_levels, in_slice))


@in_slice_or_not
@each_lesion
def test_zones_equal_one_labelling_per_level(engine, levels, in_slice):
    # Any distances do: what is tested is that the smallest of a zone is found.
    distance = np.random.default_rng(9).integers(1, 50, levels.shape)
    zones = engine.find_zones(levels, distance, in_slice=in_slice)
    np.testing.assert_array_equal(np.stack(zones), zones_by_level(levels, distance, in_slice))
    assert {part.dtype for part in zones} == {np.dtype(np.int64)}


def test_the_snake_is_one_zone(engine):
    levels = snake()
    zones = engine.find_zones(levels, np.ones(levels.shape, dtype=np.int32), in_slice=True)
    assert zones.level.tolist().count(1) == 1


@in_slice_or_not
@each_lesion
def test_distances_equal_scipy(engine, levels, in_slice):
    distance = engine.border_distance(levels > 0, in_slice=in_slice)
    assert distance.dtype == np.int32
    np.testing.assert_array_equal(distance, taxicab(levels > 0, in_slice))


@in_slice_or_not
def test_distances_in_a_thick_lesion_equal_scipy(engine, in_slice):
    mask = np.random.default_rng(10).random((17, 23, 20)) < 0.97
    distance = engine.border_distance(mask, in_slice=in_slice)
    assert distance.max() > 3
    np.testing.assert_array_equal(distance, taxicab(mask, in_slice))


@each_lesion
def test_cells_equal_a_loop(engine, levels):
    padded = np.pad(levels > 0, 1)
    counts, positions = np.zeros(256, dtype=np.int64), np.zeros(256, dtype=np.int64)
    for z, y, x in product(*(range(n - 1) for n in padded.shape)):
        kind = sum(int(padded[z + dz, y + dy, x + dx]) << (4 * dz + 2 * dy + dx) for dz, dy, dx in product((0, 1), repeat=3))
        # Cells without a surface are left out.
        if 0 < kind < 255:
            counts[kind] += 1
            positions[kind] += x
    found = engine.cube_counts(levels > 0)
    np.testing.assert_array_equal(found[0], counts)
    np.testing.assert_array_equal(found[1], positions)


def sphere_means_by_loops(values, mask, radius_mm):
    points = np.argwhere(np.ones(values.shape)) * SPACING_MM[::-1]
    means = []
    for centre in np.argwhere(mask) * SPACING_MM[::-1]:
        within = ((points - centre) ** 2).sum(axis=1) <= radius_mm**2 * (1 + 1e-9)
        means.append(np.nanmean(values.ravel()[within]))
    return means


# A ball of one voxel, one whose radius is exactly two steps along x, and one that is larger than the array.
@pytest.mark.parametrize("radius_mm", [0.5, 1.4, 2.6, 40.0])
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 7, 8), (9, 1, 4), (1, 1, 1)])
def test_sphere_means_equal_direct_sums(engine, shape, radius_mm):
    rng = np.random.default_rng(12)
    values = rng.normal(-300.0, 120.0, shape)
    values[rng.random(shape) < 0.1] = np.nan
    mask = (rng.random(shape) < 0.6) & np.isfinite(values)
    mask.flat[0], values.flat[0] = True, np.float64(5.0)
    np.testing.assert_allclose(engine.sphere_means(values, mask, SPACING_MM, radius_mm), sphere_means_by_loops(values, mask, radius_mm), rtol=1e-12)


@pytest.mark.parametrize("radius_mm", [0.5, 2.6, 6.2])
def test_spheres_reach_beyond_a_small_lesion(engine, radius_mm):
    values = np.random.default_rng(14).normal(-300.0, 120.0, (9, 14, 15))
    mask = np.zeros(values.shape, dtype=bool)
    mask[4:6, 5:8, 6:8] = True
    np.testing.assert_allclose(engine.sphere_means(values, mask, SPACING_MM, radius_mm), sphere_means_by_loops(values, mask, radius_mm), rtol=1e-12)


def test_infinite_values_do_not_count(engine):
    values, mask = np.array([[[1.0, np.inf, 4.0, -np.inf]]]), np.ones((1, 1, 4), dtype=bool)
    np.testing.assert_array_equal(engine.sphere_means(values, mask, (1.0, 1.0, 1.0), 1.0), [1.0, 2.5, 4.0, 4.0])


def test_a_sphere_without_a_finite_value_has_no_mean(engine):
    values, mask = np.array([[[np.nan, np.nan, 4.0]]]), np.ones((1, 1, 3), dtype=bool)
    np.testing.assert_array_equal(engine.sphere_means(values, mask, (1.0, 1.0, 1.0), 1.0), [np.nan, 4.0, 4.0])


# Odd and even sizes, a single slice, and a lesion smaller than the array.
@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 4, 8), (1, 5, 5), (2, 2, 2), (1, 1, 7)])
@pytest.mark.parametrize("margin", [0, 3])
def test_autocorrelation_equals_the_double_loop(engine, shape, margin):
    rng = np.random.default_rng(11)
    values = np.pad(rng.normal(-300.0, 120.0, shape), margin, constant_values=np.nan)
    mask = np.pad(rng.random(shape) < 0.7, margin)
    mask[margin, margin, margin : margin + 2] = True
    points, x = np.argwhere(mask) * SPACING_MM[::-1], values[mask]
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    weight = np.divide(1.0, apart, out=np.zeros_like(apart), where=apart > 0)
    deviation = x - x.mean()
    n, total, variation = len(x), weight.sum(), np.sum(deviation**2)
    moran = n / total * np.sum(weight * deviation[:, None] * deviation) / variation
    geary = (n - 1) / (2 * total) * np.sum(weight * (x[:, None] - x) ** 2) / variation
    assert engine.moran_geary(values, mask, SPACING_MM) == pytest.approx((moran, geary), rel=1e-10)


def test_arguments_are_left_alone_and_may_be_read_only(engine):
    levels = with_holes((3, 4, 5), [0, 1, 2], 13)
    mask, values = levels > 0, levels.astype(np.float64)
    for array in (levels, mask, values):
        array.flags.writeable = False
    engine.count_neighbours(levels, 2, in_slice=False)
    engine.count_runs(levels, 2, in_slice=True)
    engine.find_zones(levels, engine.border_distance(mask, in_slice=False), in_slice=False)
    engine.cube_counts(mask)
    engine.sphere_means(values, mask, SPACING_MM, 2.0)
    engine.moran_geary(values, mask, SPACING_MM)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="Apple's device is here")
def test_an_absent_device_is_refused():
    with pytest.raises(MissingDependency, match="device must be present"):
        torch_engine("mps")


def test_float_sums_stay_off_devices_without_float64(monkeypatch):
    monkeypatch.setattr(module, "resolve_device", torch.device)
    engine = torch_engine("mps")
    assert engine.device == "mps"
    values, mask = np.arange(6.0).reshape(1, 2, 3), np.ones((1, 2, 3), dtype=bool)
    cpu = torch_engine("cpu")
    assert engine.moran_geary(values, mask, SPACING_MM) == cpu.moran_geary(values, mask, SPACING_MM)
    np.testing.assert_array_equal(engine.sphere_means(values, mask, SPACING_MM, 1.0), cpu.sphere_means(values, mask, SPACING_MM, 1.0))
