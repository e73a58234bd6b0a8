"""Perturbed images against values written in closed form, the same scan sampled elsewhere, and counts."""

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import label

from idx import testing
from idx.errors import GeometryError, UnitError
from idx.geometry import Grid
from idx.radiomics.perturbation import DEFAULT_PERTURBATIONS, Perturbation, perturbation_grid
from idx.radiomics.perturbation_steps import noise_level, resized
from idx.radiomics.settings import RadiomicsSettings
from idx.volume import CTVolume, Mask, Volume

SPACING = (0.8, 1.1, 2.0)
TILTED = np.array([[0.0, -0.8, 0.6], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])


def rng():
    return np.random.default_rng(3)


def scan_of(function, *, shape=(26, 44, 60), direction=None, quantity="arbitrary"):
    """An image of a function of the point in mm, and a mask of an ellipsoid at its middle."""
    grid = Grid.from_spacing(shape, SPACING, (-30.0, 12.0, 55.0), direction=direction)
    points = grid.to_physical(np.moveaxis(np.indices(shape), 0, -1))
    offset = (points - grid.centre_mm) @ grid.direction
    inside = (offset**2 / np.array([9.0, 8.0, 11.0]) ** 2).sum(axis=-1) <= 1
    return Volume(function(points), grid, quantity), Mask(inside, grid, "GTV-1")


def slope(points):
    """Linear interpolation, turned or shifted, has no error on it."""
    return 3.0 * points[..., 0] - 2.0 * points[..., 1] + 5.0 * points[..., 2] + 40.0


def points_of(image):
    return image.grid.to_physical(np.moveaxis(np.indices(image.grid.shape), 0, -1))


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("spacing_mm", [None, 1.5, (1.0, 1.0, None)])
@pytest.mark.parametrize("direction", [None, TILTED])
@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_the_grid_moves_and_the_patient_stays(axis, direction, spacing_mm, interpolation):
    # A spline bends at the image's border; 24 voxels from there it reproduces a slope to rounding.
    image, lesion = scan_of(slope, shape=(60, 64, 70), direction=direction)
    settings = RadiomicsSettings(spacing_mm=spacing_mm, interpolation=interpolation, n_bins=8)
    moved, mask = Perturbation((0.3, -0.4, 0.2), 11.0, axis).apply(image, lesion, rng(), settings=settings)
    np.testing.assert_allclose(moved.values[mask.values], slope(points_of(moved))[mask.values], rtol=1e-9)
    assert mask.grid is moved.grid
    share = RegularGridInterpolator([np.arange(n) for n in lesion.values.shape], lesion.values.astype(float), bounds_error=False, fill_value=0.0)
    expected = share(lesion.grid.to_index(points_of(moved)))
    decided = np.abs(expected - 0.5) > 1e-9
    np.testing.assert_array_equal(mask.values[decided], expected[decided] > 0.5)
    assert mask.volume_mm3 == pytest.approx(lesion.volume_mm3, rel=0.05)
    wanted = [old if new is None else new for old, new in zip(SPACING, (spacing_mm,) * 3 if np.ndim(spacing_mm) == 0 else spacing_mm, strict=True)]
    np.testing.assert_allclose(moved.spacing_mm, wanted)


