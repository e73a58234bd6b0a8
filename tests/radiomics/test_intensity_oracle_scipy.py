"""Intensity statistics and histogram against scipy."""

import numpy as np
import pytest
from scipy import stats

from idx.radiomics.catalog import CATALOG
from idx.radiomics.intensity import intensity_histogram, intensity_statistics
from idx.table import Missing


@pytest.fixture(scope="module")
def sample():
    return np.random.default_rng(8).gamma(2.0, 90.0, 500) - 150.0


def test_statistics(sample):
    features = intensity_statistics(sample)
    assert set(features) == {key for key in CATALOG if CATALOG[key].family == "intensity"}
    expected = {
        "mean_intensity": np.mean(sample),
        "intensity_variance": np.var(sample),
        "intensity_skewness": stats.skew(sample),
        "intensity_kurtosis": stats.kurtosis(sample),
        "intensity_interquartile_range": stats.iqr(sample),
        "intensity_coefficient_of_variation": stats.variation(sample),
        "intensity_p10": stats.scoreatpercentile(sample, 10),
    }
    for name, value in expected.items():
        assert features[name] == pytest.approx(value, rel=1e-12), name


def test_histogram():
    levels = np.random.default_rng(9).integers(2, 9, 300)
    features = intensity_histogram(levels, 9)
    assert set(features) == {key for key in CATALOG if CATALOG[key].family == "histogram"}
    counts = np.bincount(levels, minlength=10)[1:]
    assert features["histogram_entropy"] == pytest.approx(stats.entropy(counts, base=2), rel=1e-12)
    assert features["histogram_skewness"] == pytest.approx(stats.skew(levels), rel=1e-10)
    # Levels 1 and 9 are empty and count as 0: the slope at level 1 is one-sided, at level 2 central.
    slopes = [counts[1] - counts[0], *((counts[2:] - counts[:-2]) / 2), counts[-1] - counts[-2]]
    assert features["histogram_maximum_gradient"] == max(slopes)
    assert features["histogram_minimum_gradient_level"] == 1 + int(np.argmin(slopes))


def test_of_equally_frequent_levels_the_one_nearest_to_the_mean_is_the_mode():
    assert intensity_histogram(np.array([1, 1, 4, 4, 5, 6]), 6)["histogram_mode"] == 4.0


def test_undefined_ratios_are_missing_with_a_reason():
    features = intensity_statistics(np.array([-4.0, -2.0, 2.0, 4.0]))
    assert features["intensity_coefficient_of_variation"] == Missing("zero_mean")
    assert features["intensity_quartile_coefficient_of_dispersion"] == Missing("zero_denominator")
    assert intensity_histogram(np.array([1, 1]), 1)["histogram_maximum_gradient"] == Missing("constant")
