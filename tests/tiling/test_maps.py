import json

import numpy as np
import openslide
import pytest
import zarr
from array_slides import array_slide, planned_slide
from label_tiles import batches, cut
from slide_files import picture

import idx
from idx.errors import FormatError, GeometryError
from idx.tiling import TileBatch, plan, run, stitch_map

WIDTH, HEIGHT = 1330, 1170


@pytest.fixture(scope="module")
def grid():
    return plan(planned_slide(WIDTH, HEIGHT), size_px=300, overlap_px=60)


@pytest.fixture(scope="module")
def values():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (0.5 + 0.5 * np.sin(x / 90) * np.cos(y / 70)).astype(np.float32)


def test_one_value_per_tile_is_a_map_of_one_pixel_per_core():
    slide = array_slide(picture(500, 400))
    grid = plan(slide, size_px=64, overlap_px=16)
    result = run(lambda batch: batch.float().mean(dim=(1, 2)), slide, grid)
    found = stitch_map(result.batches(), grid)
    assert found.values.shape == (*grid.shape, 3)
    np.testing.assert_array_equal(found.values[grid.row, grid.column], result.values)
    assert found.mpp == (24.0, 24.0)
    # The middle of a pixel is the middle of its core.
    left, top, right, bottom = grid.core_bounds_um[0]
    np.testing.assert_allclose(found.to_um(np.zeros(2)), [(left + right) / 2, (top + bottom) / 2])
    np.testing.assert_allclose(found.to_px(found.to_um(np.array([2.0, 3.0]))), [2.0, 3.0])
    one = stitch_map(result.batches(), grid, channel=1)
    np.testing.assert_array_equal(one.values, found.values[..., 1])


def test_tiles_that_are_not_there_leave_nothing_behind(values, grid):
    tiles = cut(values, grid)
    tiles[:, ::50] = np.nan
    found = stitch_map(batches(tiles, without=(3, 4)), grid).values
    known = ~np.isnan(found)
    np.testing.assert_array_equal(found[known], values[known])
    assert not known[: grid.core_px - 30, 3 * grid.core_px + 30 : 5 * grid.core_px - 30].any()
    # Row 170 is row 200 of the first tiles, which know nothing there; row 220 is row 10 of those below, which do.
    assert not known[170].any()
    assert known[220].all()


def test_a_map_of_what_the_function_left_of_tiles(values, grid):
    found = stitch_map(batches(cut(values, grid, margin_px=30)), grid, margin_px=30)
    np.testing.assert_array_equal(found.values, values)


def test_the_order_of_a_plan_may_be_any(values, grid):
    mixed = grid.select(np.random.default_rng(0).permutation(len(grid)))
    np.testing.assert_array_equal(stitch_map(batches(cut(values, mixed)), mixed).values, values)


def test_numbers_of_classes_are_not_mixed(grid):
    classes = np.random.default_rng(0).integers(0, 5, (HEIGHT, WIDTH))
    tiles = cut(classes, grid)
    tiles[1::2, :, :30] = 9
    found = stitch_map(batches(tiles), grid, blending="core")
    assert set(np.unique(found.values)) == {0, 1, 2, 3, 4}


def test_a_zarr_keeps_values_and_says_where_they_lie(tmp_path, values, grid):
    channels = np.stack([values, 1 - values], axis=-1)
    found = stitch_map(batches(cut(channels, grid)), grid, out=tmp_path / "map.zarr", name="tumour", value_range=(0, 1))
    assert [level.shape for level in found.levels] == [(2, HEIGHT, WIDTH), (2, 585, 665), (2, 293, 333)]
    np.testing.assert_array_equal(found.values[:], np.moveaxis(channels, -1, 0))
    blocks = values.reshape(585, 2, 665, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(found.levels[1][0], blocks, rtol=1e-6)
    # The last row and column of the coarsest level average what there is of them.
    np.testing.assert_allclose(found.levels[2][0, -1, -1], blocks[-1, -1], rtol=1e-6)
    ome = zarr.open_group(tmp_path / "map.zarr", mode="r").attrs["ome"]
    (scale,) = ome["multiscales"]
    assert ome["version"] == "0.5"
    assert scale["name"] == "tumour"
    assert [(axis["name"], axis.get("unit")) for axis in scale["axes"]] == [("c", None), ("y", "micrometer"), ("x", "micrometer")]
    assert [channel["window"]["end"] for channel in ome["omero"]["channels"]] == [1.0, 1.0]
    for level, dataset in enumerate(scale["datasets"]):
        stretch, shift = (transform[kind] for transform, kind in zip(dataset["coordinateTransformations"], ("scale", "translation"), strict=True))
        s = 2**level
        assert zarr.open_array(tmp_path / "map.zarr" / dataset["path"], mode="r").shape == found.levels[level].shape
        for i in (0, 7):
            # Pixel i of a level of scale s has its centre at s*i + (s-1)/2.
            np.testing.assert_allclose(np.array(shift[1:]) + i * np.array(stretch[1:]), grid.lattice_to_um(np.full(2, s * i + (s - 1) / 2)))


def test_the_place_of_a_region_is_kept(tmp_path):
    grid = plan(planned_slide(900, 900), size_px=100, bounds_um=(100.0, 50.0, 300.0, 200.0))
    found = stitch_map(batches(np.ones((len(grid), 100, 100))), grid, out=tmp_path / "map.zarr")
    shift = zarr.open_group(tmp_path / "map.zarr", mode="r").attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][1]
    np.testing.assert_allclose(shift["translation"], found.origin_um[::-1])
    np.testing.assert_allclose(found.origin_um, grid.lattice_to_um(np.zeros(2)))
    assert found.values.dtype == np.float64


