import shutil
from dataclasses import replace

import numpy as np
import pytest
from array_slides import planned_slide
from slide_files import write_tiff

from idx.errors import GeometryError
from idx.io import open_slide
from idx.tiling import TileGrid, plan


@pytest.fixture
def grid():
    mask = np.zeros((7, 10), dtype=bool)
    mask[1:6, 2:8] = True
    return plan(planned_slide(1000, 700), size_px=128, overlap_px=28, within=mask)


def test_a_subset_by_mask_indices_or_slice(grid):
    frame = grid.to_frame()
    chosen = grid.tissue_fraction == 1.0
    assert chosen.sum() > 0
    for subset, rows in (
        (grid.select(chosen), frame[chosen]),
        (grid.select([3, 0, -1]), frame.iloc[[3, 0, -1]]),
        (grid.select(slice(2, 9, 3)), frame.iloc[2:9:3]),
        (grid[chosen], frame[chosen]),
        (grid[np.array([5])], frame.iloc[[5]]),
        (grid[::-1], frame.iloc[::-1]),
        (grid.select([]), frame.iloc[[]]),
    ):
        np.testing.assert_array_equal(subset.to_frame().to_numpy(), rows.to_numpy())
        assert (subset.shape, subset.extent_px, subset.read_size_px) == (grid.shape, grid.extent_px, grid.read_size_px)


@pytest.mark.parametrize("keep", [[True, False], [0.5], [1000], [-1000], [[0, 1]], True, "all"])
def test_subsets_that_are_none_are_refused(grid, keep):
    with pytest.raises(GeometryError, match="keep must be"):
        grid.select(keep)


def test_a_number_is_a_row_of_the_table(grid):
    frame = grid.to_frame()
    for position in (0, 7, len(grid) - 1):
        assert grid[position].equals(frame.iloc[position])
        assert grid[position].name == position
    assert grid[-1].name == len(grid) - 1
    assert [row.name for row in grid] == list(range(len(grid)))
    with pytest.raises(IndexError, match=f"one of {len(grid)}"):
        grid[len(grid)]


def test_values_are_put_where_the_tiles_lie(grid):
    placed = grid.as_map(np.arange(len(grid)))
    assert placed.shape == grid.shape
    assert np.isnan(placed).sum() == placed.size - len(grid)
    np.testing.assert_array_equal(placed[grid.row, grid.column], np.arange(len(grid)))
    assert grid.as_map(np.ones((len(grid), 3), dtype=np.float32), missing=0).dtype == np.float32
    assert grid.as_map(np.ones(len(grid), dtype=bool), missing=False).sum() == len(grid)
    with pytest.raises(GeometryError, match=f"one per tile \\({len(grid)}\\)"):
        grid.as_map(np.ones(3))


def test_points_find_the_tile_whose_core_holds_them(grid):
    centres = grid.core_bounds_um.reshape(-1, 2, 2).mean(axis=1)
    np.testing.assert_array_equal(grid.tile_at(centres), np.arange(len(grid)))
    left, top = grid.core_bounds_um[4, :2]
    assert grid.tile_at([[left, top], [left - 1e-6, top]]).tolist() == [4, 3]
    assert grid.tile_at([[0.0, 0.0], [-5.0, 100.0], [1e6, 100.0]]).tolist() == [-1, -1, -1]


def test_beyond_the_slide_there_is_no_tile():
    whole = plan(planned_slide(1000, 700), size_px=128)
    assert whole.tile_at([[499.74, 349.74], [499.76, 349.74], [499.74, 349.76], [-0.24, -0.24], [-0.26, 0.0]]).tolist() == [47, -1, -1, 0, -1]


def test_what_is_asked_for_each_tile_is_worked_out_once(grid):
    """Readers ask tile by tile: with 200,000 tiles, working it out each time would be quadratic."""
    for name in ("origin_px", "read_rects_px", "read_size_px", "fingerprint"):
        assert getattr(grid, name) is getattr(grid, name)
    for name in ("origin_px", "read_rects_px", "column", "row", "tissue_fraction"):
        assert not getattr(grid, name).flags.writeable


