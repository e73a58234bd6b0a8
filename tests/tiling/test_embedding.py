"""Vectors of the tiles of a plan: their order, their places, their folder, and what is refused."""

import shutil
import threading

import numpy as np
import pytest
import torch
import zarr
from array_slides import array_slide
from torch import nn

import idx
from idx.errors import FormatError, GeometryError, IdxError, MissingDependency, PixelAccessError, UnitError
from idx.io import read_embeddings
from idx.slide import SAME_SCALE_RTOL
from idx.tiling import embed, load_encoder, plan, read_tiles

PIXELS = np.random.default_rng(1).integers(0, 256, (230, 310, 3), dtype=np.uint8)
PLAIN = {"mpp": 0.5, "size_px": 50, "mean": (0, 0, 0), "std": (1 / 255,) * 3}


def mean_colour(**changes):
    return load_encoder(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), **PLAIN | {"name": "mean colour"} | changes)


def expected_of(grid):
    return read_tiles(grid, range(len(grid))).mean(axis=(1, 2))


@pytest.mark.parametrize("options", [{}, {"overlap_px": 10}, {"bounds_um": (20.0, 10.0, 120.0, 100.0)}, {"mpp": 1.2}])
def test_each_tile_has_its_vector_and_place(options):
    slide = array_slide(PIXELS)
    grid = plan(slide, **{"size_px": 50, "mpp": 0.5} | options)
    tiles = embed(slide, grid, mean_colour(mpp=options.get("mpp", 0.5)), device="cpu", batch_size=7)
    np.testing.assert_allclose(tiles.vectors, expected_of(grid), atol=1e-3)
    assert tiles.vectors.dtype == np.float32
    frame = grid.to_frame()
    np.testing.assert_allclose(tiles.corner_level0_px, frame[["level0_x_px", "level0_y_px"]])
    np.testing.assert_allclose(tiles.centre_um, frame[["centre_x_um", "centre_y_um"]])
    assert tiles.size_level0_px == (frame["level0_width_px"].iloc[0], frame["level0_height_px"].iloc[0])
    assert (tiles.mpp, tiles.name) == (slide.mpp, slide.name)


def test_a_selection_of_tiles_keeps_their_places():
    slide = array_slide(PIXELS)
    grid = plan(slide, size_px=50, mpp=0.5).select([3, 17])
    table = embed(slide, grid, mean_colour(), device="cpu").to_table()
    assert table.values.index.tolist() == [0, 1]
    np.testing.assert_allclose(table.values[["embedding_0000", "embedding_0001", "embedding_0002"]], expected_of(grid), atol=1e-3)
    np.testing.assert_allclose(table.values[["centre_x_um", "centre_y_um"]], grid.to_frame()[["centre_x_um", "centre_y_um"]])


def test_provenance_says_how_they_were_made():
    slide = array_slide(PIXELS)
    grid = plan(slide, size_px=50, mpp=0.5, overlap_px=10)
    made = embed(slide, grid, mean_colour(), device="cpu").provenance
    assert (made.function, made.inputs, made.device) == ("idx.tiling.embed", ("array",), "cpu")
    settings = dict(made.settings)
    assert len(settings.pop("weights_sha256")) == 64
    assert settings == {
        "encoder": "mean colour",
        "encoder_mpp": 0.5,
        "encoder_size_px": 50,
        "input_px": 50,
        "mean": "0.0, 0.0, 0.0",
        "std": ", ".join([repr(1 / 255)] * 3),
        "precision": "float32",
        "size_px": 50,
        "mpp_x": 0.5,
        "mpp_y": 0.5,
        "overlap_px": 10,
        "level": 0,
        "plan": grid.fingerprint,
    }


