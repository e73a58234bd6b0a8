# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Tiles
# From a slide to a heat map, to nuclei that are counted once, and to vectors for a model.
#
# The slide is a **phantom**, made here with known answers: 1,500 nuclei, none of which touch. It is an ordinary tiled TIFF; with a slide of your own,
# begin at `idx.open_slide`. All results are synthetic. *For research only.*

# %%
import itertools
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import torch
from scipy import ndimage

import idx

folder = Path(tempfile.mkdtemp())
phantom = idx.testing.he_slide(folder / "A12.tif", seed=3, n_nuclei=1500, mpp=0.25, size_px=(6144, 4608))

# %% [markdown]
# ## Open
# Nothing is decoded yet. The slide says through which route its pixels come; a file without a known mpp would be refused.

# %%
slide = idx.open_slide(phantom.path)
slide

# %%
tissue = idx.histology.find_tissue(slide)
idx.view.plot.slide_overview(slide, tissue)

# %% [markdown]
# ## Plan
# Where the tiles lie is settled before a pixel is read. Size and resolution are what *you* ask for: tiles of 32 µm at 0.5 µm per pixel. The slide has no
# such level, so they are averaged from the next finer one.

# %%
grid = idx.tiling.plan(slide, size_px=64, mpp=0.5, within=tissue, min_tissue=0.5)
grid

# %% [markdown]
# Where neighbours overlap, each tile is a core (framed) and a halo around it. The cores cover the tissue once. Tiles may be of any size at any resolution.

# %%
framed = idx.tiling.plan(slide, size_um=100, overlap_um=16, mpp=0.3, within=tissue, min_tissue=0.5)
idx.view.plot.tile_gallery(framed, range(6, 54, 8))

# %% [markdown]
# ## Run
# A function gets a batch of tiles as a uint8 tensor (n, y, x, 3), on the device, and says something about each. Here: how much haematoxylin there is.

# %%
stain = idx.histology.fit_stain(slide, within=tissue)


def amount(tiles):
    return stain.haematoxylin_od(tiles.cpu().numpy()).mean(axis=(1, 2))


result = idx.tiling.run(amount, slide, grid)
result

# %%
idx.view.plot.tile_map(grid, result.values, label="haematoxylin (mean optical density)")

# %% [markdown]
# ## Count what lies on seams once
# A plain segmentation: smooth the haematoxylin, take what is dense, number what hangs together. Each tile numbers its own nuclei, and those on seams
# are seen by two tiles or four. Half the overlap should be at least as wide as a nucleus. For a large slide pass `idx.tiling.stream(...)` instead of
# `run(...).batches()`: label images of a whole slide do not fit in memory.


# %%
def segment_one(pixels):
    density = ndimage.uniform_filter(stain.haematoxylin_od(pixels), 3)
    labels, _ = ndimage.label(density > 0.3)
    return labels


def segment(tiles):
    return np.stack([segment_one(pixels) for pixels in tiles.cpu().numpy()])


overlapping = idx.tiling.plan(slide, size_px=256, overlap_px=64, mpp=0.5)
labelled = idx.tiling.run(segment, slide, overlapping)
nuclei = idx.tiling.stitch_labels(labelled.batches(), overlapping)
nuclei

# %% [markdown]
# The same segmentation of the whole slide in one piece, which only a small slide allows, finds the same nuclei.

# %%
whole = idx.tiling.read_region(slide, mpp=0.5)
in_one_piece = segment_one(whole.pixels)
counts = {
    "seen by all tiles": labelled.values.max(axis=(1, 2)).sum(),
    "stitched": len(nuclei),
    "found in one piece": in_one_piece.max(),
    "drawn in the phantom": phantom.n_nuclei,
}
pd.Series(counts, name="nuclei").to_frame()

# %%
idx.view.plot.slide_overview(slide, tissue, nuclei.contours)

# %% [markdown]
# They are a table too, and outlines that QuPath opens.

