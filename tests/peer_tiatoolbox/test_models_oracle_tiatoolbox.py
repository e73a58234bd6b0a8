"""tiatoolbox's models on tiles of idx, against tiatoolbox's own engines on the same pixels; weights are random, for none can be fetched here."""

import warnings

import numpy as np
import pytest
import torch
from array_slides import array_slide
from scipy import ndimage

import idx
from idx.io import open_slide
from idx.tiling import plan, read_tiles, run, stitch, tiatoolbox_model

pytest.importorskip("tiatoolbox", reason="tiatoolbox lives in an environment of its own: make test-tiatoolbox")

import zarr

with warnings.catch_warnings():
    # What they bring in is old in places: umap misses TensorFlow, defusedxml is imported by a name that goes away.
    warnings.simplefilter("ignore")
    from tiatoolbox.models.architecture.hovernet import HoVerNet
    from tiatoolbox.models.architecture.idars import IDaRS
    from tiatoolbox.models.architecture.mapde import MapDe
    from tiatoolbox.models.architecture.micronet import MicroNet
    from tiatoolbox.models.architecture.sccnn import SCCNN
    from tiatoolbox.models.architecture.unet import UNetModel
    from tiatoolbox.models.architecture.vanilla import CNNBackbone, CNNModel
    from tiatoolbox.models.engine.multi_task_segmentor import MultiTaskSegmentor
    from tiatoolbox.models.engine.patch_predictor import PatchPredictor
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
    from tiatoolbox.wsicore.wsireader import OpenSlideWSIReader

# tiatoolbox's own code: its softmax, its arrays of PIL images, its labels.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Implicit dimension choice for softmax:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Only one label was provided to `remove_small_objects`:UserWarning"),
]

LEVEL_0 = [{"units": "baseline", "resolution": 1.0}]
ENGINE = {"batch_size": 4, "num_workers": 0, "device": "cpu", "verbose": False}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    phantom = idx.testing.he_slide(tmp_path_factory.mktemp("slides") / "phantom.tif", n_nuclei=30, size_px=(768, 608), mpp=0.25)
    # By this name tiatoolbox's engines open it through OpenSlide.
    return phantom.path.rename(phantom.path.with_suffix(".svs"))


@pytest.fixture
def slide(path):
    with open_slide(path) as slide:
        yield slide


def _on_tiles(model, slide, grid, **options):
    return run(tiatoolbox_model(model, device="cpu", **options), slide, grid, device="cpu", batch_size=4, progress=False).values


def _classifier(kind, tiles, *arguments):
    """Random weights, centred and large enough for the tiles to differ in class."""
    torch.manual_seed(0)
    model = kind(*arguments).eval()
    with torch.inference_mode():
        prepared = torch.stack([torch.as_tensor(model.preproc_func(tile.copy())) for tile in tiles]).permute(0, 3, 1, 2).float()
        mean = model.feat_extract(prepared).mean(dim=(0, 2, 3))
    with torch.no_grad():
        model.classifier.weight *= 200
        model.classifier.bias.copy_(-model.classifier.weight @ mean.clone())
    return model


@pytest.mark.parametrize(("kind", "arguments"), [(CNNModel, ("resnet18", 9)), (IDaRS, ("resnet18", 4))])
def test_same_probabilities_as_patch_predictor(slide, kind, arguments):
    grid = plan(slide, size_px=224, level=0)
    tiles = read_tiles(grid, range(len(grid)))
    model = _classifier(kind, tiles, *arguments)
    theirs = PatchPredictor(model, **ENGINE).run(tiles, patch_mode=True, patch_input_shape=(224, 224), input_resolutions=LEVEL_0, return_probabilities=True)
    ours = _on_tiles(model, slide, grid)
    assert ours.shape == (len(grid), arguments[1])
    np.testing.assert_allclose(ours, np.asarray(theirs["probabilities"]), atol=1e-6)
    classes = _on_tiles(model, slide, grid, postproc=True)
    np.testing.assert_array_equal(classes, np.asarray(theirs["predictions"]))
    assert len(np.unique(classes)) > 1


