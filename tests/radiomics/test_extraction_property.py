"""A lesion's features do not depend on where it lies or which way the scan was turned; balls have closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idx.geometry import Grid
from idx.radiomics import FAMILIES, RadiomicsSettings, extract
from idx.radiomics.catalog import LEVEL_FAMILIES
from idx.volume import CTVolume, Mask

SPACING = (0.7, 0.9, 1.6)


def table_of(values, mask, spacing_mm, chosen=None, *, families=None):
    grid = Grid.from_spacing(mask.shape, spacing_mm, (5.0, -7.0, 11.0))
    return extract(CTVolume(values, grid), Mask(mask, grid), chosen, families=families)


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


UNIT_POWER = {"mm": 1, "mm2": 2, "mm3": 3, "1/mm": -1, "hu mm3": 3}


@settings(max_examples=15, deadline=None)
@given(lesions(), st.sampled_from([0.5, 2.0, 3.0]))
def test_sizes_follow_the_spacing(lesion, factor):
    values, mask = lesion
    # Local intensities look a fixed 6.2 mm around, so that they alone do not scale.
    families = [family for family in FAMILIES if family != "local_intensity"]
    small = table_of(values, mask, SPACING, families=families)
    large = table_of(values, mask, tuple(factor * mm for mm in SPACING), families=families)
    for spec in small.specs:
        expected = small[spec.name] * factor ** UNIT_POWER.get(spec.unit, 0)
        np.testing.assert_allclose(large[spec.name], expected, rtol=1e-9, atol=1e-9, err_msg=spec.name)


@settings(max_examples=15, deadline=None)
@given(lesions(), st.integers(-100, 100), st.sampled_from([1, 2, 3]))
def test_a_fixed_number_of_bins_does_not_see_shift_and_scale(lesion, shift, scale):
    values, mask = lesion
    bins = RadiomicsSettings(n_bins=8)
    one = table_of(values, mask, SPACING, bins)
    other = table_of(scale * values + np.int16(shift), mask, SPACING, bins)
    for spec in one.specs:
        family = spec.params["family"]
        if family in LEVEL_FAMILIES or spec.name in ("moran_i", "geary_c", "intensity_skewness", "intensity_kurtosis"):
            np.testing.assert_allclose(other[spec.name], one[spec.name], rtol=1e-7, atol=1e-7, err_msg=spec.name)
        elif spec.name in ("mean_intensity_hu", "intensity_p90_hu", "local_intensity_peak_hu", "global_intensity_peak_hu"):
            np.testing.assert_allclose(other[spec.name], scale * one[spec.name] + shift, rtol=1e-9, atol=1e-9, err_msg=spec.name)
        elif spec.name == "intensity_variance_hu2":
            np.testing.assert_allclose(other[spec.name], scale**2 * one[spec.name], rtol=1e-9, err_msg=spec.name)


@settings(max_examples=15, deadline=None)
@given(lesions())
def test_a_lesion_at_the_border_of_the_image_is_like_any_other(lesion):
    values, mask = lesion
    families = [family for family in FAMILIES if family != "local_intensity"]
    margin = ((3, 2), (1, 4), (2, 2))
    inside = table_of(np.pad(values, margin, mode="edge"), np.pad(mask, margin), SPACING, families=families)
    assert_same(inside, table_of(values, mask, SPACING, families=families))


@settings(max_examples=15, deadline=None)
@given(lesions(), st.integers(2, 5))
def test_disconnected_parts_add_up(lesion, gap):
    """Two copies of a lesion apart: sums double, shares stay."""
    values, mask = lesion
    apart = np.zeros((mask.shape[0], mask.shape[1], gap))
    pair = table_of(np.concatenate([values, apart.astype(np.int16), values], axis=2), np.concatenate([mask, apart > 0, mask], axis=2), SPACING)
    one = table_of(values, mask, SPACING)
    for name in ("mesh_volume_mm3", "voxel_volume_mm3", "mesh_surface_area_mm2", "intensity_energy_hu2"):
        assert pair[name].item() == pytest.approx(2 * one[name].item(), rel=1e-9), name
    shares = ("percentage", "normalised", "variance", "entropy", "emphasis")
    same = [s.name for s in one.specs if s.params["family"] == "glcm" or (s.params["family"] in LEVEL_FAMILIES and s.params["key"].endswith(shares))]
    np.testing.assert_allclose(pair.values[same], one.values[same], rtol=1e-9, atol=1e-9)
    assert pair["maximum_3d_diameter_mm"].item() >= (mask.shape[2] + gap) * SPACING[0]


def test_two_grey_levels_have_closed_forms():
    """A chessboard of two levels: along the axes every pair differs, along the diagonals of a face none does."""
    z, y, x = np.indices((4, 4, 4))
    values = np.where((z + y + x) % 2, 0, 25).astype(np.int16)
    table = table_of(values, np.ones(values.shape, dtype=bool), (1.0, 1.0, 1.0), RadiomicsSettings(aggregations=("3d_averaged", "3d_merged")))
    # 3 of 13 directions are edges and 4 are corners (odd steps: all pairs differ by one level), 6 are faces (no pair differs).
    assert table["glcm_contrast_3d_averaged"].item() == pytest.approx(7 / 13)
    edges, corners, faces = 3 * 4 * 4 * 3, 4 * 3**3, 6 * 4 * 3 * 3
    assert table["glcm_contrast_3d_merged"].item() == pytest.approx((edges + corners) / (edges + corners + faces))
    assert table["glcm_correlation_3d_averaged"].item() == pytest.approx((6 - 7) / 13)
    # Every level is one zone, since its voxels meet across the faces' diagonals.
    assert table["glszm_zone_percentage_3d"].item() == pytest.approx(2 / 64)
    assert table["histogram_entropy"].item() == pytest.approx(1.0)


def test_runs_of_a_striped_lesion_have_closed_forms():
    """Stripes along x: runs of length 4 along x, of length 1 in every direction that leaves the stripe."""
    values = np.broadcast_to(np.where(np.arange(4) % 2, 25, 0)[None, :, None], (1, 4, 4)).astype(np.int16)
    table = table_of(values, np.ones(values.shape, dtype=bool), (1.0, 1.0, 1.0), RadiomicsSettings(aggregations=("2d_averaged",)))
    # Four directions in the slice: 4 runs of 4, and three times 16 runs of 1.
    assert table["glrlm_long_runs_emphasis_2d_averaged"].item() == pytest.approx((16 + 3 * 1) / 4)
    assert table["glrlm_run_percentage_2d_averaged"].item() == pytest.approx((4 / 16 + 3) / 4)
    assert table["glszm_large_zone_emphasis_2d"].item() == pytest.approx(16.0)
