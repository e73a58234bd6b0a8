import threading
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from array_slides import ArrayPixels, array_slide

from idx.errors import GeometryError, IdxError, MissingDependency, PixelAccessError
from idx.slide import Slide
from idx.tiling import plan, run

PIXELS = np.random.default_rng(1).integers(0, 256, (230, 310, 3), dtype=np.uint8)


def means(batch: torch.Tensor) -> torch.Tensor:
    return batch.double().mean(dim=(1, 2))


def test_results_stand_in_plan_order_whatever_the_batch_and_the_threads():
    slide = array_slide(PIXELS)
    grid = plan(slide, size_px=50)
    expected = np.stack([run(means, slide, plan(slide, size_px=50)).values])[0]
    for batch_size in (1, 3, 1000):
        for workers in (1, 4):
            result = run(means, slide, grid, batch_size=batch_size, workers=workers)
            np.testing.assert_array_equal(result.values, expected)
    assert expected.shape == (len(grid), 3)
    np.testing.assert_allclose(expected[0], PIXELS[:50, :50].mean(axis=(0, 1)))


def test_a_batch_is_uint8_rows_columns_channels():
    slide, seen = array_slide(PIXELS), []
    run(lambda b: seen.append((b.dtype, tuple(b.shape))) or torch.zeros(len(b)), slide, plan(slide, size_px=100), batch_size=5)
    assert seen == [(torch.uint8, (5, 100, 100, 3)), (torch.uint8, (5, 100, 100, 3)), (torch.uint8, (2, 100, 100, 3))]


def test_tuples_lists_and_tables_come_back_joined():
    slide = array_slide(PIXELS)
    grid = plan(slide, size_px=100)
    a, b = run(lambda batch: (means(batch), torch.ones(len(batch))), slide, grid, batch_size=5).values
    assert a.shape == (12, 3)
    assert b.shape == (12,)
    assert run(lambda batch: ["x"] * len(batch), slide, grid, batch_size=5).values == ["x"] * 12
    table = run(lambda batch: pd.DataFrame({"tile": np.arange(len(batch)).repeat(2), "v": 1.0}), slide, grid, batch_size=5).values
    assert table["tile"].tolist() == np.arange(12).repeat(2).tolist()


def test_no_tiles_no_calls():
    slide = array_slide(PIXELS)
    grid = plan(slide, size_px=100, within=None)
    empty = type(grid)(slide, 0, 100, 0, grid.mpp, grid.scale, np.zeros(0), np.zeros(0), np.zeros(0))
    assert run(lambda _: pytest.fail("called"), slide, empty).values == []


def test_a_failure_of_the_function_names_the_tile():
    slide = array_slide(PIXELS)

    def fails(batch):
        if (batch[:, 0, 0] == torch.from_numpy(PIXELS[100, 200])).all(dim=-1).any():
            raise RuntimeError("no such nucleus")
        return torch.zeros(len(batch))

    with pytest.raises(IdxError, match=r"no such nucleus \(tile 6 at level-0 px x=200, y=100"):
        run(fails, slide, plan(slide, size_px=100), batch_size=8)


def test_a_result_of_another_length_is_refused():
    slide = array_slide(PIXELS)
    with pytest.raises(IdxError, match="one result per tile"):
        run(lambda batch: torch.zeros(1), slide, plan(slide, size_px=100), batch_size=8)


def test_a_damaged_tile_stops_the_run_with_its_place():
    slide = array_slide(PIXELS, broken=(250, 130))
    with pytest.raises(PixelAccessError, match=r"x=200, y=100"):
        run(means, slide, plan(slide, size_px=100), batch_size=2)


def test_a_plan_of_another_slide_is_refused():
    slide = array_slide(PIXELS)
    with pytest.raises(GeometryError, match="plan of the slide"):
        run(means, slide, plan(array_slide(PIXELS[:100]), size_px=100))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so asking for one must not fail")
def test_an_absent_device_is_refused():
    slide = array_slide(PIXELS)
    with pytest.raises(MissingDependency):
        run(means, slide, plan(slide, size_px=100), device="cuda")


def test_readers_do_not_run_far_ahead():
    """Decoded batches that nobody has used yet are bounded, however slow the function is."""
    lock, state, worst = threading.Lock(), {"read": 0, "used": 0}, []

    class Counting(ArrayPixels):
        def read_tiles_into(self, batch, tiles):
            super().read_tiles_into(batch, tiles)
            with lock:
                state["read"] += len(tiles)

    slide = Slide(Counting([np.zeros((1000, 1000, 3), dtype=np.uint8)]), (0.5, 0.5), "counted")

    def slow(batch):
        threading.Event().wait(0.005)
        with lock:
            state["used"] += len(batch)
            worst.append(state["read"] - state["used"])
        return torch.zeros(len(batch))

    run(slow, slide, plan(slide, size_px=50), batch_size=4, workers=4)
    assert state["used"] == 400
    assert max(worst) <= 3 * 4


def test_pixels_are_those_of_the_slide_that_is_passed():
    """A plan fits every slide of its size: crops of one size, or the same file opened again."""
    planned, other = array_slide(PIXELS), array_slide(255 - PIXELS)
    result = run(means, other, plan(planned, size_px=50))
    np.testing.assert_array_equal(result.values, run(means, other, plan(other, size_px=50)).values)
    assert result.grid.slide is other


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda batch: None, "one result per tile.*NoneType"),
        (lambda batch: batch.double().mean(), "one result per tile.*Tensor"),
        (lambda batch: pd.DataFrame({"v": [1.0]}), "column 'tile'.*'v'"),
    ],
    ids=["nothing", "a number", "a table without tiles"],
)
def test_results_without_tiles_are_refused(fn, message):
    slide = array_slide(PIXELS)
    with pytest.raises(IdxError, match=message):
        run(fn, slide, plan(slide, size_px=100))


def test_results_leave_the_device_at_once():
    """Otherwise the results of a slide, and the graph of a function that tracks gradients, pile up on the device."""
    slide, weight, alive = array_slide(PIXELS), torch.ones(3, dtype=torch.float64, requires_grad=True), []

    def weighted(batch):
        alive.append(sum(reference() is not None for reference in references))
        result = means(batch) * weight
        references.append(weakref.ref(result))
        return result

    references = []
    assert run(weighted, slide, plan(slide, size_px=100), batch_size=2).values.shape == (12, 3)
    assert max(alive) <= 1


def test_no_workers_are_refused():
    slide = array_slide(PIXELS)
    with pytest.raises(GeometryError, match="workers must be at least 1"):
        run(means, slide, plan(slide, size_px=100), workers=0)
