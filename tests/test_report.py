"""The case report: one file, nothing fetched, nothing leaked, and the right sentence where something is missing."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from idx.case import Case
from idx.errors import FormatError
from idx.geometry import PATIENT, SLIDE, SectionTransform, TransformGraph
from idx.geometry.grids import Grid
from idx.provenance import Provenance, Source
from idx.report import KeyNumber, SurvivalSummary, write_case_report
from idx.report.page import text, without_folders
from idx.report.tables import number
from idx.slide import Contours, Level, Slide
from idx.table import FeatureSpec, FeatureTable, Missing
from idx.volume import CTVolume, Mask

INJECTED = "<script>alert('x')</script>"


class _Pink:
    """A slide of one colour."""

    name = "array"
    levels = (Level(800, 600, 1.0),)

    def read_tiles_into(self, batch, tiles) -> None:
        batch[:] = (225, 160, 195)

    def close(self) -> None: ...


class _Page(HTMLParser):
    """Collects tags and attributes, so that nothing hides from a search for words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def parts() -> dict:
    shape = (20, 24, 28)
    grid = Grid.from_spacing(shape, (1.0, 1.0, 1.5), (-14.0, -12.0, -15.0))
    points = grid.to_physical(np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1))
    inside = np.linalg.norm(points, axis=-1) < 6.0
    ct = CTVolume(np.where(inside, 40, -800).astype(np.int16), grid, source=Source("/home/jane doe/secret/ct 1", "dicom", ids={"series_uid": "1.2.840.99"}))
    slide = Slide(_Pink(), (20.0, 20.0), "A12.svs", source=Source("/home/jane doe/secret/A12.svs", "svs"))
    square = np.array([[4000.0, 3000], [12000, 3000], [12000, 9000], [4000, 9000]])
    tissue = Contours(square, [0, 4], [0, 1], (INJECTED,))
    specs = [
        FeatureSpec("volume_mesh_mm3", "mm3", f"Mesh volume {INJECTED}.", "RNU0", {"bin_width_hu": 25.0}),
        FeatureSpec("intensity_skewness", "1", "Third standardised moment.", "KE2A"),
    ]
    made = Provenance("idx.radiomics.extract", {"bin_width_hu": 25.0, "mask": "/data/hospital x/lesion.nii.gz"}, ("/home/jane doe/secret/ct 1",))
    table = FeatureTable.from_rows(
        {"lesion": {"volume_mesh_mm3": 904.25, "intensity_skewness": Missing("constant")}}, specs, index_name="lesion", provenance=made
    )
    return {
        "volumes": {"ct": ct}, "masks": {"lesion": Mask(inside, grid)}, "slides": {"A12": slide},
        "contours": {"tissue": tissue, "nuclei": tissue}, "tables": {"radiomics": table},
    }  # fmt: skip


@pytest.fixture(scope="module")
def placed(parts) -> Case:
    section = SectionTransform(np.array([[1.1e-3, 0], [0, 1e-3], [0, 4e-4]]), np.array([-8.8, -6.0, -2.4]), SLIDE, PATIENT)
    graph = TransformGraph().with_edge(section, error_mm=0.84, evidence={"method": "landmarks", "verdict": "placed", "landmark_rms_mm": 0.41})
    return Case("P001", **parts, transforms=graph, notes=(f"a note {INJECTED}",))


@pytest.fixture(scope="module")
def evaluation():
    rng = np.random.default_rng(0)
    high = pd.Series(rng.random(60) < 0.5)
    blocks = pd.DataFrame({"c_index": [0.638], "c_index_low": [0.59], "c_index_high": [0.68], "n_patients": [55]}, index=["ct"])
    outcome = SimpleNamespace(time_days=rng.exponential(600, 60), event=rng.random(60) < 0.6)
    return SimpleNamespace(
        c_index=0.669, c_index_low=0.621, c_index_high=0.713, confidence=0.95, high_risk=high, outcome=outcome, blocks=blocks, n_splits=5, n_repeats=2
    )


