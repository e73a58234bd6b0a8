"""Encoders from modules and TorchScript files: what the module sees, how it is left, and what is refused."""

import hashlib
import warnings
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import idx
from idx.algorithms import TileEncoder
from idx.errors import FormatError, GeometryError, MissingDependency, UnitError
from idx.tiling import load_encoder
from idx.tiling.encoders import IMAGENET_MEAN, IMAGENET_STD, encoder_settings, ready, weights_sha256

PLAIN = {"mpp": 0.5, "size_px": 8, "mean": (0, 0, 0), "std": (1, 1, 1)}
TILES = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))


def mean_colour():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def torchscript(path, module, *, example=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(module) if example is None else torch.jit.trace(module, example)
        scripted.save(str(path))
    return path


def test_pixels_are_normalised_by_channel():
    encoder = load_encoder(mean_colour(), mpp=0.5, size_px=8, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    expected = (TILES.numpy().mean(axis=(1, 2)) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    vectors = encoder(TILES)
    np.testing.assert_allclose(vectors.numpy(), expected, atol=1e-6)
    assert vectors.dtype == torch.float32
    assert isinstance(encoder, TileEncoder)


def test_a_module_sees_channels_rows_and_columns_in_torchs_order():
    seen = load_encoder(nn.Flatten(), **PLAIN)(TILES).numpy().reshape(3, 3, 8, 8)
    np.testing.assert_allclose(seen * 255, TILES.numpy().transpose(0, 3, 1, 2), atol=1e-4)


def test_tiles_are_left_as_they_were():
    before = TILES.clone()
    load_encoder(nn.Flatten(), **PLAIN)(TILES)
    load_encoder(nn.Flatten(), **PLAIN, input_px=4)(TILES)
    assert torch.equal(before, TILES)


@pytest.mark.parametrize(("interpolation", "pillow"), [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)])
def test_resampled_tiles_are_those_of_pillow(interpolation, pillow):
    """What modules are trained on; Pillow weighs with fixed-point numbers, so a few grey levels may differ by one."""
    smooth = np.add.outer(np.arange(32), 2 * np.arange(32))[..., None] * [1, 2, 0.5]
    tile = np.clip(smooth + np.random.default_rng(2).normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
    # Cubic weights overshoot at an edge between black and white.
    tile[:16, 8:], tile[16:, :24] = 0, 255
    encoder = load_encoder(nn.Flatten(), **PLAIN | {"size_px": 32}, input_px=14, interpolation=interpolation)
    seen = encoder(torch.from_numpy(tile[None])).numpy().reshape(3, 14, 14).transpose(1, 2, 0) * 255
    np.testing.assert_allclose(seen, seen.round(), atol=1e-4)
    error = np.abs(seen - np.asarray(Image.fromarray(tile).resize((14, 14), pillow)))
    assert error.max() < 1.01
    assert error.mean() < 0.01


class Moody(nn.Module):
    """Tells whether it, and its frozen part, are in training; keeps whether gradients were recorded."""

    def __init__(self):
        super().__init__()
        self.frozen, self.dropout, self.scale = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Parameter(torch.ones(()))
        self.train()
        self.frozen.eval()

    def forward(self, x):
        self.seen = self.training, self.frozen.training, self.dropout.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        if x.mean() > 1e6:
            raise RuntimeError("no such tile")
        return self.dropout(x).flatten(1) * self.scale


def test_a_module_is_in_eval_mode_while_it_is_used_and_as_it_was_afterwards():
    module = Moody()
    encoder = load_encoder(module, **PLAIN)
    assert torch.equal(encoder(TILES), encoder(TILES))
    assert module.seen == (False, False, False, False, True)
    assert (module.training, module.frozen.training, module.dropout.training) == (True, False, True)
    module.scale.data *= float("inf")
    module.eval()
    with pytest.raises(RuntimeError, match="no such tile"):
        load_encoder(Moody(), **PLAIN | {"std": (1e-12,) * 3})(TILES)
    assert not module.training


def test_training_goes_on_after_a_failure():
    module = Moody()
    with pytest.raises(RuntimeError, match="no such tile"):
        load_encoder(module, **PLAIN | {"std": (1e-12,) * 3})(TILES)
    assert (module.training, module.frozen.training, module.dropout.training) == (True, False, True)
    loss = module(torch.zeros(1, 3, 8, 8)).sum()
    loss.backward()


def test_the_weights_dtype_is_what_the_module_sees():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).to(torch.bfloat16)
    vectors = load_encoder(module, **PLAIN)(TILES)
    assert vectors.dtype == torch.float32
    np.testing.assert_allclose(vectors, load_encoder(module.float(), **PLAIN)(TILES), atol=0.02)


@pytest.mark.parametrize(
    ("tiles", "error", "message"),
    [
        (TILES[:, :4], GeometryError, r"encoder's 8 px; got 8 x 4 px.*size_px=8"),
        (TILES.float(), FormatError, r"uint8 \(n, y, x, 3\); got torch.float32"),
        (TILES.permute(0, 3, 1, 2), FormatError, r"got torch.uint8 \(3, 3, 8, 8\)"),
        (TILES[0], FormatError, "uint8"),
    ],
)
def test_other_tiles_are_refused(tiles, error, message):
    with pytest.raises(error, match=message):
        load_encoder(nn.Flatten(), **PLAIN)(tiles)


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return self.what(x)


@pytest.mark.parametrize(
    ("what", "got"),
    [
        (lambda x: x, r"torch.float32 \(3, 3, 8, 8\)"),
        (lambda x: (x.flatten(1), x), "tuple"),
        (lambda x: {"features": x.flatten(1)}, "dict"),
        (lambda x: x.flatten(1)[:2], r"torch.float32 \(2, 192\)"),
        (lambda x: x.flatten(1).long(), "torch.int64"),
        (lambda x: x.mean(dim=(1, 2, 3)), r"torch.float32 \(3,\)"),
    ],
)
def test_what_is_not_one_vector_per_tile_is_refused(what, got):
    with pytest.raises(FormatError, match=rf"one vector per tile.*got {got}"):
        load_encoder(Returns(what), **PLAIN)(TILES)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mpp": 0.0}, UnitError, "mpp must be a positive"),
        ({"mpp": float("nan")}, UnitError, "mpp must be a positive"),
        ({"size_px": 0}, GeometryError, "at least 1"),
        ({"input_px": -1}, GeometryError, "at least 1"),
        ({"mean": (0.5, 0.5)}, FormatError, "three numbers"),
        ({"std": (1, 0, 1)}, FormatError, "std positive"),
        ({"interpolation": "nearest"}, FormatError, "interpolation must be one of bilinear, bicubic"),
        ({"precision": "float8"}, FormatError, "precision must be one of"),
        ({"mpp": None, "std": None}, FormatError, r"mpp, std must be given.*encoder 'Flatten'.*mpp=0\.5"),
        ({"weights": "a.pt"}, FormatError, "weights must be left out unless timm"),
    ],
)
def test_settings_are_checked(changes, error, message):
    with pytest.raises(error, match=message):
        load_encoder(nn.Flatten(), **PLAIN | changes)


