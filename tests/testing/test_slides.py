"""The slide phantom, read back with OpenSlide and measured at the planted nuclei."""

import numpy as np
import openslide
import pytest
import shapely

from idx.errors import FormatError, GeometryError, UnitError
from idx.testing import _stain, he_slide
from idx.testing._stain import EOSIN, HAEMATOXYLIN

GLASS = 245


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return he_slide(tmp_path_factory.mktemp("slide") / "s.tif", seed=5, n_nuclei=300, compression="deflate")


@pytest.fixture(scope="module")
def pixels(phantom):
    with openslide.OpenSlide(phantom.path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3].astype(np.float64)


@pytest.mark.parametrize("compression", ["jpeg", "deflate"])
def test_openslide_finds_levels_and_mpp(tmp_path, compression):
    made = he_slide(tmp_path / "s.tif", n_nuclei=20, size_px=(1024, 1536), mpp=0.4, compression=compression)
    with openslide.OpenSlide(made.path) as slide:
        assert slide.level_dimensions == ((1024, 1536), (256, 384))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.4, rel=1e-6)
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        fine = np.asarray(slide.read_region((0, 0), 0, (1024, 1536)))[..., :3].astype(float)
        coarse = np.asarray(slide.read_region((0, 0), 1, (256, 384)))[..., :3].astype(float)
    boxed = fine.reshape(384, 4, 256, 4, 3).mean(axis=(1, 3))
    assert np.abs(boxed - coarse).max() <= (0.5 if compression == "deflate" else 40)
    assert np.abs(boxed - coarse).mean() <= 3


def test_counts_labels_and_separation(phantom):
    assert len(phantom.nuclei) == phantom.n_nuclei == 300
    assert set(phantom.nuclei.labels) == {"tumour", "lymphocyte", "stroma"}
    polygons = list(phantom.nuclei.polygons())
    assert all(p.is_valid for p in polygons)
    tree = shapely.STRtree(polygons)
    first, second = tree.query(polygons, predicate="intersects")
    assert (first == second).all()
    (tissue,) = phantom.tissue.polygons()
    assert len(tissue.interiors) >= 1
    assert all(tissue.contains(p) for p in polygons)


def test_nuclei_are_darker_in_red_than_around_them(phantom, pixels):
    red = pixels[..., 0]
    y, x = np.indices(red.shape)
    for polygon in phantom.nuclei.polygons():
        cx, cy = np.array(polygon.centroid.coords[0]) / phantom.mpp
        box = np.s_[max(int(cy) - 26, 0) : int(cy) + 27, max(int(cx) - 26, 0) : int(cx) + 27]
        px, py = x[box] * phantom.mpp, y[box] * phantom.mpp
        inside = shapely.contains_xy(polygon.buffer(-0.7), px, py)
        around = shapely.contains_xy(polygon.buffer(3.0), px, py) & ~shapely.contains_xy(polygon.buffer(1.0), px, py)
        assert red[box][inside].mean() < red[box][around].mean() - 25


def test_drawn_area_is_that_of_the_outline(phantom, pixels):
    """Half-height crossing of haematoxylin, per class, against the polygon's area: an outline off by one pixel would show."""
    od = -np.log10(np.clip(pixels, 1, None) / GLASS)
    stain = np.linalg.lstsq(np.array([HAEMATOXYLIN, EOSIN]).T, od.reshape(-1, 3).T, rcond=None)[0][0].reshape(od.shape[:2])
    lymphocytes = [p for p, label in zip(phantom.nuclei.polygons(), phantom.nuclei.labels, strict=True) if label == "lymphocyte"]
    ratios = []
    for polygon in lymphocytes:
        cx, cy = (int(c) for c in np.array(polygon.centroid.coords[0]) / phantom.mpp)
        box = stain[cy - 12 : cy + 13, cx - 12 : cx + 13]
        y, x = np.mgrid[cy - 12 : cy + 13, cx - 12 : cx + 13] * phantom.mpp
        near = shapely.contains_xy(polygon.buffer(1.0), x, y)
        ratios.append(((box > 0.45) & near).sum() * phantom.mpp**2 / polygon.area)
    assert len(ratios) > 20
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.06)


def test_glass_is_white_and_tissue_is_not(phantom, pixels):
    (tissue,) = phantom.tissue.polygons()
    y, x = np.indices(pixels.shape[:2])[:, ::4, ::4]
    inside, glass = (shapely.contains_xy(g, x * 0.5, y * 0.5) for g in (tissue.buffer(-3), shapely.box(0, 0, 1024, 1024).difference(tissue.buffer(3))))
    assert np.abs(pixels[::4, ::4][glass].mean(axis=0) - 245).max() < 1
    assert pixels[::4, ::4][inside].mean(axis=0)[1] < 190


def test_one_seed_gives_one_file(tmp_path):
    files = [he_slide(tmp_path / f"{k}.tif", seed=seed, n_nuclei=30, size_px=(512, 512)).path.read_bytes() for k, seed in enumerate((1, 1, 2))]
    assert files[0] == files[1] != files[2]


def test_the_file_does_not_depend_on_strips_or_threads(tmp_path, monkeypatch):
    files = []
    for strip_px, n_threads in ((128, 2), (200, 1)):
        monkeypatch.setattr(_stain, "STRIP_PX", strip_px)
        monkeypatch.setattr(_stain, "N_THREADS", n_threads)
        files.append(he_slide(tmp_path / f"{strip_px}.tif", n_nuclei=60, size_px=(768, 768), compression="deflate").path.read_bytes())
    assert files[0] == files[1]


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(GeometryError, match="n_nuclei must fit"):
        he_slide(tmp_path / "s.tif", n_nuclei=5000, size_px=(512, 512))
    with pytest.raises(UnitError, match="mpp"):
        he_slide(tmp_path / "s.tif", mpp=8.0)
    with pytest.raises(GeometryError, match="multiples of 16"):
        he_slide(tmp_path / "s.tif", size_px=(1000, 1000))
    with pytest.raises(FormatError, match="compression"):
        he_slide(tmp_path / "s.tif", compression="lzw")
