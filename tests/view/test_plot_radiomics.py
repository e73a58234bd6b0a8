"""Figures of radiomics: that colours stand where the values are, and marks where the reliability is. Looks are judged by eye."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.text import Text

from idx.errors import FormatError, GeometryError
from idx.geometry import PATIENT
from idx.geometry.grids import Grid
from idx.provenance import Provenance
from idx.radiomics import AGGREGATIONS, CATALOG, FeatureMap, LaplacianOfGaussian, Perturbation, RadiomicsSettings, Stability, feature_maps, stability
from idx.table import FeatureSpec
from idx.testing import ball
from idx.view import plot
from idx.view.plot_radiomics import HATCH, VERDICT_COLOURS, _columns, _Group, _parsed
from idx.volume import CTVolume, Mask

SPEC = FeatureSpec("local_mean_intensity_hu", "hu", "Around each voxel: mean.", None, {"radius_mm": 4.0})
SPACING = (1.5, 1.0, 2.0)
ORIGIN = (-20.0, 12.0, 40.0)


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def _draw(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.fixture
def ct() -> CTVolume:
    grid = Grid.from_spacing((40, 50, 45), (1.0, 1.0, 1.5), (-35.0, -4.0, 20.0))
    return CTVolume(np.full(grid.shape, -800, np.int16), grid)


@pytest.fixture
def fmap() -> FeatureMap:
    """Values that name their voxel: 10000 z + 100 y + x, on a grid of its own; one corner outside the lesion, two voxels undefined."""
    z, y, x = np.indices((7, 9, 8))
    values = (10000.0 * z + 100 * y + x).astype(np.float64)
    values[0, 0, 0] = np.nan
    constant = np.zeros(values.shape, dtype=bool)
    constant[3, 4, 2:4] = True
    values[constant] = np.nan
    return FeatureMap(values, Grid.from_spacing(values.shape, SPACING, ORIGIN), SPEC, {"constant": constant})


def _middle_mm() -> np.ndarray:
    """Middle of the map: the box of its voxel centres is what the figure is centred on."""
    return np.array(ORIGIN) + np.array(SPACING) * (np.array([8, 9, 7]) - 1) / 2


def test_each_pixel_of_a_map_has_the_value_of_the_voxel_it_lies_in(ct: CTVolume, fmap: FeatureMap) -> None:
    figure = plot.feature_map(ct, fmap)
    middle = _middle_mm()
    # What goes right and down in each picture, by axis (x, y, z) and sign.
    directions = {"axial": ((0, 1), (1, 1)), "coronal": ((0, 1), (2, -1)), "sagittal": ((1, 1), (2, -1))}
    for ax, (right, down) in zip(figure.axes, directions.values(), strict=False):
        picture = ax.images[1]
        left_mm, right_mm, bottom_mm, top_mm = picture.get_extent()
        shown = np.ma.asarray(picture.get_array())
        rows, columns = shown.shape
        seen = 0
        for row, column in itertools.product(range(3, rows, 37), range(5, columns, 41)):
            point = middle.copy()
            point[right[0]] += right[1] * (left_mm + (column + 0.5) / columns * (right_mm - left_mm))
            point[down[0]] += down[1] * (top_mm + (row + 0.5) / rows * (bottom_mm - top_mm))
            x, y, z = np.floor((point - ORIGIN) / SPACING + 0.5).astype(int)
            inside = 0 <= x < 8 and 0 <= y < 9 and 0 <= z < 7 and np.isfinite(fmap.values[z, y, x])
            assert bool(np.ma.getmaskarray(shown)[row, column]) is not inside
            if inside:
                assert shown[row, column] == 10000 * z + 100 * y + x
                seen += 1
        assert seen > 5


def test_undefined_voxels_are_hatched_where_they_lie_and_counted(ct: CTVolume, fmap: FeatureMap) -> None:
    figure = plot.feature_map(ct, fmap)
    axial = figure.axes[0]
    (marked,) = [drawn for drawn in axial.findobj(QuadContourSet) if drawn.filled]
    assert marked.hatches == [HATCH]
    vertices = marked.get_paths()[0].vertices
    # Voxels x 2 and 3, y 4 of 8 and 9: -1.5 - 0.75 to 0 + 0.75 mm from the middle, which lies between x 3 and 4; y 4 is the middle.
    np.testing.assert_allclose([vertices[:, 0].min(), vertices[:, 0].max()], [-2.25 - 0.75, -0.75 + 0.75], atol=0.15)
    np.testing.assert_allclose([vertices[:, 1].min(), vertices[:, 1].max()], [-0.5, 0.5], atol=0.15)
    assert "Undefined (constant: 2 voxels)" in _texts(figure)
    assert (_draw(figure)[..., :3] == (0xD5, 0x5E, 0x00)).all(axis=-1).any()


def test_a_map_without_undefined_voxels_mentions_none(ct: CTVolume, fmap: FeatureMap) -> None:
    whole = FeatureMap(np.nan_to_num(fmap.values, nan=5.0), fmap.grid, SPEC)
    figure = plot.feature_map(ct, whole)
    assert "Undefined" not in _texts(figure)
    assert len(figure.axes[0].images) == 2


def test_colour_bar_has_name_unit_neighbourhood_and_ends(ct: CTVolume, fmap: FeatureMap) -> None:
    figure = plot.feature_map(ct, fmap)
    bar = figure.axes[3]
    assert bar.get_ylabel() == "local_mean_intensity_hu [HU]\n4 mm around each voxel"
    assert bar.get_ylim() == (1.0, 60807.0)
    cut = plot.feature_map(ct, fmap, limits=(100.0, 200.0))
    assert cut.axes[3].get_ylim() == (100.0, 200.0)
    assert all(ax.images[1].get_clim() == (100.0, 200.0) for ax in cut.axes[:3])
    cube = FeatureMap(fmap.values, fmap.grid, FeatureSpec("local_glcm_contrast", "1", "Contrast.", None, {"radius_voxels": 1}), fmap.undefined)
    assert plot.feature_map(ct, cube).axes[3].get_ylabel() == "local_glcm_contrast [no unit]\n3 x 3 x 3 voxels around each voxel"


def test_colour_bar_says_which_values_lie_beyond_its_ends(ct: CTVolume, fmap: FeatureMap) -> None:
    ends = {None: "neither", (100.0, 1e6): "min", (0.0, 200.0): "max", (100.0, 200.0): "both"}
    for limits, extend in ends.items():
        assert plot.feature_map(ct, fmap, limits=limits).axes[2].images[1].colorbar.extend == extend


def test_a_measured_map_is_drawn_with_the_lesion_it_was_made_of() -> None:
    phantom = ball(radius_mm=6.0, spacing_mm=2.0)
    (mapped,) = feature_maps(phantom.ct, phantom.mask, radius_voxels=1, features=["intensity_skewness"]).values()
    figure = plot.feature_map(phantom.ct, mapped, lesion=phantom.mask)
    # A ball of one attenuation has no skewness anywhere.
    assert f"Undefined (constant: {phantom.mask.n_voxels} voxels)" in _texts(figure)
    assert _draw(figure).size


def test_a_map_of_another_frame_is_refused(ct: CTVolume, fmap: FeatureMap) -> None:
    elsewhere = Grid(fmap.grid.shape, fmap.grid.affine, replace(PATIENT, name="another patient"))
    with pytest.raises(GeometryError, match="frame"):
        plot.feature_map(ct, FeatureMap(fmap.values, elsewhere, SPEC, fmap.undefined))


ROWS = [
    ("mesh_volume_mm3", 0.97, 0.95, 0.99, "excellent", ""),
    ("sphericity", 0.4, 0.2, 0.6, "poor", ""),
    ("elongation", 0.8, 0.6, 0.9, "moderate", ""),
    ("mean_intensity_hu", 0.85, 0.8, 0.92, "good", ""),
    ("glcm_contrast_3d_merged", np.nan, np.nan, np.nan, "", "constant"),
]


def _study(rows: list[tuple[object, ...]] = ROWS, icc: str | None = "ICC(1,1)") -> Stability:
    table = pd.DataFrame(rows, columns=["feature", "icc", "low", "high", "verdict", "reason"])
    values = pd.DataFrame(
        {"lesion": ["a", "b"], "perturbation": ["unperturbed"] * 2, "feature": [table["feature"][0]] * 2, "value": [1.0, 2.0], "reason": [""] * 2}
    )
    return Stability(table, values, icc, 0.95, (Perturbation(), Perturbation(rotation_deg=5.0)), Provenance("idx.radiomics.stability", {}))


def test_each_feature_has_its_interval_its_estimate_and_the_colour_of_its_lower_end() -> None:
    (ax,) = plot.stability_chart(_study()).axes
    intervals = [line for line in ax.lines if len(line.get_xdata()) == 2]
    estimates = [line for line in ax.lines if len(line.get_xdata()) == 1]
    labels = dict(zip(ax.get_yticks(), [label.get_text() for label in ax.get_yticklabels()], strict=True))
    # Within shape the most reliable comes first; families have the catalogue's order.
    assert list(labels.values()) == ["mesh volume", "elongation", "sphericity", "mean intensity", "contrast"]
    by_label = {labels[line.get_ydata()[0]]: line for line in intervals}
    points = {labels[line.get_ydata()[0]]: line.get_xdata()[0] for line in estimates}
    for name, icc, low, high, verdict, reason in ROWS:
        label = CATALOG[next(key for key in CATALOG if name.startswith(key))].key.replace("_", " ").removeprefix("glcm ")
        if reason:
            assert label not in by_label
            continue
        assert list(by_label[label].get_xdata()) == [low, high]
        assert points[label] == icc
        assert to_hex(by_label[label].get_color()) == VERDICT_COLOURS[verdict].lower()


def test_counts_reasons_and_kind_are_written() -> None:
    text = _texts(plot.stability_chart(_study()))
    assert {"1 of 3 excellent", "0 of 1 excellent", "no ICC: constant", "excellent, from 0.9: 1", "poor, below 0.5: 1"} <= set(text.split("\n"))
    assert "ICC(1,1) with 95% interval, 2 lesions, 2 perturbations" in text


def test_bands_end_at_the_limits_of_koo_and_li() -> None:
    (ax,) = plot.stability_chart(_study()).axes
    bands = sorted({(patch.get_x(), round(patch.get_x() + patch.get_width(), 9)) for patch in ax.patches})
    assert bands == [(0.0, 0.5), (0.5, 0.75), (0.75, 0.9), (0.9, 1.0)]


def test_an_interval_below_zero_is_not_cut() -> None:
    (ax,) = plot.stability_chart(_study([("sphericity", 0.1, -0.34, 0.6, "poor", "")])).axes
    assert ax.get_xlim() == (-0.4, 1.0)


def test_only_the_families_asked_for_are_drawn() -> None:
    (ax,) = plot.stability_chart(_study(), families=["intensity"]).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["mean intensity"]
    with pytest.raises(FormatError, match="families"):
        plot.stability_chart(_study(), families=["glszm"])


def test_studies_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(FormatError, match="intraclass"):
        plot.stability_chart(_study(icc=None))
    with pytest.raises(FormatError, match="area_um2"):
        plot.stability_chart(_study([("area_um2", 0.9, 0.8, 0.95, "good", "")]))


@pytest.mark.parametrize("quantity", ["hu", "suv"])
def test_every_column_is_known_again(quantity: str) -> None:
    for image in ("", LaplacianOfGaussian(sigma_mm=2.0).name, "mean_5"):
        for definition in CATALOG.values():
            aggregations = {"glcm": AGGREGATIONS, "glrlm": AGGREGATIONS}.get(definition.family, (None,))
            if definition.family in ("glszm", "gldzm", "ngtdm", "ngldm"):
                aggregations = ("2d", "2.5d", "3d")
            for aggregation in aggregations:
                column = definition.column(quantity, aggregation)
                named = _parsed(f"{image}_{column}" if image else column)
                assert named == (image, definition.family, definition.key, aggregation or "")


def test_several_images_and_aggregations_are_told_apart() -> None:
    scans = [ball(radius_mm=r, spacing_mm=2.0) for r in (5.0, 7.0)]
    settings = RadiomicsSettings(
        n_bins=8,
        families=("glszm",),
        features=("glszm_zone_percentage",),
        aggregations=("2d_averaged", "3d_merged"),
        filters=(None, LaplacianOfGaussian(sigma_mm=3.0)),
    )
    study = stability([s.ct for s in scans], [s.mask for s in scans], settings, perturbations=[Perturbation(), Perturbation(growth_fraction=0.1)])
    figure = plot.stability_chart(study)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert sorted(labels) == sorted(["zone percentage (2d)", "zone percentage (3d)"] * 2)
    assert {"GLSZM", "GLSZM of log_3mm"} <= set(_texts(figure).split("\n"))
    assert _draw(figure).size


def test_columns_keep_the_order_and_are_as_low_as_they_can_be() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        sizes = rng.integers(1, 30, int(rng.integers(1, 9)))
        groups = [_Group(str(i), [], pd.DataFrame(index=range(n))) for i, n in enumerate(sizes)]
        for n in (1, 2, 3):
            packed = _columns(groups, n)
            assert [g.heading for column in packed for g in column] == [g.heading for g in groups]
            assert len(packed) <= n
            assert all(packed)
            heights = [g.height for g in groups]
            cuts = itertools.combinations_with_replacement(range(len(groups) + 1), n - 1)
            best = min(max(sum(heights[a:b]) for a, b in itertools.pairwise((0, *cut, len(groups)))) for cut in cuts)
            assert max(sum(g.height for g in column) for column in packed) == pytest.approx(best)


def test_headings_name_the_families_as_people_do() -> None:
    rows = [
        ("histogram_mean", 0.9, 0.8, 0.95, "good", ""),
        ("local_intensity_peak_hu", 0.9, 0.8, 0.95, "good", ""),
        ("ngtdm_busyness_3d", 0.9, 0.8, 0.95, "good", ""),
    ]
    text = set(_texts(plot.stability_chart(_study(rows))).split("\n"))
    assert {"Histogram", "Local intensity", "NGTDM"} <= text


def test_no_figure_is_left_with_pyplot(ct: CTVolume, fmap: FeatureMap) -> None:
    from matplotlib import pyplot

    _draw(plot.feature_map(ct, fmap, lesion=Mask(np.isin(np.arange(ct.values.size).reshape(ct.grid.shape), [45000]), ct.grid)))
    _draw(plot.stability_chart(_study()))
    assert pyplot.get_fignums() == []