# %%
idx.io.write_geojson(nuclei.contours, folder / "nuclei.geojson", slide=slide)
nuclei.to_frame().head(4).round(2)

# %% [markdown]
# ## When a tile is damaged
# A copy of the slide in which one stored tile was lost. The run stops and says where; or it goes on and says what is missing. No tile is lost in silence.

# %%
# What a failing disk does: zeros where a tile was.
damaged_file = shutil.copy(phantom.path, folder / "damaged.tif")
with tifffile.TiffFile(damaged_file) as tiff:
    page = tiff.pages.first
    lost = (page.imagelength // page.tilelength // 2) * (page.imagewidth // page.tilewidth) + 9
    start, size = page.dataoffsets[lost], page.databytecounts[lost]
with open(damaged_file, "r+b") as file:
    file.seek(start)
    file.write(bytes(size))

damaged = idx.open_slide(damaged_file)
try:
    idx.tiling.run(amount, damaged, grid)
except idx.IdxError as error:
    print(error)

# %%
recorded = idx.tiling.run(amount, damaged, grid, on_error="record")
recorded.errors[["tile", "level0_x_px", "level0_y_px", "stage"]]

# %%
idx.view.plot.tile_map(grid, recorded.values, label="haematoxylin (mean optical density)")

# %% [markdown]
# ## Stop and go on
# With `out=` results go to disk as they come. A button, or here the fifth batch, stops the run; later it goes on with what is missing.

# %%
stop, calls = threading.Event(), itertools.count(1)


def amount_until_stopped(tiles):
    if next(calls) == 5:
        stop.set()
    return amount(tiles)


stopped = idx.tiling.run(amount_until_stopped, slide, grid, out=folder / "amount", cancel=stop)
stopped

# %%
completed = idx.tiling.run(amount, slide, grid, out=folder / "amount", resume=True)
completed

# %% [markdown]
# ## A map in the slide's own space
# What a function says about each pixel is blended, where tiles overlap, into one pyramid that QuPath, napari and OpenSlide open. Here: haematoxylin,
# averaged over 4 x 4 pixels.


# %%
def density(tiles):
    return stain.haematoxylin_od(tiles.cpu().numpy()).reshape(len(tiles), 64, 4, 64, 4).mean(axis=(2, 4))


dense = idx.tiling.stitch_map(
    idx.tiling.stream(density, slide, overlapping),
    overlapping,
    out=folder / "haematoxylin.tif",
    name="haematoxylin",
    value_range=(0, 0.6),
    colours="magma",
)
dense

# %% [markdown]
# ## Vectors
# An encoder is a module, its normalisation, and the tiles it was made for; others are refused. This one is a stand-in of random filters; yours comes
# from a file: `load_encoder("encoder.pt", mpp=0.5, size_px=224, mean=..., std=...)`.

# %%
torch.manual_seed(0)
filters = torch.nn.Sequential(
    torch.nn.Conv2d(3, 16, 5, stride=2),
    torch.nn.ReLU(),
    torch.nn.Conv2d(16, 32, 5, stride=2),
    torch.nn.ReLU(),
    torch.nn.AdaptiveAvgPool2d(1),
    torch.nn.Flatten(),
)
encoder = idx.tiling.load_encoder(
    filters,
    mpp=0.5,
    size_px=64,
    mean=(0.75, 0.6, 0.75),
    std=(0.15, 0.2, 0.15),
    name="random filters",
)
vectors = idx.tiling.embed(slide, grid, encoder)
vectors

# %% [markdown]
# The first three principal components as red, green and blue: tiles that look alike have like colours.

# %%
centred = vectors.vectors - vectors.vectors.mean(axis=0)
components = centred @ np.linalg.svd(centred, full_matrices=False)[2][:3].T
low, high = np.percentile(components, [2, 98], axis=0)
idx.view.plot.tile_map(grid, (components - low) / (high - low), label="Principal components 1 to 3 as colours")

# %% [markdown]
# They are written as a folder of idx, or as the files of CLAM and TRIDENT, whose own files are read as well.

# %%
idx.io.write_embeddings(vectors, folder / "A12.h5", layout="trident")
restored = idx.io.read_embeddings(folder / "A12.h5", slide=slide)
restored.to_table().values.iloc[:4, :7].round(3)

# %% [markdown]
# ## A region at any resolution, and a new slide of it

# %%
bounds_um = (700.0, 200.0, 1100.0, 450.0)
region = idx.tiling.read_region(slide, bounds_um, mpp=0.7)
region

# %%
converted = idx.open_slide(idx.tiling.convert(slide, folder / "A12_dicom", mpp=1.0))
converted

# %% [markdown]
# A name ending in `.tif` makes a pyramidal TIFF, any other a DICOM slide; `bounds_um=` takes a region. The same on the command line:
# ```
# idx slide convert A12.svs A12_1um.tif --mpp 1
# idx slide convert A12.svs A12_dicom --bounds-um 700 200 1100 450
# ```

# %% [markdown]
# ## Is it right?

# %%
# Every tile has a result, that of its own pixels, whatever the batch and the number of threads.
assert result.is_complete
assert np.allclose(result.values[[5, 500]], amount(torch.from_numpy(idx.tiling.read_tiles(grid, [5, 500]))))
assert np.array_equal(idx.tiling.run(amount, slide, grid, batch_size=7, workers=1).values, result.values)

# What the planned cores hold of the tissue is nearly all of it.
areas_um2 = np.prod(grid.core_bounds_um[:, 2:] - grid.core_bounds_um[:, :2], axis=1)
assert 0.97 < (areas_um2 * grid.tissue_fraction).sum() / tissue.areas_um2.sum() <= 1.0

# Tiled equals one-shot, nucleus by nucleus in number and pixel by pixel in area; the phantom's count is met within one in 500.
assert len(nuclei) == in_one_piece.max()
assert counts["seen by all tiles"] > len(nuclei)
assert np.isclose(nuclei.area_um2.sum(), (in_one_piece > 0).sum() * 0.5 * 0.5)
assert abs(len(nuclei) / phantom.n_nuclei - 1) < 0.002

# The lost tile has 256 px of 0.25 um: four tiles of 32 um. All others have the result that the intact slide gives.
failed = recorded.status == 2
assert failed.sum() == len(recorded.errors) == 4
assert np.isnan(recorded.values[failed]).all()
assert np.array_equal(recorded.values[~failed], result.values[~failed])

# A run that was stopped, and gone on with, gives what one run gives.
assert (stopped.status == 1).sum() == 5 * 32
assert np.array_equal(completed.values[:], result.values)

# The map opens as a slide, in OpenSlide too.
for backend in ("tifffile", "openslide"):
    with idx.open_slide(folder / "haematoxylin.tif", backend=backend) as opened:
        assert np.allclose(opened.mpp, 2.0, rtol=1e-3)

# Vectors do not depend on the batch, and survive the file with their places.
assert np.allclose(idx.tiling.embed(slide, grid[:100], encoder, batch_size=5).vectors, vectors.vectors[:100], atol=1e-5)
assert np.array_equal(restored.vectors, vectors.vectors)
assert np.allclose(restored.centre_um, grid.to_frame()[["centre_x_um", "centre_y_um"]])

# The region begins at the stored pixel that holds its corner, and a file that keeps every pixel holds the same ones.
assert np.abs(region.to_um([-0.5, -0.5]) - bounds_um[:2]).max() <= 0.25
kept = idx.tiling.convert(slide, folder / "region.tif", bounds_um=bounds_um, mpp=0.7, compression="deflate")
with idx.open_slide(kept) as opened:
    height, width = region.pixels.shape[:2]
    assert np.array_equal(opened.read_region(0, 0, width_px=width, height_px=height), region.pixels)
assert converted.source.kind == "dicom-wsi"
assert np.allclose(converted.mpp, 1.0)