def test_a_grid_made_by_hand_covers_the_whole_slide():
    slide = planned_slide(1000, 700)
    grid = TileGrid(slide, 0, 100, 0, (0.5, 0.5), (1.0, 1.0), np.zeros(1), np.zeros(1), np.ones(1))
    assert (grid.extent_px, grid.shape, grid.is_whole_slide) == ((1000, 700), (7, 10), True)
    with pytest.raises(GeometryError, match="one entry per tile; got 1, 2 and 1"):
        TileGrid(slide, 0, 100, 0, (0.5, 0.5), (1.0, 1.0), np.zeros(1), np.zeros(2), np.ones(1))


def test_the_fingerprint_is_of_the_geometry_alone(tmp_path):
    write_tiff(tmp_path / "a.tif", levels=(1, 4), mpp=0.25)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "a.tif", tmp_path / "elsewhere" / "b.tif")
    with open_slide(tmp_path / "a.tif") as first, open_slide(tmp_path / "elsewhere" / "b.tif") as second:
        expected = plan(first, size_px=50, mpp=0.25).fingerprint
        assert plan(second, size_px=50, mpp=0.25).fingerprint == expected
        assert len(expected) == 64
        assert plan(second, size_px=50, mpp=0.25, within=np.ones((27, 33), dtype=bool)).fingerprint == expected


def test_the_fingerprint_sees_every_part_of_the_geometry():
    slide = planned_slide(1000, 700, mpp=0.25, downsamples=(1, 2))
    grid = plan(slide, size_px=64, mpp=0.6, overlap_px=8)
    others = [
        grid,
        replace(grid, level=0),
        replace(grid, size_px=66),
        replace(grid, overlap_px=10),
        replace(grid, mpp=(0.6, 0.61)),
        replace(grid, scale=(1.2, 1.21)),
        replace(grid, offset_px=(1, 0)),
        replace(grid, extent_px=(grid.extent_px[0] - 1, grid.extent_px[1])),
        grid[::-1],
        grid[:-1],
        replace(grid, column=grid.row, row=grid.column),
        replace(grid, row=grid.row[::-1]),
        replace(grid, slide=planned_slide(1001, 700, mpp=0.25, downsamples=(1, 2))),
        replace(grid, slide=planned_slide(1000, 700, mpp=0.26, downsamples=(1, 2))),
        replace(grid, slide=planned_slide(1000, 700, mpp=0.25, downsamples=(1, 2, 4))),
    ]
    assert len({other.fingerprint for other in others}) == len(others)


def test_the_table_tells_three_sizes_apart():
    grid = plan(planned_slide(4000, 3000, mpp=0.25, downsamples=(1, 4)), size_px=100, mpp=1.5, overlap_px=20)
    row = grid.to_frame().set_index(["column", "row"]).loc[(2, 1)]
    assert row[["level0_x_px", "level0_y_px", "level0_width_px"]].tolist() == [150 * 6.0, 70 * 6.0, 600.0]
    assert row[["read_x_px", "read_y_px", "read_width_px", "read_height_px"]].tolist() == [225, 105, 150, 150]
    assert row[["centre_x_um", "centre_y_um"]].tolist() == [((150 + 50) * 6 - 0.5) * 0.25, ((70 + 50) * 6 - 0.5) * 0.25]


def test_a_plan_describes_itself():
    grid = plan(planned_slide(4000, 3000, mpp=0.25, downsamples=(1, 4)), size_px=100, mpp=1.5, bounds_um=(100, 100, 700, 500))
    assert repr(grid) == "TileGrid(15 tiles of 100 px at 1.5 um/px, overlap 0 px, level 1 of 'planned')"
    facts = dict(grid.facts())
    assert facts["tiles"] == "15 of 15 (3 rows x 5 columns)"
    assert facts["pixels"] == "area-averaged x1.5 from level 1 (1:4)"
    assert facts["region"].startswith("x 99.875 to 701.375 um")