@pytest.mark.parametrize("direction", [None, TILTED])
@pytest.mark.parametrize(("axis", "column"), [("x", 0), ("y", 1), ("z", 2)])
def test_turn_and_shift_of_the_grid(axis, column, direction):
    image, lesion = scan_of(slope, direction=direction)
    turned, _ = Perturbation(rotation_deg=13.0, rotation_axis=axis).apply(image, lesion, rng())
    cosines = image.grid.direction.T @ turned.grid.direction
    assert cosines[column, column] == pytest.approx(1.0)
    assert np.trace(cosines) == pytest.approx(1 + 2 * np.cos(np.radians(13.0)))
    # Right-handed: the next axis turns towards the one after it.
    first, second = (column + 1) % 3, (column + 2) % 3
    assert cosines[second, first] == pytest.approx(np.sin(np.radians(13.0)) * np.sign(np.linalg.det(image.grid.direction)))
    moved = turned.grid.to_index(lesion.centroid_mm) - image.grid.to_index(lesion.centroid_mm)
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-9)
    both, _ = Perturbation((0.25, 0.5, -0.25), 13.0, axis).apply(image, lesion, rng())
    along_turned = turned.grid.to_index(lesion.centroid_mm) - both.grid.to_index(lesion.centroid_mm) - (-0.25, 0.5, 0.25)
    np.testing.assert_allclose(along_turned, np.round(along_turned), atol=1e-9)
    shifted, _ = Perturbation((0.25, 0.5, -0.25)).apply(image, lesion, rng())
    moved = image.grid.to_index(shifted.grid.origin_mm)
    np.testing.assert_allclose((moved - np.floor(moved))[::-1], (0.25, 0.5, 0.75), atol=1e-9)


def test_nothing_and_whole_voxels_are_a_crop():
    phantom = testing.lesion_ct(seed=2, radius_mm=8.0, size_mm=60.0)
    for perturbation in (Perturbation(), Perturbation((3.0, -2.0, 1.0))):
        ct, mask = perturbation.apply(phantom.ct, phantom.mask, rng())
        assert isinstance(ct, CTVolume)
        start = tuple(round(i) for i in phantom.ct.grid.to_index(ct.grid.origin_mm))
        box = tuple(slice(s, s + n) for s, n in zip(start, ct.grid.shape, strict=True))
        np.testing.assert_allclose(ct.grid.origin_mm, phantom.ct.grid.to_physical(start), atol=1e-9)
        np.testing.assert_array_equal(ct.values, phantom.ct.values[box])
        np.testing.assert_array_equal(mask.values, phantom.mask.values[box])
        assert mask.n_voxels == phantom.mask.n_voxels
        assert mask.label == phantom.mask.label
        assert ct.values.size < phantom.ct.values.size / 2
        # The local intensity peak looks 6.2 mm beyond the lesion.
        around = mask.bounding_box()
        for side, mm in zip(range(3), ct.spacing_mm[::-1], strict=True):
            assert around[side].start * mm >= 6.2
            assert (ct.grid.shape[side] - around[side].stop) * mm >= 6.2


def test_a_big_scan_costs_a_crop():
    grid = Grid.from_spacing((40, 512, 512), (0.7, 0.7, 2.5))
    inside = np.zeros(grid.shape, dtype=bool)
    inside[18:22, 250:260, 300:312] = True
    ct, _ = Perturbation((0.25, 0.25, 0.25), 13.0).apply(CTVolume(np.zeros(grid.shape, dtype=np.int16), grid), Mask(inside, grid), rng())
    assert ct.values.size < 30_000


def test_a_filter_sees_as_much_as_it_looks_at():
    class Filter:
        name = definition = "wide"

        def margin_voxels(self, spacing_mm):
            return 20, 15, 4

        def apply(self, values, spacing_mm, *, device=None):
            return values

    image, lesion = scan_of(slope)
    small, mask = Perturbation().apply(image, lesion, rng())
    wide, wide_mask = Perturbation().apply(image, lesion, rng(), settings=RadiomicsSettings(filters=(None, Filter())))
    before = [s.start for s in wide_mask.bounding_box()]
    # The image ends 19 voxels beside the lesion.
    own = [s.start for s in lesion.bounding_box()]
    assert own[2] == 19
    assert (np.array(before) >= np.minimum(own, (4, 15, 20))).all()
    assert wide.grid.shape[2] > small.grid.shape[2]
    assert mask.n_voxels == wide_mask.n_voxels


