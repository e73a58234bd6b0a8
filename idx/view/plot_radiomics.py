"""Figures of radiomics: a feature map over the CT, and how stable features are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from idx._typing import Array, Pair
from idx.errors import FormatError, GeometryError
from idx.geometry.grids import Grid
from idx.radiomics.catalog import CATALOG, FAMILIES, LEVEL_FAMILIES, Definition, aggregations_of
from idx.radiomics.maps import FeatureMap
from idx.radiomics.reliability import VERDICT_LIMITS, VERDICTS
from idx.radiomics.robustness import Stability
from idx.radiomics.settings import AGGREGATIONS
from idx.view.planes import anatomical_plane, lesion_window
from idx.view.plot_ct import ct_slices
from idx.view.plot_style import BLUE, INK, MUTED, ORANGE, SKY, VERMILION, WIDE_WINDOW_HU, new_figure
from idx.volume import Mask, Volume

_VIEWS: tuple[Literal["axial", "coronal", "sagittal"], ...] = ("axial", "coronal", "sagittal")
MAP_COLOURS = "viridis"
HATCH = "//////"
MAP_PIXELS = 480
"""Pixels along a map's picture: voxels keep straight edges in print."""
_UNITS = {"1": "no unit", "hu": "HU", "hu2": "HU²"}
VERDICT_COLOURS: Mapping[str, str] = dict(zip(VERDICTS, (VERMILION, ORANGE, SKY, BLUE), strict=True))
BAR_IN = 0.85
"""Width of a colour bar with its numbers and its name in inches."""
ROW_IN, HEADING_ROWS = 0.117, 1.9
"""Height of a feature's line in inches, and of a family's heading in lines."""
ROWS_PER_COLUMN = 45
MAX_COLUMNS = 3


def feature_map(
    ct: Volume,
    fmap: FeatureMap,
    *,
    lesion: Mask | None = None,
    limits: Pair | None = None,
    window_hu: Pair = WIDE_WINDOW_HU,
    margin_mm: float | None = None,
) -> Figure:
    """Axial, coronal and sagittal picture of a feature map over the CT, with a colour bar.

    Parameters
    ----------
    ct : Volume
        The image that was mapped.
    fmap : FeatureMap
        One map of :func:`idx.radiomics.feature_maps`; it may lie on a resampled grid.
    lesion : Mask or None
        Outline to draw; None draws that of the map.
    limits : tuple of float or None
        Values at the ends of the colour bar; None takes the map's smallest and largest.
    window_hu : tuple of float
        Values of the CT shown black and white.
    margin_mm : float or None
        CT shown around the lesion; None takes the lesion's own size, 10 to 25 mm.

    Returns
    -------
    matplotlib.figure.Figure
        Opaque where the map has values, so that colours are those of the bar; voxels for which the feature is undefined are hatched and counted.

    Raises
    ------
    GeometryError
        If the map lies in another frame than the image.
    """
    if fmap.grid.frame != ct.grid.frame:
        raise GeometryError(f"the map must lie in the image's frame '{ct.grid.frame}'; got '{fmap.grid.frame}'. Pass the image that was mapped.")
    undefined = np.zeros(fmap.grid.shape, dtype=bool)
    for voxels in fmap.undefined.values():
        undefined |= voxels
    known = np.isfinite(fmap.values)
    shown = Mask(known | undefined, fmap.grid) if lesion is None else lesion
    low, high = limits or ((float(fmap.values[known].min()), float(fmap.values[known].max())) if known.any() else (0.0, 1.0))
    figure = ct_slices(ct, shown, window_hu=window_hu, margin_mm=margin_mm)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + BAR_IN, height)
    axes = list(figure.axes)
    centre, side = lesion_window(ct, shown, margin_mm=margin_mm)
    for view, ax in zip(_VIEWS, axes, strict=True):
        plane = anatomical_plane(view, centre, (side, side))
        points = plane.points_mm(side / MAP_PIXELS)
        values = np.ma.masked_invalid(_nearest(fmap.values, fmap.grid, points, outside=np.nan))
        # Above the CT, below the outline.
        picture = ax.imshow(values, cmap=MAP_COLOURS, vmin=low, vmax=high, extent=plane.extent_mm, interpolation="nearest", zorder=1)
        _hatch(ax, _nearest(undefined, fmap.grid, points, outside=False), plane.extent_mm)
    bar = figure.colorbar(picture, ax=axes, shrink=0.86, aspect=26, pad=0.015, extend=_extend(fmap.values[known], low, high))
    bar.set_label(_bar_label(fmap), fontsize=8, color=INK, linespacing=1.4)
    bar.ax.tick_params(labelsize=7.5, colors=INK)
    bar.outline.set_visible(False)  # type: ignore[operator]
    if undefined.any():
        counts = ", ".join(f"{reason}: {int(voxels.sum()):,} voxels" for reason, voxels in fmap.undefined.items())
        patch = Patch(facecolor="white", edgecolor=VERMILION, hatch=HATCH, lw=0.6)
        figure.legend([patch], [f"Undefined ({counts})"], loc="outside lower right", frameon=False, fontsize=8, labelcolor=INK)
    return figure


