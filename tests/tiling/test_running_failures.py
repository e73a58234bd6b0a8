"""Tiles that cannot be read or computed: named, recorded, never lost; runs that are cancelled, resumed, or too large for the device."""

import sys
import threading

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from array_slides import ArrayPixels, array_slide

from idx.errors import FormatError, GeometryError, IdxError
from idx.slide import Slide
from idx.tiling import plan, run, stream

PIXELS = np.random.default_rng(1).integers(0, 256, (230, 310, 3), dtype=np.uint8)
BROKEN = 6
"""Tile of the plan below that holds pixel (250, 130)."""


def means(batch: torch.Tensor) -> torch.Tensor:
    return batch.double().mean(dim=(1, 2))


def rows(batch: torch.Tensor) -> pd.DataFrame:
    return pd.DataFrame({"tile": np.arange(len(batch)).repeat(2), "v": means(batch)[:, 0].numpy().repeat(2)})


def grid_of(slide):
    return plan(slide, size_px=100)


@pytest.fixture
def whole():
    slide = array_slide(PIXELS)
    return run(means, slide, grid_of(slide)).values


def fails_on(number, fn=means):
    """A function that fails on the pixels of one tile, whatever the batch."""
    slide = array_slide(PIXELS)
    from idx.tiling import read_tiles

    bad = torch.from_numpy(read_tiles(grid_of(slide), [number])[0])

    def wrapped(batch):
        if any(torch.equal(tile, bad) for tile in batch):
            raise RuntimeError("no such nucleus")
        return fn(batch)

    return wrapped


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("stage", ["read", "compute"])
def test_a_bad_tile_is_recorded_and_costs_no_other(stage, batch_size, whole):
    slide = array_slide(PIXELS, broken=(250, 130) if stage == "read" else None)
    fn = means if stage == "read" else fails_on(BROKEN)
    result = run(fn, slide, grid_of(slide), batch_size=batch_size, on_error="record")
    assert result.status.tolist() == [1] * BROKEN + [2] + [1] * (11 - BROKEN)
    assert not result.is_complete
    assert np.isnan(result.values[BROKEN]).all()
    others = np.arange(12) != BROKEN
    np.testing.assert_array_equal(result.values[others], whole[others])
    assert result.errors[["tile", "level0_x_px", "level0_y_px", "stage"]].to_numpy().tolist() == [[BROKEN, 200.0, 100.0, stage]]
    assert "x=200, y=100" in result.errors["error"][0]
    assert "1 failed" in repr(result)
    assert stage in result._repr_html_()


def test_a_recorded_failure_leaves_none_in_lists_and_no_row_in_tables():
    slide = array_slide(PIXELS, broken=(250, 130))
    objects = run(lambda batch: [float(m) for m in means(batch)[:, 0]], slide, grid_of(slide), on_error="record").values
    assert [k for k, value in enumerate(objects) if value is None] == [BROKEN]
    table = run(rows, slide, grid_of(slide), on_error="record", batch_size=5).values
    assert table["tile"].tolist() == np.delete(np.arange(12), BROKEN).repeat(2).tolist()


def test_whole_numbers_of_failed_tiles_are_zero_and_marked():
    slide = array_slide(PIXELS, broken=(250, 130))
    result = run(lambda batch: means(batch).int(), slide, grid_of(slide), on_error="record")
    assert result.values.dtype == np.int32
    assert (result.values[BROKEN] == 0).all()
    assert result.status[BROKEN] == 2


def test_a_function_that_runs_on_each_tile_but_not_on_batches_says_so():
    slide = array_slide(PIXELS)

    def single(batch):
        if len(batch) > 1:
            raise RuntimeError("one at a time")
        return means(batch)

    with pytest.raises(IdxError, match=r"must run on batches.*one at a time.*batch_size=1"):
        run(single, slide, grid_of(slide), on_error="record")


def test_results_of_the_wrong_length_are_never_recorded_away():
    slide = array_slide(PIXELS)
    with pytest.raises(IdxError, match="one result per tile"):
        run(lambda batch: torch.zeros(1), slide, grid_of(slide), batch_size=8, on_error="record")


def test_results_that_change_their_shape_are_refused():
    slide = array_slide(PIXELS)
    with pytest.raises(IdxError, match=r"alike for all tiles.*\(1,\).*after \(8,\)"):
        run(lambda batch: torch.zeros(len(batch), 8 if len(batch) == 8 else 1), slide, grid_of(slide), batch_size=8)