@pytest.mark.parametrize("turn", [4.0, 13.0, 45.0, 90.0])
@pytest.mark.parametrize("spacing_mm", [1.0, (0.7, 0.7, 1.0)])
def test_a_turned_ball_keeps_its_volume(turn, spacing_mm):
    ball = testing.ball(radius_mm=9.0, spacing_mm=spacing_mm)
    for axis in "xyz":
        _, mask = Perturbation(rotation_deg=turn, rotation_axis=axis).apply(ball.ct, ball.mask, rng())
        assert mask.volume_mm3 == pytest.approx(ball.volume_mm3, rel=0.01)
        np.testing.assert_allclose(mask.centroid_mm, ball.centre_mm, atol=0.5 * max(ball.ct.spacing_mm))


def test_a_quarter_turn_about_the_centroid_of_cubes_is_exact():
    grid = Grid.from_spacing((9, 21, 21), (1.0, 1.0, 1.0))
    values = np.random.default_rng(1).integers(-500, 300, grid.shape).astype(np.int16)
    inside = np.zeros(grid.shape, dtype=bool)
    inside[3:6, 9:12, 6:15] = True
    # The new x axis is the old y axis, the new y axis the old x axis backwards.
    ct, mask = Perturbation(rotation_deg=90.0).apply(CTVolume(values, grid), Mask(inside, grid), rng())
    box = mask.bounding_box()
    assert [s.stop - s.start for s in box] == [3, 9, 3]
    np.testing.assert_array_equal(ct.values[box], np.rot90(values[3:6, 9:12, 6:15], 1, axes=(1, 2)))


@pytest.mark.parametrize("quantity", ["hu", "suv"])
def test_noise_is_what_was_asked_for(quantity):
    shape, sd = (40, 60, 60), 25.0
    grid = Grid.from_spacing(shape, (1.0, 1.0, 1.0))
    inside = np.zeros(shape, dtype=bool)
    inside[8:32, 8:52, 8:52] = True
    image = CTVolume(np.full(shape, 40, dtype=np.int16), grid) if quantity == "hu" else Volume(np.full(shape, 40.0), grid, quantity)
    noisy, mask = Perturbation(noise_sd=sd).apply(image, Mask(inside, grid), rng())
    values = noisy.values[mask.values].astype(float)
    assert values.mean() == pytest.approx(40.0, abs=4 * sd / np.sqrt(values.size))
    # Rounding to whole HU adds a variance of 1/12, too little to see.
    assert values.std() == pytest.approx(sd, rel=4 / np.sqrt(2 * values.size))
    assert np.corrcoef(values[1:], values[:-1])[0, 1] == pytest.approx(0.0, abs=0.02)
    assert noisy.values.dtype == (np.int16 if quantity == "hu" else np.float64)


@pytest.mark.parametrize("sd", [3.0, 40.0])
def test_noise_level_of_white_noise_on_a_slope(sd):
    image, lesion = scan_of(lambda points: slope(points) + np.random.default_rng(8).normal(0.0, sd, points.shape[:-1]))
    # The median of n coefficients has a standard error of 1.17 sd / sqrt(n): 1 % here.
    assert noise_level(image, lesion) == pytest.approx(sd, rel=0.04)


