"""The intensity-volume histogram and the local peaks against closed forms and direct loops."""

import numpy as np
import pytest

from idx.geometry import Grid
from idx.radiomics import RadiomicsSettings, extract
from idx.radiomics.intensity import intensity_volume_histogram
from idx.radiomics.preparation import prepare
from idx.table import Missing
from idx.volume import CTVolume, Mask


def test_equally_frequent_intensities_have_a_straight_histogram():
    """Of 0..100, all equally frequent, the share of at least g is (101 - g) / 101."""
    features = intensity_volume_histogram(np.arange(101.0))
    assert features["ivh_volume_at_intensity_fraction_10"] == pytest.approx(91 / 101)
    assert features["ivh_volume_at_intensity_fraction_90"] == pytest.approx(11 / 101)
    assert features["ivh_intensity_at_volume_fraction_10"] == 91.0
    assert features["ivh_intensity_at_volume_fraction_90"] == 11.0
    assert features["ivh_area_under_curve"] == pytest.approx(0.5 * (1 + 1 / 101))
    assert features["ivh_volume_fraction_difference"] == pytest.approx(80 / 101)
    assert features["ivh_intensity_difference"] == 80.0


def test_bins_of_fixed_size_stand_for_their_centres():
    features = intensity_volume_histogram(np.array([0.0, 1.0, 2.0, 3.0, 9.9]), limits=(0.0, 10.0), bin_size=2.5)
    # Bins at 1.25, 3.75, 6.25 and 8.75 hold 3, 1, 0 and 1 values.
    assert features["ivh_volume_at_intensity_fraction_10"] == pytest.approx(2 / 5)
    assert features["ivh_volume_at_intensity_fraction_90"] == pytest.approx(1 / 5)
    assert features["ivh_intensity_at_volume_fraction_90"] == 3.75


def test_bins_of_a_fixed_number_count_from_one():
    features = intensity_volume_histogram(np.linspace(5.0, 6.0, 1001), n_bins=1000)
    assert features["ivh_intensity_at_volume_fraction_90"] == pytest.approx(101, abs=1)
    assert features["ivh_area_under_curve"] == pytest.approx(0.5, abs=1e-3)


def test_where_too_many_voxels_share_the_top_the_next_step_is_the_intensity():
    """Half of the voxels have the largest intensity: the smallest intensity that at most a tenth reaches lies one step above."""
    features = intensity_volume_histogram(np.array([1.0, 2.0, 3.0, 3.0, 3.0]))
    assert features["ivh_intensity_at_volume_fraction_10"] == 4.0


def test_one_intensity_has_no_histogram():
    assert set(intensity_volume_histogram(np.full(4, 7.0)).values()) == {Missing("constant")}


def test_peaks_equal_a_direct_loop_over_the_image():
    rng = np.random.default_rng(4)
    spacing_mm = (1.9, 2.3, 4.1)
    grid = Grid.from_spacing((7, 11, 12), spacing_mm)
    ct = CTVolume(rng.integers(-900, 300, grid.shape).astype(np.int16), grid)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[0:4, 2:8, 5:12] = rng.random((4, 6, 7)) < 0.7
    table = extract(ct, Mask(mask, grid), families=["local_intensity"])
    radius_mm = (3 / (4 * np.pi)) ** (1 / 3) * 10
    points = np.argwhere(np.ones(grid.shape, dtype=bool)) * spacing_mm[::-1]
    inside = np.argwhere(mask) * spacing_mm[::-1]
    near = np.linalg.norm(inside[:, None] - points[None], axis=-1) <= radius_mm
    means = np.array([ct.values.ravel()[row].mean() for row in near])
    assert table["global_intensity_peak_hu"].item() == pytest.approx(means.max(), rel=1e-12)
    assert table["local_intensity_peak_hu"].item() == pytest.approx(means[ct.values[mask] == ct.values[mask].max()].max(), rel=1e-12)


def test_peaks_of_a_resampled_crop_are_those_of_the_whole_image():
    grid = Grid.from_spacing((9, 14, 15), (1.5, 1.5, 3.0))
    ct = CTVolume(np.random.default_rng(0).integers(-900, 300, grid.shape).astype(np.int16), grid)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[3:6, 5:9, 6:10] = True
    settings = RadiomicsSettings(spacing_mm=1.2, families=("local_intensity",))
    part = extract(ct, Mask(mask, grid), settings)
    whole = prepare(ct, Mask(mask, grid), settings, margin=None)
    points = np.argwhere(np.ones(whole.around.shape, dtype=bool)) * 1.2
    inside = (np.argwhere(whole.intensity_mask) + [s.start for s in whole.inner]) * 1.2
    near = np.linalg.norm(inside[:, None] - points[None], axis=-1) <= (3 / (4 * np.pi)) ** (1 / 3) * 10
    means = near @ whole.around.ravel() / near.sum(axis=1)
    assert part["global_intensity_peak_hu"].item() == pytest.approx(means.max(), rel=1e-12)
    assert part["local_intensity_peak_hu"].item() == pytest.approx(means[whole.intensities == whole.intensities.max()].max(), rel=1e-12)
