"""The widget's own JavaScript in a real browser, with a stand-in for the comm that calls the real Python side."""

import base64
import json
import shutil

import numpy as np
import pytest

from idx.case import Case
from idx.geometry import SectionTransform
from idx.view import linked

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
STUB = """
<!doctype html><meta charset=utf-8><title>linked</title><style>STYLE body{margin:16px;background:#fff}</style><div id=el></div>
<script type=module>
const state = STATE, heard = {};
const bytes = (b64) => Uint8Array.from(atob(b64), (c) => c.charCodeAt(0));
state.slide_jpeg = bytes(state.slide_jpeg);
const model = {
  get: (k) => state[k],
  set: (k, v) => { state[k] = v; },
  save_changes: () => (heard['change:window'] || []).forEach((f) => f()),
  on: (n, f) => { (heard[n] ||= []).push(f); },
  off: (n, f) => { heard[n] = (heard[n] || []).filter((g) => g !== f); },
  send: async (content) => {
    const answer = JSON.parse(await window.toPython(JSON.stringify(content)));
    state.value = answer.value;
    for (const [c, b] of answer.sent) (heard['msg:custom'] || []).forEach((f) => f(c, [new DataView(bytes(b).buffer)]));
    if (content.kind !== 'slice') (heard['change:value'] || []).forEach((f) => f());
  },
};
window.model = model;
window.heard = heard;
const module = await import(URL.createObjectURL(new Blob([SOURCE], { type: 'text/javascript' })));
window.undo = module.default.render({ model, el: document.getElementById('el') });
window.ready = true;
</script>
"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=executable, args=FLAGS)
        yield running
        running.close()


def _open(browser, case: Case, monkeypatch, *, scheme: str = "light"):
    """Page with the widget, its Python side, the messages it sent, and errors of the page."""
    widget = linked(case)
    sent, asked, errors = [], [], []
    monkeypatch.setattr(widget, "send", lambda content, buffers=None: sent.append((content, base64.b64encode(buffers[0]).decode())))

    def to_python(message: str) -> str:
        content = json.loads(message)
        asked.append(content)
        sent.clear()
        widget._answer(widget, content, [])
        return json.dumps({"value": widget.value, "sent": sent})

    names = ("ct", "slide", "message", "is_linked", "error_mm", "error_um", "window", "value")
    state = {name: getattr(widget, name) for name in names} | {"slide_jpeg": base64.b64encode(widget.slide_jpeg).decode()}
    page = browser.new_page(viewport={"width": 960, "height": 560}, color_scheme=scheme)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    page.expose_function("toPython", to_python)
    source = json.dumps(str(widget._esm)).replace("</", "<\\/")
    page.set_content(STUB.replace("STYLE", str(widget._css)).replace("STATE", json.dumps(state)).replace("SOURCE", source))
    page.wait_for_function("window.ready === true")
    return page, widget, asked, errors


def _wait_for_slice(page) -> None:
    page.wait_for_function("document.querySelector('.stage.ct img').naturalWidth > 0")


def test_moving_on_the_slide_moves_the_ct(browser, linked_case: Case, section: SectionTransform, monkeypatch, tmp_path) -> None:
    page, widget, asked, errors = _open(browser, linked_case, monkeypatch)
    _wait_for_slice(page)
    box = page.locator(".stage.slide").bounding_box()
    before = int(page.locator(".slider").input_value())
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.78)
    page.wait_for_function(f"Number(document.querySelector('.slider').value) !== {before}")
    um = next(a["um"] for a in reversed(asked) if a["kind"] == "slide")
    expected = section.apply(um)
    np.testing.assert_allclose(widget.value["ct_mm"], expected, atol=1e-9)
    assert f"z {expected[2]:.1f} mm".replace("-", "−") in page.locator(".where").first.inner_text()
    # The pointer was put there: the position asked for must be what the picture shows under it.
    scale = min(box["width"] / linked_case.slide.size_um[0], box["height"] / linked_case.slide.size_um[1])
    assert um[0] == pytest.approx(linked_case.slide.size_um[0] / 2, abs=2 / scale)
    assert page.locator(".stage.ct .error").count() == 1
    page.screenshot(path=tmp_path / "linked.png")
    assert errors == []


def test_a_click_in_the_ct_shows_distance_and_place_on_the_slide(browser, linked_case: Case, section: SectionTransform, monkeypatch) -> None:
    page, widget, asked, errors = _open(browser, linked_case, monkeypatch)
    _wait_for_slice(page)
    box = page.locator(".stage.ct").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.4)
    page.wait_for_function("document.querySelector('.distance').textContent.length > 0 && !document.querySelector('.distance').textContent.startsWith('0.00')")
    u, v, away = section.inverse().apply(widget.value["ct_mm"])
    np.testing.assert_allclose(widget.value["slide_um"], (u, v), atol=1e-6)
    assert page.locator(".distance").inner_text() == f"{abs(away):.2f} mm from the slide's plane"
    assert asked[-1]["kind"] in {"ct", "slice"}
    assert errors == []


def test_window_presets_ask_for_other_pictures(browser, linked_case: Case, monkeypatch) -> None:
    page, _, asked, errors = _open(browser, linked_case, monkeypatch)
    _wait_for_slice(page)
    first = page.locator(".stage.ct img").get_attribute("src")
    page.get_by_role("button", name="Lung").click()
    page.wait_for_function(f"document.querySelector('.stage.ct img').src !== '{first}'")
    assert asked[-1]["window"] == "lung"
    assert page.get_by_role("button", name="Lung").get_attribute("aria-pressed") == "true"
    assert errors == []


def test_the_error_circle_has_its_size_in_mm(browser, linked_case: Case, monkeypatch) -> None:
    page, widget, _, _ = _open(browser, linked_case, monkeypatch)
    _wait_for_slice(page)
    radius_px = float(page.locator(".stage.ct circle.error").get_attribute("r"))
    _, rows, columns = widget.ct["shape"]
    box = page.locator(".stage.ct").bounding_box()
    px_per_mm = min(box["width"] / (columns * widget.ct["spacing_mm"][0]), box["height"] / (rows * widget.ct["spacing_mm"][1]))
    assert radius_px == pytest.approx(1.2 * px_per_mm, rel=0.01)


def test_without_registration_nothing_is_linked_and_it_says_so(browser, unlinked_case: Case, monkeypatch) -> None:
    page, widget, _, errors = _open(browser, unlinked_case, monkeypatch, scheme="dark")
    _wait_for_slice(page)
    box = page.locator(".stage.slide").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("document.querySelectorAll('.where')[1].textContent.length > 0")
    assert widget.value["ct_mm"] is None
    assert page.locator(".stage.ct .mark").count() == 0
    assert page.locator(".message").inner_text().startswith("Not linked")
    assert errors == []


def test_a_view_that_goes_away_stops_listening(browser, linked_case: Case, monkeypatch) -> None:
    page, _, _, _ = _open(browser, linked_case, monkeypatch)
    _wait_for_slice(page)
    page.evaluate("window.undo()")
    assert page.evaluate("Object.values(window.heard).every((fs) => fs.length === 0)")
