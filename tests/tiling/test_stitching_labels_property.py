"""Objects of overlapping tiles are those of the whole slide, each once, whatever the tiles."""

from itertools import pairwise

import numpy as np
from array_slides import planned_slide
from hypothesis import given, settings
from hypothesis import strategies as st
from label_tiles import batches, blobs, cut, discs, drawn, numbered_anew, parted, same_objects
from scipy.ndimage import label, maximum_filter

from idx.kernels.outlines import trace
from idx.kernels.spans import find_spans, sorted_by_object
from idx.tiling import plan, stitch_label_image, stitch_labels

SHAPE = (75, 90)


def tiles_of(image, grid, *, seed, how):
    rng = np.random.default_rng(seed)
    return np.stack([numbered_anew(tile, rng) if how == "cut" else parted(tile) for tile in cut(image, grid)])


def planned(core, halo, *, offset=(0, 0), shape=SHAPE):
    """Plan of a lattice of ``shape`` that begins at ``offset`` of its slide."""
    x, y = offset
    slide = planned_slide(shape[1] + x, shape[0] + y)
    bounds = None if offset == (0, 0) else (slide.to_um(np.array([x, y])) - 0.25).tolist() + (np.array(slide.size_um) - 0.25).tolist()
    grid = plan(slide, size_px=core + 2 * halo, overlap_px=2 * halo, bounds_um=bounds)
    assert grid.offset_px == offset
    assert grid.extent_px == shape[::-1]
    return grid


def rings_of(image, n, grid):
    """Outlines of all objects of a whole image in um, as sets of vertices that do not depend on where a ring begins."""
    spans = find_spans(image)
    spans[:, 0] -= 1
    found = trace(*sorted_by_object(spans, n))
    return canonical(grid.lattice_to_um(found.corners - 0.5), found.ring_offsets, found.object_offsets)


def canonical(vertices, ring_offsets, object_offsets):
    vertices = np.round(vertices, 6)
    rings = [frozenset(map(tuple, vertices[a:b].tolist())) for a, b in pairwise(ring_offsets)]
    return {frozenset(rings[a:b]) for a, b in pairwise(object_offsets)}


@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["noise", "mosaic", "smooth"]),
    core=st.integers(6, 60),
    halo=st.integers(1, 12),
    size=st.integers(1, 9),
    how=st.sampled_from(["cut", "parted"]),
    offset=st.sampled_from([(0, 0), (5, 0), (13, 29)]),
)
@settings(max_examples=60)
def test_tiled_is_whole_however_large_the_objects(seed, kind, core, halo, size, how, offset):
    image, n = blobs(SHAPE, seed=seed, kind=kind)
    grid = planned(core, halo, offset=offset)
    tiles = tiles_of(image, grid, seed=seed, how=how)
    found = stitch_label_image(batches(tiles, size=size), grid).values
    assert same_objects(found, image)
    objects = stitch_labels(batches(tiles, size=size), grid)
    assert len(objects) == n
    assert not objects.is_cut.any()
    contours = objects.contours
    assert canonical(contours.vertices_um, contours.ring_offsets, contours.polygon_offsets) == rings_of(image.astype(np.int32), n, grid)
    np.testing.assert_allclose(np.sort(contours.areas_um2), np.sort(np.bincount(image.ravel())[1:]) * 0.25, rtol=1e-9)


@given(seed=st.integers(0, 10_000), core=st.integers(4, 70))
@settings(max_examples=25)
def test_without_overlap_parts_that_meet_at_a_seam_are_joined(seed, core):
    """Objects that keep a pixel's distance: of objects that touch, nothing tells whether the seam parts them."""
    image = drawn(discs(SHAPE, seed=seed, radius=(1.0, 9.0), gap=2.0), SHAPE)
    grid = planned(core, 0)
    found = stitch_label_image(batches(tiles_of(image, grid, seed=seed, how="parted")), grid).values
    assert same_objects(found, image)


@given(seed=st.integers(0, 10_000), core=st.integers(6, 60), halo=st.integers(9, 20))
@settings(max_examples=30)
def test_planted_on_seams_and_corners_each_counts_once(seed, core, halo):
    rng = np.random.default_rng(seed)
    seams_x, seams_y = (np.arange(0, length, core) - 0.5 for length in SHAPE[::-1])
    image = np.zeros(SHAPE, dtype=bool)
    for _ in range(60):
        w, h = rng.integers(1, 9, 2)
        # The middle on a seam (for odd sizes on a pixel beside it), often on two.
        x = int(rng.choice(seams_x) + 0.5 - w / 2) if rng.random() < 0.7 else rng.integers(SHAPE[1])
        y = int(rng.choice(seams_y) + 0.5 - h / 2) if rng.random() < 0.7 else rng.integers(SHAPE[0])
        x, y = max(x, 0), max(y, 0)
        if not image[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1].any():
            image[y : y + h, x : x + w] = True
    labels, n = label(image)
    grid = planned(core, halo)
    objects = stitch_labels(batches(tiles_of(labels, grid, seed=seed, how="cut")), grid)
    contours = objects.contours
    assert len(objects) == n
    assert canonical(contours.vertices_um, contours.ring_offsets, contours.polygon_offsets) == rings_of(labels, n, grid)


