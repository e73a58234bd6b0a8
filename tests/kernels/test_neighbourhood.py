import numpy as np
import pytest

from idx.kernels.neighbourhood import Neighbourhoods, ball_footprint, cube_footprint, in_threads


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


def test_a_footprint_reaches_no_farther_than_the_array():
    assert ball_footprint(1e6, (1.0, 1.0, 1.0), within=(1, 3, 4)).shape == (1, 5, 7)
    assert cube_footprint(2, within=(1, 9, 9)).shape == (1, 5, 5)


def test_members_are_found_by_flat_steps():
    region = np.random.default_rng(3).random((3, 5, 4)) < 0.5
    near = Neighbourhoods.of(region, ball_footprint(2.3, (1.0, 0.8, 1.1)))
    number = np.arange(1, region.sum() + 1)
    placed = near.place(number, 0, np.int64)
    points = np.argwhere(region) * (1.1, 0.8, 1.0)
    for voxel, position in enumerate(near.positions):
        found = placed[position + near.steps]
        close = np.linalg.norm(points - points[voxel], axis=1) <= 2.3
        assert sorted(found[found > 0]) == number[close].tolist()


def test_a_direction_has_at_most_18_pairs_in_a_cube_of_27():
    near = Neighbourhoods.of(np.ones((1, 1, 1), dtype=bool), cube_footprint(1))
    pairs, starts = near.pairs(np.array([(0, 0, 1), (1, -1, 0), (1, 1, 1)]))
    assert np.diff(starts).tolist() == [18, 12, 8]
    step = near.members[pairs[:, 1]] - near.members[pairs[:, 0]]
    np.testing.assert_array_equal(step, np.repeat([(0, 0, 1), (1, -1, 0), (1, 1, 1)], [18, 12, 8], axis=0))


@pytest.mark.parametrize(("n_voxels", "workers", "n_calls"), [(1, 4, 1), (1023, 4, 1), (1024, 4, 2), (100_000, 1, 1), (100_000, 3, 12)])
def test_threads_cover_the_voxels_once(n_voxels, workers, n_calls):
    ranges = []
    in_threads(lambda start, stop: ranges.append((start, stop)), n_voxels, workers)
    ranges.sort()
    assert len(ranges) == n_calls
    assert [ranges[0][0], *(stop for _, stop in ranges)] == [*(start for start, _ in ranges), n_voxels]


def test_an_error_in_a_thread_is_raised():
    def fail(start, stop):
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        in_threads(fail, 10_000, 2)
