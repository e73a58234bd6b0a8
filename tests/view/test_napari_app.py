"""Layers of a case in napari: geometry on the model without a screen, pixels with one."""

import os
import warnings

import numpy as np
import pytest

from idx.case import Case
from idx.errors import FormatError
from idx.geometry import SectionTransform
from idx.view.linking import find_link
from idx.view.napari_app import LevelPixels, add_case, section_lines

# npe2 (napari's plugin engine) uses a deprecated Pydantic interface; the warning comes at import and on use.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    # Opening in two dimensions makes napari look at the oblique slide once before it is hidden.
    pytest.mark.filterwarnings("ignore:Non-orthogonal slicing is being requested:UserWarning"),
]
SCREEN = pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="needs a screen with OpenGL: run under xvfb-run")


@pytest.fixture
def model():
    components = pytest.importorskip("napari.components")
    return components.ViewerModel()


def test_level_pixels_read_what_is_sliced(unlinked_case: Case) -> None:
    slide = unlinked_case.slide
    stored = slide.levels[1]
    lazy = LevelPixels(slide, 1, (1, stored.height_px, stored.width_px, 3))
    whole = slide.pixels.arrays[1]
    np.testing.assert_array_equal(lazy[0, 100:140, 210:260], whole[100:140, 210:260])
    np.testing.assert_array_equal(lazy[:, 5:9, 7:8, :], whole[None, 5:9, 7:8])
    np.testing.assert_array_equal(lazy[0, -1, 3], whole[-1, 3])
    np.testing.assert_array_equal(np.asarray(lazy)[0], whole)


def test_layers_lie_where_the_case_says(model, linked_case: Case, section: SectionTransform) -> None:
    add_case(model, linked_case)
    ct, slide = model.layers["ct"], next(layer for layer in model.layers if layer.name.startswith("A12"))
    world = ct.data_to_world((3.0, 4.0, 5.0))
    np.testing.assert_allclose(world[::-1], linked_case.ct.grid.to_physical([3.0, 4.0, 5.0]), atol=1e-9)
    pixel = (0.0, 1200.0, 900.0)
    np.testing.assert_allclose(slide.data_to_world(pixel)[::-1], section.apply(linked_case.slide.to_um(np.array([900.0, 1200.0]))), atol=1e-9)
    assert slide.metadata["error_mm"] == 1.2
    assert {"lesion", "tissue", "nuclei", "plane of the slide"} <= {layer.name for layer in model.layers}
    np.testing.assert_allclose(model.layers["nuclei"].data[0][::-1], section.apply(linked_case.contours["nuclei"].centroids_um[0]), atol=1e-9)


def test_an_oblique_slide_is_shown_in_3d_only(model, linked_case: Case) -> None:
    add_case(model, linked_case)
    slide = next(layer for layer in model.layers if layer.name.startswith("A12"))
    assert model.dims.ndisplay == 3
    assert slide.visible
    model.dims.ndisplay = 2
    assert not slide.visible


def test_lines_of_the_slide_lie_on_its_plane(linked_case: Case, section: SectionTransform) -> None:
    link = find_link(linked_case)
    lines = section_lines(link)
    assert len(lines) > 5
    for line in lines:
        points = link.ct.grid.to_physical(line)
        distance = section.inverse().apply(points)[:, 2]
        np.testing.assert_allclose(distance, 0.0, atol=1e-6)
        assert (line[:, 0] == line[0, 0]).all()


def test_an_unregistered_slide_lies_beside_the_ct(model, unlinked_case: Case) -> None:
    add_case(model, unlinked_case)
    slide = model.layers["A12.svs (not registered)"]
    left = slide.data_to_world((0.0, 0.0))[-1]
    assert left > unlinked_case.ct.grid.to_physical([0, 0, unlinked_case.ct.grid.shape[2] - 1])[0]
    assert "not registered" in model.title


def test_a_slide_alone_and_a_ct_alone(unlinked_case: Case) -> None:
    components = pytest.importorskip("napari.components")
    for case, n_layers in ((Case("S", slides=unlinked_case.slides), 1), (Case("C", volumes=unlinked_case.volumes), 1)):
        viewer = components.ViewerModel()
        add_case(viewer, case)
        assert len(viewer.layers) == n_layers


def test_an_empty_case_is_refused() -> None:
    from idx.view import napari

    pytest.importorskip("napari")
    with pytest.raises(FormatError, match="neither"):
        napari(Case("P"))


@SCREEN
@pytest.mark.gl
def test_the_slide_is_seen_where_it_lies(linked_case: Case, tmp_path) -> None:
    from PIL import Image

    from idx.view import napari

    with warnings.catch_warnings():
        # Qt and vispy warn about the software renderer; what counts here are the pixels.
        warnings.simplefilter("ignore")
        viewer = napari(linked_case)
        try:
            for name in ("nuclei", "tissue", "lesion", "plane of the slide"):
                viewer.layers[name].visible = False
            viewer.reset_view()
            shown = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
            viewer.layers["ct"].visible = False
            alone = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
            next(layer for layer in viewer.layers if layer.name.startswith("A12")).visible = False
            viewer.layers["lesion"].visible = True
            lesion = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
            viewer.layers["lesion"].visible = False
            empty = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
        finally:
            viewer.close()
    Image.fromarray(shown.astype(np.uint8)).save(tmp_path / "napari.png")
    rows, columns = alone.shape[:2]
    pink = (alone[..., 0] - alone[..., 1] > 30) & (alone[..., 2] - alone[..., 1] > 15)
    assert pink.mean() > 0.02
    # Seen along z, the tissue's middle and the lesion's middle are one place: 1 % of the canvas is about 1 mm.
    red = np.argwhere(lesion.max(axis=-1) > 40).mean(axis=0)
    offset = np.argwhere(pink).mean(axis=0) - red
    assert np.abs(offset).max() < 0.012 * max(rows, columns)
    assert empty.max() < 20