def test_a_cancelled_run_returns_what_is_done_and_goes_on_where_it_stopped(whole):
    slide, stop, calls = array_slide(PIXELS), threading.Event(), []

    def counted(batch):
        calls.append(len(batch))
        if len(calls) == 2:
            stop.set()
        return means(batch)

    grid = grid_of(slide)
    partial = run(counted, slide, grid, batch_size=3, cancel=stop)
    assert partial.status.tolist() == [1] * 6 + [0] * 6
    assert "6 not run" in repr(partial)
    assert len(partial.errors) == 0
    calls.clear()
    complete = run(counted, slide, grid, batch_size=5, resume=partial)
    assert sum(calls) == 6
    np.testing.assert_array_equal(complete.values, whole)
    assert complete.is_complete


def test_a_failed_tile_is_tried_again_when_a_run_is_resumed(whole):
    broken, mended = array_slide(PIXELS, broken=(250, 130)), array_slide(PIXELS)
    partial = run(means, broken, grid_of(broken), on_error="record")
    complete = run(means, mended, grid_of(mended), resume=partial)
    assert complete.is_complete
    assert len(complete.errors) == 0
    np.testing.assert_array_equal(complete.values, whole)


def test_resuming_with_another_plan_is_refused():
    slide = array_slide(PIXELS)
    partial = run(means, slide, grid_of(slide))
    with pytest.raises(GeometryError, match="must be resumed with the plan"):
        run(means, slide, plan(slide, size_px=50), resume=partial)


@pytest.mark.parametrize("fn", [means, rows, lambda batch: (means(batch), means(batch)[:, 0].int())], ids=["array", "table", "tuple"])
def test_a_run_into_a_folder_gives_the_same_and_survives_a_crash(fn, tmp_path):
    slide = array_slide(PIXELS)
    grid, out, calls = grid_of(slide), tmp_path / "results", []

    def crashes(batch):
        calls.append(len(batch))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fn(batch)

    with pytest.raises(KeyboardInterrupt):
        run(crashes, slide, grid, batch_size=4, out=out)
    calls.clear()
    result = run(lambda batch: calls.append(len(batch)) or fn(batch), slide, grid, batch_size=3, out=out, resume=True)
    assert sum(calls) == 4
    assert result.is_complete
    expected = run(fn, slide, grid).values
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(result.values, expected)
    else:
        for found, wanted in zip(*(v if isinstance(v, tuple) else (v,) for v in (result.values, expected)), strict=True):
            assert isinstance(found, zarr.Array)
            np.testing.assert_array_equal(found[:], wanted)
    again = run(lambda _: pytest.fail("computed again"), slide, grid, out=out, resume=True)
    assert again.is_complete


def test_batches_of_a_result_are_those_of_the_stream(tmp_path):
    slide = array_slide(PIXELS, broken=(250, 130))
    grid = grid_of(slide)
    streamed = list(stream(means, slide, grid, batch_size=5, on_error="record"))
    assert [failure.tile for batch in streamed for failure in batch.failures] == [BROKEN]
    for result in (run(means, slide, grid, on_error="record"), run(means, slide, grid, on_error="record", out=tmp_path / "a")):
        batches = list(result.batches(5))
        assert np.concatenate([b.tiles for b in batches]).tolist() == np.concatenate([b.tiles for b in streamed]).tolist()
        np.testing.assert_array_equal(np.concatenate([b.values for b in batches]), np.concatenate([b.values for b in streamed]))
    table = run(rows, slide, grid, on_error="record")
    assert [b.values["tile"].unique().tolist() for b in table.batches(4)] == [b.tiles.tolist() for b in table.batches(4)]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    slide = array_slide(PIXELS)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(IdxError, match="out must be new"):
        run(means, slide, grid_of(slide), out=tmp_path)
    with pytest.raises(FormatError, match="folder of a run"):
        run(means, slide, grid_of(slide), out=tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    run(means, slide, grid_of(slide), out=tmp_path / "a")
    with pytest.raises(FormatError, match="another plan"):
        run(means, slide, plan(slide, size_px=50), out=tmp_path / "a", resume=True)
    with pytest.raises(IdxError, match="list of objects"):
        run(lambda batch: ["x"] * len(batch), slide, grid_of(slide), out=tmp_path / "b")
    with pytest.raises(IdxError, match="resume=True must have an out"):
        run(means, slide, grid_of(slide), resume=True)


def test_several_slides_in_one_run_are_each_their_own(tmp_path):
    slides = [Slide(ArrayPixels([p]), (0.5, 0.5), name) for p, name in ((PIXELS, "a.tif"), (255 - PIXELS, "b.tif"), (PIXELS[:90], "c.tif"))]
    grids = [plan(slides[0], size_px=100), plan(slides[1], size_px=70, overlap_px=10), plan(slides[2], size_px=100)]
    expected = [run(means, slide, grid).values for slide, grid in zip(slides, grids, strict=True)]
    for results in (run(means, slides, grids, batch_size=5), run(means, slides, grids, batch_size=5, out=tmp_path / "all")):
        assert [r.grid.slide.name for r in results] == ["a.tif", "b.tif", "c.tif"]
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result.values[:], wanted)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["a", "b", "c"]
    with pytest.raises(GeometryError, match="3 slides and 2 plans"):
        run(means, slides, grids[:2])
    with pytest.raises(IdxError, match="'a' twice"):
        run(means, [slides[0], slides[0]], [grids[0], grids[0]], out=tmp_path / "twice")


