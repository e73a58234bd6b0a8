"""Figures of outcome models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from idx._optional import require
from idx._typing import Array
from idx.errors import FormatError
from idx.view.plot_style import CYCLE, INK, MUTED, StillFigure, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DAYS_PER_MONTH = 365.25 / 12


def survival_curves(time_days: Array, event: Array, groups: pd.Series | Sequence[object] | None = None, *, confidence: float = 0.95) -> Figure:
    """Kaplan-Meier curves with pointwise intervals and the number at risk below.

    Parameters
    ----------
    time_days : array (n,)
        Follow-up of each patient in days.
    event : array (n,)
        Whether the event happened (True) or follow-up ended (False).
    groups : sequence (n,) or None
        Group of each patient; curves appear in the order of a categorical, else of the sorted names.
    confidence : float
        Of the pointwise intervals.

    Raises
    ------
    FormatError
        If lengths differ, a time is negative or not finite, or there are no patients.
    MissingDependency
        If lifelines is not installed.

    Notes
    -----
    Greenwood's variance with the log(-log) transform (Kalbfleisch and Prentice, 2002), so that intervals stay within 0 and 1.
    Intervals are pointwise: they say nothing about the difference between curves.
    """
    times, events, names = _checked(time_days, event, groups)
    lifelines = require("lifelines", extra="models", purpose="Kaplan-Meier curves")
    months = times / DAYS_PER_MONTH
    levels = _ordered(groups, names)
    ticks = _month_ticks(float(months.max()))
    with style():
        figure = StillFigure(figsize=(7.2, 4.0 + 0.24 * len(levels)), dpi=150, layout="constrained", facecolor="white")
        curves, risk = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4.0, 0.42 * (len(levels) + 0.9)]})
        for position, (name, colour) in enumerate(zip(levels, CYCLE, strict=False)):
            member = np.array([n == name for n in names])
            fitter = lifelines.KaplanMeierFitter(alpha=1 - confidence).fit(months[member], events[member])
            _draw_curve(curves, fitter, colour, f"{name}  ({int(events[member].sum())} of {int(member.sum())} with event)", months[member & ~events])
            for tick in ticks:
                risk.text(tick, position, f"{int((months[member] >= tick).sum())}", ha="center", va="center", fontsize=8.5, color=colour)
        _finish(curves, risk, levels, ticks, confidence)
    return figure


def _checked(time_days: Array, event: Array, groups: pd.Series | Sequence[object] | None) -> tuple[Array, Array, list[str]]:
    times = np.asarray(time_days, dtype=np.float64).ravel()
    events = np.asarray(event).ravel().astype(bool)
    names = ["All patients"] * len(times) if groups is None else [str(g) for g in groups]
    if len(times) == 0 or not len(times) == len(events) == len(names):
        raise FormatError(
            f"time, event and group must have one value per patient; got {len(times)}, {len(events)} and {len(names)}. Align them on the patients' index."
        )
    if not (np.isfinite(times) & (times >= 0)).all():
        raise FormatError(f"time_days must be finite and not negative; got {times.min()} to {times.max()}. Drop patients without follow-up.")
    if len(set(names)) > len(CYCLE):
        raise FormatError(f"groups must be at most {len(CYCLE)} to be told apart; got {len(set(names))}. Merge groups.")
    return times, events, names


def _ordered(groups: pd.Series | Sequence[object] | None, names: list[str]) -> list[str]:
    categories = getattr(getattr(groups, "cat", groups), "categories", None)
    present = set(names)
    return sorted(present) if categories is None else [str(c) for c in categories if str(c) in present]


def _draw_curve(ax: Axes, fitter: object, colour: str, label: str, censored: Array) -> None:
    curve = fitter.survival_function_  # type: ignore[attr-defined]
    interval = fitter.confidence_interval_  # type: ignore[attr-defined]
    ax.step(curve.index, curve.iloc[:, 0], where="post", color=colour, lw=1.8, label=label)
    ax.fill_between(interval.index, interval.iloc[:, 0], interval.iloc[:, 1], step="post", color=colour, alpha=0.14, lw=0)
    if len(censored):
        ax.plot(censored, fitter.predict(censored), ls="none", marker="|", ms=5, mew=0.9, color=colour)  # type: ignore[attr-defined]


def _finish(curves: Axes, risk: Axes, levels: list[str], ticks: Array, confidence: float) -> None:
    curves.set_ylim(0, 1.02)
    curves.set_xlim(0, ticks[-1] * 1.02)
    curves.set_xticks(ticks)
    curves.set_ylabel("Probability without event")
    curves.tick_params(labelbottom=True, length=3)
    curves.grid(axis="y", color="#e6e8eb", lw=0.7)
    curves.set_axisbelow(True)
    curves.legend(loc="upper right", frameon=False, fontsize=8.5, labelcolor=INK)
    curves.set_xlabel(f"Months   (bands: pointwise {confidence:.0%} intervals; ticks: end of follow-up)", fontsize=8.5, color=MUTED)
    risk.set_ylim(len(levels) - 0.4, -0.6)
    risk.set_yticks(range(len(levels)), levels)
    risk.tick_params(length=0, labelbottom=False, labelsize=8.5, pad=14)
    for label, colour in zip(risk.get_yticklabels(), CYCLE, strict=False):
        label.set_color(colour)
    for spine in risk.spines.values():
        spine.set_visible(False)
    risk.set_title("At risk", loc="left", fontsize=8.5, color=MUTED, fontweight="normal")


def _month_ticks(last: float) -> Array:
    """At most eight ticks at whole 1, 3, 6, 12, 24 or 60 months."""
    step = next((s for s in (1, 3, 6, 12, 24, 60) if last / s <= 8), 120)
    return np.arange(0, last + step * 0.999, step)
