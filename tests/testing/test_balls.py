"""The ball phantom: voxels approach the stated volume, and its centre is where it is said to be."""

import numpy as np
import pytest

from idx.errors import GeometryError
from idx.testing import ball


@pytest.mark.parametrize(("spacing", "tolerance"), [(1.0, 0.01), (0.5, 0.002), ((0.7, 0.9, 1.5), 0.01)])
def test_voxels_approach_the_volume(spacing, tolerance):
    phantom = ball(radius_mm=10.0, spacing_mm=spacing)
    assert phantom.volume_mm3 == pytest.approx(4188.790205)
    assert phantom.surface_area_mm2 == pytest.approx(1256.637061)
    assert phantom.mask.volume_mm3 == pytest.approx(phantom.volume_mm3, rel=tolerance)
    np.testing.assert_allclose(phantom.mask.centroid_mm, phantom.centre_mm, atol=0.05)


def test_values_and_origin():
    phantom = ball(radius_mm=4.0, hu=55, background_hu=-700, centre_mm=(1.0, 2.0, 3.0), margin_mm=2.0)
    assert set(np.unique(phantom.ct.values[phantom.mask.values])) == {55}
    assert set(np.unique(phantom.ct.values[~phantom.mask.values])) == {-700}
    assert phantom.ct.grid.origin_mm == (-5.0, -4.0, -3.0)
    assert phantom.mask.n_voxels == sum(x * x + y * y + z * z <= 16 for x in range(-4, 5) for y in range(-4, 5) for z in range(-4, 5))


@pytest.mark.parametrize("options", [{"radius_mm": 0.0}, {"spacing_mm": (1.0, 0.0, 1.0)}, {"spacing_mm": (1.0, 1.0)}])
def test_impossible_balls_are_refused(options):
    with pytest.raises(GeometryError):
        ball(**options)