def test_lower_precision_is_for_cuda_only():
    with pytest.raises(MissingDependency, match="precision 'float16' must be computed on a CUDA device; got 'cpu'"):
        load_encoder(nn.Flatten(), **PLAIN, precision="float16")(TILES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("float16", 5e-3), ("bfloat16", 5e-2)])
def test_a_module_visits_the_device(precision, tolerance):
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    on_cpu = load_encoder(module, **PLAIN)(TILES)
    vectors = load_encoder(module, **PLAIN, precision=precision)(TILES.cuda())
    assert vectors.is_cuda
    assert vectors.dtype == torch.float32
    np.testing.assert_allclose(vectors.cpu(), on_cpu, atol=tolerance)
    assert module[1].weight.device.type == "cpu"


def test_a_module_on_several_devices_is_refused():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Linear(4, 4, device="meta"))
    with pytest.raises(FormatError, match="one device; got cpu, meta"):
        load_encoder(module, **PLAIN)(TILES)


def test_the_hash_is_of_the_weights_and_nothing_else():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.BatchNorm1d(4), nn.Linear(4, 2).to(torch.bfloat16))
    before = weights_sha256(module)
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.BatchNorm1d(4), nn.Linear(4, 2).to(torch.bfloat16))
    assert weights_sha256(other) != before
    other.load_state_dict(module.state_dict())
    assert weights_sha256(other.eval()) == before
    for name in ("1.weight", "2.running_mean", "2.num_batches_tracked", "3.bias"):
        state = {key: value.clone() for key, value in module.state_dict().items()}
        state[name].view(-1)[-1] += 1
        other.load_state_dict(state)
        assert weights_sha256(other) != before, name
    zeros = [nn.ParameterDict({name: torch.zeros(shape)}) for name, shape in (("a", (2, 3)), ("a", (3, 2)), ("b", (2, 3)))]
    assert len({weights_sha256(module) for module in zeros}) == 3


