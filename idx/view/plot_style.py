"""The look that all figures share: colours, type, scale bars. Figures are made without pyplot, so none outlives its caller."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from idx._typing import Array, Pair

# Okabe & Ito, Color Universal Design (2008): distinguishable with every common colour vision deficiency.
ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, BLACK = "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
INK = "#1f2328"
MUTED = "#6b7280"
LESION = YELLOW
SECTION = SKY

LUNG_WINDOW_HU: Pair = (-1350.0, 150.0)
SOFT_WINDOW_HU: Pair = (-160.0, 240.0)
WIDE_WINDOW_HU: Pair = (-1000.0, 400.0)
"""Display windows (low, high) in HU: level -600 width 1500, level 40 width 400, and lung to bone in one."""

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 6.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "idx",
}


class StillFigure(Figure):
    """A figure that a notebook shows by itself: without pyplot, nothing else would register a formatter for it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(size_in: Pair, widths: Sequence[float], *, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a white figure with rows of axes of the given relative widths, and the axes row by row."""
    with rc_context(_RC):
        figure = StillFigure(figsize=size_in, dpi=150, layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.04, h_pad=0.06, wspace=0.02, hspace=0.02)  # type: ignore[call-arg, union-attr]
        axes = figure.subplots(rows, len(widths), squeeze=False, gridspec_kw={"width_ratios": list(widths)})
    return figure, list(axes.ravel())


def style() -> contextlib.AbstractContextManager[None]:
    """Context in which texts and axes take the shared look."""
    return rc_context(_RC)


def bare(ax: Axes, title: str, note: str = "") -> None:
    """Take ticks and frame off a picture and head it with a bold title and a muted note."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(title, loc="left", fontsize=9.5, fontweight="bold", color=INK, pad=6)
    if note:
        ax.set_title(note, loc="right", fontsize=8, fontweight="normal", color=MUTED, pad=6)


def halo(width: float = 2.2) -> list[patheffects.AbstractPathEffect]:
    """Dark rim that keeps a light line readable on any background."""
    return [patheffects.withStroke(linewidth=width, foreground=(0, 0, 0, 0.65))]


def nice_length(span: float) -> float:
    """Round length of 1, 2 or 5 times a power of ten, nearest below a quarter of the span.

    Examples
    --------
    >>> nice_length(90.0), nice_length(0.9)
    (20.0, 0.2)
    """
    target = span / 4.0
    power = 10.0 ** math.floor(math.log10(target))
    factor = max(f for f in (1.0, 2.0, 5.0) if f * power <= target * (1 + 1e-9))
    return factor * power


def scale_bar(ax: Axes, *, unit: str, units_per_data: float = 1.0) -> None:
    """Draw a scale bar in the lower left corner.

    Parameters
    ----------
    unit : str
        "mm" or "um"; um of 1000 and more are written in mm.
    units_per_data : float
        Units in one data unit of the x axis.
    """
    x0, x1 = ax.get_xlim()
    length = nice_length(abs(x1 - x0) * units_per_data)
    shown = f"{length / 1000:g} mm" if unit == "um" and length >= 1000 else f"{length:g} {'µm' if unit == 'um' else unit}"
    thickness = 0.007 * abs(x1 - x0)
    bar = AnchoredSizeBar(
        ax.transData, length / units_per_data, shown, "lower left", pad=0.45, borderpad=0.6, sep=3, color="white", label_top=True,
        size_vertical=thickness, fill_bar=True, fontproperties=FontProperties(size=7.5),
    )  # fmt: skip
    bar.patch.set(facecolor=(0, 0, 0, 0.5), edgecolor="none", boxstyle="round,pad=0,rounding_size=0.25")
    bar.set_zorder(9)
    ax.add_artist(bar)


def edge_letters(ax: Axes, letters: Sequence[str]) -> None:
    """Write anatomical letters at the left, right, upper and lower edge of a picture."""
    places = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"), (0.5, 0.985, "center", "top"), (0.5, 0.015, "center", "bottom"))
    for letter, (x, y, ha, va) in zip(letters, places, strict=True):
        ax.text(x, y, letter, transform=ax.transAxes, color="white", fontsize=8, ha=ha, va=va, path_effects=halo(), zorder=9)


def outline(ax: Axes, mask: Array, extent: tuple[float, float, float, float], *, color: str = LESION, width: float = 1.4) -> None:
    """Draw the 0.5 line of a mask picture whose pixels fill ``extent`` (left, right, bottom, top)."""
    if mask.max() <= 0.5 or mask.min() >= 0.5:
        return
    rows, columns = mask.shape
    left, right, bottom, top = extent
    x = left + (np.arange(columns) + 0.5) / columns * (right - left)
    y = top + (np.arange(rows) + 0.5) / rows * (bottom - top)
    drawn = ax.contour(x, y, mask, levels=[0.5], colors=[color], linewidths=width)
    drawn.set_path_effects(halo(width + 1.2))