def test_batches_that_the_device_cannot_hold_are_halved_and_stay_halved(whole):
    slide, sizes = array_slide(PIXELS), []

    def greedy(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("too large")
        return means(batch)

    with pytest.warns(UserWarning, match=r"Pass batch_size=\d"):
        result = run(greedy, slide, grid_of(slide), batch_size=8)
    np.testing.assert_array_equal(result.values, whole)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2]


def test_a_tile_that_never_fits_is_named():
    def never(batch):
        raise torch.OutOfMemoryError("too large")

    slide = array_slide(PIXELS)
    with pytest.warns(UserWarning, match="Pass batch_size"), pytest.raises(IdxError, match=r"too large \(tile 0 at"):
        run(never, slide, grid_of(slide), batch_size=4)


def test_a_function_may_keep_the_batches_it_was_given():
    """Memory is used again only once nobody looks at it."""
    slide, kept = array_slide(PIXELS), []
    grid = plan(slide, size_px=50)
    run(lambda batch: kept.append(batch[:, :3]) or torch.zeros(len(batch)), slide, grid, batch_size=3, workers=2)
    from idx.tiling import read_tiles

    np.testing.assert_array_equal(torch.cat(kept).numpy(), read_tiles(grid, range(len(grid)))[:, :3])


def test_leaving_a_stream_early_ends_its_threads():
    slide = array_slide(PIXELS)
    before = threading.active_count()
    batches = stream(means, slide, plan(slide, size_px=10), batch_size=2, workers=3)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_wrong_options_are_refused_before_anything_is_read():
    slide = array_slide(PIXELS)
    with pytest.raises(IdxError, match="on_error must be"):
        stream(means, slide, grid_of(slide), on_error="ignore")


def test_a_long_run_lives_on_a_few_pieces_of_memory():
    from idx.tiling import ring

    made = []
    memory = ring._Memory(is_pinned=False)
    new = memory._new
    memory._new = lambda n_bytes: made.append(n_bytes) or new(n_bytes)
    slide = array_slide(PIXELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring, "_MEMORY", memory)
        for _ in range(2):
            run(means, slide, plan(slide, size_px=10), batch_size=4, workers=2)
    assert len(made) <= ring.BATCHES_AHEAD + 3
    memory.trim(0)
    assert memory._pieces == []


def test_batches_lie_beside_the_boundaries_of_vectors():
    from idx.tiling import ring

    memory = ring._Memory(is_pinned=False)
    for n in (1, 3, 7):
        batch = memory.take((n, 64, 64, 3))
        assert batch.ctypes.data % 16 == 8
        batch[...] = 0


def test_threads_switch_quickly_during_a_run_and_as_before_after_it():
    slide, seen, before = array_slide(PIXELS), [], sys.getswitchinterval()
    batches = stream(lambda batch: seen.append(sys.getswitchinterval()) or means(batch), slide, plan(slide, size_px=50), batch_size=2)
    next(batches)
    run(means, slide, plan(slide, size_px=100))
    next(batches)
    batches.close()
    assert seen[0] == seen[1] < before
    assert sys.getswitchinterval() == before


def test_one_slide_with_a_list_of_plans_is_refused():
    slide = array_slide(PIXELS)
    with pytest.raises(GeometryError, match=r"one slide must have one plan; got list \(slide 'array'\)"):
        run(means, slide, [grid_of(slide)])
