"""tiatoolbox models on tiles; models of the same interface stand in here, the real ones are tested in tests/peer_tiatoolbox."""

import pickle

import numpy as np
import pytest
import torch
from array_slides import array_slide
from slide_files import picture

from idx.errors import FormatError, MissingDependency
from idx.tiling import plan, run, tiatoolbox_model


class ModelABC(torch.nn.Module):
    """What tiatoolbox's base class promises."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.seen = []

    @staticmethod
    def preproc(image):
        return image

    @property
    def preproc_func(self):
        return self.preproc

    @property
    def postproc_func(self):
        return self.postproc

    @staticmethod
    def infer_batch(model, batch_data, *, device):
        inner = getattr(model, "module", model)
        inner.seen.append((batch_data.dtype, str(batch_data.device), device))
        with torch.inference_mode():
            return (batch_data.to(device=device, dtype=torch.float32).mean(dim=(1, 2)) * inner.weight).cpu().numpy()

    @staticmethod
    def postproc(image):
        return image.argmax(axis=-1)


class Halving(ModelABC):
    """Preprocesses in place, tile by tile, to another type."""

    @staticmethod
    def preproc(image):
        assert image.ndim == 3
        assert image.dtype == np.uint8
        image //= 2
        return image / 1.0


class Encoder(ModelABC):
    @staticmethod
    def infer_batch(model, batch_data, *, device):
        return [ModelABC.infer_batch(model, batch_data, device=device)]


class TwoHeads(ModelABC):
    @staticmethod
    def infer_batch(model, batch_data, *, device):
        values = batch_data.to(torch.float32).cpu().numpy()
        return values[:, 2:-2, 2:-2].mean(axis=-1), values[:, 2:-2, 2:-2, :2]

    @staticmethod
    def postproc(raw_maps):
        assert [m.ndim for m in raw_maps] == [2, 3]
        return {"mean": float(raw_maps[0].mean()), "heads": len(raw_maps)}


class OneMap(TwoHeads):
    @staticmethod
    def infer_batch(model, batch_data, *, device):
        return TwoHeads.infer_batch(model, batch_data, device=device)[:1]

    @staticmethod
    def postproc(raw_maps):
        return float(raw_maps[0].mean())


class Named(TwoHeads):
    @staticmethod
    def infer_batch(model, batch_data, *, device):
        return dict(zip(("np", "hv"), TwoHeads.infer_batch(model, batch_data, device=device), strict=True))


@pytest.fixture
def slide():
    return array_slide(picture(96, 64))


@pytest.fixture
def grid(slide):
    return plan(slide, size_px=32, level=0)


def _values(model, slide, grid, *, batch_size=4, **options):
    return run(tiatoolbox_model(model, device="cpu", **options), slide, grid, device="cpu", batch_size=batch_size, progress=False).values


def _means(slide):
    pixels = slide.read_region(0, 0, width_px=96, height_px=64)
    return pixels.reshape(2, 32, 3, 32, 3).transpose(0, 2, 1, 3, 4).reshape(6, 32, 32, 3).mean(axis=(1, 2))


def test_classifier(slide, grid):
    model = ModelABC()
    np.testing.assert_allclose(_values(model, slide, grid), _means(slide) * [1, 2, 3], rtol=1e-5)
    # Nothing to preprocess: uint8 reaches the device as it is.
    assert set(model.seen) == {(torch.uint8, "cpu", "cpu")}


def test_without_preprocessing_tiles_stay_where_they_are(monkeypatch):
    batch = torch.zeros((2, 4, 4, 3), dtype=torch.uint8)
    monkeypatch.setattr(ModelABC, "infer_batch", staticmethod(lambda model, batch_data, *, device: np.array([batch_data is batch] * 2)))
    assert tiatoolbox_model(ModelABC(), device="cpu")(batch).all()


def test_preprocessing_of_the_model_leaves_the_tiles_alone(slide, grid):
    model = Halving()
    expected = _means(array_slide(slide.read_region(0, 0, width_px=96, height_px=64) // 2))
    np.testing.assert_allclose(_values(model, slide, grid), expected * [1, 2, 3], rtol=1e-5)
    assert {dtype for dtype, _, _ in model.seen} == {torch.float64}
    batch = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    tiatoolbox_model(model, device="cpu")(batch)
    assert (batch == 100).all()


def test_preprocessing_to_tensors(slide, grid, monkeypatch):
    monkeypatch.setattr(Halving, "preproc", staticmethod(lambda image: torch.from_numpy(image).double() / 2))
    np.testing.assert_allclose(_values(Halving(), slide, grid), _means(slide) * [0.5, 1, 1.5], rtol=1e-5)


@pytest.mark.parametrize("kind", [ModelABC, Encoder, TwoHeads, OneMap, Named])
@pytest.mark.parametrize("postproc", [False, True])
def test_results_do_not_depend_on_the_batch(slide, grid, kind, postproc):
    one, four = (_values(kind(), slide, grid, batch_size=size, postproc=postproc) for size in (1, 4))
    if isinstance(one, list):
        assert one == four
    else:
        for a, b in zip(one if isinstance(one, tuple) else (one,), four if isinstance(four, tuple) else (four,), strict=True):
            np.testing.assert_array_equal(a, b)


def test_features_of_an_encoder_are_one_array(slide, grid):
    np.testing.assert_array_equal(_values(Encoder(), slide, grid), _values(ModelABC(), slide, grid))


def test_heads_are_a_tuple(slide, grid):
    means, colours = _values(TwoHeads(), slide, grid)
    assert means.shape == (6, 28, 28)
    assert colours.shape == (6, 28, 28, 2)
    named = _values(Named(), slide, grid)
    np.testing.assert_array_equal(named[1], colours)
    assert _values(OneMap(), slide, grid).shape == (6, 28, 28)


def test_class_numbers(slide, grid):
    classes = _values(ModelABC(), slide, grid, postproc=True)
    np.testing.assert_array_equal(classes, (_means(slide) * [1, 2, 3]).argmax(axis=1))


def test_objects_of_several_heads_tile_by_tile(slide, grid):
    means = _values(TwoHeads(), slide, grid)[0].mean(axis=(1, 2))
    found = _values(TwoHeads(), slide, grid, postproc=True)
    assert [tile["heads"] for tile in found] == [2] * 6
    np.testing.assert_allclose([tile["mean"] for tile in found], means, rtol=1e-5)
    np.testing.assert_allclose(_values(OneMap(), slide, grid, postproc=True), means, rtol=1e-5)


def test_behind_a_data_parallel_wrapper(slide, grid):
    wrapped = torch.nn.DataParallel(ModelABC())
    np.testing.assert_array_equal(_values(wrapped, slide, grid), _values(ModelABC(), slide, grid))


def test_goes_to_another_process():
    fn = pickle.loads(pickle.dumps(tiatoolbox_model(Halving(), device="cpu")))
    assert repr(fn) == "tiatoolbox_model(Halving, device='cpu', postproc=False)"
    assert fn(torch.zeros((2, 4, 4, 3), dtype=torch.uint8)).shape == (2, 3)


@pytest.mark.parametrize("other", ["resnet18-kather100k", torch.nn.Conv2d(3, 4, 3), None])
def test_other_models_are_refused(other):
    with pytest.raises(FormatError, match=rf"got {type(other).__name__} without infer_batch, preproc_func, postproc_func.*engine\.model"):
        tiatoolbox_model(other, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_absent_device_is_refused():
    with pytest.raises(MissingDependency, match="got 'cuda'"):
        tiatoolbox_model(ModelABC(), device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_model_moves_to_the_gpu(slide, grid):
    model = ModelABC()
    values = run(tiatoolbox_model(model, device="cuda"), slide, grid, device="cuda", progress=False).values
    assert model.weight.is_cuda
    assert model.seen[0][1] == "cuda:0"
    np.testing.assert_allclose(values, _values(ModelABC(), slide, grid), rtol=1e-5)