@pytest.fixture(scope="module")
def full_page(placed, evaluation, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "case.html"
    truth = {"lesion_volume_mm3": 4 / 3 * np.pi * 216, "n_nuclei": 2, "registration_error_mm": 0.61}
    extra = [KeyNumber("Mean attenuation", 40.0, "HU", note=INJECTED, digits=1), KeyNumber("Unknown thing", None)]
    assert (
        write_case_report(placed, path, evaluation=evaluation, truth=truth, numbers=extra, title=f"T {INJECTED}", notes=["see C:\\users\\jane\\scan.nii"])
        == path
    )
    assert path.stat().st_size < 6e6
    return path.read_text(encoding="utf-8")


def test_nothing_is_fetched_and_nothing_runs(full_page: str) -> None:
    page = _Page(full_page)
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"} == set()
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#"))
    assert "url(" not in full_page
    assert "@import" not in full_page
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_injected_text_is_shown_not_run(full_page: str) -> None:
    assert INJECTED not in full_page
    assert "&lt;script&gt;" in full_page
    assert any(INJECTED in words for words in _Page(full_page).words)


def test_folders_and_identifiers_stay_out(full_page: str) -> None:
    for secret in ("jane", "secret", "hospital", "users", "1.2.840.99"):
        assert secret not in full_page.lower(), secret
    for kept in ("ct 1", "A12.svs", "lesion.nii.gz", "scan.nii"):
        assert kept in full_page


def test_key_numbers_stand_beside_their_truth(full_page: str, placed: Case) -> None:
    volume, truth = placed.lesion.volume_mm3, 4 / 3 * np.pi * 216
    assert f'<p class="value">{volume:,.1f}<small>mm³</small></p>' in full_page
    assert f"truth {truth:,.1f} ({100 * (volume - truth) / truth:+.1f} %)".replace("-", "−") in full_page
    assert "measured against the truth: 0.61 mm" in full_page
    assert "truth 2 (−50.0 %)" in full_page
    assert '<p class="value none">unknown</p>' in full_page


def test_features_have_units_codes_definitions_and_reasons(full_page: str) -> None:
    page = _Page(full_page)
    tips = [a["title"] for t, a in page.tags if t == "span" and a.get("title")]
    assert any("Mesh volume" in tip and "bin_width_hu = 25.0" in tip and "RNU0" in tip for tip in tips)
    assert any("all values are equal" in tip for tip in tips)
    assert "904.25" in full_page
    assert "RNU0" in page.words
    assert "mm³" in page.words
    assert "constant" in page.words


def test_model_and_registration_are_told(full_page: str) -> None:
    assert "Placed with an expected error of 0.84 mm." in full_page
    assert "0.669" in full_page
    assert "0.621 to 0.713" in full_page
    assert "0.590 to 0.680" in full_page
    assert full_page.count("data:image/webp") == 5
    assert full_page.count("data:image/svg+xml") == 1
    assert "Research use only" in full_page
    assert "SHA-256" not in full_page


def test_every_picture_has_a_description_and_every_link_a_target(full_page: str) -> None:
    page = _Page(full_page)
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    anchors = {a["id"] for _, a in page.tags if a.get("id")}
    assert {a["href"][1:] for t, a in page.tags if t == "a"} <= anchors


def _words(case: Case, folder: Path, **options) -> str:
    return write_case_report(case, folder / "case.html", **options).read_text(encoding="utf-8")


def test_without_registration(parts, tmp_path) -> None:
    page = _words(Case("P", **parts), tmp_path)
    assert "No registration was asked for" in page
    assert "Expected error" not in page
    assert page.count("data:image/webp") == 2


def test_a_refused_placement_shows_no_overlay_even_where_the_case_has_an_edge(placed: Case, tmp_path) -> None:
    refused = SimpleNamespace(
        verdict="refused", reasons=("Two poses 41 degrees apart scored alike. Give a landmark.",), method="mask_search", scores={"best": 0.31}, evidence={}
    )
    page = _words(placed, tmp_path, placement=refused)
    assert "Refused" in page
    assert "Two poses 41 degrees apart" in page
    assert "0.31" in page
    assert page.count("data:image/webp") == 2
    assert "Placed with" not in page


def test_an_unknown_error_is_called_unknown(placed: Case, tmp_path) -> None:
    edge = placed.transforms.edges[0]
    page = _words(placed.with_(transforms=TransformGraph().with_edge(edge.transform)), tmp_path)
    assert "Placed with an unknown error." in page
    assert "unknown</p>" in page


@pytest.mark.parametrize(("kept", "sentence"), [(("volumes", "masks"), "no slide"), (("slides",), "no CT"), ((), "no CT")])
def test_what_is_missing_is_said(parts, kept, sentence, tmp_path) -> None:
    page = _words(Case("P", **{name: parts[name] for name in kept}), tmp_path)
    assert sentence in page
    assert "No features were extracted" in page
    assert "Outcome model" not in page


def test_hashes_are_those_of_the_files(parts, tmp_path) -> None:
    file = tmp_path / "scan.nii"
    file.write_bytes(b"idx")
    ct = parts["volumes"]["ct"]
    case = Case("P", volumes={"ct": CTVolume(ct.values, ct.grid, source=Source(str(file), "nifti"))})
    assert case.ct.source.sha256() in _words(case, tmp_path, hashes=True)


def test_long_tables_are_summarised(parts, tmp_path) -> None:
    areas = np.arange(1.0, 102.0)
    areas[0] = np.nan
    spec = [FeatureSpec("area_um2", "um2", "Area.")]
    nuclei = FeatureTable.from_columns({"area_um2": areas}, spec, index=range(101), index_name="nucleus", missing={"area_um2": "too_few_pixels"})
    page = _words(Case("P", tables={"nuclei": nuclei}), tmp_path)
    cells = re.findall(r'<td class="num">(.*?)</td>', page)
    assert cells[:3] == [number(q) for q in np.quantile(areas[1:], (0.25, 0.5, 0.75))]
    assert "1 (too few pixels)" in cells[3]
    assert "101 nuclei" in page


def test_wrong_input_is_refused(placed: Case, tmp_path) -> None:
    with pytest.raises(FormatError, match="existing folder"):
        write_case_report(placed, tmp_path / "missing" / "case.html")
    with pytest.raises(FormatError, match="lesion_volume"):
        write_case_report(placed, tmp_path / "case.html", truth={"volume": 1.0})
    with pytest.raises(FormatError, match="c-index"):
        SurvivalSummary(np.ones(2), np.ones(2, bool), ["a", "b"], c_index=0.4, c_index_low=0.5, c_index_high=0.6)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/home/jane doe/ct/1.dcm", "1.dcm"),
        ("read /mnt/pacs/a/b.svs and stop", "read b.svs and stop"),
        (r"D:\scans\jane\x.nii", "x.nii"),
        ("file:///srv/jane/x.nii", "x.nii"),
        ("5 mg/ml at 1/mm2", "5 mg/ml at 1/mm2"),
        ("idx.radiomics.extract", "idx.radiomics.extract"),
    ],
)
def test_paths_are_cut(given, kept) -> None:
    assert without_folders(given) == kept


def test_text_is_safe_in_attributes() -> None:
    assert text("\"a' <b> & c") == "&quot;a&#x27; &lt;b&gt; &amp; c"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (3.0, "3"), (-2.5, "−2.5"), (12345.6, "12,346"), (1.23456e9, "1.2346e+09"), (0.00012345678, "0.00012346"), (99999.6, "100,000")],
)
def test_numbers_have_five_digits(value, shown) -> None:
    assert number(value) == shown


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_it_fits_the_page(full_page: str, tmp_path, scheme, width) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.set_content(full_page)
        assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        browser.close()
    assert problems == []
    assert (dark == "rgb(20, 23, 26)") == (scheme == "dark")