def test_napari_takes_the_levels_where_they_lie(tmp_path, values, grid):
    layers = pytest.importorskip("napari.layers")
    found = stitch_map(batches(cut(values, grid)), grid, out=tmp_path / "map.zarr")
    layer = layers.Image(list(found.levels), multiscale=True, scale=found.mpp[::-1], translate=found.origin_um[::-1], contrast_limits=found.value_range)
    low, high = layer.extent.world
    np.testing.assert_allclose(low[::-1], grid.lattice_to_um(np.zeros(2)))
    np.testing.assert_allclose(high[::-1], grid.lattice_to_um(np.array([WIDTH - 1, HEIGHT - 1])))


def opened(path):
    with openslide.OpenSlide(path) as slide:
        levels = [np.asarray(slide.read_region((0, 0), level, size))[..., :3] for level, size in enumerate(slide.level_dimensions)]
        return levels, dict(slide.properties), slide.level_downsamples


def test_a_grey_tiff_opens_in_openslide_and_says_what_its_codes_mean(tmp_path, values, grid):
    tiles = cut(values, grid)
    stitch_map(batches(tiles, without=(0,)), grid, out=tmp_path / "map.tif", value_range=(0.2, 0.8))
    levels, properties, downsamples = opened(tmp_path / "map.tif")
    assert properties["openslide.vendor"] == "generic-tiff"
    assert float(properties["openslide.mpp-x"]) == pytest.approx(0.5, rel=1e-9)
    # Sizes are whole multiples, so that readers get the scale of levels right.
    assert downsamples == (1.0, 2.0, 4.0)
    assert levels[0].shape == (1172, 1332, 3)
    said = json.loads(properties["tiff.ImageDescription"])["idx_map"]
    assert said["size_px"] == [WIDTH, HEIGHT]
    low, high = said["value_range"]
    assert said["codes"].startswith("0: no tile looked; 1 to 255: 0.2 + (code - 1) / 254 * 0.6")
    code = levels[0][:HEIGHT, :WIDTH, 0].astype(float)
    is_known = ~np.isnan(stitch_map(batches(tiles, without=(0,)), grid).values)
    assert ((code == 0) == ~is_known).all()
    decoded = low + (code - 1) / 254 * (high - low)
    np.testing.assert_allclose(decoded[is_known], np.clip(values, low, high)[is_known], atol=0.6 / 254 / 2 + 1e-6)
    assert (levels[0][HEIGHT:] == 0).all()
    mean = np.where(is_known, values, np.nan)[600:1000, 400:1000].reshape(200, 2, 300, 2).mean(axis=(1, 3))
    decoded = low + (levels[1][300:500, 200:500, 0].astype(float) - 1) / 254 * (high - low)
    np.testing.assert_allclose(decoded, np.clip(mean, low, high), atol=0.6 / 254 / 2 + 1e-6)


def test_a_tiff_in_colours_is_white_where_no_tile_looked(tmp_path, values, grid):
    from matplotlib import colormaps

    part = grid.select(grid.column > 0)
    found = stitch_map(batches(cut(values, part)), part, out=tmp_path / "map.tif", colours="magma")
    levels, _, _ = opened(tmp_path / "map.tif")
    assert (levels[0][:, :200] == 255).all()
    expected = colormaps["magma"](values.astype(float))[..., :3] * 255
    assert np.abs(levels[0][:HEIGHT, 300:WIDTH] - expected[:, 300:]).max() < 3.0
    # It is a slide for idx too.
    with idx.open_slide(tmp_path / "map.tif") as slide:
        assert slide.mpp == pytest.approx((0.5, 0.5))
        np.testing.assert_array_equal(slide.read_region(300, 400, width_px=200, height_px=100), levels[0][400:500, 300:500])
    assert "map.tif" in repr(found)
    assert np.isnan(found.preview[:, 0]).all()