def test_the_plan_must_be_what_the_encoder_wants():
    slide = array_slide(PIXELS)
    grid = plan(slide, size_px=50, mpp=0.5)
    with pytest.raises(UnitError, match=r"encoder's 0\.25 um/px \(within 2%\); got 0\.5 x 0\.5.*size_px=50, mpp=0\.25"):
        embed(slide, grid, mean_colour(mpp=0.25))
    with pytest.raises(GeometryError, match=r"encoder's 48 px; got 50 px.*size_px=48, mpp=0\.5"):
        embed(slide, grid, mean_colour(size_px=48))
    for factor in (1.019, 0.981):
        assert len(embed(slide, grid, mean_colour(mpp=0.5 / factor), device="cpu")) == len(grid)
    for factor in (1.021, 0.979):
        with pytest.raises(UnitError):
            embed(slide, grid, mean_colour(mpp=0.5 / factor))
    assert SAME_SCALE_RTOL == 0.02
    skewed = array_slide(PIXELS, mpp=(0.5, 0.6))
    with pytest.raises(UnitError, match=r"got 0\.5 x 0\.6"):
        embed(skewed, plan(skewed, size_px=50, level=0), mean_colour())


def test_without_tiles_there_is_nothing_to_embed():
    slide = array_slide(PIXELS)
    grid = plan(slide, size_px=50, mpp=0.5)
    with pytest.raises(GeometryError, match="at least one tile"):
        embed(slide, grid.select([]), mean_colour())


def test_a_plan_of_another_slide_is_refused():
    with pytest.raises(GeometryError, match="plan of the slide"):
        embed(array_slide(PIXELS), plan(array_slide(PIXELS[:100]), size_px=50, mpp=0.5), mean_colour())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so asking for one must not fail")
def test_an_absent_device_is_refused():
    slide = array_slide(PIXELS)
    with pytest.raises(MissingDependency):
        embed(slide, plan(slide, size_px=50, mpp=0.5), mean_colour(), device="cuda")


def test_a_precision_of_other_devices_is_refused_before_a_tile_is_read():
    slide = array_slide(PIXELS, broken=(0, 0))
    with pytest.raises(MissingDependency, match="precision 'bfloat16'"):
        embed(slide, plan(slide, size_px=50, mpp=0.5), mean_colour(precision="bfloat16"), device="cpu")


class OneOver(nn.Module):
    """Infinite where a tile is black."""

    def forward(self, x):
        return (1.0 / x.mean(dim=(2, 3))).to(x.dtype)


def test_a_vector_that_is_not_finite_names_its_tile():
    pixels = PIXELS.copy()
    pixels[50:100, 150:200] = 0
    slide = array_slide(pixels)
    with pytest.raises(IdxError, match=r"finite.*tile 10 at level-0 px x=150, y=50"):
        embed(slide, plan(slide, size_px=50, mpp=0.5), load_encoder(OneOver(), **PLAIN), device="cpu")


def test_a_damaged_tile_names_its_place():
    slide = array_slide(PIXELS, broken=(120, 60))
    with pytest.raises(PixelAccessError, match="x=100, y=50"):
        embed(slide, plan(slide, size_px=50, mpp=0.5), mean_colour(), device="cpu")


class Brightness:
    """An encoder of another maker."""

    mpp, size_px = 0.5, 50

    def __call__(self, batch):
        return batch.double().mean(dim=(1, 2, 3))[:, None]


class Flat(Brightness):
    def __call__(self, batch):
        return batch.float().mean(dim=(1, 2, 3))


def test_encoders_of_other_makers_are_used_as_they_are():
    slide = array_slide(PIXELS)
    grid = plan(slide, size_px=50, mpp=0.5)
    tiles = embed(slide, grid, Brightness(), device="cpu")
    assert tiles.vectors.dtype == np.float32
    np.testing.assert_allclose(tiles.vectors[:, 0], expected_of(grid).mean(axis=1), atol=1e-3)
    assert tiles.provenance.settings["encoder"].endswith("Brightness")
    with pytest.raises(IdxError, match="one vector per tile"):
        embed(slide, grid, Flat(), device="cpu")


def test_vectors_on_the_disk_are_those_in_memory(tmp_path):
    slide = array_slide(PIXELS)
    grid = plan(slide, size_px=50, mpp=0.5)
    in_memory = embed(slide, grid, mean_colour(), device="cpu")
    stored = embed(slide, grid, mean_colour(), device="cpu", out=tmp_path / "runs" / "A12.zarr")
    assert isinstance(stored.vectors, zarr.Array)
    for tiles in (stored, read_embeddings(tmp_path / "runs" / "A12.zarr", slide=slide)):
        np.testing.assert_array_equal(np.asarray(tiles.vectors), in_memory.vectors)
        np.testing.assert_array_equal(tiles.centre_um, in_memory.centre_um)
        assert tiles.provenance == in_memory.provenance
    with pytest.raises(FormatError, match="out must be new"):
        embed(slide, grid, mean_colour(), device="cpu", out=tmp_path / "runs" / "A12.zarr")


