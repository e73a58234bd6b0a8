"""Results in a folder: whatever moment a crash comes at, the folder is absent or can be resumed, and says nothing that it did not finish."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from array_slides import array_slide

from idx.errors import IdxError
from idx.tiling import TileGrid, plan, run
from idx.tiling.store import Stored

PIXELS = np.random.default_rng(1).integers(0, 256, (230, 310, 3), dtype=np.uint8)


def means(batch: torch.Tensor) -> torch.Tensor:
    return batch.double().mean(dim=(1, 2))


def pair(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return means(batch), means(batch)[:, 0].int()


def rows(batch: torch.Tensor) -> pd.DataFrame:
    return pd.DataFrame({"tile": np.arange(len(batch)).repeat(2), "v": means(batch)[:, 0].numpy().repeat(2)})


@pytest.fixture
def slide():
    return array_slide(PIXELS)


@pytest.fixture
def grid(slide):
    return plan(slide, size_px=100)


def test_a_folder_that_was_not_finished_is_not_there(slide, grid, tmp_path, monkeypatch):
    def crashes(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TileGrid, "to_frame", crashes)
    with pytest.raises(KeyboardInterrupt):
        run(means, slide, grid, out=tmp_path / "a")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    assert run(means, slide, grid, out=tmp_path / "a").is_complete


def test_arrays_of_which_a_crash_left_some_are_made_again(slide, grid, tmp_path, monkeypatch):
    made = Stored._new_array

    def crashes_at_the_second(self, number, part):
        if number == 1:
            raise KeyboardInterrupt
        return made(self, number, part)

    monkeypatch.setattr(Stored, "_new_array", crashes_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(pair, slide, grid, out=tmp_path / "a")
    monkeypatch.undo()
    result = run(pair, slide, grid, out=tmp_path / "a", resume=True)
    for found, expected in zip(result.values, run(pair, slide, grid).values, strict=True):
        np.testing.assert_array_equal(found[:], expected)


def test_a_line_of_errors_that_a_crash_cut_off_harms_no_other(slide, grid, tmp_path):
    broken = array_slide(PIXELS, broken=(250, 130))
    run(means, broken, grid, out=tmp_path / "a", on_error="record")
    with (tmp_path / "a" / "errors.jsonl").open("a") as lines:
        lines.write('\n{"tile": 3, "level0_x_')
    result = run(means, broken, grid, out=tmp_path / "a", on_error="record", resume=True)
    assert result.errors["tile"].tolist() == [6]
    assert result.status.tolist() == [1] * 6 + [2] + [1] * 5


def test_rows_of_tiles_that_are_not_done_are_not_shown(slide, grid, tmp_path):
    """A crash may come between the rows of some tiles and the mark that they are done."""
    run(rows, slide, grid, out=tmp_path / "a")
    zarr.open_group(tmp_path / "a", mode="r+")["status"][4:] = 0
    stop = threading.Event()
    stop.set()
    partial = run(rows, slide, grid, out=tmp_path / "a", resume=True, cancel=stop)
    assert partial.values["tile"].tolist() == np.arange(4).repeat(2).tolist()
    complete = run(rows, slide, grid, out=tmp_path / "a", resume=True, batch_size=3)
    pd.testing.assert_frame_equal(complete.values, run(rows, slide, grid).values)


@pytest.mark.parametrize("fns", [(rows, means), (means, rows), (pair, means)], ids=["table first", "array first", "tuple first"])
@pytest.mark.parametrize("resumed", [False, True])
def test_results_of_two_kinds_are_refused_not_dropped(fns, resumed, slide, grid, tmp_path):
    calls = []

    def changes(batch):
        calls.append(len(batch))
        return fns[len(calls) > 2](batch)

    stop = threading.Event()
    if resumed:
        run(lambda batch: stop.set() or fns[0](batch), slide, grid, batch_size=3, out=tmp_path / "a", cancel=stop)
        calls = [0, 0]
    with pytest.raises(IdxError, match="results must be alike for all tiles"):
        run(changes, slide, grid, batch_size=3, out=tmp_path / "a", resume=resumed)


def test_a_folder_that_takes_no_more_is_named_and_can_be_gone_on_with(slide, grid, tmp_path, monkeypatch):
    def full(_, path, **__):
        if "tables" in str(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(IdxError, match=r"No space left.*a'\). Make room.*resume=True"):
        run(rows, slide, grid, out=tmp_path / "a")
    monkeypatch.undo()
    pd.testing.assert_frame_equal(run(rows, slide, grid, out=tmp_path / "a", resume=True).values, run(rows, slide, grid).values)


@pytest.mark.parametrize(
    ("values", "missing"),
    [(np.array(["2020-01-01"] * 12, dtype="M8[D]"), np.datetime64("NaT")), (np.ones(12, dtype=bool), False), (np.ones((12, 2), dtype="f2"), np.nan)],
    ids=["dates", "flags", "half floats"],
)
def test_what_a_failed_tile_holds_is_nothing_that_was_measured(values, missing, grid, tmp_path):
    broken = array_slide(PIXELS, broken=(250, 130))
    for out in (None, tmp_path / "a"):
        result = run(lambda batch: values[: len(batch)], broken, grid, on_error="record", out=out)
        found = np.asarray(result.values[:])
        np.testing.assert_array_equal(found[6], np.full(values.shape[1:], missing, dtype=values.dtype))
        np.testing.assert_array_equal(found[7:], values[7:])


def test_arrays_of_which_a_crash_left_all_but_the_mark_are_made_again(slide, grid, tmp_path):
    run(pair, slide, grid, out=tmp_path / "a")
    group = zarr.open_group(tmp_path / "a", mode="r+")
    del group.attrs["results"]
    group["status"][:] = 0
    assert run(pair, slide, grid, out=tmp_path / "a", resume=True).is_complete
