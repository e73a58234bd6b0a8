"""The paired phantom: the truth maps the slide onto the CT, on the lesion's boundary and in shrinkage."""

import dataclasses

import numpy as np
import openslide
import pytest
import shapely

from idx.errors import GeometryError
from idx.testing import paired_case

SMALL = {"radius_mm": 1.0, "margin_mm": 0.4, "warp_mm": 0.15, "size_mm": 12.0}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return paired_case(tmp_path_factory.mktemp("pair"), seed=1, **SMALL)


def test_outline_lies_on_the_boundary_of_the_lesion(phantom):
    ring = phantom.lesion_outline.rings(0)[0]
    assert np.abs(phantom.lesion.field.lesion_distance_mm(phantom.truth.apply(ring))).max() < 1e-3
    (polygon,) = phantom.lesion_outline.polygons()
    inner, outer = (np.array(polygon.buffer(d).exterior.coords) for d in (-15.0, 15.0))
    assert phantom.lesion.inside(phantom.truth.apply(inner)).all()
    assert not phantom.lesion.inside(phantom.truth.apply(outer)).any()


def test_truth_lies_in_an_oblique_plane_at_the_stated_offset(phantom):
    rng = np.random.default_rng(0)
    points = phantom.truth.apply(rng.uniform(0, 3000, (200, 2)))
    distance = (points - np.asarray(phantom.lesion.centre_mm)) @ phantom.normal
    np.testing.assert_allclose(np.abs(distance), phantom.offset_mm, atol=1e-9)
    assert np.degrees(np.arccos(abs(phantom.normal[2]))) == pytest.approx(38.0)
    np.testing.assert_allclose(np.abs(phantom.section.normal @ phantom.normal), 1.0, atol=1e-9)


def test_shrinkage_is_that_of_the_landmarks_and_of_the_section(phantom):
    np.testing.assert_allclose(np.linalg.svd(phantom.section.axes, compute_uv=False), 1e-3 / 0.85, rtol=1e-6)
    slide, ct = (p - p.mean(axis=0) for p in (phantom.landmarks_slide_um, phantom.landmarks_ct_mm))
    assert 6 <= len(slide) <= 8
    assert 1e-3 * np.sqrt((slide**2).sum() / (ct**2).sum()) == pytest.approx(0.85e-3 * 1e3, rel=0.06)
    np.testing.assert_allclose(phantom.truth.apply(phantom.landmarks_slide_um), phantom.landmarks_ct_mm, atol=1e-9)


def test_warp_has_its_size_and_does_not_fold(phantom):
    (tissue,) = phantom.tissue.polygons()
    left, top, right, bottom = tissue.bounds
    x, y = np.meshgrid(np.linspace(left, right, 80), np.linspace(top, bottom, 80))
    points = np.stack([x, y], axis=-1)[shapely.contains_xy(tissue, x, y)]
    moved_mm = np.linalg.norm(phantom.warp.displacement_at(points), axis=1) / 850
    assert moved_mm.max() == pytest.approx(0.15, rel=0.1)
    assert phantom.warp.jacobian_determinant().min() > 0.2
    residual = np.linalg.norm(phantom.section.apply(points) - phantom.truth.apply(points), axis=1)
    assert np.sqrt((residual**2).mean()) == pytest.approx(phantom.residual_mm, rel=0.05)
    there = phantom.truth.apply(points)
    np.testing.assert_allclose(phantom.truth.inverse().apply(there)[:, :2], points, atol=1e-5)


def test_tissue_on_the_slide_follows_the_attenuation(phantom):
    with openslide.OpenSlide(phantom.slide_path) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(phantom.mpp)
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3].astype(float)
    stained = pixels[..., 1] < 215
    y, x = np.mgrid[0 : pixels.shape[0] : 4, 0 : pixels.shape[1] : 4]
    um = np.stack([x, y], axis=-1) * phantom.mpp
    (tissue,) = phantom.tissue.polygons()
    hu = phantom.lesion.hu_at(phantom.truth.apply(um))
    ok = shapely.contains_xy(tissue.buffer(-20), um[..., 0], um[..., 1]) & (phantom.lesion.field.vessels.distance_mm(phantom.truth.apply(um)) > 0.2)
    for low, high in ((-900, -780), (-600, -300), (-60, 200)):
        here = ok & (hu > low) & (hu < high)
        assert stained[::4, ::4][here].mean() == pytest.approx(np.clip((hu[here] + 1000) / 1050, 0, 1).mean(), abs=0.09)


def test_nuclei_are_where_their_class_belongs(phantom):
    assert phantom.n_nuclei == len(phantom.nuclei) > 500
    centres, labels = phantom.nuclei.centroids_um, np.array(phantom.nuclei.labels)
    inside = phantom.lesion.inside(phantom.truth.apply(centres))
    assert inside[labels == "tumour"].mean() > 0.99
    assert (labels[~inside] != "tumour").mean() > 0.99
    polygons = list(phantom.nuclei.polygons())
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    assert (first == second).all()


def test_prior_is_off_by_what_it_says(phantom):
    assert np.degrees(np.arccos(phantom.prior_normal @ phantom.normal)) == pytest.approx(10.0)
    assert np.linalg.norm(phantom.prior_centre_mm - phantom.section_centre_mm) == pytest.approx(2.0)


def test_seed_mirror_and_landmark_noise(phantom, tmp_path):
    again = paired_case(tmp_path / "again", seed=1, **SMALL)
    assert again.slide_path.read_bytes() == phantom.slide_path.read_bytes()
    assert again.ct.values.tobytes() == phantom.ct.values.tobytes()
    mirrored = paired_case(tmp_path / "mirror", seed=1, is_mirrored=True, landmark_noise_mm=0.3, **SMALL)
    assert mirrored.normal @ phantom.normal == pytest.approx(-1.0)
    error = mirrored.landmarks_ct_mm - mirrored.truth.apply(mirrored.landmarks_slide_um)
    assert 0.1 < error.std() < 0.6
    assert {f.name for f in dataclasses.fields(mirrored)} >= {"section", "truth", "lesion_outline", "tissue", "nuclei", "volume_mm3"}


@pytest.mark.parametrize(
    ("options", "message"), [({"offset_fraction": 3.0}, "must cut the lesion"), ({"warp_mm": 1.0}, "warp_mm"), ({"shrinkage": 0.9}, "shrinkage")]
)
def test_what_cannot_be_is_refused(tmp_path, options, message):
    with pytest.raises(GeometryError, match=message):
        paired_case(tmp_path, **options)
