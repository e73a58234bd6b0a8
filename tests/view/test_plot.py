"""Figures: what is drawn, where, and that nothing outlives its caller. Looks are judged by eye, geometry here."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.text import Text

from idx.case import Case
from idx.errors import FormatError
from idx.geometry import SectionTransform
from idx.view import plot
from idx.view.plot_style import nice_length
from idx.volume import CTVolume


def _texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def _drawn(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_no_figure_is_left_with_pyplot(linked_case: Case, section: SectionTransform) -> None:
    from matplotlib import pyplot

    _drawn(plot.ct_slices(linked_case.ct, linked_case.lesion, section, slide=linked_case.slide))
    assert pyplot.get_fignums() == []


def test_a_notebook_shows_a_figure_without_pyplot(unlinked_case: Case) -> None:
    assert plot.ct_slices(unlinked_case.ct)._repr_png_().startswith(b"\x89PNG")


def test_ct_slices_draw_lesion_and_section_in_mm(linked_case: Case, section: SectionTransform) -> None:
    figure = plot.ct_slices(linked_case.ct, linked_case.lesion, section, slide=linked_case.slide)
    axial, coronal, sagittal = figure.axes
    for ax in (axial, coronal, sagittal):
        left, right = ax.get_xlim()
        # The lesion's longest side is 26 mm and the margin 25 on each side.
        assert right - left == pytest.approx(26.0 + 50.0, abs=3.0)
        assert len(ax.lines) == 1
    assert {"Axial", "Coronal", "Sagittal", "Lesion on CT", "Plane of the slide"} <= set(_texts(figure))
    assert [t.get_text() for t in axial.texts][:4] == ["R", "L", "A", "P"]
    # The pixels in the lesion's middle are those of the lesion: 45 HU.
    picture = np.asarray(axial.images[0].get_array())
    middle = picture[picture.shape[0] // 2 - 2 :, picture.shape[1] // 2 - 2 :][:4, :4]
    assert abs(middle.mean() - 45) < 12


def test_without_a_section_no_line_is_drawn(unlinked_case: Case) -> None:
    figure = plot.ct_slices(unlinked_case.ct)
    assert all(len(ax.lines) == 0 for ax in figure.axes)
    assert _drawn(figure).ndim == 3


def test_error_circle_has_its_radius_in_ct_mm(linked_case: Case, section: SectionTransform) -> None:
    figure = plot.overlay(linked_case.ct, linked_case.slide, section, mask=linked_case.lesion, error_mm=1.7)
    for ax in figure.axes:
        (circle,) = [p for p in ax.patches if isinstance(p, Circle)]
        assert circle.radius == 1.7
        left, right = ax.get_xlim()
        assert right - left == pytest.approx(linked_case.slide.size_um[0] * 1.15e-3, rel=1e-3)
    without = plot.overlay(linked_case.ct, linked_case.slide, section)
    assert not [p for ax in without.axes for p in ax.patches if isinstance(p, Circle)]
    assert "error unknown" in _texts(without)


def test_scale_bars_count_in_their_own_picture(linked_case: Case, section: SectionTransform) -> None:
    figure = plot.section_in_ct(linked_case.ct, linked_case.slide, section, mask=linked_case.lesion)
    assert "1 mm of slide = 1.15 mm of CT" in _texts(figure)
    slide_bar, ct_bar = (ax.artists[0].size_bar.get_children()[0].get_width() for ax in figure.axes)
    # Both say 5 mm; a mm of slide is 1.15 mm of CT in the shared axes.
    assert slide_bar == pytest.approx(5 * 1.15)
    assert ct_bar == pytest.approx(5.0)


def test_slide_overview_outlines_the_nuclei_of_its_detail(linked_case: Case) -> None:
    nuclei = linked_case.contours["nuclei"]
    figure = plot.slide_overview(linked_case.slide, linked_case.contours["tissue"], nuclei, zoom_um=400.0)
    detail = figure.axes[1]
    (x0, x1), (y1, y0) = detail.get_xlim(), detail.get_ylim()
    rings = np.array([(ring.vertices.min(axis=0), ring.vertices.max(axis=0)) for ring in detail.collections[0].get_paths()])
    centres = nuclei.centroids_um
    n_inside = int(((centres > (x0, y0)) & (centres < (x1, y1))).all(axis=1).sum())
    assert len(rings) >= n_inside > 0
    assert (rings[:, 1, 0] >= x0).all()
    assert (rings[:, 0, 0] <= x1).all()
    assert {"tumour", "lymphocyte", "Tissue"} <= set(_texts(figure))
    # The pixel at a nucleus' centre is the nucleus' colour: contours and pixels agree.
    index = int(np.argmin(np.linalg.norm(centres - ((x0 + x1) / 2, (y0 + y1) / 2), axis=1)))
    image = detail.images[0]
    left, right, bottom, top = image.get_extent()
    array = np.asarray(image.get_array())
    column = int((centres[index, 0] - left) / (right - left) * array.shape[1])
    row = int((centres[index, 1] - top) / (bottom - top) * array.shape[0])
    np.testing.assert_allclose(array[row, column], (84, 52, 122), atol=12)


def test_slide_alone(unlinked_case: Case) -> None:
    assert _drawn(plot.slide_overview(unlinked_case.slide)).shape[2] == 4


def test_section_in_space_draws_both_halves_and_the_slide(linked_case: Case, section: SectionTransform) -> None:
    figure = plot.section_in_space(linked_case.lesion, linked_case.slide, section, tissue=linked_case.contours["tissue"])
    assert len(figure.axes[0].collections) == 3
    pixels = _drawn(figure)[..., :3].astype(int)
    assert ((pixels[..., 0] - pixels[..., 1]) > 30).mean() > 0.05


def test_warped_case_is_drawn(warped_case: Case) -> None:
    transform = warped_case.between(warped_case.slide.frame, warped_case.ct.grid.frame)
    assert _drawn(plot.ct_slices(warped_case.ct, warped_case.lesion, transform, slide=warped_case.slide)).size
    assert _drawn(plot.section_in_space(warped_case.lesion, warped_case.slide, transform)).size


def test_a_ct_without_structure_is_drawn(linked_case: Case) -> None:
    flat = CTVolume(np.full(linked_case.ct.grid.shape, -1000, np.int16), linked_case.ct.grid)
    assert _drawn(plot.ct_slices(flat, linked_case.lesion)).size


def test_kaplan_meier_is_the_estimate_of_a_worked_example() -> None:
    pytest.importorskip("lifelines")
    # Kleinbaum and Klein, Survival Analysis (2012), table 2.3: remission of 21 patients on 6-MP, in weeks.
    weeks = np.array([6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35], dtype=float)
    event = np.array([1] * 9 + [0] * 12, dtype=bool)
    figure = plot.survival_curves(weeks * 7, event, ["6-MP"] * 21)
    line = figure.axes[0].lines[0]
    x, y = line.get_xdata() * 365.25 / 12 / 7, line.get_ydata()
    expected = {6: 0.8571, 7: 0.8067, 10: 0.7529, 13: 0.6902, 16: 0.6275, 22: 0.5378, 23: 0.4482}
    for week, survival in expected.items():
        assert y[np.argmin(np.abs(x - week))] == pytest.approx(survival, abs=1e-4)
    # log(-log) interval at 23 weeks, as in R's survfit(conf.type="log-log"): 0.188 to 0.680.
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    at = band[np.isclose(band[:, 0] * 365.25 / 12 / 7, 23.0)][:, 1]
    assert at.min() == pytest.approx(0.188, abs=2e-3)


def test_risk_table_counts_patients_still_followed() -> None:
    pytest.importorskip("lifelines")
    months = np.array([1.0, 5.0, 13.0, 20.0, 24.5])
    groups = pd.Series(pd.Categorical(["low", "low", "high", "high", "low"], categories=["low", "high"]))
    figure = plot.survival_curves(months * 365.25 / 12, np.ones(5, bool), groups)
    risk = figure.axes[1]
    shown = {(round(t.get_position()[0]), t.get_position()[1]): t.get_text() for t in risk.texts}
    assert shown[(0, 0)] == "3"
    assert shown[(6, 0)] == "1"
    assert shown[(0, 1)] == "2"
    assert shown[(18, 1)] == "1"
    assert [t.get_text() for t in risk.get_yticklabels()] == ["low", "high"]


@pytest.mark.parametrize(
    ("times", "events", "groups"),
    [
        ([1.0, 2.0], [True], None),
        ([-1.0, 2.0], [True, False], None),
        ([np.nan, 2.0], [True, False], None),
        ([], [], None),
        ([1.0] * 9, [True] * 9, list("abcdefghi")),
    ],
)
def test_unusable_follow_up_is_refused(times, events, groups) -> None:
    with pytest.raises(FormatError):
        plot.survival_curves(np.array(times), np.array(events, dtype=bool), groups)


@pytest.mark.parametrize(("span", "length"), [(90.0, 20.0), (3.0, 0.5), (40.0, 10.0), (8.0, 2.0)])
def test_bars_have_round_lengths(span, length) -> None:
    assert nice_length(span) == pytest.approx(length)
