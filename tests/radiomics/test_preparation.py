import numpy as np
import pytest

from idx.geometry import Grid
from idx.kernels.resample import centred_positions, interpolate_linear
from idx.radiomics.preparation import Preparation, grey_levels, prepare
from idx.volume import CTVolume, Mask


@pytest.fixture(scope="module")
def scan():
    rng = np.random.default_rng(21)
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    grid = Grid.from_spacing((12, 20, 18), (0.8, 0.9, 2.5), (4.0, 5.0, -6.0), direction=turn)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[3:8, 5:14, 6:13] = rng.random((5, 9, 7)) < 0.9
    return CTVolume(rng.integers(-800, 300, grid.shape).astype(np.int16), grid), Mask(mask, grid, "GTV-1")


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 2.0), (0.5, 0.5, 1.0), (0.8, 0.9, 4.0)])
def test_the_crop_equals_the_resampled_whole(scan, spacing_mm):
    ct, lesion = scan
    region = prepare(ct, lesion, Preparation(spacing_mm=spacing_mm))
    positions = tuple(centred_positions(n, old, new) for n, old, new in zip(ct.grid.shape, ct.spacing_mm[::-1], spacing_mm[::-1], strict=True))
    inside = interpolate_linear(lesion.values, positions) >= 0.5 - 1e-9
    values = np.rint(np.round(interpolate_linear(ct.values, positions), 6))
    np.testing.assert_array_equal(region.intensities, values[inside])
    # The same voxels lie at the same points of the patient.
    index = np.argwhere(inside)
    old_index = np.stack([position[index[:, axis]] for axis, position in enumerate(positions)], axis=-1)
    np.testing.assert_allclose(region.grid.to_physical(np.argwhere(region.mask)), ct.grid.to_physical(old_index), atol=1e-9)


def test_resampling_to_the_own_spacing_changes_nothing(scan):
    ct, lesion = scan
    own, same = prepare(ct, lesion, Preparation()), prepare(ct, lesion, Preparation(spacing_mm=ct.spacing_mm))
    np.testing.assert_array_equal(own.values, same.values)
    np.testing.assert_array_equal(own.mask, same.mask)
    assert own.grid.is_close(same.grid)


def test_rounding_in_a_header_does_not_change_the_hu():
    """Between 3 and 2 mm every other slice is an exact mixture, so that many HU are exact halves."""
    values = np.random.default_rng(13).integers(-900, 300, (9, 6, 6)).astype(np.int16)
    measured = []
    for spacing_z in (3.0, 2.9999999999998486, 3.0000000000001514):
        grid = Grid.from_spacing(values.shape, (1.0, 1.0, spacing_z))
        region = prepare(CTVolume(values, grid), Mask(np.ones(values.shape, dtype=bool), grid), Preparation(spacing_mm=(1.0, 1.0, 1.5)))
        measured.append(region.intensities)
    np.testing.assert_array_equal(measured[0], measured[1])
    np.testing.assert_array_equal(measured[0], measured[2])


def test_an_exact_half_is_inside():
    grid = Grid.from_spacing((1, 1, 4), (1.0, 1.0, 1.0))
    mask = Mask(np.array([[[True, False, True, True]]]), grid)
    region = prepare(CTVolume(np.zeros(grid.shape, dtype=np.int16), grid), mask, Preparation(spacing_mm=(2.0, 1.0, 1.0)))
    assert region.mask.tolist() == [[[True, True]]]


def test_resegmentation_moves_the_intensities_not_the_shape(scan):
    ct, lesion = scan
    region = prepare(ct, lesion, Preparation(resegment_hu=(-100, 250), outlier_sigma=1.0))
    inside = ct.values[lesion.values].astype(np.float64)
    ranged = inside[(inside >= -100) & (inside <= 250)]
    kept = ranged[np.abs(ranged - ranged.mean()) <= ranged.std()]
    np.testing.assert_array_equal(np.sort(region.intensities), np.sort(kept))
    assert np.count_nonzero(region.mask) == lesion.n_voxels


def test_levels_of_fixed_size_mean_the_same_in_every_lesion(scan):
    ct, lesion = scan
    region = prepare(ct, lesion, Preparation())
    levels, n_levels = grey_levels(region, Preparation())
    np.testing.assert_array_equal(levels, (region.intensities + 1000) // 25 + 1)
    assert n_levels == levels.max()
    shifted, _ = grey_levels(region, Preparation(resegment_hu=(-850, 400), bin_size_hu=50.0))
    np.testing.assert_array_equal(shifted, (region.intensities + 850) // 50 + 1)
    _, n_levels = grey_levels(region, Preparation(n_bins=32))
    assert n_levels == 32


def test_inputs_stay_as_they_are(scan):
    ct, lesion = scan
    before = ct.values.copy(), lesion.values.copy()
    prepare(ct, lesion, Preparation(spacing_mm=(1.0, 1.0, 1.0), resegment_hu=(0, 100), outlier_sigma=2.0))
    np.testing.assert_array_equal(ct.values, before[0])
    np.testing.assert_array_equal(lesion.values, before[1])
