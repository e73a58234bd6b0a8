import numpy as np
import pytest
from skimage.color import separate_stains
from skimage.filters import threshold_otsu

from idx.kernels.stain import HE_RUIFROK, macenko_vectors, optical_density, otsu_threshold, separate, stain_od, unmixing_matrix

RGB = np.random.default_rng(0).integers(1, 256, (30, 40, 3), dtype=np.uint8)


def test_optical_density_follows_beer_lambert():
    np.testing.assert_allclose(optical_density(np.array([[240, 24, 250]], dtype=np.uint8), white=np.full(3, 240.0)), [[0.0, 1.0, 0.0]])


def test_amounts_reproduce_the_density():
    amounts = np.array([0.7, 0.3, 0.0])
    units = HE_RUIFROK / np.linalg.norm(HE_RUIFROK, axis=1, keepdims=True)
    np.testing.assert_allclose((amounts[:2] @ units) @ unmixing_matrix(HE_RUIFROK), amounts, atol=1e-12)


def test_separation_agrees_with_skimage():
    # skimage takes intensities over 255, works in natural units of 1e-6 and cuts off below zero.
    expected = separate_stains(RGB, unmixing_matrix(HE_RUIFROK)) * np.log10(1e6)
    np.testing.assert_allclose(np.maximum(separate(RGB), 0.0), expected, atol=1e-9)


@pytest.mark.parametrize("stain", [0, 1])
def test_the_fast_map_is_the_separation(stain):
    white = np.array([241.0, 238.0, 244.0])
    np.testing.assert_allclose(stain_od(RGB, stain=stain, white=white), separate(RGB, white=white)[..., stain], atol=1e-5)


def test_otsu_agrees_with_skimage():
    values = np.concatenate([np.random.default_rng(1).normal(0.2, 0.05, 5000), np.random.default_rng(2).normal(0.7, 0.1, 2000)]).clip(0, 1)
    assert otsu_threshold(values, low=0.0, high=1.0) == pytest.approx(threshold_otsu(values), abs=2 / 256)


def test_otsu_of_a_constant_is_the_upper_limit():
    assert otsu_threshold(np.full(100, 0.3), low=0.0, high=1.0) == 1.0


def test_macenko_finds_the_stains_that_were_mixed():
    true = np.array([[0.60, 0.73, 0.33], [0.12, 0.96, 0.25]])
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    rng = np.random.default_rng(3)
    share = np.where(rng.random(20_000) < 0.1, rng.choice([0.0, 1.0], 20_000), rng.random(20_000))
    density = (rng.uniform(0.3, 1.0, 20_000)[:, None] * np.stack([share, 1 - share], axis=1)) @ true + rng.normal(0, 0.002, (20_000, 3))
    angles = np.degrees(np.arccos(np.clip((macenko_vectors(density) * true).sum(axis=1), -1, 1)))
    assert angles.max() < 2.0
