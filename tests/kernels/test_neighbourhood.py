import numpy as np
import pytest

from idx.kernels.neighbourhood import LocalSums, ball_footprint


def test_footprint_is_a_ball_in_mm():
    footprint = ball_footprint(3.0, (1.0, 1.5, 3.0))
    assert footprint.shape == (3, 5, 7)
    # A voxel at exactly the radius belongs to the ball.
    assert footprint[1, 2, [0, 6]].all()
    assert footprint[[0, 2], 2, 3].all()
    assert not footprint[0, 2, 2]
    assert footprint[1, 0, 3]


def test_a_radius_below_the_spacing_is_the_voxel_itself():
    assert ball_footprint(0.4, (1.0, 1.0, 1.0)).tolist() == [[[True]]]


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 4, 9), (2, 2, 2)])
def test_sums_equal_a_direct_loop(shape):
    values = np.random.default_rng(4).normal(size=shape)
    footprint = ball_footprint(2.3, (1.0, 0.8, 1.1))
    reach = [n // 2 for n in footprint.shape]
    padded = np.pad(values, [(r, r) for r in reach])
    direct = np.zeros(shape)
    for offset in np.argwhere(footprint):
        direct += padded[tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))]
    np.testing.assert_allclose(LocalSums(shape, footprint)(values), direct, atol=1e-12)