class Interrupted(nn.Module):
    """Fails after some batches, as a machine does."""

    def __init__(self, after):
        super().__init__()
        self.pool, self.calls, self.after = nn.AdaptiveAvgPool2d(1), 0, after

    def forward(self, x):
        self.calls += 1
        if self.after is not None and self.calls > self.after:
            raise KeyboardInterrupt
        return self.pool(x).flatten(1)


def test_a_run_that_was_broken_off_is_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr("idx.tiling.store._CHUNK_TILES", 8)
    slide, out = array_slide(PIXELS), tmp_path / "A12.zarr"
    grid = plan(slide, size_px=50, mpp=0.5)
    with pytest.raises(KeyboardInterrupt):
        embed(slide, grid, load_encoder(Interrupted(5), **PLAIN), device="cpu", out=out, batch_size=4)
    with pytest.raises(FormatError, match=r"broken off.*resume=True"):
        read_embeddings(out)
    module = Interrupted(None)
    tiles = embed(slide, grid, load_encoder(module, **PLAIN), device="cpu", out=out, batch_size=4, resume=True)
    np.testing.assert_allclose(np.asarray(tiles.vectors), expected_of(grid), atol=1e-3)
    assert 0 < module.calls < len(grid) / 4
    # Once more: nothing is left to do.
    module.after = 0
    again = embed(slide, grid, load_encoder(module, **PLAIN), device="cpu", out=out, resume=True)
    np.testing.assert_array_equal(np.asarray(again.vectors), np.asarray(tiles.vectors))
    np.testing.assert_array_equal(read_embeddings(out).centre_um, tiles.centre_um)


def test_a_run_is_not_gone_on_with_by_others(tmp_path):
    slide, out = array_slide(PIXELS), tmp_path / "A12.zarr"
    grid = plan(slide, size_px=50, mpp=0.5)
    embed(slide, grid, mean_colour(), device="cpu", out=out)
    with pytest.raises(FormatError, match=r"another mean \("):
        embed(slide, grid, mean_colour(mean=(0.5, 0.5, 0.5)), device="cpu", out=out, resume=True)
    heavier = load_encoder(nn.Sequential(nn.Flatten(), nn.Linear(7500, 3)), **PLAIN, name="mean colour")
    with pytest.raises(FormatError, match="another weights_sha256"):
        embed(slide, grid, heavier, device="cpu", out=out, resume=True)
    with pytest.raises(FormatError, match="another plan"):
        embed(slide, grid.select(np.arange(5)), mean_colour(), device="cpu", out=out, resume=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(FormatError, match="Zarr group of embeddings"):
        embed(slide, grid, mean_colour(), device="cpu", out=tmp_path / "other", resume=True)
    shutil.rmtree(out / "corner_level0_px")
    with pytest.raises(FormatError, match="Restore it from a copy"):
        read_embeddings(out)
    assert len(embed(slide, grid, mean_colour(), device="cpu", out=out, resume=True)) == len(read_embeddings(out))


def test_results_wait_for_nothing_but_their_chunk(tmp_path, monkeypatch):
    """With ``out``, no more than a chunk and a few batches of vectors are in memory, however many tiles there are."""
    monkeypatch.setattr("idx.tiling.store._CHUNK_TILES", 16)
    alive, most, lock = set(), [], threading.Lock()
    arrays = idx.tiling.calling._on_host

    class Watched(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def watched(result):
        array = arrays(result).view(Watched)
        with lock:
            alive.add(id(array))
            most.append(len(alive))
        return array

    monkeypatch.setattr("idx.tiling.calling._on_host", watched)
    slide = array_slide(np.zeros((400, 800, 3), np.uint8))
    tiles = embed(slide, plan(slide, size_px=10, mpp=0.5), mean_colour(size_px=10), device="cpu", batch_size=8, out=tmp_path / "a.zarr")
    assert len(tiles) == 3200
    assert len(most) == 400
    assert max(most) <= 6
