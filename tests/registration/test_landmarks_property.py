"""The closed forms recover what they model, and nothing does better."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from idx.registration import Landmarks, fit_landmarks

seeds = st.integers(0, 2**32 - 1)


def random_plane(rng):
    rotation = Rotation.from_quat(rng.standard_normal(4)).as_matrix()
    return rotation, rng.uniform(0.8, 1.4) * 1e-3, rng.uniform(-200, 200, 3)


def random_points(rng, n):
    """Points of a section that are not nearly on one line."""
    return np.vstack([[[0, 0], [25e3, 2e3], [3e3, 20e3]], rng.uniform(0, 30e3, (n - 3, 2))]) + rng.uniform(0, 5e4, 2)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, n=st.integers(3, 12), mirrored=st.booleans())
def test_similarity_is_recovered_exactly_either_way_up(seed, n, mirrored):
    rng = np.random.default_rng(seed)
    rotation, scale, origin = random_plane(rng)
    axes = rotation[:, :2] * scale * ([-1, 1] if mirrored else [1, 1])
    slide = random_points(rng, n)
    fit = fit_landmarks(Landmarks(slide, origin + slide @ axes.T), model="similarity")
    np.testing.assert_allclose(fit.transform.axes, axes, atol=1e-12)
    np.testing.assert_allclose(fit.transform.origin_mm, origin, atol=1e-7)
    # A mirror is a turn of the plane: the normal points to the other side.
    np.testing.assert_allclose(fit.transform.normal, rotation[:, 2] * (-1 if mirrored else 1), atol=1e-9)
    # The error is the mean over pairs left out; where fewer than three of them leave a plane behind (four points can), it is unknown.
    n_known = int(np.isfinite(fit.left_out_mm).sum())
    assert n_known == 0 if n == 3 else n_known >= 1
    assert fit.error_mm is None if n_known < 3 else fit.error_mm < 1e-7


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(4, 12))
def test_affine_is_recovered_exactly(seed, n):
    rng = np.random.default_rng(seed)
    rotation, scale, origin = random_plane(rng)
    axes = rotation[:, :2] * scale @ (np.eye(2) + rng.uniform(-0.25, 0.25, (2, 2)))
    slide = random_points(rng, n)
    fit = fit_landmarks(Landmarks(slide, origin + slide @ axes.T), model="affine")
    np.testing.assert_allclose(fit.transform.axes, axes, atol=1e-12)
    np.testing.assert_allclose(fit.residual_mm, 0, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, n=st.integers(4, 8))
def test_no_scaled_rotation_fits_better(seed, n):
    """Oracle: a general optimiser over rotation vector, log scale and origin, started at the closed form and beside it."""
    rng = np.random.default_rng(seed)
    rotation, scale, origin = random_plane(rng)
    slide = random_points(rng, n)
    ct = origin + slide @ (rotation[:, :2] * scale).T + rng.normal(0, 2.0, (n, 3))
    fit = fit_landmarks(Landmarks(slide, ct), model="similarity")
    centred, middle = (slide - slide.mean(0)) * 1e-3, ct.mean(0)

    def residuals(p):
        return (p[4:] + middle + centred @ (Rotation.from_rotvec(p[:3]).as_matrix()[:, :2] * np.exp(p[3])).T - ct).ravel()

    start = np.concatenate([Rotation.from_matrix(rotation).as_rotvec(), [np.log(scale * 1e3)], np.zeros(3)])
    best = 2 * least_squares(residuals, start + rng.normal(0, 0.05, 7), xtol=1e-14, ftol=1e-14, gtol=1e-14).cost
    assert (fit.residual_mm**2).sum() <= best * (1 + 1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, n=st.integers(4, 8))
def test_left_out_is_a_fit_without_the_pair(seed, n):
    rng = np.random.default_rng(seed)
    rotation, scale, origin = random_plane(rng)
    slide = random_points(rng, n)
    landmarks = Landmarks(slide, origin + slide @ (rotation[:, :2] * scale).T + rng.normal(0, 1.0, (n, 3)))
    fit = fit_landmarks(landmarks, model="similarity")
    known = np.flatnonzero(np.isfinite(fit.left_out_mm))
    for i in known:
        other = fit_landmarks(landmarks.select(np.arange(n) != i), model="similarity")
        np.testing.assert_allclose(fit.left_out_mm[i], np.linalg.norm(other.transform.apply(slide[i]) - landmarks.ct_mm[i]), rtol=1e-9)
    if len(known) >= 3:
        np.testing.assert_allclose(fit.error_mm, np.sqrt((fit.left_out_mm[known] ** 2).mean()), rtol=1e-12)