def test_pixels_of_tiles_are_put_together_to_the_slide(tmp_path):
    pixels = picture(700, 600)
    slide = array_slide(pixels)
    grid = plan(slide, size_px=200, overlap_px=40)
    result = run(lambda batch: batch, slide, grid)
    stitch_map(result.batches(), grid, out=tmp_path / "same.tif")
    levels, _, _ = opened(tmp_path / "same.tif")
    np.testing.assert_array_equal(levels[0][:600, :700], pixels)


def test_jpeg_is_smaller_and_near(tmp_path, values, grid):
    for compression in ("jpeg", "deflate"):
        stitch_map(batches(cut(values, grid)), grid, out=tmp_path / f"{compression}.tif", compression=compression)
    (lossy, *_), (exact, *_) = (opened(tmp_path / f"{name}.tif")[0] for name in ("jpeg", "deflate"))
    assert np.abs(lossy.astype(float) - exact).mean() < 1.0


def test_it_shows_itself(values, grid):
    found = stitch_map(batches(cut(values, grid)), grid, name="tumour")
    assert "tumour" in repr(found)
    assert "data:image/png" in found._repr_html_()
    assert found.value_range == pytest.approx((values.min(), values.max()), abs=0.02)


def test_rows_are_finished_while_tiles_come(monkeypatch):
    """No more rows are held than a tile and a band have."""
    from idx.tiling import map_tiles

    held, reach = [], map_tiles._Canvas.reach

    def watched(self, bottom):
        reach(self, bottom)
        held.append(len(self.total))

    monkeypatch.setattr(map_tiles._Canvas, "reach", watched)
    tall = plan(planned_slide(300, 6000), size_px=300, overlap_px=60)
    stitch_map(batches(np.ones((len(tall), 300, 300))), tall)
    assert max(held) <= 300 + 512


BAD = [
    (lambda t: t[:, :-1], {}, "squares"),
    (lambda t: np.moveaxis(np.stack([t, t], axis=-1), -1, 1), {}, "Move channels last"),
    (lambda t: t, {"margin_px": 10}, "squares"),
    (lambda t: (t, t), {}, "one array"),
    (lambda t: t.astype(str), {}, "numbers"),
    (lambda t: t, {"blending": "mean"}, "blending"),
    (lambda t: t, {"channel": 0}, "channel"),
    (lambda t: t, {"value_range": (1.0, 0.0)}, "value_range"),
]


@pytest.mark.parametrize(("change", "options", "message"), BAD)
def test_what_is_no_map_is_refused(values, grid, change, options, message):
    with pytest.raises(GeometryError, match=message):
        stitch_map(batches(change(cut(values, grid))), grid, **options)


def test_what_cannot_be_shown_or_written_is_refused(values, grid, tmp_path):
    tiles = cut(values, grid)
    with pytest.raises(FormatError, match="value_range"):
        stitch_map(batches(tiles * 3), grid, out=tmp_path / "map.tif")
    with pytest.raises(FormatError, match="channel="):
        stitch_map(batches(np.stack([tiles, tiles], axis=-1)), grid, out=tmp_path / "map.tif")
    with pytest.raises(FormatError, match="colour map"):
        stitch_map(batches(tiles), grid, out=tmp_path / "map.tif", colours="haematoxylin")
    with pytest.raises(FormatError, match=r"\.tif or \.zarr"):
        stitch_map(batches(tiles), grid, out=tmp_path / "map.png")
    with pytest.raises(FormatError, match="compression"):
        stitch_map(batches(tiles), grid, compression="jpeg")
    with pytest.raises(GeometryError, match="at least one tile"):
        stitch_map([], grid)
    with pytest.raises(GeometryError, match="one shape"):
        stitch_map([TileBatch(np.array([0, 1]), [tiles[0], tiles[1][..., None]])], grid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["map.tif", "map.zarr"])
def test_a_map_is_replaced_only_where_asked(values, grid, tmp_path, name):
    tiles = cut(values, grid)
    stitch_map(batches(tiles * 0), grid, out=tmp_path / name)
    with pytest.raises(FormatError, match="exist"):
        stitch_map(batches(tiles), grid, out=tmp_path / name)
    stitch_map(batches(tiles), grid, out=tmp_path / name, overwrite=True)
    if name.endswith("zarr"):
        np.testing.assert_array_equal(zarr.open_array(tmp_path / name / "0", mode="r")[:], values)
    assert [path.name for path in tmp_path.iterdir()] == [name]
