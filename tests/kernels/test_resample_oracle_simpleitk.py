"""Trilinear resampling against SimpleITK on the grid that shares the image's middle."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # the name that its users know

from idx.kernels.resample import SPLINE_MARGIN, centred_positions, interpolate_cubic, interpolate_linear

SPACING_ZYX = (3.0, 0.977, 0.8)


@pytest.mark.parametrize("new_mm", [2.0, 0.5])
def test_inside_the_image(new_mm):
    values = np.random.default_rng(2).normal(size=(9, 14, 11))
    positions = tuple(centred_positions(n, mm, new_mm) for n, mm in zip(values.shape, SPACING_ZYX, strict=True))
    ours = interpolate_linear(values, positions)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING_ZYX[::-1])
    origin = [p[0] * mm for p, mm in zip(positions, SPACING_ZYX, strict=True)]
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(image, [len(p) for p in positions[::-1]], sitk.Transform(), sitk.sitkLinear, origin[::-1], [new_mm] * 3, image.GetDirection(), np.nan)
    )
    inside = np.ix_(*[(p >= 0) & (p <= n - 1) for p, n in zip(positions, values.shape, strict=True)])
    assert ours[inside].size > 100
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-12)


def test_outside_takes_the_value_at_the_border():
    values = np.arange(4.0).reshape(1, 1, 4)
    here = np.zeros(1)
    assert interpolate_linear(values, (here, here, np.array([-0.4, 1.25, 3.3]))).ravel().tolist() == [0.0, 1.25, 3.0]


@pytest.mark.parametrize(("n", "mm", "new_mm", "n_new"), [(60, 3.0, 2.0, 90), (204, 0.977, 2.0, 100), (60, 3.0000002, 2.0, 90), (1, 1.0, 5.0, 1)])
def test_the_grid_covers_the_image_and_shares_its_middle(n, mm, new_mm, n_new):
    positions = centred_positions(n, mm, new_mm)
    assert len(positions) == n_new
    assert positions.mean() == pytest.approx((n - 1) / 2)
    assert n_new * new_mm >= n * mm * (1 - 1e-6)


def test_cubic_splines_pass_through_the_values_and_reproduce_a_line():
    values = np.random.default_rng(6).normal(size=(5, 6, 7))
    own = tuple(np.arange(n, dtype=np.float64) for n in values.shape)
    np.testing.assert_allclose(interpolate_cubic(values, own), values, atol=1e-12)
    ramp = np.broadcast_to(3.0 * np.arange(60.0), (1, 1, 60))
    here = np.zeros(1)
    # Far from the border, where the outermost values go on instead of the line.
    np.testing.assert_allclose(interpolate_cubic(ramp, (here, here, np.array([29.25, 30.5]))).ravel(), [87.75, 91.5], atol=1e-9)


def test_cubic_splines_of_a_part_equal_those_of_the_whole():
    values = np.random.default_rng(7).normal(size=(3, 4, 5 * SPLINE_MARGIN))
    z, y, x = np.array([0.7, 1.3]), np.array([2.1]), np.arange(0.3, values.shape[2] - 1, 0.8)
    whole = interpolate_cubic(values, (z, y, x))
    middle = slice(50, 60)
    np.testing.assert_allclose(interpolate_cubic(values, (z, y, x[middle])), whole[..., middle], atol=1e-12)
