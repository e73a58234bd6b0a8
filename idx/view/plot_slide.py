"""Figures of a slide."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from idx._typing import FloatArray, Pair
from idx.slide import Contours, Slide
from idx.view.planes import region_around, slide_pixels
from idx.view.plot_style import BLUE, CYCLE, INK, VERMILION, bare, halo, new_figure, scale_bar

ZOOM_UM = 200.0
"""Side of the detail: about forty nuclei across a carcinoma."""


def slide_overview(
    slide: Slide, tissue: Contours | None = None, nuclei: Contours | None = None, *, zoom_um: float = ZOOM_UM, centre_um: Pair | None = None
) -> Figure:
    """The slide with its tissue, and a detail with every nucleus outlined.

    Parameters
    ----------
    tissue, nuclei : Contours or None
        Outlines in the slide's frame; nuclei are coloured by their labels.
    zoom_um : float
        Side of the detail.
    centre_um : tuple of float or None
        Middle of the detail (x, y); None takes the densest place.
    """
    x0, y0, x1, y1 = region = region_around(slide, tissue)
    # The longer side is drawn at 1100 px.
    pitch = max(x1 - x0, y1 - y0) / 1100
    aspect = (x1 - x0) / (y1 - y0)
    height = min(6.5, max(3.0, 9.0 / (aspect + 1)))
    figure, (whole, detail) = new_figure((10.0, height + 0.45), (aspect, 1.0))
    _draw(whole, slide, region, pitch)
    if tissue is not None:
        _outlines(whole, tissue, region, [BLUE] * len(tissue), width=1.2)
    centre = centre_um or _typical_field(slide, tissue, nuclei, zoom_um)
    side = min(zoom_um, *slide.size_um)
    square = (centre[0] - side / 2, centre[1] - side / 2, centre[0] + side / 2, centre[1] + side / 2)
    _draw(detail, slide, square, max(side / 900, 0.5 * min(slide.mpp)))
    colours = _class_colours(nuclei)
    if nuclei is not None:
        _outlines(detail, nuclei, square, [colours[label] for label in nuclei.labels], width=1.3)
    whole.add_patch(Rectangle(square[:2], side, side, fill=False, edgecolor=VERMILION, lw=1.6, path_effects=halo(2.6)))
    width_um, height_um = slide.size_um
    bare(whole, slide.name, f"{width_um / 1000:.2f} × {height_um / 1000:.2f} mm")
    bare(detail, "Detail", f"{side:.0f} µm wide" if nuclei is None else f"{len(nuclei):,} nuclei on the slide")
    for ax in (whole, detail):
        scale_bar(ax, unit="um")
    _legend(figure, tissue=tissue is not None, colours=colours)
    return figure


def _draw(ax: Axes, slide: Slide, region: tuple[float, float, float, float], pitch: float) -> None:
    """Show a region of the slide with data coordinates in um."""
    x0, y0, x1, y1 = region
    columns, rows = max(2, round((x1 - x0) / pitch)), max(2, round((y1 - y0) / pitch))
    points = np.stack(np.meshgrid(x0 + pitch * (np.arange(columns) + 0.5), y0 + pitch * (np.arange(rows) + 0.5)), axis=-1)
    ax.imshow(slide_pixels(slide, points), extent=(x0, x0 + columns * pitch, y0 + rows * pitch, y0), interpolation="bilinear")


def _outlines(ax: Axes, contours: Contours, region: tuple[float, float, float, float], colours: list[str], *, width: float) -> None:
    """Draw the rings that touch the region."""
    x0, y0, x1, y1 = region
    rings: list[FloatArray] = []
    drawn: list[str] = []
    for index, colour in enumerate(colours):
        outline = contours.rings(index)
        low, high = outline[0].min(axis=0), outline[0].max(axis=0)
        if high[0] < x0 or high[1] < y0 or low[0] > x1 or low[1] > y1:
            continue
        rings += [np.vstack([ring, ring[:1]]) for ring in outline]
        drawn += [colour] * len(outline)
    ax.add_collection(LineCollection(rings, colors=drawn, linewidths=width), autolim=False)
    ax.set_xlim(x0, x1)
    ax.set_ylim(y1, y0)


def _typical_field(slide: Slide, tissue: Contours | None, nuclei: Contours | None, side: float) -> Pair:
    """Middle of a field in the third quartile of nuclei (the densest shows the exception, the median an edge), else of the tissue, else of the slide."""
    width, height = slide.size_um
    if nuclei is not None and len(nuclei):
        starts = nuclei.ring_offsets[nuclei.polygon_offsets[:-1]]
        points = nuclei.vertices_um[starts]
        bins = [np.arange(0.0, max(extent, side) + side, side) for extent in (width, height)]
        counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=bins)
        order = np.argsort(counts, axis=None, kind="stable")
        occupied = order[counts.ravel()[order] > 0]
        column, row = np.unravel_index(int(occupied[3 * len(occupied) // 4]), counts.shape)
        x, y = float(bins[0][column] + side / 2), float(bins[1][row] + side / 2)
    elif tissue is not None and len(tissue):
        x, y = (float(c) for c in tissue.centroids_um[int(np.argmax(tissue.areas_um2))])
    else:
        x, y = width / 2, height / 2
    return min(max(x, side / 2), max(side / 2, width - side / 2)), min(max(y, side / 2), max(side / 2, height - side / 2))


def _class_colours(nuclei: Contours | None) -> dict[str, str]:
    names = [] if nuclei is None else sorted(set(nuclei.labels))
    return {name: CYCLE[i % len(CYCLE)] for i, name in enumerate(names)}


def _legend(figure: Figure, *, tissue: bool, colours: dict[str, str]) -> None:
    entries = [(Line2D([], [], color=BLUE, lw=2), "Tissue")] if tissue else []
    entries += [(Line2D([], [], color=colour, lw=0, marker="o", mfc="none", mew=1.6), name or "Nucleus") for name, colour in colours.items()]
    if entries:
        handles, names = zip(*entries, strict=True)
        figure.legend(handles, names, loc="outside lower left", ncols=min(6, len(entries)), frameon=False, fontsize=8, labelcolor=INK, handlelength=1.4)
