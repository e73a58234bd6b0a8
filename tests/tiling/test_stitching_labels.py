import numpy as np
import pandas as pd
import pytest
from array_slides import array_slide, planned_slide
from label_tiles import batches, blobs, cut, discs, drawn, parted, same_objects
from scipy.ndimage import label

from idx.errors import FormatError, GeometryError
from idx.tiling import TileBatch, iter_stitched, plan, run, stitch_label_image, stitch_labels, stream

SHAPE = (300, 400)


@pytest.fixture(scope="module")
def image():
    return drawn(discs(SHAPE, seed=4, radius=(3.0, 9.0)), SHAPE)


@pytest.fixture(scope="module")
def grid():
    return plan(planned_slide(SHAPE[1], SHAPE[0]), size_px=100, overlap_px=40)


def two_tiles(left, right, *, halo=8, core=40, height=24):
    """Plan of two tiles side by side, and their label images from boxes (x, y, width, height) in the lattice, numbered from 1."""
    grid = plan(planned_slide(2 * core, height), size_px=core + 2 * halo, overlap_px=2 * halo)
    values = np.zeros((len(grid), grid.size_px, grid.size_px), dtype=np.int32)
    for tile, boxes in enumerate((left, right)):
        lattice = np.zeros((height, 2 * core), dtype=np.int32)
        for number, (x, y, w, h) in enumerate(boxes, start=1):
            lattice[y : y + h, x : x + w] = number
        values[tile] = cut(lattice, grid)[tile]
    assert len(grid) == 2
    return grid, values


def kept(grid, values):
    objects = stitch_labels(batches(values), grid)
    return sorted(zip(objects.tile.tolist(), objects.label.tolist(), strict=True))


def test_results_of_a_run_and_of_a_stream_are_those_of_the_picture(image):
    slide = array_slide(np.where(image[..., None] > 0, 0, 255).astype(np.uint8).repeat(3, axis=-1))
    grid = plan(slide, size_px=100, overlap_px=40)

    def segment(batch):
        return np.stack([parted((tile[..., 0].numpy() < 128).astype(np.int32)) for tile in batch])

    streamed = stitch_labels(stream(segment, slide, grid, batch_size=5), grid)
    kept = stitch_labels(run(segment, slide, grid, batch_size=2).batches(3), grid)
    assert len(streamed) == len(np.unique(image)) - 1
    np.testing.assert_array_equal(streamed.contours.vertices_um, kept.contours.vertices_um)
    assert (np.diff(streamed.centroid_um[:, 1]) >= 0).all()
    np.testing.assert_allclose(streamed.contours.areas_um2, streamed.area_um2, rtol=1e-9)
    np.testing.assert_allclose(streamed.contours.centroids_um, streamed.centroid_um, atol=1e-6)


def test_batches_do_not_matter(image, grid):
    tiles = cut(image, grid)
    one, many = stitch_labels(batches(tiles, size=1), grid), stitch_labels(batches(tiles, size=1000), grid)
    as_list = stitch_labels([TileBatch(np.arange(len(grid)), list(tiles))], grid)
    for other in (many, as_list):
        np.testing.assert_array_equal(one.contours.vertices_um, other.contours.vertices_um)
        np.testing.assert_array_equal(one.object_id, other.object_id)


def test_numbers_are_those_of_the_label_image(image, grid):
    tiles = cut(image, grid)
    objects, numbers = stitch_labels(batches(tiles), grid), stitch_label_image(batches(tiles), grid).values
    assert sorted(objects.object_id) == list(range(1, len(objects) + 1))
    at = np.rint(grid.um_to_lattice(objects.centroid_um)).astype(int)
    assert numbers[at[:, 1], at[:, 0]].tolist() == objects.object_id.tolist()
    assert objects.to_frame().index.tolist() == objects.object_id.tolist()


