"""timm's models as encoders, against timm's own preprocessing; run by `make test-tiatoolbox`, for timm needs torchvision."""

import hashlib
import json

import numpy as np
import pytest
import torch
from array_slides import array_slide
from PIL import Image

from idx.errors import FormatError
from idx.tiling import embed, load_encoder, plan, read_tiles
from idx.tiling.encoders import encoder_settings

timm = pytest.importorskip("timm", reason="timm lives in tiatoolbox's environment: make test-tiatoolbox")

NAME = "test_vit"
"""A tiny vision transformer (160 px, bicubic, 64 features)."""


def smooth_tile(side):
    y, x = np.mgrid[:side, :side] / side
    waves = np.stack([np.sin(9 * x) * np.cos(5 * y), np.cos(7 * x + 3 * y), np.sin(11 * y)], axis=-1)
    return np.clip(127 + 100 * waves + np.random.default_rng(0).normal(0, 10, waves.shape), 0, 255).astype(np.uint8)


def theirs(model, pixels):
    """Vectors by timm's own transform, the whole tile in view."""
    config = timm.data.resolve_model_data_config(model) | {"crop_pct": 1.0}
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        return model.eval()(torch.stack([transform(Image.fromarray(tile)) for tile in pixels])).numpy()


def test_settings_are_timms_own():
    encoder = load_encoder(f"timm:{NAME}", mpp=0.5, weights="random")
    assert (encoder.size_px, encoder.input_px, encoder.interpolation) == (160, 160, "bicubic")
    assert (encoder.mean, encoder.std, encoder.name) == ((0.5,) * 3, (0.5,) * 3, "timm:test_vit")
    changed = load_encoder(f"timm:{NAME}", mpp=0.25, weights="random", size_px=224, mean=(0.7, 0.5, 0.7), name="mine")
    assert (changed.size_px, changed.input_px, changed.mean, changed.name) == (224, 160, (0.7, 0.5, 0.7), "mine")


def test_tiles_become_what_timm_makes_of_them():
    encoder = load_encoder(f"timm:{NAME}", mpp=0.5, weights="random")
    slide = array_slide(smooth_tile(480))
    grid = plan(slide, size_px=160, mpp=0.5)
    tiles = embed(slide, grid, encoder, device="cpu", batch_size=4)
    expected = theirs(encoder.module, read_tiles(grid, range(len(grid))))
    assert tiles.vectors.shape == (9, 64)
    np.testing.assert_allclose(tiles.vectors, expected, atol=1e-5)


def test_tiles_of_another_size_are_resampled_as_timm_does():
    encoder = load_encoder(f"timm:{NAME}", mpp=0.5, weights="random", size_px=224)
    tile = smooth_tile(224)
    vector = encoder(torch.from_numpy(tile[None])).numpy()
    expected = theirs(encoder.module, [tile])
    # A grey level that is rounded the other way here and there.
    np.testing.assert_allclose(vector, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_come_from_a_local_file(tmp_path, suffix):
    """A checkpoint with a classifier, as they are shared; the encoder leaves it out."""
    torch.manual_seed(3)
    shared = timm.create_model(NAME, pretrained=False).eval()
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(shared.state_dict(), file)
    else:
        from safetensors.torch import save_file

        save_file(shared.state_dict(), file)
    encoder = load_encoder(f"timm:{NAME}", mpp=0.5, weights=file)
    tile = torch.from_numpy(smooth_tile(160)[None])
    with torch.inference_mode():
        expected = shared.forward_head(shared.forward_features((tile.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5), pre_logits=True)
    np.testing.assert_allclose(encoder(tile), expected, atol=1e-5)
    assert encoder_settings(encoder)["file_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of a weights file ran')",)


def test_what_timm_cannot_use_is_refused(tmp_path):
    for source, weights, message in (
        (f"timm:{NAME}", None, r"weights must be given.*'random'"),
        (f"timm:{NAME}", tmp_path / "absent.pt", "local file; got nothing at"),
        ("timm:no_such_model", "random", r"timm must know the model.*no_such_model"),
        (f"timm:local-dir:{tmp_path}", "random", "timm must know the model"),
    ):
        with pytest.raises(FormatError, match=message):
            load_encoder(source, mpp=0.5, weights=weights)
    torch.save(Bomb(), tmp_path / "bomb.pt")
    (tmp_path / "text.safetensors").write_text("weights")
    torch.save(timm.create_model(NAME, pretrained=False, embed_dim=48).state_dict(), tmp_path / "narrow.pt")
    for name in ("bomb.pt", "text.safetensors", "narrow.pt"):
        with pytest.raises(FormatError, match=rf"weights must be of the model.*{name}"):
            load_encoder(f"timm:{NAME}", mpp=0.5, weights=tmp_path / name)
    with pytest.raises(FormatError, match="mpp must be given"):
        load_encoder(f"timm:{NAME}", weights="random")


def test_weights_that_fit_in_part_are_refused(tmp_path):
    """timm would drop the scale of each layer, which the name of the model alone does not have, and compute something else."""
    scaled = timm.create_model(NAME, pretrained=False, init_values=0.1).state_dict()
    torch.save(scaled, tmp_path / "scaled.pt")
    with pytest.raises(FormatError, match=r"0 missing and 12 that it has no place for, such as 'blocks\.0\.ls1\.gamma'.*local-dir"):
        load_encoder(f"timm:{NAME}", mpp=0.5, weights=tmp_path / "scaled.pt")
    torch.save({key: values for key, values in scaled.items() if "gamma" not in key and key != "norm.bias"}, tmp_path / "part.pt")
    with pytest.raises(FormatError, match=r"1 missing and 0 .*'norm\.bias'"):
        load_encoder(f"timm:{NAME}", mpp=0.5, weights=tmp_path / "part.pt")


def test_a_folder_with_its_config_is_a_model(tmp_path):
    """As hubs keep timm's models: the settings that the name does not tell stand in config.json."""
    torch.manual_seed(4)
    shared = timm.create_model(NAME, pretrained=False, init_values=0.1, num_classes=0).eval()
    torch.save(shared.state_dict(), tmp_path / "pytorch_model.bin")
    config = {"mean": [0.7, 0.5, 0.7], "std": [0.2, 0.3, 0.2], "input_size": [3, 160, 160], "fixed_input_size": True, "interpolation": "bilinear"}
    described = {"architecture": NAME, "num_classes": 0, "num_features": 64, "model_args": {"init_values": 0.1}, "pretrained_cfg": config}
    (tmp_path / "config.json").write_text(json.dumps(described))
    encoder = load_encoder(f"timm:local-dir:{tmp_path}", mpp=0.5, weights=tmp_path / "pytorch_model.bin", name="shared")
    assert (encoder.mean, encoder.std, encoder.interpolation) == ((0.7, 0.5, 0.7), (0.2, 0.3, 0.2), "bilinear")
    tile = torch.from_numpy(smooth_tile(160)[None])
    with torch.inference_mode():
        expected = shared((tile.permute(0, 3, 1, 2) / 255 - torch.tensor(encoder.mean).view(3, 1, 1)) / torch.tensor(encoder.std).view(3, 1, 1))
    np.testing.assert_allclose(encoder(tile), expected, atol=1e-5)