def _nearest(values: Array, grid: Grid, points_mm: Array, *, outside: float) -> Array:
    """Values of the voxels that hold points (..., 3) in mm: interpolation would spread missing voxels over their neighbours."""
    index = np.rint(grid.to_index(points_mm.reshape(-1, 3))).astype(int)
    inside = ((index >= 0) & (index < grid.shape)).all(axis=-1)
    flat = np.full(len(index), outside, dtype=values.dtype)
    flat[inside] = values[tuple(index[inside].T)]
    result: Array = flat.reshape(points_mm.shape[:-1])
    return result


def _hatch(ax: Axes, region: Array, extent: tuple[float, float, float, float]) -> None:
    if not region.any():
        return
    drawn = ax.contourf(region.astype(float), levels=[0.5, 1.5], colors="none", hatches=[HATCH], extent=extent, origin="upper", zorder=1.5)
    drawn.set_edgecolor(VERMILION)
    drawn.set_linewidth(0.0)


def _extend(values: Array, low: float, high: float) -> str:
    below, above = bool((values < low).any()), bool((values > high).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]


def _bar_label(fmap: FeatureMap) -> str:
    params, unit = fmap.spec.params, fmap.spec.unit
    side = 2 * int(params.get("radius_voxels") or 0) + 1
    around = f"{params['radius_mm']:g} mm" if "radius_mm" in params else f"{side} x {side} x {side} voxels"
    return f"{fmap.spec.name} [{_UNITS.get(unit, unit)}]\n{around} around each voxel"


@dataclass(frozen=True)
class _Group:
    """Features of one family on one image, the most reliable first."""

    heading: str
    labels: list[str]
    rows: pd.DataFrame

    @property
    def height(self) -> float:
        return len(self.rows) + HEADING_ROWS


def stability_chart(stability: Stability, *, families: Sequence[str] | None = None) -> Figure:
    """Intraclass correlation of every feature with its interval, by family.

    Parameters
    ----------
    stability : Stability
        With an intraclass correlation.
    families : sequence of str or None
        Some of ``idx.radiomics.FAMILIES``; None shows all that were measured.

    Returns
    -------
    matplotlib.figure.Figure
        Shaded are poor, moderate, good and excellent reliability (Koo and Li, J Chiropr Med 2016;15:155-163); the colour of a feature is that of its
        interval's lower end. A feature without an intraclass correlation has its reason.

    Raises
    ------
    FormatError
        If there is no intraclass correlation, a feature is none of radiomics, or no feature is of these families.
    """
    if stability.icc is None:
        raise FormatError("a stability chart needs an intraclass correlation; got a study without one (icc=None). Measure several lesions with icc='ICC(1,1)'.")
    groups = _groups(stability.table, families)
    columns = _columns(groups, min(MAX_COLUMNS, max(1, round(sum(group.height for group in groups) / ROWS_PER_COLUMN))))
    tallest = max(sum(group.height for group in column) for column in columns)
    figure, axes = new_figure((3.55 * len(columns) + (1.5 if len(columns) == 1 else 0.0), tallest * ROW_IN + 0.8), [1] * len(columns))
    shown = pd.concat([group.rows for group in groups])
    left = min(0.0, float(np.floor(10 * shown["low"].min()) / 10)) if shown["low"].notna().any() else 0.0
    for ax, column in zip(axes, columns, strict=True):
        _draw_column(ax, column, left, tallest)
    _verdict_legend(figure, stability, shown)
    return figure


def _groups(table: pd.DataFrame, families: Sequence[str] | None) -> list[_Group]:
    parsed = pd.DataFrame([_parsed(name) for name in table["feature"]], columns=["image", "family", "key", "aggregation"], index=table.index)
    wanted = FAMILIES if families is None else tuple(families)
    groups = []
    for image in dict.fromkeys(parsed["image"]):
        for family in (f for f in FAMILIES if f in wanted):
            which = parsed[(parsed["image"] == image) & (parsed["family"] == family)]
            if len(which):
                rows = table.loc[which.index].sort_values("icc", ascending=False, kind="stable", na_position="last")
                several = which["aggregation"].nunique() > 1
                labels = [_label(*which.loc[i, ["family", "key", "aggregation"]], several=several) for i in rows.index]
                groups.append(_Group(_heading(family, image), labels, rows))
    if not groups:
        raise FormatError(f"families must be some of {', '.join(FAMILIES)} that were measured; got {families!r}. Leave them out to see all.")
    return groups


@cache
def _known_columns() -> Mapping[str, tuple[Definition, str]]:
    """Feature and aggregation by column name, on CT and on other images."""
    return {
        definition.column(quantity, aggregation): (definition, aggregation or "")
        for definition in CATALOG.values()
        for quantity in ("hu", "other")
        for aggregation in aggregations_of(definition.family, AGGREGATIONS)
    }


