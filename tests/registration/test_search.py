"""The parts of the search, each against what it should be by geometry."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from idx.errors import GeometryError
from idx.geometry import PATIENT, SLIDE, Grid
from idx.registration import PosePrior
from idx.registration.maps import section_points
from idx.registration.pose import PoseBounds, Poses, distances_mm
from idx.registration.scoring import Scorer
from idx.registration.search import LesionSections, cone_normals, frames
from idx.settings import resolve_device
from idx.volume import Mask


def bounds_of(prior, *, mirrored=None, shrinkage=(0.0, 0.25)):
    return PoseBounds.from_prior(prior, lesion_centre_mm=(1.0, 2.0, 3.0), lesion_radius_mm=9.0, shrinkage=shrinkage, mirrored=mirrored)


def random_poses(n, seed=0):
    rng = np.random.default_rng(seed)
    return Poses(Rotation.random(n, random_state=seed).as_matrix(), rng.uniform(-30, 30, (n, 3)), rng.uniform(0.5, 2.0, n))


@pytest.mark.parametrize("mirrored", [None, False, True])
def test_clamped_poses_keep_the_prior_and_poses_within_it_stay(mirrored):
    bounds = bounds_of(PosePrior((1, -2, 0.5), 12.0, (4.0, 5.0, 6.0), 2.0), mirrored=mirrored)
    kept = bounds.clamp(random_poses(500))
    assert bounds.angle_deg(kept).max() <= 12.0 + 1e-6
    assert np.abs(bounds.depth_mm(kept)).max() <= 2.0 + 1e-9
    assert kept.scale.min() >= 1.0
    assert kept.scale.max() <= 1 / 0.75 + 1e-12
    np.testing.assert_allclose(np.linalg.det(kept.rotation), 1.0, atol=1e-9)
    if mirrored is not None:
        assert (bounds.is_mirrored(kept) == mirrored).all()
    again = bounds.clamp(kept)
    np.testing.assert_allclose(again.centre_mm, kept.centre_mm, atol=1e-6)
    np.testing.assert_allclose(again.rotation, kept.rotation, atol=1e-6)


def test_cone_covers_its_cap():
    normal = np.array([2.0, -1.0, 2.0]) / 3
    cone = cone_normals(normal, np.radians(20), np.radians(5))
    assert np.degrees(np.arccos(np.clip(cone @ normal, -1, 1))).max() <= 20 + 1e-6
    rng = np.random.default_rng(0)
    wanted = np.array([v / np.linalg.norm(v) for v in rng.standard_normal((20_000, 3))])
    wanted = wanted[wanted @ normal > np.cos(np.radians(20))]
    nearest = np.degrees(np.arccos(np.clip((wanted @ cone.T).max(axis=1), -1, 1)))
    assert nearest.max() < 5.0


def test_frames_are_rotations_with_the_wanted_normal_and_turn():
    normals = Rotation.random(20, random_state=1).as_matrix()[:, :, 2]
    rotation = frames(normals, np.full(20, 0.3))
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-12)
    np.testing.assert_allclose(rotation[:, :, 2], normals, atol=1e-12)
    np.testing.assert_allclose((rotation[:, :, 0] * frames(normals, np.zeros(20))[:, :, 0]).sum(1), np.cos(0.3), atol=1e-12)


def test_sections_of_a_ball_have_its_area_and_centre():
    grid = Grid.from_spacing((41, 41, 41), (0.5, 0.5, 0.5))
    centre = np.asarray(grid.centre_mm)
    points = grid.to_physical(np.stack(np.meshgrid(*[np.arange(41)] * 3, indexing="ij"), axis=-1))
    ball = Mask(np.linalg.norm(points - centre, axis=-1) <= 8.0, grid)
    normals = Rotation.random(6, random_state=3).as_matrix()[:, :, 2]
    depths = np.array([-6.0, -3.0, 0.0, 2.0, 5.0, 20.0])
    centres, areas = LesionSections.of(ball, np.random.default_rng(0)).cut(normals, centre, depths)
    np.testing.assert_allclose(areas[:5], np.pi * (64 - depths[:5] ** 2), rtol=0.08)
    np.testing.assert_allclose(centres[:5], centre + depths[:5, None] * normals[:5], atol=0.3)
    assert areas[5] == 0


def test_pose_distance_is_the_mean_over_the_points():
    poses, points = random_poses(4), np.random.default_rng(1).uniform(-10, 10, (30, 2))
    ours = distances_mm(poses.take(slice(0, 3)), poses.take(slice(3, 4)), points)[:, 0]
    sections = [poses.section(i, np.array([7e3, 9e3]), source=SLIDE, target=PATIENT) for i in range(4)]
    moved = [s.apply(points * 1e3 + [7e3, 9e3]) for s in sections]
    expected = [np.sqrt(((m - moved[3]) ** 2).sum(-1).mean()) for m in moved[:3]]
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.fixture(scope="module")
def cut(make_cut):
    return make_cut(3)


@pytest.fixture(scope="module")
def scorer(cut):
    return Scorer.build(cut.ct, cut.lesion, section_points(cut.maps, n_points=500), reach_mm=40.0, device=resolve_device("cpu"))


def true_pose(cut, scorer):
    axes = cut.truth.axes
    scale = np.linalg.norm(axes[:, 0])
    rotation = np.column_stack([axes / scale, cut.truth.normal])
    return Poses(rotation[None], cut.truth.apply(scorer.section.reference_um)[None], np.array([scale * 1e3]))


def test_the_true_pose_scores_near_one_and_falls_with_every_kind_of_step(cut, scorer):
    truth = true_pose(cut, scorer)
    best = scorer.score(truth).at(0)
    # Not 1: the mask is smoothed before it is cut, and the outline is not.
    assert best["dice"] > 0.9
    assert min(best["ncc_tissue"], best["ncc_lesion"], best["ncc_outside"]) > 0.8
    steps = np.vstack([np.eye(7) * 4.0, -np.eye(7) * 4.0])
    moved = scorer.score(truth.take(np.zeros(14, dtype=int)).moved(steps, scorer.section.radius_mm))
    assert (moved.total < best["total"] - 0.02).all()


def test_batched_equals_one_by_one_and_groups_use_their_own_weights(cut, scorer):
    rng = np.random.default_rng(5)
    poses = true_pose(cut, scorer).take(np.zeros(6, dtype=int)).moved(rng.normal(0, 2, (6, 7)), scorer.section.radius_mm)
    together = scorer.score(poses).total
    np.testing.assert_allclose(together, [scorer.score(poses.take(slice(i, i + 1))).total[0] for i in range(6)], atol=1e-5)
    weights = rng.exponential(size=(2, len(scorer.section.points_mm)))
    grouped = scorer.score(poses, weights).total
    for group in range(2):
        alone = scorer.score(poses.take(slice(3 * group, 3 * group + 3)), weights[group : group + 1]).total[0]
        np.testing.assert_allclose(grouped[group], alone, atol=1e-5)


def test_an_outline_is_derived_from_dense_tissue(cut):
    given, derived = (
        section_points(cut.maps),
        section_points(type(cut.maps)(cut.maps.tissue, None, cut.maps.expected_hu, cut.maps.origin_um, cut.maps.pixel_um)),
    )
    reference = section_points(cut.maps, reference_um=derived.reference_um)
    overlap = 2 * (reference.lesion * derived.lesion).sum() / (reference.lesion.sum() + derived.lesion.sum())
    assert overlap > 0.9
    assert "derived" in derived.lesion_source
    assert given.lesion_source == "outline given"


@pytest.mark.parametrize(
    "arguments",
    [
        {"normal": (0, 0, 0)},
        {"normal": (0, 0, 1), "tolerance_deg": 91},
        {"normal": (0, 0, 1), "tolerance_mm": -1.0},
        {"normal": (0, 0, 1), "centre_mm": (0, 0, np.nan)},
    ],
)
def test_impossible_priors_are_refused(arguments):
    with pytest.raises(GeometryError, match="PosePrior"):
        PosePrior(**arguments)


def test_grossing_notes_name_lps_axes():
    assert [PosePrior.from_grossing_note(p).normal for p in ("axial", "coronal", "sagittal")] == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
    with pytest.raises(GeometryError, match="oblique"):
        PosePrior.from_grossing_note("diagonal")
