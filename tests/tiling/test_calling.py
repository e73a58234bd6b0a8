"""What a function may do with its batch and what it may return: writing into it, the same memory each time, any kind of number, nothing that misleads."""

import numpy as np
import pandas as pd
import pytest
import torch
from array_slides import array_slide

from idx.errors import IdxError
from idx.tiling import plan, read_tiles, run, stream

PIXELS = np.random.default_rng(1).integers(0, 256, (230, 310, 3), dtype=np.uint8)
BAD = 6


def means(batch: torch.Tensor) -> torch.Tensor:
    return batch.double().mean(dim=(1, 2))


@pytest.fixture
def slide():
    return array_slide(PIXELS)


@pytest.fixture
def grid(slide):
    return plan(slide, size_px=100)


@pytest.fixture
def whole(slide, grid):
    return run(means, slide, grid).values


@pytest.mark.parametrize("batch_size", [1, 4, 12])
def test_what_a_function_wrote_into_its_batch_before_it_failed_is_not_taken_for_the_slide(batch_size, slide, grid, whole):
    bad = torch.from_numpy(read_tiles(grid, [BAD])[0])

    def writes_and_fails(batch):
        result, is_bad = means(batch), any(torch.equal(tile, bad) for tile in batch)
        batch.numpy()[:] = 0
        if is_bad:
            raise RuntimeError("no such nucleus")
        return result

    result = run(writes_and_fails, slide, grid, batch_size=batch_size, on_error="record")
    assert np.flatnonzero(result.status != 1).tolist() == [BAD]
    others = np.arange(len(grid)) != BAD
    np.testing.assert_array_equal(result.values[others], whole[others])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_a_function_wrote_before_memory_ran_out_is_not_taken_for_the_slide(mode, slide, grid, whole):
    def greedy(batch):
        result = means(batch)
        batch.zero_()
        if len(batch) > 4:
            raise torch.OutOfMemoryError("too large")
        return result

    with pytest.warns(UserWarning, match="Pass batch_size"), mode():
        result = run(greedy, slide, grid, batch_size=12)
    np.testing.assert_array_equal(result.values, whole)


@pytest.mark.parametrize("memory", [torch.zeros(4, 3, dtype=torch.float64), np.zeros((4, 3))], ids=["tensor", "array"])
def test_a_function_may_return_the_same_memory_each_time(memory, slide, grid, whole, tmp_path):
    def reusing(batch):
        memory[:] = means(batch)
        return memory

    streamed = [batch.values for batch in stream(reusing, slide, grid, batch_size=4)]
    for values in (
        np.concatenate(streamed),
        run(reusing, slide, grid, batch_size=4).values,
        run(reusing, slide, grid, batch_size=4, out=tmp_path / "a").values,
    ):
        np.testing.assert_array_equal(values[:], whole)


def test_numbers_that_numpy_has_no_name_for_arrive(slide, grid, whole):
    half = run(lambda batch: means(batch).to(torch.bfloat16), slide, grid).values
    np.testing.assert_array_equal(half, torch.from_numpy(whole).to(torch.bfloat16).float().numpy())
    conjugated = run(lambda batch: (means(batch) * 1j).conj(), slide, grid).values
    np.testing.assert_array_equal(conjugated, whole * -1j)


def test_tensors_in_lists_arrive_as_arrays(slide, grid, whole):
    values = run(lambda batch: list(means(batch)), slide, grid).values
    assert all(isinstance(value, np.ndarray) for value in values)
    np.testing.assert_array_equal(np.stack(values), whole)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda batch: dict.fromkeys(range(len(batch)), 0), r"one result per tile \(12\); got \['dict'\]"),
        (lambda batch: "x" * len(batch), r"got \['str'\]"),
        (lambda batch: set(range(len(batch))), r"got \['set'\]"),
        (lambda batch: (means(batch), ["x"] * len(batch)), "a tuple must hold tensors or arrays; got a list"),
        (lambda batch: (means(batch), pd.DataFrame({"tile": [0]})), "a tuple must hold tensors or arrays; got a DataFrame"),
        (lambda batch: means(batch).to_sparse(), "tensors must be dense"),
        (lambda batch: means(batch).to("meta"), "tensors must be dense"),
    ],
    ids=["dict", "string", "set", "list in a tuple", "table in a tuple", "sparse", "without numbers"],
)
@pytest.mark.parametrize("on_error", ["raise", "record"])
def test_what_cannot_be_told_apart_by_tile_is_refused_and_never_recorded(fn, message, on_error, slide, grid):
    with pytest.raises(IdxError, match=message):
        run(fn, slide, grid, on_error=on_error)


def test_a_tile_alone_is_not_tried_twice(slide, grid):
    calls = []

    def fails_once(batch):
        calls.append(len(batch))
        if len(calls) == 3:
            raise RuntimeError("out of luck")
        return means(batch)

    result = run(fails_once, slide, grid, batch_size=1, on_error="record")
    assert len(calls) == len(grid)
    assert result.errors["tile"].tolist() == [2]


def test_pieces_of_a_batch_that_do_not_go_together_are_named(slide, grid):
    def changes(batch):
        if len(batch) > 4:
            raise torch.OutOfMemoryError("too large")
        return means(batch)[:, : len(batch) - 1]

    with pytest.warns(UserWarning, match="Pass batch_size"), pytest.raises(IdxError, match="results must be alike for all tiles"):
        run(changes, slide, grid, batch_size=11)
