"""The lesion phantom against an independent Monte Carlo volume and its own stated statistics."""

import numpy as np
import pytest

from idx.errors import GeometryError, UnitError
from idx.testing import lesion_ct
from idx.testing._lung import LobulatedShape


@pytest.fixture(scope="module")
def phantom():
    return lesion_ct(seed=3)


def test_volume_is_that_of_the_voxels_and_of_random_points(phantom):
    assert phantom.volume_mm3 == pytest.approx(4 / 3 * np.pi * 11.0**3, rel=1e-9)
    assert phantom.mask.volume_mm3 == pytest.approx(phantom.volume_mm3, rel=0.01)
    rng = np.random.default_rng(1)
    half = phantom.field.shape.reach_mm
    points = np.asarray(phantom.centre_mm) + rng.uniform(-half, half, (400_000, 3))
    share = phantom.inside(points).mean()
    error = np.sqrt(share * (1 - share) / 400_000)
    assert abs(share - phantom.volume_mm3 / (2 * half) ** 3) < 4 * error


def test_quadrature_has_converged(phantom):
    shape = phantom.field.shape
    assert shape.volume_mm3(48) == pytest.approx(shape.volume_mm3(160), rel=1e-9)
    sphere = LobulatedShape(2.0, np.array([[0.0, 0.0, 1.0]]), np.array([0.0]), np.array([3.0]))
    assert sphere.volume_mm3() == pytest.approx(4 / 3 * np.pi * 8, rel=1e-12)


def test_noise_has_the_stated_size_and_no_bias(phantom):
    points = phantom.ct.grid.to_physical(np.stack(np.indices(phantom.ct.grid.shape), axis=-1))
    noise = phantom.ct.values - phantom.hu_at(points)
    assert noise.std() == pytest.approx(phantom.noise_hu, rel=0.03)
    assert abs(noise.mean()) < 0.3
    assert np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1] > 0.2


def test_tissues_have_their_attenuation(phantom):
    field, values = phantom.field, phantom.ct.values
    points = phantom.ct.grid.to_physical(np.stack(np.indices(phantom.ct.grid.shape), axis=-1))
    core, lesion, vessel = field.core_distance_mm(points), field.lesion_distance_mm(points), field.vessels.distance_mm(points)
    assert np.median(values[core < -2]) == pytest.approx(35, abs=15)
    assert np.median(values[(lesion > 3) & (vessel > 3)]) == pytest.approx(-850, abs=15)
    assert np.median(values[(vessel < -1.5) & (lesion > 3)]) == pytest.approx(40, abs=15)
    assert np.median(values[(core > 1.2) & (lesion < -1.0)]) == pytest.approx(-420, abs=60)


def test_signed_distance_has_the_exact_zero_set(phantom):
    rng = np.random.default_rng(2)
    points = np.asarray(phantom.centre_mm) + rng.uniform(-14, 14, (20_000, 3))
    np.testing.assert_array_equal(phantom.field.lesion_distance_mm(points) <= 0, phantom.inside(points))


def test_one_seed_gives_one_phantom(phantom):
    again, other = lesion_ct(seed=3), lesion_ct(seed=4)
    assert again.ct.values.tobytes() == phantom.ct.values.tobytes()
    assert other.ct.values.tobytes() != phantom.ct.values.tobytes()
    assert phantom.ct.grid.spacing_mm == pytest.approx((0.8, 0.8, 1.5))
    assert min(abs(c) for c in phantom.ct.grid.origin_mm) > 1


def test_what_cannot_be_is_refused():
    with pytest.raises(GeometryError, match="size_mm must hold the whole lesion"):
        lesion_ct(radius_mm=15.0, size_mm=30.0)
    with pytest.raises(GeometryError, match="core_fraction"):
        lesion_ct(core_fraction=1.2)
    with pytest.raises(UnitError, match="noise_hu"):
        lesion_ct(noise_hu=-1.0)