def test_own_noise_is_added_once_more():
    image, lesion = scan_of(lambda points: np.random.default_rng(8).normal(0.0, 10.0, points.shape[:-1]))
    noisy, mask = Perturbation(noise_sd=None).apply(image, lesion, rng())
    assert noisy.values[mask.values].std() == pytest.approx(10.0 * np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("growth", [-0.5, -0.2, -0.03, 0.0, 0.03, 0.2, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_growth_hits_the_volume(growth, seed):
    phantom = testing.lesion_ct(seed=seed, radius_mm=8.0, size_mm=60.0)
    ct, mask = Perturbation(growth_fraction=growth).apply(phantom.ct, phantom.mask, rng())
    _, same = Perturbation().apply(phantom.ct, phantom.mask, rng())
    assert mask.n_voxels == round((1 + growth) * phantom.mask.n_voxels)
    box = tuple(slice(round(s), round(s) + n) for s, n in zip(phantom.ct.grid.to_index(mask.grid.origin_mm), mask.grid.shape, strict=True))
    before = phantom.mask.values[box]
    np.testing.assert_array_equal(ct.values, phantom.ct.values[box])
    assert (mask.values >= before if growth > 0 else mask.values <= before).all()
    assert label(mask.values)[1] == label(same.values)[1] or growth < 0


@pytest.mark.parametrize("n_voxels", [1, 40, 100, 119, 121, 150, 600])
def test_resized_takes_and_adds_by_distance_in_mm(n_voxels):
    shape, mm = (9, 12, 14), (0.5, 1.0, 1.7)
    inside = np.zeros(shape, dtype=bool)
    inside[2:7, 4:8, 3:9] = True
    within = np.ones(shape, dtype=bool)
    within[:, :2] = False
    result = resized(inside, mm, n_voxels, within=within)
    assert np.count_nonzero(result) == n_voxels
    index = np.argwhere(np.ones(shape, dtype=bool)) * mm[::-1]
    # A ring of background stands around the array.
    outside = np.argwhere(~np.pad(inside, 1)) - 1

    def nearest(others):
        return np.sqrt(((index[:, None] - others * mm[::-1]) ** 2).sum(axis=-1)).min(axis=1).reshape(shape)

    if n_voxels > 120:
        distance, changed, stayed = nearest(np.argwhere(inside)), result & ~inside, within & ~result
        assert not (result & ~within & ~inside).any()
        assert label(result)[1] == 1
    else:
        distance, changed, stayed = nearest(outside), inside & ~result, result
    assert distance[changed].max(initial=0.0) <= distance[stayed].min(initial=np.inf) + 1e-9


def test_ties_keep_the_lesion_round():
    inside = np.zeros((7, 7, 7), dtype=bool)
    inside[2:5, 2:5, 2:5] = True
    faces, corners = resized(inside, (1.0, 1.0, 1.0), 33) & ~inside, inside & ~resized(inside, (1.0, 1.0, 1.0), 19)
    assert sorted(map(tuple, np.abs(np.argwhere(faces) - 3))) == sorted([(0, 0, 2), (0, 2, 0), (2, 0, 0)] * 2)
    assert (np.abs(np.argwhere(corners) - 3) == 1).all()


def test_growth_stays_in_the_image():
    grid = Grid.from_spacing((6, 7, 8), (1.0, 1.0, 1.0))
    inside = np.zeros(grid.shape, dtype=bool)
    inside[:3, :3, :3] = True
    image, lesion = Volume(np.ones(grid.shape), grid), Mask(inside, grid)
    _, grown = Perturbation(growth_fraction=2.0).apply(image, lesion, rng())
    assert grown.n_voxels == 81
    assert grown.grid.shape == grid.shape
    with pytest.raises(GeometryError, match=r"1 to 336 voxels.*got 351 for a lesion of 27"):
        Perturbation(growth_fraction=12.0).apply(image, lesion, rng())


def test_a_lesion_at_the_border_is_not_seen_beyond_it():
    image, lesion = scan_of(slope, shape=(9, 44, 60))
    assert lesion.values[0].any()
    assert lesion.values[-1].any()
    whole, mask = Perturbation(rotation_deg=20.0, rotation_axis="x").apply(image, lesion, rng())
    index = image.grid.to_index(points_of(whole))[mask.values]
    assert (index > -0.51).all()
    assert (index < np.array(image.grid.shape) - 0.49).all()
    assert mask.volume_mm3 == pytest.approx(lesion.volume_mm3, rel=0.05)


def test_rounding_and_kind_of_image():
    image, lesion = scan_of(lambda points: np.round(slope(points)).astype(np.int16))
    ct = CTVolume(image.values, image.grid)
    shift = Perturbation((0.25, 0.25, 0.25))
    rounded, _ = shift.apply(ct, lesion, rng())
    exact, _ = shift.apply(ct, lesion, rng(), settings=RadiomicsSettings(round_intensities=False))
    other, _ = shift.apply(image, lesion, rng())
    assert (rounded.values.dtype, exact.values.dtype, other.values.dtype) == (np.int16, np.float64, np.float64)
    assert (rounded.quantity, exact.quantity, other.quantity) == ("hu", "hu", "arbitrary")
    np.testing.assert_array_equal(rounded.values, np.rint(exact.values))
    np.testing.assert_array_equal(exact.values, other.values)


def test_the_same_seed_gives_the_same_and_arguments_stay():
    phantom = testing.lesion_ct(seed=4, radius_mm=6.0, size_mm=45.0)
    before = phantom.ct.values.copy(), phantom.mask.values.copy()
    perturbation = Perturbation((0.25, 0.5, 0.75), 7.0, noise_sd=None, growth_fraction=0.1)
    one, other = (perturbation.apply(phantom.ct, phantom.mask, np.random.default_rng(9)) for _ in range(2))
    another = perturbation.apply(phantom.ct, phantom.mask, np.random.default_rng(10))
    np.testing.assert_array_equal(one[0].values, other[0].values)
    np.testing.assert_array_equal(one[1].values, another[1].values)
    assert not np.array_equal(one[0].values, another[0].values)
    np.testing.assert_array_equal(phantom.ct.values, before[0])
    np.testing.assert_array_equal(phantom.mask.values, before[1])


def test_names_tell_perturbations_apart():
    combined = perturbation_grid(rotation_deg=(-13.0, 0.0), translation_voxels=(0.0, 0.5), growth_fraction=(-0.2, 0.0), noise_sd=None, n_repeats=2)
    for several in (DEFAULT_PERTURBATIONS, combined):
        assert len({p.name for p in several}) == len(several)
    assert len(combined) == 2 * 8 * 2 * 2
    assert len(DEFAULT_PERTURBATIONS) == 18
    assert DEFAULT_PERTURBATIONS[0].name == "unperturbed"


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"translation_voxels": (1.0, 2.0)}, GeometryError, "three finite voxels"),
        ({"rotation_deg": np.nan}, GeometryError, "rotation_deg finite; got .*nan"),
        ({"rotation_axis": "a"}, GeometryError, "one of x, y, z; got 'a'"),
        ({"noise_sd": -1.0}, UnitError, "at least 0 .*got -1.0"),
        ({"growth_fraction": -1.0}, GeometryError, "above -1; got -1.0"),
    ],
)
def test_refuses(fields, error, words):
    with pytest.raises(error, match=words):
        Perturbation(**fields)