def test_pieces_come_while_tiles_come(image, grid):
    """Of a row of tiles nothing is waited for but the row below."""
    tiles, asked = cut(image, grid), []

    def arriving():
        for batch in batches(tiles, size=1):
            asked.append(int(grid.row[batch.tiles[0]]))
            yield batch

    pieces, n = iter_stitched(arriving(), grid), 0
    bottom = []
    for piece in pieces:
        n += len(piece)
        if len(piece):
            bottom.append((asked[-1], grid.um_to_lattice(piece.centroid_um)[:, 1].max() // grid.core_px, grid.um_to_lattice(piece.centroid_um)[:, 1].min()))
    assert n == len(np.unique(image)) - 1
    assert len(bottom) > 3
    for row_asked, lowest_row, first in bottom[:-1]:
        assert row_asked - 1 <= lowest_row <= row_asked
        assert first // grid.core_px >= row_asked - 2


def test_what_waits_is_about_two_rows_of_tiles():
    """The sweep holds as many objects beside seams at the end of a tall slide as at its beginning."""
    shape = (2000, 200)
    image = drawn(discs(shape, seed=0, radius=(2.0, 4.0), tries=1500), shape)
    grid = plan(planned_slide(shape[1], shape[0]), size_px=60, overlap_px=20)
    from idx.tiling.seams import SeamSweep
    from idx.tiling.windows import Windows

    windows = Windows.of(grid)
    sweep, to_come, held = SeamSweep(windows), windows.first_rows_to_come(), []
    for tile, labels in enumerate(cut(image, grid)):
        sweep.add(tile, labels)
        held.append(sweep.n_waiting)
        sweep.finish(int(to_come[tile]))
    rows = grid.shape[1]
    per_row = len(np.unique(image)) / grid.shape[0]
    assert max(held[10 * rows :]) < 1.5 * max(held[: 10 * rows])
    # Each may be seen by up to four tiles.
    assert max(held) < 2 * 4 * per_row


def test_one_that_two_tiles_see_as_each_others_is_kept():
    # Seam at 39.5: the left tile sees its middle to the right of it, the right tile to the left.
    grid, values = two_tiles([(35, 5, 11, 9)], [(34, 5, 11, 9)])
    assert len(kept(grid, values)) == 1


def test_one_that_two_tiles_both_own_is_kept_once():
    grid, values = two_tiles([(34, 5, 11, 9)], [(35, 5, 11, 9)])
    assert len(kept(grid, values)) == 1


def test_two_that_one_tile_takes_for_one_are_counted_as_one_tile_sees_them():
    one, two = [(33, 5, 14, 9)], [(33, 5, 7, 9), (40, 5, 7, 9)]
    # The middle of the whole lies at 39.5, in the right core: the tile on the right is asked first.
    assert kept(*two_tiles(two, one)) == [(1, 1)]
    # Here it owns but one of the two; the other is its neighbour's, which sees the whole only, and as this tile's.
    assert kept(*two_tiles(one, two)) == [(1, 1), (1, 2)]


def test_what_the_owner_does_not_see_does_not_count():
    grid, values = two_tiles([(42, 5, 5, 5)], [])
    assert kept(grid, values) == []


def test_a_sliver_at_the_border_of_a_tile_is_explained_by_the_whole():
    # The right tile sees from 32 on; its sliver of the object is two pixels wide, or drawn three rows higher.
    for y in (5, 2):
        assert kept(*two_tiles([(24, 5, 10, 9)], [(32, y, 2, 9)])) == [(0, 1)]


def test_one_larger_than_all_tiles_is_the_union_of_its_parts_with_its_holes(grid):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(x - 200, y - 150)
    ring = ((distance < 140) & (distance > 90)).astype(np.int32)
    objects = stitch_labels(batches(np.stack([parted(tile) for tile in cut(ring, grid)])), grid)
    assert len(objects) == 1
    assert len(objects.contours.rings(0)) == 2
    assert objects.area_um2[0] == pytest.approx(ring.sum() * 0.25)
    assert not objects.is_cut[0]


def test_one_at_the_rim_of_the_plan_is_marked():
    image = np.zeros((200, 200), dtype=np.int32)
    image[20:180, 90:116] = 1
    grid = plan(planned_slide(200, 200), size_px=70, overlap_px=20)
    for keep, is_cut in ((grid.row >= 0, False), (grid.row < 3, True), (grid.column != 1, True)):
        part = grid.select(keep)
        objects = stitch_labels(batches(cut(image, part)), part)
        assert objects.is_cut.tolist() == [is_cut]


def test_one_that_lies_mostly_beyond_the_plan_is_left_out():
    image = np.zeros((100, 200), dtype=np.int32)
    image[40:60, 30:58] = 1
    image[5:15, 42:90] = 2
    grid = plan(planned_slide(200, 100), size_px=70, overlap_px=20)
    # Of the first 20 columns lie in the cores of the first column of tiles and 8 beyond; of the second 8 and, as far as it is seen, 10.
    part = grid.select(grid.column == 0)
    objects = stitch_labels(batches(cut(image, part)), part)
    assert objects.label.tolist() == [1]
    assert len(stitch_labels(batches(cut(image, grid)), grid)) == 2


def test_the_order_of_a_plan_may_be_any(grid):
    image, _ = blobs(SHAPE, seed=0, kind="smooth")
    mixed = grid.select(np.random.default_rng(0).permutation(len(grid)))
    numbers = stitch_label_image(batches(cut(image, mixed)), mixed).values
    assert same_objects(numbers, image)


def test_each_object_gets_the_class_of_most_of_its_pixels(image, grid):
    of_object = np.random.default_rng(0).integers(0, 3, image.max() + 1)
    of_object[0] = 0
    classes = of_object[image]
    classes[::3, ::3] = 0
    objects = stitch_labels(batches((cut(image, grid), cut(classes, grid))), grid, classes=("tumour", "stroma"))
    expected = [("", "tumour", "stroma")[of_object[number]] for number in objects.label]
    assert list(objects.contours.labels) == expected
    assert objects.to_frame()["class"].tolist() == expected


def test_what_the_function_cut_off_is_left_out(image, grid):
    margin = 12
    objects = stitch_labels(batches(cut(image, grid, margin_px=margin)), grid, margin_px=margin)
    whole = stitch_labels(batches(cut(image, grid)), grid)
    np.testing.assert_array_equal(objects.contours.vertices_um, whole.contours.vertices_um)


def test_what_lies_beyond_the_border_of_the_slide_does_not_count():
    grid = plan(planned_slide(50, 50), size_px=60, overlap_px=20)
    everywhere = np.ones((len(grid), 60, 60), dtype=np.int32)
    objects = stitch_labels(batches(everywhere), grid)
    assert objects.area_um2.tolist() == [50 * 50 * 0.25]


def test_nothing_found_is_an_empty_result(grid):
    objects = stitch_labels(batches(np.zeros((len(grid), 100, 100), dtype=np.int32)), grid)
    assert len(objects) == 0
    assert "0 objects" in repr(objects)
    assert len(stitch_labels([], grid)) == 0
    assert objects._repr_html_()


def test_it_shows_itself(image, grid):
    objects = stitch_labels(batches(cut(image, grid)), grid)
    assert f"{len(objects)} objects" in repr(objects)
    assert "median area" in objects._repr_html_()
    first = objects.select([3, 1])
    assert first.object_id.tolist() == objects.object_id[[3, 1]].tolist()
    np.testing.assert_array_equal(first.contours.rings(0)[0], objects.contours.rings(3)[0])


@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_a_label_image_on_disk_is_the_one_in_memory(tmp_path, kind, monkeypatch):
    shape = (1100, 1300)
    image, n = blobs(shape, seed=1, kind=kind)
    grid = plan(planned_slide(shape[1], shape[0]), size_px=400, overlap_px=60)
    tiles = cut(image, grid)
    # Room for one block only, so that blocks are read again for objects that are finished late.
    monkeypatch.setattr("idx.tiling.label_images._HELD_BYTES", 1)
    stored = stitch_label_image(batches(tiles), grid, out=tmp_path / "labels.zarr")
    assert same_objects(stored.values[:], image)
    np.testing.assert_array_equal(stored.values[:], stitch_label_image(batches(tiles), grid).values)
    assert stored.values.dtype == np.int32
    assert (np.isnan(stored.preview) == (stored.levels[-1][:] == 0)).all()
    assert "data:image/png" in stored._repr_html_()
    assert [level.shape for level in stored.levels] == [(1100, 1300), (550, 650), (275, 325)]
    assert stored.value_range == (0.0, float(n))
    level = stored.levels[1][:]
    squares = stored.values[:].reshape(550, 2, 650, 2).transpose(0, 2, 1, 3).reshape(550, 650, 4)
    counts = (squares[..., None] == squares[..., None, :]).sum(axis=-1)
    # Each pixel shows one of the most frequent labels under it, and an object rather than background.
    assert ((squares == level[..., None]) & (counts == counts.max(axis=-1, keepdims=True))).any(axis=-1).all()
    assert (level > 0)[(squares > 0).sum(axis=-1) > 2].all()


def test_two_views_that_overlap_share_no_pixel_of_the_label_image():
    grid, values = two_tiles([(25, 5, 14, 9)], [(38, 5, 14, 9)])
    numbers = stitch_label_image(batches(values), grid).values
    assert np.bincount(numbers.ravel())[1:].tolist() == [14 * 9, 13 * 9]


BAD = [
    (lambda t: t.astype(float), "whole numbers"),
    (lambda t: t[:, :-2], "margin_px"),
    (lambda t: np.where(t > 0, -1, 0), "background"),
    (lambda t: t.astype(np.int64) + 2**31, "background"),
    (lambda t: (t, t), "label images alone"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_is_no_label_image_is_refused(image, grid, change, message):
    with pytest.raises(GeometryError, match=message):
        stitch_labels(batches(change(cut(image, grid))), grid)


def test_what_does_not_fit_the_plan_is_refused(image, grid, tmp_path):
    tiles = cut(image, grid)
    with pytest.raises(GeometryError, match="order of the plan"):
        stitch_labels([TileBatch(np.array([1]), tiles[:1]), TileBatch(np.array([0]), tiles[:1])], grid)
    with pytest.raises(GeometryError, match="order of the plan"):
        stitch_labels([TileBatch(np.array([len(grid)]), tiles[:1])], grid)
    with pytest.raises(GeometryError, match="one value per tile"):
        stitch_labels([TileBatch(np.array([0, 1]), tiles[:1])], grid)
    with pytest.raises(GeometryError, match="classes named"):
        stitch_labels(batches(tiles), grid, classes=("tumour",))
    with pytest.raises(GeometryError, match="a table"):
        stitch_labels([TileBatch(np.arange(2), pd.DataFrame({"tile": [0, 1]}))], grid)
    with pytest.raises(GeometryError, match="margin"):
        stitch_labels(batches(tiles), grid, margin_px=21)
    with pytest.raises(GeometryError, match="once"):
        stitch_labels(batches(tiles), grid.select([0, 0]))
    with pytest.raises(FormatError, match="zarr"):
        stitch_label_image(batches(tiles), grid, out=tmp_path / "labels.tif")
    (tmp_path / "there.zarr").mkdir()
    with pytest.raises(FormatError, match="exists"):
        stitch_label_image(batches(tiles), grid, out=tmp_path / "there.zarr")


def test_a_failure_while_writing_leaves_nothing(image, grid, tmp_path):
    def failing():
        yield from batches(cut(image, grid)[:3])
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stitch_label_image(failing(), grid, out=tmp_path / "labels.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_result_is_taken_as_its_batches():
    pixels = np.full((200, 200, 3), 255, dtype=np.uint8)
    pixels[30:50, 90:110] = pixels[120:130, 10:20] = 0
    slide = array_slide(pixels)
    grid = plan(slide, size_px=100, overlap_px=40)
    result = run(lambda batch: np.stack([label(tile[..., 0].numpy() < 128)[0] for tile in batch]), slide, grid)
    assert len(stitch_labels(result, grid)) == len(stitch_labels(result.batches(), grid)) == 2
