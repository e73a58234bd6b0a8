"""A lesion's features do not depend on where it lies or which way the scan was turned; balls have closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idx.geometry import Grid
from idx.radiomics import extract
from idx.volume import CTVolume, Mask

SPACING = (0.7, 0.9, 1.6)


def table_of(values, mask, spacing_mm):
    grid = Grid.from_spacing(mask.shape, spacing_mm, (5.0, -7.0, 11.0))
    return extract(CTVolume(values, grid), Mask(mask, grid))


@st.composite
def lesions(draw):
    """Intensities and a mask of random voxels, in a small box."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.integers(2, 6)) for _ in range(3))
    mask = rng.random(shape) < draw(st.floats(0.2, 1.0))
    mask[0, 0, 0] = mask[-1, -1, -1] = True
    values = rng.integers(-900, 300, shape).astype(np.int16)
    return values, mask


def assert_same(one, other, *, rtol=1e-9):
    assert list(one.status["feature"]) == list(other.status["feature"])
    np.testing.assert_allclose(other.values.to_numpy(), one.values.to_numpy(), rtol=rtol, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(lesions(), st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 3))
def test_translation(lesion, margin):
    # Local intensities look 6.2 mm beyond the lesion: air all around it in both places.
    values, mask = (np.pad(part, ((4, 4), (7, 7), (9, 9)), constant_values=air) for part, air in zip(lesion, (-1000, False), strict=True))
    assert_same(table_of(values, mask, SPACING), table_of(np.pad(values, margin, constant_values=-1000), np.pad(mask, margin), SPACING))


@settings(max_examples=25, deadline=None)
@given(lesions(), st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_quarter_turns_and_mirrors(lesion, order, flipped):
    values, mask = lesion
    axes = [axis for axis in range(3) if flipped[axis]]
    turned = [np.flip(part.transpose(order), axes) for part in lesion]
    spacing_zyx = [SPACING[::-1][axis] for axis in order]
    assert_same(table_of(values, mask, SPACING), table_of(turned[0], turned[1], tuple(spacing_zyx[::-1])))


def ball(radius_mm, spacing_mm, centre=(0.0, 0.0, 0.0)):
    n = [int(radius_mm / mm) + 2 for mm in spacing_mm[::-1]]
    z, y, x = np.ogrid[tuple(slice(-k, k + 1) for k in n)]
    sx, sy, sz = spacing_mm
    return (z * sz - centre[2]) ** 2 + (y * sy - centre[1]) ** 2 + (x * sx - centre[0]) ** 2 <= radius_mm**2


@pytest.mark.parametrize(("spacing_mm", "error"), [(2.0, 0.04), (1.0, 0.012), (0.5, 0.005)])
def test_ball_volume_error_shrinks_with_the_voxels(spacing_mm, error):
    mask = ball(10.0, (spacing_mm,) * 3)
    table = table_of(np.zeros(mask.shape, dtype=np.int16), mask, (spacing_mm,) * 3)
    volume = 4 / 3 * np.pi * 10.0**3
    assert table["mesh_volume_mm3"].item() == pytest.approx(volume, rel=error)
    assert table["voxel_volume_mm3"].item() == pytest.approx(volume, rel=error)
    # The mesh passes half-way between voxel centres: the poles of a centred ball lie half a voxel out, on each side.
    assert table["maximum_3d_diameter_mm"].item() == pytest.approx(20.0 + spacing_mm)
    # Marching cubes on a binary mask is faceted: its area exceeds the smooth one by 8 to 10 percent at any voxel size.
    assert 1.08 < table["mesh_surface_area_mm2"].item() / (4 * np.pi * 10.0**2) < 1.10
    assert table["elongation"].item() == pytest.approx(1.0, abs=1e-9)
    # A solid ball has a variance of r^2/5 along each axis.
    assert table["major_axis_length_mm"].item() == pytest.approx(4 * np.sqrt(10.0**2 / 5), rel=error)
    assert table["area_density_aee"].item() * 4 * np.pi * (2 * np.sqrt(20.0)) ** 2 == pytest.approx(table["mesh_surface_area_mm2"].item(), rel=2 * error)


def test_anisotropic_voxels_measure_the_same_ball():
    spacing_mm = (0.5, 0.5, 1.25)
    mask = ball(10.0, spacing_mm)
    table = table_of(np.zeros(mask.shape, dtype=np.int16), mask, spacing_mm)
    assert table["mesh_volume_mm3"].item() == pytest.approx(4 / 3 * np.pi * 1000, rel=0.01)
    assert table["flatness"].item() == pytest.approx(1.0, abs=0.01)