def test_refuses_what_cannot_be_perturbed():
    image, lesion = scan_of(slope)
    with pytest.raises(GeometryError, match="at least one voxel"):
        Perturbation().apply(image, Mask(np.zeros(lesion.values.shape, dtype=bool), lesion.grid), rng())
    with pytest.raises(GeometryError, match="image's grid"):
        Perturbation().apply(image, Mask(lesion.values, Grid.from_spacing(lesion.grid.shape, SPACING)), rng())
    speck = np.zeros(lesion.values.shape, dtype=bool)
    speck[13, 20, 30] = True
    with pytest.raises(GeometryError, match=r"keep at least one voxel; got none \(label 'speck', translation 0.5 0.5 0.5\)"):
        Perturbation((0.5, 0.5, 0.5)).apply(image, Mask(speck, lesion.grid, "speck"), rng())
    with pytest.raises(GeometryError, match=r"1 to .* voxels"):
        Perturbation(growth_fraction=-0.9).apply(image, Mask(speck, lesion.grid), rng())
    with pytest.raises(UnitError, match="Pass noise_sd"):
        Perturbation(noise_sd=None).apply(Volume(np.full(lesion.values.shape, np.nan), lesion.grid), lesion, rng())


def test_half_a_voxel_counts_as_inside():
    grid = Grid.from_spacing((5, 9, 12), (1.0, 1.0, 1.0))
    inside = np.zeros(grid.shape, dtype=bool)
    inside[1:4, 3:6, 3:7] = True
    _, mask = Perturbation((0.5, 0.0, 0.0)).apply(Volume(np.zeros(grid.shape), grid), Mask(inside, grid), rng())
    assert [s.stop - s.start for s in mask.bounding_box()] == [3, 3, 5]