def test_provenance_says_what_makes_the_vectors():
    module = mean_colour()
    encoder = load_encoder(module, **PLAIN | {"mean": IMAGENET_MEAN}, input_px=4, name="mean colour")
    assert encoder_settings(encoder) == {
        "encoder": "mean colour",
        "weights_sha256": hashlib.sha256(b"").hexdigest(),
        "encoder_mpp": 0.5,
        "encoder_size_px": 8,
        "input_px": 4,
        "interpolation": "bilinear",
        "mean": "0.485, 0.456, 0.406",
        "std": "1.0, 1.0, 1.0",
        "precision": "float32",
    }
    assert "mean colour" in encoder._repr_html_()
    assert repr(encoder) == "ModuleEncoder('mean colour', 8 px at 0.5 um/px)"


@pytest.mark.parametrize("kind", ["script", "trace", "frozen"])
def test_torchscript_gives_what_the_module_gives(tmp_path, kind):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5)).eval()
    path = tmp_path / "encoder.pt"
    if kind == "frozen":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.freeze(torch.jit.script(module)).save(str(path))
    else:
        torchscript(path, module, example=torch.zeros(1, 3, 8, 8) if kind == "trace" else None)
    encoder = load_encoder(path, **PLAIN)
    np.testing.assert_allclose(encoder(TILES), load_encoder(module, **PLAIN)(TILES), atol=1e-6)
    settings = encoder_settings(encoder)
    assert settings["encoder"] == "encoder.pt"
    assert settings["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(load_encoder(str(path), **PLAIN)(TILES), encoder(TILES))


def test_torchscript_that_was_saved_in_training_is_evaluated(tmp_path):
    encoder = load_encoder(torchscript(tmp_path / "encoder.pt", nn.Sequential(nn.Flatten(), nn.Dropout(0.5))), **PLAIN)
    assert torch.equal(encoder(TILES), TILES.permute(0, 3, 1, 2).flatten(1) / 255)
    assert encoder.module.training


def test_a_file_that_is_no_torchscript_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "empty.pt").touch()
    whole = torchscript(tmp_path / "whole.pt", nn.Flatten()).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    for name in ("weights.pt", "text.pt", "empty.pt", "cut.pt"):
        with pytest.raises(FormatError, match=rf"must be TorchScript.*{name}.*load_state_dict"):
            load_encoder(tmp_path / name, **PLAIN)
    with pytest.raises(FormatError, match=r"TorchScript file, 'timm:NAME' or an installed encoder \(none\); got 'absent', which is no file"):
        load_encoder("absent", **PLAIN)
    with pytest.raises(FormatError, match="which is no file"):
        load_encoder(tmp_path, **PLAIN)


@pytest.mark.skipif(__import__("importlib").util.find_spec("timm") is not None, reason="timm is installed here")
def test_without_timm_the_extra_is_named():
    with pytest.raises(MissingDependency, match=r"pip install 'idx\[timm\]'"):
        load_encoder("timm:test_vit", mpp=0.5, weights="random")


class Brightness:
    mpp, size_px = 0.5, 8

    def __call__(self, batch):
        return batch.float().mean(dim=(1, 2, 3))[:, None]


def test_an_installed_encoder_brings_its_settings(monkeypatch):
    entry = EntryPoint("tile_encoder.brightness", f"{__name__}:Brightness", idx.algorithms.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: Brightness)
    monkeypatch.setattr(idx.algorithms, "entry_points", lambda group: [entry])
    encoder = load_encoder("brightness")
    assert isinstance(encoder, TileEncoder)
    assert (encoder.mpp, encoder.size_px) == (0.5, 8)
    np.testing.assert_allclose(encoder(TILES)[:, 0], TILES.numpy().mean(axis=(1, 2, 3)), atol=1e-4)
    assert encoder_settings(encoder) == {"encoder": "brightness", "encoder_distribution": "unknown", "encoder_mpp": 0.5, "encoder_size_px": 8}
    for given in ({"mpp": 0.5}, {"weights": "random"}, {"precision": "float16"}):
        with pytest.raises(FormatError, match=f"own settings; got {next(iter(given))}"):
            load_encoder("brightness", **given)
    with pytest.raises(FormatError, match=r"an installed encoder \(brightness\)"):
        load_encoder("other", **PLAIN)


def test_an_encoder_of_another_maker_sees_to_itself():
    with ready(Brightness(), torch.device("cpu")):
        pass
    assert encoder_settings(Brightness())["encoder"].endswith("Brightness")
