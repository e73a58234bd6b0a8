"""Placing a slide: recovered poses, honest refusals."""

import numpy as np
import pytest

from idx.case import Case
from idx.errors import GeometryError
from idx.geometry import PATIENT, SLIDE, TransformGraph
from idx.registration import Landmarks, PosePrior, SectionMaps, register_section


def place(cut, **changes):
    arguments = {"lesion": cut.lesion, "prior": cut.prior, "maps": cut.maps, "device": "cpu", "rng": np.random.default_rng(0)} | changes
    return register_section(cut.ct, cut.slide, **arguments)


@pytest.fixture(scope="module")
def mirrored_cut(make_cut):
    return make_cut(3, mirrored=True)


@pytest.fixture(scope="module")
def placed(mirrored_cut):
    return place(mirrored_cut)


@pytest.fixture(scope="module")
def ball_cut(make_cut):
    return make_cut(1, sphere=True, texture_hu=0.0, slide_noise_hu=10.0)


def test_pose_and_mirror_are_recovered(mirrored_cut, placed):
    assert placed.verdict == "placed"
    assert placed.method == "mask_search"
    assert placed.evidence["mirrored"] is True
    assert mirrored_cut.error_mm(placed.transform) < 0.8
    assert placed.transform.normal @ mirrored_cut.truth.normal > np.cos(np.radians(4))
    assert abs(placed.scores["shrinkage"] - 0.15) < 0.03


def test_claimed_error_is_of_the_size_of_the_true_error(mirrored_cut, placed):
    true = mirrored_cut.error_mm(placed.transform)
    assert true / 2.5 < placed.error_mm < 2.5 * true + 0.3


def test_scores_are_reported_beside_chance_and_hypotheses_are_distinct(placed):
    assert placed.scores["total"] == pytest.approx(
        placed.scores["dice"] + 0.5 * (placed.scores["ncc_tissue"] + placed.scores["ncc_lesion"] + placed.scores["ncc_outside"]), abs=1e-6
    )
    assert placed.scores["chance_mean"] < placed.scores["chance_q99"] < placed.scores["total"]
    totals = [h.scores["total"] for h in placed.hypotheses]
    assert totals == sorted(totals, reverse=True)
    assert placed.hypotheses[0].distance_mm == 0
    assert min((h.distance_mm for h in placed.hypotheses[1:]), default=9.0) > 1.0


def test_all_hypotheses_keep_the_prior(mirrored_cut, placed):
    prior = mirrored_cut.prior
    for hypothesis in placed.hypotheses:
        normal = hypothesis.transform.normal
        assert np.degrees(np.arccos(abs(normal @ prior.normal))) <= prior.tolerance_deg + 1e-4
        middle = hypothesis.transform.apply(np.zeros(2))
        assert abs((middle - prior.centre_mm) @ normal) <= prior.tolerance_mm + 1e-6


def test_a_placement_becomes_an_edge_with_error_and_evidence(placed):
    graph = placed.add_to(TransformGraph())
    assert graph.error_mm(SLIDE, PATIENT) == placed.error_mm
    assert graph.edges[0].evidence["method"] == "mask_search"
    case = placed.add_to(Case("P001"))
    np.testing.assert_allclose(case.between(SLIDE, PATIENT).apply([1e3, 2e3]), placed.transform.apply([1e3, 2e3]))
    html = placed._repr_html_()
    assert "placed" in html
    assert "chance_q99" in html


@pytest.mark.slow
def test_same_generator_gives_the_same_pose(mirrored_cut, placed):
    again = place(mirrored_cut)
    np.testing.assert_array_equal(again.transform.axes, placed.transform.axes)
    np.testing.assert_array_equal(again.transform.origin_mm, placed.transform.origin_mm)
    assert again.error_mm == placed.error_mm


def test_featureless_ball_is_refused_as_ambiguous(ball_cut):
    refused = place(ball_cut)
    assert refused.verdict == "refused"
    assert refused.transform is None
    assert refused.error_mm is None
    assert any("ambiguous" in reason for reason in refused.reasons)
    with pytest.raises(GeometryError, match="ambiguous"):
        refused.add_to(TransformGraph())


def test_landmarks_place_even_the_ball(ball_cut):
    slide_um = np.array([[12e3, 10e3], [26e3, 11e3], [19e3, 24e3], [14e3, 20e3], [25e3, 21e3]])
    rng = np.random.default_rng(7)
    landmarks = Landmarks(slide_um, ball_cut.truth.apply(slide_um) + rng.normal(0, 0.4, (5, 3)))
    placed = register_section(ball_cut.ct, ball_cut.slide, landmarks=landmarks)
    assert placed.method == "landmarks"
    assert ball_cut.error_mm(placed.transform) < placed.error_mm < 3.0


@pytest.mark.parametrize(("given", "remedy"), [((), "landmarks="), (("lesion",), "prior=PosePrior")])
def test_missing_knowledge_is_refused_with_the_remedy(ball_cut, given, remedy):
    refused = register_section(ball_cut.ct, ball_cut.slide, **{name: getattr(ball_cut, name) for name in given})
    assert refused.verdict == "refused"
    assert remedy in refused.reasons[0]


def test_prior_that_misses_the_lesion_is_refused(ball_cut):
    away = PosePrior((0, 0, 1), 5.0, tuple(np.add(ball_cut.lesion.centroid_mm, (0, 0, 40.0))), 2.0)
    assert "no plane within the prior" in place(ball_cut, prior=away).reasons[0]


def test_slide_without_lesion_is_refused(ball_cut):
    maps = SectionMaps(ball_cut.maps.tissue, None, np.full((50, 50), -850.0), (0.0, 0.0), (1000.0, 1000.0))
    assert "no lesion section" in place(ball_cut, maps=maps).reasons[0]


def test_mask_of_another_grid_is_an_error(ball_cut, mirrored_cut):
    from dataclasses import replace

    moved = replace(ball_cut.lesion.grid, affine=ball_cut.lesion.grid.affine + np.eye(4, k=3) * 5)
    with pytest.raises(GeometryError, match="grid"):
        place(ball_cut, lesion=replace(ball_cut.lesion, grid=moved))


def test_landmarks_beside_a_prior_are_an_error_not_ignored(ball_cut):
    slide_um = np.array([[12e3, 10e3], [26e3, 11e3], [19e3, 24e3]])
    landmarks = Landmarks(slide_um, ball_cut.truth.apply(slide_um))
    with pytest.raises(GeometryError, match=r"prior and mirrored.*from_landmarks"):
        register_section(ball_cut.ct, ball_cut.slide, landmarks=landmarks, prior=ball_cut.prior, mirrored=True)