def _parsed(name: str) -> tuple[str, str, str, str]:
    """Image, family, key and aggregation of a column; the image is "" for the original."""
    known, words = _known_columns(), name.split("_")
    for i in range(len(words)):
        if (rest := "_".join(words[i:])) in known:
            definition, aggregation = known[rest]
            return "_".join(words[:i]), definition.family, definition.key, aggregation
    raise FormatError(f"a feature must be one of radiomics to be charted; got '{name}'. Pass a study of idx.radiomics.stability.")


def _label(family: str, key: str, aggregation: str, *, several: bool) -> str:
    words = key.removeprefix(f"{family}_").replace("_", " ")
    return f"{words} ({aggregation.replace('_', ' ')})" if several else words


def _heading(family: str, image: str) -> str:
    name = family.upper() if family in LEVEL_FAMILIES[1:] or family == "ivh" else family.replace("_", " ").capitalize()
    return f"{name} of {image}" if image else name


def _columns(groups: Sequence[_Group], n: int) -> list[list[_Group]]:
    """Groups in their order in at most n columns, the tallest as low as possible."""
    heights = [group.height for group in groups]
    capacities = sorted({sum(heights[i:j]) for i in range(len(heights)) for j in range(i + 1, len(heights) + 1)})
    for capacity in (c for c in capacities if c >= max(heights)):
        columns: list[list[_Group]] = [[]]
        for group in groups:
            if sum(g.height for g in columns[-1]) + group.height > capacity:
                columns.append([])
            columns[-1].append(group)
        if len(columns) <= n:
            break
    return columns


def _draw_column(ax: Axes, groups: Sequence[_Group], left: float, tallest: float) -> None:
    y, ticks, labels = 0.0, [], []
    edges = (left, *VERDICT_LIMITS, 1.0)
    for group in groups:
        y += HEADING_ROWS
        top, n = y - 0.5, len(group.rows)
        for name, low, high in zip(VERDICTS, edges, edges[1:], strict=False):
            ax.add_patch(Rectangle((low, top), high - low, n, facecolor=VERDICT_COLOURS[name], alpha=0.13, lw=0))
        excellent = int((group.rows["verdict"] == VERDICTS[-1]).sum())
        ax.text(-0.02, top - 0.5, group.heading, transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=7.5, fontweight="bold", color=INK)
        ax.text(0.0, top - 0.5, f"{excellent} of {n} excellent", transform=ax.get_yaxis_transform(), ha="left", va="center", fontsize=6.5, color=MUTED)
        for row, label in zip(group.rows.itertuples(), group.labels, strict=True):
            _draw_feature(ax, y, row)
            ticks.append(y)
            labels.append(label)
            y += 1
    ax.set_ylim(tallest - 0.2, 0.2)
    ax.set_xlim(left, 1.0)
    ax.set_yticks(ticks, labels, fontsize=6, color=INK)
    # A short column has its axis below its last feature, not below the longest column's; this takes its marks away, so they come after.
    ax.spines["bottom"].set_position(("data", y - 0.2))
    marks = sorted({left, 0.0, *VERDICT_LIMITS, 1.0})
    ax.set_xticks(marks, [f"{mark:g}" for mark in marks], fontsize=6.5)
    ax.tick_params(axis="y", length=0, pad=2)
    ax.tick_params(axis="x", length=2, pad=2)
    ax.spines["left"].set_visible(False)


def _draw_feature(ax: Axes, y: float, row: Any) -> None:
    if row.reason:
        ax.text(0.02, y, f"no ICC: {row.reason.replace('_', ' ')}", transform=ax.get_yaxis_transform(), va="center", fontsize=6, color=MUTED)
        return
    colour = VERDICT_COLOURS[row.verdict]
    ax.plot([row.low, row.high], [y, y], color=colour, lw=1.3, solid_capstyle="butt", clip_on=False)
    ax.plot([row.icc], [y], color=colour, marker="o", ms=2.9, mec="white", mew=0.4, clip_on=False)


def _verdict_legend(figure: Figure, stability: Stability, shown: pd.DataFrame) -> None:
    counts = shown["verdict"].value_counts()
    limits = ("below 0.5", "from 0.5", "from 0.75", "from 0.9")
    handles = [Line2D([], [], color=VERDICT_COLOURS[name], lw=1.6, marker="o", ms=4.5, mec="white") for name in VERDICTS]
    names = [f"{name}, {limit}: {counts.get(name, 0)}" for name, limit in zip(VERDICTS, limits, strict=True)]
    n_lesions = stability.values["lesion"].nunique()
    title = f"{stability.icc} with {stability.confidence:.0%} interval, {n_lesions} lesions, {len(stability.perturbations)} perturbations; colour by lower end"
    n_columns = len(names) if len(figure.axes) > 1 else 2
    figure.legend(
        handles, names, loc="outside lower left", ncols=n_columns, frameon=False, fontsize=7.5, labelcolor=INK, title=title, title_fontsize=7.5,
        alignment="left", handlelength=1.6, columnspacing=1.4,
    )  # fmt: skip
