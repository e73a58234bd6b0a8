"""The compiled and the torch engine are two implementations of one contract: they agree on any lesion."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from idx.kernels.engine import engine_for
from idx.kernels.torch_engine import torch_engine

compiled = engine_for("cpu")
on_each_device = pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")])]
)
shapes = st.tuples(*(st.integers(1, 7) for _ in range(3)))
lesions = st.tuples(shapes, st.integers(1, 5)).flatmap(lambda drawn: arrays.arrays(np.int32, drawn[0], elements=st.integers(0, drawn[1])))


@on_each_device
@given(levels=lesions, in_slice=st.booleans())
def test_counts_are_the_same(device, levels, in_slice):
    engine, n_levels = torch_engine(device), max(int(levels.max()), 1)
    one, other = (e.count_neighbours(levels, n_levels, in_slice=in_slice) for e in (compiled, engine))
    for a, b in zip(one[:3], other[:3], strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
    np.testing.assert_allclose(one.tone_difference, other.tone_difference, rtol=1e-12, atol=1e-12, strict=True)
    np.testing.assert_array_equal(*(e.count_runs(levels, n_levels, in_slice=in_slice) for e in (compiled, engine)), strict=True)


@on_each_device
@given(levels=lesions, in_slice=st.booleans())
def test_zones_and_distances_are_the_same(device, levels, in_slice):
    engine = torch_engine(device)
    distance, other = (e.border_distance(levels > 0, in_slice=in_slice) for e in (compiled, engine))
    np.testing.assert_array_equal(distance, other, strict=True)
    for a, b in zip(*(e.find_zones(levels, distance, in_slice=in_slice) for e in (compiled, engine)), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@on_each_device
@given(levels=lesions)
def test_cells_are_the_same(device, levels):
    for a, b in zip(*(e.cube_counts(levels > 0) for e in (compiled, torch_engine(device))), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


spacings_mm = st.tuples(*(st.sampled_from([0.5, 0.7, 1.0, 3.0]) for _ in range(3)))


@on_each_device
@given(levels=lesions, seed=st.integers(0, 999), spacing_mm=spacings_mm, radius_mm=st.sampled_from([0.3, 1.0, 2.1, 6.2]))
def test_sums_over_space_are_the_same(device, levels, seed, spacing_mm, radius_mm):
    engine = torch_engine(device)
    values = np.random.default_rng(seed).normal(-100.0, 300.0, levels.shape)
    mask = levels > 0
    if mask.any():
        # What is not a number outside the lesion does not count.
        gaps = np.where(levels == 0, np.where(values > 0, np.nan, values), values)
        # 1e-12 of the values' scale, which is hundreds: a mean may be close to zero.
        means = [e.sphere_means(gaps, mask, spacing_mm, radius_mm) for e in (compiled, engine)]
        np.testing.assert_allclose(*means, rtol=1e-12, atol=3e-10, strict=True)
    if np.count_nonzero(mask) > 1:
        both = [e.moran_geary(values, mask, spacing_mm) for e in (compiled, engine)]
        np.testing.assert_allclose(*both, rtol=1e-12, atol=1e-12)