@given(seed=st.integers(0, 10_000), core=st.integers(10, 60), gap=st.sampled_from([-0.5, 0.0, 2.0]), kind=st.sampled_from(["moved", "wider"]))
@settings(max_examples=40)
def test_views_that_differ_by_a_pixel_count_once(seed, core, gap, kind):
    circles = discs((100, 120), seed=seed, radius=(2.5, 7.0), gap=gap)
    grid = planned(core, 16, shape=(100, 120))
    rng = np.random.default_rng(seed)

    def view(x, y):
        moved = circles.copy()
        if kind == "moved":
            moved[:, :2] += rng.integers(0, 2, (len(circles), 2))
        else:
            moved += rng.uniform(-0.6, 0.6, circles.shape)
        return drawn(moved, (grid.size_px, grid.size_px), origin=(x, y))

    tiles = np.stack([view(x, y) for x, y in grid.origin_px])
    objects = stitch_labels(batches(tiles), grid)
    # Discs keep their number in every tile.
    assert np.bincount(objects.label - 1, minlength=len(circles)).tolist() == [1] * len(circles)


def seen(grid, tiles):
    """Pixels of the lattice that tiles see, and those in their cores."""
    window, core = np.zeros(grid.extent_px[::-1], dtype=bool), np.zeros(grid.extent_px[::-1], dtype=bool)
    for tile in tiles:
        x, y = grid.origin_px[tile]
        window[max(y, 0) : y + grid.size_px, max(x, 0) : x + grid.size_px] = True
        x, y = x + grid.halo_px, y + grid.halo_px
        core[y : y + grid.core_px, x : x + grid.core_px] = True
    return window, core


@given(seed=st.integers(0, 10_000), core=st.integers(8, 50), data=st.data())
@settings(max_examples=40)
def test_a_part_of_the_plan_keeps_what_its_cores_hold(seed, core, data):
    circles = discs(SHAPE, seed=seed, radius=(1.0, 5.0))
    image = drawn(circles, SHAPE)
    whole = planned(core, 11)
    keep = data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
    grid = whole.select(np.array(keep))
    objects = stitch_labels(batches(cut(image, grid)), grid)
    centres = centroids(image)
    _, in_cores = seen(whole, np.flatnonzero(keep))
    expected = {k for k, (x, y) in enumerate(centres) if in_cores[int(y + 0.5), int(x + 0.5)]}
    assert sorted(objects.label - 1) == sorted(expected)


@given(seed=st.integers(0, 10_000), core=st.integers(8, 50), data=st.data())
@settings(max_examples=40)
def test_where_tiles_failed_their_neighbours_stand_in(seed, core, data):
    """Kept is what a tile that arrived owns, and of what a failed tile owns all that another one sees whole."""
    image = drawn(discs(SHAPE, seed=seed, radius=(1.0, 5.0)), SHAPE)
    grid = planned(core, 11)
    failed = data.draw(st.sets(st.integers(0, len(grid) - 1), max_size=5))
    arrived = [tile for tile in range(len(grid)) if tile not in failed]
    objects = stitch_labels(batches(cut(image, grid), without=tuple(failed)), grid)
    _, in_cores = seen(grid, arrived)
    expected = set()
    for k, (x, y) in enumerate(centroids(image)):
        # Seen whole by a tile: the object and what is beside it lie in its window.
        beside = maximum_filter(image == k + 1, footprint=[[0, 1, 0], [1, 1, 1], [0, 1, 0]])
        is_whole = any(not (beside & ~seen(grid, [tile])[0]).any() for tile in arrived)
        if in_cores[int(y + 0.5), int(x + 0.5)] or is_whole:
            expected.add(k)
    found = (objects.label[~objects.is_cut] - 1).tolist()
    assert sorted(found) == sorted(expected)


def centroids(image):
    spans = find_spans(image)
    spans[:, 0] -= 1
    return trace(*sorted_by_object(spans, int(image.max()))).centroid_px
