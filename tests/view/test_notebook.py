"""The notebook widget's Python side."""

import io

import numpy as np
import pytest
from PIL import Image

from idx.case import Case
from idx.errors import FormatError
from idx.geometry import SectionTransform
from idx.view import linked

pytest.importorskip("anywidget")


def test_messages_move_the_cursor(linked_case: Case, section: SectionTransform) -> None:
    widget = linked(linked_case)
    widget._answer(widget, {"kind": "slide", "um": [9000.0, 14000.0]}, [])
    np.testing.assert_allclose(widget.cursor.ct_mm, section.apply([9000.0, 14000.0]))
    widget._answer(widget, {"kind": "ct", "pixel": [40, 36, 24]}, [])
    np.testing.assert_allclose(widget.cursor.ct_mm, linked_case.ct.grid.to_physical([24, 36, 40]))
    assert widget.cursor.distance_mm == pytest.approx(section.inverse().apply(widget.cursor.ct_mm)[2])


def test_a_slice_is_sent_when_asked_for(linked_case: Case, monkeypatch) -> None:
    widget = linked(linked_case)
    sent = []
    monkeypatch.setattr(widget, "send", lambda content, buffers: sent.append((content, buffers)))
    widget._answer(widget, {"kind": "slice", "z": 24, "window": "soft"}, [])
    widget._answer(widget, {"kind": "slice", "z": 999, "window": "soft"}, [])
    (content, (png,)), (last, _) = sent
    assert content == {"kind": "slice", "z": 24, "window": "soft"}
    assert last["z"] == linked_case.ct.grid.shape[0] - 1
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    hu = linked_case.ct.values[24, 36, 40]
    assert abs(int(pixels[36, 40, 0]) - (hu + 160) / 400 * 255) <= 1
    assert (pixels[..., 2] < pixels[..., 0] - 100).any()


def test_error_circle_is_the_same_length_in_both_units(linked_case: Case) -> None:
    widget = linked(linked_case)
    assert widget.error_mm == 1.2
    assert widget.error_um == pytest.approx(1200.0 / 1.15)
    assert "1.20 mm" in widget.message


def test_it_opens_on_the_slide_near_the_lesion(linked_case: Case, section: SectionTransform) -> None:
    cursor = linked(linked_case).cursor
    np.testing.assert_allclose(section.apply(cursor.slide_um), cursor.ct_mm, atol=1e-9)
    assert np.linalg.norm(np.array(cursor.ct_mm) - linked_case.lesion.centroid_mm) < 3.0


def test_without_registration_it_says_so(unlinked_case: Case) -> None:
    widget = linked(unlinked_case)
    assert not widget.is_linked
    assert widget.message.startswith("Not linked")
    widget._answer(widget, {"kind": "slide", "um": [1.0, 2.0]}, [])
    assert widget.value["ct_mm"] is None


def test_called_twice_gives_two_widgets(linked_case: Case) -> None:
    first, second = linked(linked_case), linked(linked_case)
    first._answer(first, {"kind": "slide", "um": [0.0, 0.0]}, [])
    assert first.value != second.value
    assert first.model_id != second.model_id


def test_a_static_picture_stands_in(linked_case: Case, unlinked_case: Case) -> None:
    formats, _ = linked(linked_case)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in formats
    picture = Image.open(io.BytesIO(formats["image/png"]))
    assert picture.height == 360
    assert picture.width > 600
    for part in (Case("C", volumes=unlinked_case.volumes), Case("S", slides=unlinked_case.slides)):
        assert Image.open(io.BytesIO(linked(part).static_picture())).height == 360


def test_an_empty_case_is_refused() -> None:
    with pytest.raises(FormatError, match="neither"):
        linked(Case("P"))


def test_script_and_style_fetch_nothing(linked_case: Case) -> None:
    widget = linked(linked_case)
    for source in (str(widget._esm), str(widget._css)):
        assert len(source) > 500
        for word in ("https:", "import(", "from '", 'from "', "url(", "fetch("):
            assert word not in source