def test_same_probabilities_over_a_whole_slide(path, slide, tmp_path):
    """The engine reads by itself: pixels, white borders and the lattice must agree, too."""
    grid = plan(slide, size_px=224, level=0)
    model = _classifier(CNNModel, read_tiles(grid, range(len(grid))), "resnet18", 9)
    output = PatchPredictor(model, **ENGINE).run(
        [OpenSlideWSIReader(path)],
        patch_mode=False,
        patch_input_shape=(224, 224),
        stride_shape=(224, 224),
        input_resolutions=LEVEL_0,
        auto_get_mask=False,
        return_probabilities=True,
        save_dir=tmp_path / "output",
    )
    theirs = zarr.open(next(iter(output.values())), mode="r")
    row_by_row = np.lexsort((grid.column, grid.row))
    np.testing.assert_array_equal(np.asarray(theirs["coordinates"])[:, :2], grid.origin_px[row_by_row])
    np.testing.assert_allclose(_on_tiles(model, OpenSlideWSIReader(path), grid)[row_by_row], np.asarray(theirs["probabilities"]), atol=1e-6)


def test_features_of_a_backbone(slide):
    torch.manual_seed(0)
    model, grid = CNNBackbone("resnet18"), plan(slide, size_px=224, level=0)
    features = _on_tiles(model, slide, grid)
    tiles = torch.from_numpy(read_tiles(grid, range(4)))
    np.testing.assert_allclose(features[:4], CNNBackbone.infer_batch(model, tiles, device="cpu")[0], atol=1e-6)
    assert features.shape == (len(grid), 512)


def test_same_maps_as_semantic_segmentor(slide):
    torch.manual_seed(0)
    model, grid = UNetModel(3, 4, encoder="resnet50", decoder_block=(3, 3)), plan(slide, size_px=256, level=0, overlap_px=128)
    grid = grid.select(np.arange(6))
    theirs = SemanticSegmentor(model, **ENGINE).run(
        read_tiles(grid, range(len(grid))),
        patch_mode=True,
        patch_input_shape=(256, 256),
        patch_output_shape=(128, 128),
        input_resolutions=LEVEL_0,
        output_resolutions=LEVEL_0,
        return_probabilities=True,
    )
    ours = _on_tiles(model, slide, grid)
    assert ours.shape == (6, grid.core_px, grid.core_px, 4)
    np.testing.assert_allclose(ours, np.asarray(theirs["probabilities"]), atol=1e-6)
    np.testing.assert_array_equal(_on_tiles(model, slide, grid, postproc=True), np.asarray(theirs["predictions"]))


