"""A real slide through a real network: pixels by OpenSlide, normalised in numpy, one tile at a time."""

import mobilenet_v2
import numpy as np
import openslide
import pytest
import torch

import idx
from idx.tiling.encoders import IMAGENET_MEAN, IMAGENET_STD

pytestmark = pytest.mark.real


def test_vectors_of_an_aperio_slide_are_those_of_openslides_pixels(real_data, tmp_path):
    path = real_data / "slides" / "CMU-1-Small-Region.svs"
    network = mobilenet_v2.pretrained().eval()
    encoder = idx.tiling.load_encoder(network, mpp=0.5, size_px=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    with idx.open_slide(path) as slide:
        grid = idx.tiling.plan(slide, size_px=224, mpp=0.5).select(np.arange(0, 140, 12))
        tiles = idx.tiling.embed(slide, grid, encoder, device="cpu", batch_size=5)
        idx.io.write_embeddings(tiles, tmp_path / "A12.h5", layout="trident")
        back = idx.io.read_embeddings(tmp_path / "A12.h5", slide=slide)
    assert len(tiles) == 12

    frame = grid.to_frame()
    expected = []
    with openslide.OpenSlide(path) as judge, torch.inference_mode():
        for x, y in frame[["level0_x_px", "level0_y_px"]].astype(int).to_numpy():
            rgba = np.asarray(judge.read_region((x, y), 0, (224, 224)))
            rgb = np.where(rgba[..., 3:] == 0, 255, rgba[..., :3])
            normalised = (rgb / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
            expected.append(network(torch.from_numpy(normalised.transpose(2, 0, 1)[None]).float())[0].numpy())
    np.testing.assert_allclose(tiles.vectors, expected, atol=1e-4)
    np.testing.assert_array_equal(back.vectors, tiles.vectors)
    np.testing.assert_allclose(back.centre_um, frame[["centre_x_um", "centre_y_um"]], atol=1e-9)
