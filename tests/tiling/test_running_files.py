"""Runs over files: what is delivered, and what happens when a file is damaged, replaced or cut off while it is read."""

import os
import shutil

import numpy as np
import pytest
import slide_files as make
import tifffile
import torch

from idx.errors import FormatError, PixelAccessError, UnitError
from idx.io.slides import open_slide
from idx.tiling import plan, read_tiles, run, stream


def whole(batch: torch.Tensor) -> torch.Tensor:
    return batch.clone()


WRITERS = {
    "none": lambda path: make.write_tiff(path),
    "deflate": lambda path: make.write_tiff(path, compression="deflate", predictor=True),
    "lzw": lambda path: make.write_tiff(path, compression="lzw"),
    "jpeg": lambda path: make.write_tiff(path, compression="jpeg"),
    "ome": lambda path: make.write_ome(path),
    "bigtiff": lambda path: make.write_tiff(path, compression="deflate", bigtiff=True),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("options", [{"size_px": 64}, {"size_px": 50, "overlap_px": 20}, {"size_px": 130}, {"size_px": 40, "mpp": 0.6}], ids=str)
def test_tiles_of_a_run_are_the_pixels_of_the_slide(kind, options, tmp_path):
    path = tmp_path / "a.tif"
    WRITERS[kind](path)
    with open_slide(path) as slide:
        grid = plan(slide, **{"mpp": 0.25, **options})
        expected = read_tiles(grid, range(len(grid)))
        for workers, batch_size in ((1, 3), (3, 8)):
            np.testing.assert_array_equal(run(whole, slide, grid, workers=workers, batch_size=batch_size).values, expected)
        if not grid.is_resampled:
            x, y = grid.origin_px[5].tolist()
            np.testing.assert_array_equal(expected[5], slide.read_region(x, y, width_px=grid.size_px, height_px=grid.size_px))


def test_a_damaged_tile_in_the_middle_costs_only_the_tiles_that_it_is_part_of(tmp_path):
    path = tmp_path / "a.tif"
    make.write_tiff(path, compression="jpeg")
    with open_slide(path) as slide:
        expected = read_tiles(plan(slide, size_px=50, mpp=0.25), range(42))
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[8], tiff.pages[0].databytecounts[8]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * count)
    with open_slide(path) as slide:
        grid = plan(slide, size_px=50, mpp=0.25)
        result = run(whole, slide, grid, on_error="record", batch_size=9)
        # Stored tile 8 is x 128..191, y 64..127.
        hit = (grid.origin_px[:, 0] < 192) & (grid.origin_px[:, 0] + 50 > 128) & (grid.origin_px[:, 1] < 128) & (grid.origin_px[:, 1] + 50 > 64)
        np.testing.assert_array_equal(result.status == 2, hit)
        assert result.errors["tile"].tolist() == np.flatnonzero(hit).tolist()
        assert result.errors["error"].str.contains("level 0, tile 8, .*a.tif").all()
        np.testing.assert_array_equal(result.values[~hit], expected[~hit])
        with pytest.raises(PixelAccessError, match=r"tile 9 at level-0 px x=100, y=50 .*level 0, tile 8"):
            run(whole, slide, grid)


def test_a_slide_that_is_replaced_while_it_is_read_stops_the_run(tmp_path):
    path = tmp_path / "a.tif"
    make.write_tiff(path, compression="deflate")
    shutil.copy(path, tmp_path / "b.tif")
    with open_slide(path) as slide:
        grid = plan(slide, size_px=20, mpp=0.25)
        batches = stream(whole, slide, grid, batch_size=4, workers=1)
        next(batches)
        os.replace(tmp_path / "b.tif", path)
        with pytest.raises(PixelAccessError, match=r"must stay as it was while it is open.*Open it again"):
            list(batches)


def test_a_file_cut_off_or_without_mpp_is_refused_before_any_run(tmp_path):
    path = tmp_path / "a.tif"
    make.write_tiff(path, compression="deflate", mpp=None)
    with pytest.raises(UnitError, match=r"a\.tif.*Pass open_slide\(\.\.\., mpp="):
        open_slide(path)
    make.write_tiff(path, compression="deflate")
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(FormatError, match=r"a\.tif"):
        open_slide(path)
