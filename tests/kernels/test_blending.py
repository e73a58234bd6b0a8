import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idx.kernels.blending import blend, halved, halved_labels, plateau, pyramid_bands, ramp


@given(core=st.integers(1, 30), halo=st.integers(0, 15))
def test_weights_of_neighbours_sum_to_one(core, halo):
    # Up to an overlap of the core; beyond, three tiles meet and the mean divides by the sum.
    size, overlap = core + 2 * halo, 2 * halo
    for weights in (ramp, plateau):
        if overlap > core:
            continue
        total = np.zeros(4 * core + 2 * halo)
        for k in range(4):
            total[k * core : k * core + size] += weights(size, overlap)
        np.testing.assert_allclose(total[overlap : 4 * core], 1.0, rtol=1e-12)


def empty(*shape):
    return np.zeros(shape), np.zeros(shape[:2])


@given(value=st.floats(-1e6, 1e6), weights=st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=5))
def test_where_all_agree_the_mean_is_their_value_to_the_last_bit(value, weights):
    onto = empty(1, 1, 1)
    for weight in weights:
        blend(np.full((1, 1, 1), value), (np.array([weight]), np.ones(1)), onto=onto, at=(0, 0))
    assert onto[0][0, 0, 0] == value


def test_the_mean_is_weighed_and_leaves_out_what_is_not_known():
    onto = empty(2, 3, 2)
    one = np.stack([np.full((2, 2), 1.0), np.full((2, 2), 10.0)], axis=-1)
    other = np.stack([np.full((2, 2), 4.0), np.full((2, 2), 40.0)], axis=-1)
    other[1, 0, 1] = np.nan
    blend(one, (np.array([1.0, 1.0]), np.array([1.0, 0.25])), onto=onto, at=(0, 0))
    blend(other, (np.array([1.0, 1.0]), np.array([0.75, 1.0])), onto=onto, at=(0, 1))
    mean, _ = onto
    np.testing.assert_allclose(mean[0, :, 0], [1.0, 0.25 * 1 + 0.75 * 4, 4.0])
    np.testing.assert_allclose(mean[0, :, 1], [10.0, 0.25 * 10 + 0.75 * 40, 40.0])
    assert mean[1, 1].tolist() == [1.0, 10.0]


@given(seed=st.integers(0, 1000), height=st.integers(1, 9), width=st.integers(1, 9))
def test_halved_is_the_mean_of_what_is_known(seed, height, width):
    rng = np.random.default_rng(seed)
    values, weight = rng.random((height, width, 2)), rng.integers(0, 3, (height, width)) / 2.0
    found, share = halved(values, weight)
    for y in range(-(-height // 2)):
        for x in range(-(-width // 2)):
            here = np.s_[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            assert share[y, x] == pytest.approx(weight[here].sum() / 4)
            if weight[here].any():
                expected = (values[here] * weight[here][..., None]).sum(axis=(0, 1)) / weight[here].sum()
                np.testing.assert_allclose(found[y, x], expected)


def test_a_constant_stays_what_it_is_at_every_level():
    values, weight = np.full((37, 53, 1), 0.1, dtype=np.float32), np.ones((37, 53), dtype=np.float32)
    weight[5:11, 7:30] = 0
    for _ in range(5):
        values, weight = halved(values, weight)
        assert (values[weight > 0] == np.float32(0.1)).all()


def test_labels_are_never_mixed_and_objects_come_before_background():
    labels = np.array([[1, 1, 0, 2, 0, 0], [2, 0, 3, 0, 0, 4]], dtype=np.int32)
    assert halved_labels(labels).tolist() == [[1, 0, 0]]
    assert halved_labels(np.array([[0, 5], [0, 5]], dtype=np.int32)).tolist() == [[5]]
    assert halved_labels(np.array([[7], [0], [9]], dtype=np.int32)).tolist() == [[7], [9]]


@given(height=st.integers(1, 70), width=st.integers(1, 20), n_levels=st.integers(1, 5), band=st.sampled_from([2, 8, 16]), seed=st.integers(0, 99))
def test_bands_make_up_the_levels_whatever_the_pieces(height, width, n_levels, band, seed):
    rng = np.random.default_rng(seed)
    values, weight = rng.random((height, width, 1)), np.ones((height, width))
    cuts = np.sort(rng.integers(0, height + 1, 5))
    rows = [(values[a:b], weight[a:b]) for a, b in zip([0, *cuts], [*cuts, height], strict=True)]
    levels = [[] for _ in range(n_levels)]
    for level, part, known in pyramid_bands(rows, n_levels=n_levels, band=band):
        assert len(part) == len(known) <= band
        levels[level].append(part)
    for parts in levels:
        assert all(len(part) == band for part in parts[:-1])
        np.testing.assert_allclose(np.concatenate(parts), values)
        values, weight = halved(values, weight)
