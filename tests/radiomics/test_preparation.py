import numpy as np
import pytest

from idx.geometry import Grid
from idx.kernels.resample import centred_positions, interpolate_linear
from idx.radiomics.preparation import grey_levels, prepare
from idx.radiomics.settings import RadiomicsSettings
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
    region = prepare(ct, lesion, RadiomicsSettings(spacing_mm=spacing_mm))
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
    own, same = prepare(ct, lesion, RadiomicsSettings()), prepare(ct, lesion, RadiomicsSettings(spacing_mm=ct.spacing_mm))
    np.testing.assert_array_equal(own.values, same.values)
    np.testing.assert_array_equal(own.mask, same.mask)
    assert own.grid.is_close(same.grid)


def test_rounding_in_a_header_does_not_change_the_hu():
    """Between 3 and 2 mm every other slice is an exact mixture, so that many HU are exact halves."""
    values = np.random.default_rng(13).integers(-900, 300, (9, 6, 6)).astype(np.int16)
    measured = []
    for spacing_z in (3.0, 2.9999999999998486, 3.0000000000001514):
        grid = Grid.from_spacing(values.shape, (1.0, 1.0, spacing_z))
        region = prepare(CTVolume(values, grid), Mask(np.ones(values.shape, dtype=bool), grid), RadiomicsSettings(spacing_mm=(1.0, 1.0, 1.5)))
        measured.append(region.intensities)
    np.testing.assert_array_equal(measured[0], measured[1])
    np.testing.assert_array_equal(measured[0], measured[2])


def test_an_exact_half_is_inside():
    grid = Grid.from_spacing((1, 1, 4), (1.0, 1.0, 1.0))
    mask = Mask(np.array([[[True, False, True, True]]]), grid)
    region = prepare(CTVolume(np.zeros(grid.shape, dtype=np.int16), grid), mask, RadiomicsSettings(spacing_mm=(2.0, 1.0, 1.0)))
    assert region.mask.tolist() == [[[True, True]]]


def test_resegmentation_moves_the_intensities_not_the_shape(scan):
    ct, lesion = scan
    region = prepare(ct, lesion, RadiomicsSettings(resegment_range=(-100, 250), outlier_sigma=1.0))
    inside = ct.values[lesion.values].astype(np.float64)
    ranged = inside[(inside >= -100) & (inside <= 250)]
    kept = ranged[np.abs(ranged - ranged.mean()) <= ranged.std()]
    np.testing.assert_array_equal(np.sort(region.intensities), np.sort(kept))
    assert np.count_nonzero(region.mask) == lesion.n_voxels


def test_levels_of_fixed_size_mean_the_same_in_every_lesion(scan):
    ct, lesion = scan
    region = prepare(ct, lesion, RadiomicsSettings())
    levels, n_levels = grey_levels(region, RadiomicsSettings())
    np.testing.assert_array_equal(levels, (region.intensities + 1000) // 25 + 1)
    assert n_levels == levels.max()
    shifted, _ = grey_levels(region, RadiomicsSettings(resegment_range=(-850, 400), bin_size=50.0))
    np.testing.assert_array_equal(shifted, (region.intensities + 850) // 50 + 1)
    _, n_levels = grey_levels(region, RadiomicsSettings(n_bins=32))
    assert n_levels == 32


def test_inputs_stay_as_they_are(scan):
    ct, lesion = scan
    before = ct.values.copy(), lesion.values.copy()
    prepare(ct, lesion, RadiomicsSettings(spacing_mm=(1.0, 1.0, 1.0), resegment_range=(0, 100), outlier_sigma=2.0))
    np.testing.assert_array_equal(ct.values, before[0])
    np.testing.assert_array_equal(lesion.values, before[1])


def test_axes_can_keep_their_spacing(scan):
    ct, lesion = scan
    region = prepare(ct, lesion, RadiomicsSettings(spacing_mm=(1.0, 1.0, None)))
    assert region.spacing_mm == pytest.approx((1.0, 1.0, 2.5))
    assert region.mask.shape[0] == lesion.bounding_box()[0].stop - lesion.bounding_box()[0].start


def test_nearest_interpolation_makes_no_new_values(scan):
    ct, lesion = scan
    region = prepare(ct, lesion, RadiomicsSettings(spacing_mm=0.7, interpolation="nearest"))
    assert np.isin(region.values, ct.values).all()


@pytest.mark.parametrize("spacing_mm", [None, 1.3])
@pytest.mark.parametrize("margin", [(2, 1, 3), (100, 100, 100), None])
def test_the_surroundings_are_those_of_the_image(scan, spacing_mm, margin):
    ct, lesion = scan
    settings = RadiomicsSettings(spacing_mm=spacing_mm)
    near, region = prepare(ct, lesion, settings), prepare(ct, lesion, settings, margin=margin)
    np.testing.assert_array_equal(region.values, near.values)
    np.testing.assert_array_equal(region.around[region.inner], near.values)
    whole = prepare(ct, lesion, settings, margin=None)
    before = [inner.start - m for inner, m in zip(whole.inner, margin or (100,) * 3, strict=True)]
    after = [inner.stop + m for inner, m in zip(whole.inner, margin or (100,) * 3, strict=True)]
    cut = tuple(slice(max(0, b), a) for b, a in zip(before, after, strict=True))
    np.testing.assert_array_equal(region.around, whole.around[cut])


def test_bins_at_multiples_of_their_size(scan):
    """PyRadiomics counts levels from the multiple of the bin width below the lesion's smallest intensity."""
    ct, lesion = scan
    region = prepare(ct, lesion, RadiomicsSettings())
    levels, n_levels = grey_levels(region, RadiomicsSettings(bin_origin="multiple"))
    low = np.floor(region.intensities.min() / 25) * 25
    np.testing.assert_array_equal(levels, (region.intensities - low) // 25 + 1)
    assert levels.min() == 1
    assert n_levels == levels.max()