@pytest.mark.parametrize(
    ("model", "size_px", "shapes"),
    [
        (lambda: HoVerNet(num_types=5, mode="fast"), 256, [(164, 164, 1), (164, 164, 2), (164, 164, 1)]),
        (lambda: MicroNet(), 252, [(252, 252, 2)]),
        (lambda: MapDe(), 252, [(252, 252, 1)]),
        (lambda: SCCNN(), 31, [(13, 13, 1)]),
    ],
    ids=["HoVerNet", "MicroNet", "MapDe", "SCCNN"],
)
def test_maps_of_nucleus_models(slide, model, size_px, shapes):
    torch.manual_seed(0)
    model, grid = model(), plan(slide, size_px=size_px, level=0).select(np.arange(1))
    maps = _on_tiles(model, slide, grid)
    maps = maps if isinstance(maps, tuple) else (maps,)
    assert [m.shape for m in maps] == [(1, *shape) for shape in shapes]
    prepared = np.stack([np.asarray(model.preproc_func(tile)) for tile in read_tiles(grid, [0])])
    theirs = model.infer_batch(model, torch.from_numpy(prepared), device="cpu")
    for a, b in zip(maps, theirs if isinstance(theirs, tuple) else (theirs,), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert all(np.ptp(m) > 0 for m in maps[:2])


class DrawnHoVerNet(HoVerNet):
    """HoVer-Net whose maps are drawn from dark pixels instead of learned, so that its post-processing has nuclei to find."""

    margin = 46

    @staticmethod
    def infer_batch(model, batch_data, *, device):
        nuclei, distances = [], []
        for tile in batch_data.cpu().numpy():
            dark = ndimage.gaussian_filter(tile[..., 0].astype(np.float64), 1.0) < 140
            labels, _ = ndimage.label(dark)
            distance = np.zeros((*dark.shape, 2), dtype=np.float32)
            for number, box in enumerate(ndimage.find_objects(labels), start=1):
                inside = labels[box] == number
                for axis, place in enumerate(np.mgrid[box][::-1]):
                    offset = place - place[inside].mean()
                    distance[box][inside, axis] = (offset / max(np.abs(offset[inside]).max(), 1))[inside]
            cut = slice(DrawnHoVerNet.margin, -DrawnHoVerNet.margin)
            nuclei.append(dark[cut, cut, None].astype(np.float32))
            distances.append(distance[cut, cut])
        return np.stack(nuclei), np.stack(distances), np.stack(nuclei) * 2


def test_same_nuclei_as_multi_task_segmentor(slide):
    model, grid = DrawnHoVerNet(num_types=5, mode="fast"), plan(slide, size_px=256, level=0, overlap_px=92)
    engine = MultiTaskSegmentor(model, **ENGINE)
    theirs = engine.run(
        read_tiles(grid, range(len(grid))),
        patch_mode=True,
        patch_input_shape=(256, 256),
        patch_output_shape=(164, 164),
        input_resolutions=LEVEL_0,
        output_resolutions=LEVEL_0 * 3,
        return_predictions=(True,),
    )
    ours = _on_tiles(model, slide, grid, postproc=True)
    n_found = 0
    for tile, (task,) in enumerate(ours):
        assert task["task_type"] == "nuclei_segmentation"
        np.testing.assert_array_equal(task["predictions"], theirs["predictions"][tile])
        for name in ("box", "centroid", "prob", "type"):
            np.testing.assert_array_equal(np.asarray(list(task["info_dict"][name])), np.asarray(list(theirs[name][tile])))
        n_found += len(task["info_dict"]["centroid"])
    assert n_found >= 20


def test_planted_nuclei_return_to_the_slide_once():
    """Output wider than the core by more than a nucleus on each side: every nucleus is whole in the tile that owns its centroid."""
    y, x = np.mgrid[:600, :700]
    # 41 and 37 px apart, tiles 132 px: some lie across seams, some across corners.
    planted = np.stack(np.meshgrid(np.arange(20, 690, 41), np.arange(20, 590, 37)), axis=-1).reshape(-1, 2)
    pixels = np.full((600, 700, 3), 230, dtype=np.uint8)
    for column, row in planted:
        pixels[(x - column) ** 2 + (y - row) ** 2 <= 81] = 60
    slide = array_slide(pixels, mpp=0.25)
    grid = plan(slide, size_px=256, level=0, overlap_px=2 * DrawnHoVerNet.margin + 32)
    tiles = [task["info_dict"]["centroid"] for (task,) in _on_tiles(DrawnHoVerNet(num_types=5, mode="fast"), slide, grid, postproc=True)]
    tile = np.repeat(np.arange(len(tiles)), [len(centroids) for centroids in tiles])
    centroid_px = np.concatenate([np.reshape(list(centroids), (-1, 2)) for centroids in tiles]) + DrawnHoVerNet.margin
    keep, centroid_um = stitch(grid, tile, centroid_px)
    found = centroid_um[keep] / 0.25
    assert len(found) == len(planted) < len(tile)
    nearest = np.linalg.norm(found[:, None] - planted, axis=-1)
    assert sorted(nearest.argmin(axis=1)) == list(range(len(planted)))
    assert nearest.min(axis=1).max() < 1.0
