"""Arithmetic of the comparison: medians, ratios paired by round, memory over time, the summary."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

GIB = 2**30
QUIET_SHARE = 0.1
"""Most of one processor that others may take while a call is timed by the clock."""
FEWEST_QUIET = 3
"""With fewer quiet rounds all of them count."""
WARM_UP_SHARE = 0.1
"""Part of a long run before which its memory is not judged: pools and caches fill."""


@dataclass
class Series:
    """A contender at one case with a number of threads.

    Parameters
    ----------
    contender, case : str
    threads : int
    n_tiles : int
        Tiles delivered per round.
    cpu_s, wall_s : list of float
        Per round, in order; the rounds of all contenders alternate.
    others_s : list of float
        Of the processors by other processes in each round.
    pixels : dict
        How its pixels compare with the reference's: ``reference``, ``is_identical``, ``max_difference``, ``mean_difference``.
    peak_bytes : int or None
        Largest resident set of its process so far.
    error : str or None
        Why there is nothing, or why what there is does not count.
    """

    contender: str
    case: str
    threads: int
    n_tiles: int
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    others_s: list[float] = field(default_factory=list)
    pixels: dict[str, object] = field(default_factory=dict)
    peak_bytes: int | None = None
    error: str | None = None

    def ms_per_tile(self, clock: str) -> list[float]:
        """CPU or wall milliseconds per tile of each round; ``clock`` is "cpu" or "wall"."""
        return [seconds / self.n_tiles * 1e3 for seconds in getattr(self, f"{clock}_s")]

    def is_quiet(self) -> list[bool]:
        """Whether others left the processors alone, by round."""
        return [others <= QUIET_SHARE * wall for others, wall in zip(self.others_s, self.wall_s, strict=True)]

    def as_dict(self) -> dict[str, object]:
        """Everything, with median, lowest and highest per tile."""
        row = dict(vars(self))
        for clock in ("cpu", "wall"):
            times = self.ms_per_tile(clock)
            row[f"{clock}_ms_per_tile"] = spread(times) if times else None
        return row


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def paired(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float] | None:
    """Median, lowest and highest of the ratios of each round; None without rounds.

    Examples
    --------
    >>> paired([2.0, 9.0, 4.0], [1.0, 3.0, 1.0])
    {'median': 3.0, 'lowest': 2.0, 'highest': 4.0}
    """
    ratios = [a / b for a, b in zip(numerator, denominator, strict=False)]
    return spread(ratios) if ratios else None


def quiet(values: Sequence[float], is_quiet: Sequence[bool]) -> list[float]:
    """Values of the quiet rounds, or of all where they are too few.

    Examples
    --------
    >>> quiet([1.0, 2.0, 3.0, 9.0], [True, True, True, False])
    [1.0, 2.0, 3.0]
    """
    return [value for value, each in zip(values, is_quiet, strict=True) if each] if sum(is_quiet) >= FEWEST_QUIET else list(values)


def ratio_of(over: Series, under: Series, clock: str) -> dict[str, float] | None:
    """Paired ratio of two series; by the clock on the wall, of the rounds in which other processes left both alone."""
    times = [each.ms_per_tile(clock) for each in (over, under)]
    if clock == "wall":
        both = [a and b for a, b in zip(over.is_quiet(), under.is_quiet(), strict=False)]
        times = [quiet(each[: len(both)], both) for each in times]
    return paired(*times)


def busy_share(rounds: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    """The slower of decoding and computing alone over both together, by round, of the quiet rounds.

    Parameters
    ----------
    rounds : sequence of mappings
        ``decode_s``, ``compute_s``, ``run_s`` and ``others_share``.
    """
    is_quiet = [each["others_share"] <= QUIET_SHARE for each in rounds]
    shares = quiet([max(each["decode_s"], each["compute_s"]) / each["run_s"] for each in rounds], is_quiet)
    return spread(shares) if shares else None


@dataclass(frozen=True)
class Ratio:
    """A ratio of the summary: a clock of one series over that of another of the same case.

    Parameters
    ----------
    case : str
    over, under : (str, int)
        Contender and threads of numerator and denominator.
    clock : str
        "cpu" or "wall".
    """

    case: str
    over: tuple[str, int]
    under: tuple[str, int]
    clock: str = "cpu"


IDX, RAW = ("idx", 1), ("raw", 1)
RATIOS = {
    "x_raw_decode": Ratio("mosaic", IDX, RAW),
    "speedup_openslide": Ratio("mosaic", ("openslide", 1), IDX),
    "speedup_tiatoolbox": Ratio("mosaic 0.5 mpp", ("tiatoolbox", 1), IDX),
    "speedup_openslide_aperio": Ratio("aperio", ("openslide", 1), IDX),
    "scaling_2_threads": Ratio("mosaic", IDX, ("idx", 2), "wall"),
    "scaling_2_threads_raw": Ratio("mosaic", RAW, ("raw", 2), "wall"),
    "speedup_tifffile_zarr": Ratio("mosaic", ("tifffile_zarr", 1), IDX),
    "speedup_pyvips": Ratio("mosaic", ("pyvips", 1), IDX),
    "speedup_cucim": Ratio("mosaic", ("cucim", 1), IDX),
    "speedup_fastslide": Ratio("mosaic", ("fastslide", 1), IDX),
    "speedup_tiatoolbox_level0": Ratio("mosaic", ("tiatoolbox", 1), IDX),
    "x_raw_decode_unaligned": Ratio("mosaic unaligned", IDX, RAW),
    "speedup_openslide_unaligned": Ratio("mosaic unaligned", ("openslide", 1), IDX),
    "speedup_pyvips_unaligned": Ratio("mosaic unaligned", ("pyvips", 1), IDX),
    "x_raw_decode_dense": Ratio("dense", IDX, RAW),
    "speedup_openslide_dense": Ratio("dense", ("openslide", 1), IDX),
    "speedup_pyvips_dense": Ratio("dense", ("pyvips", 1), IDX),
    "x_raw_decode_aperio": Ratio("aperio", IDX, RAW),
    "speedup_pyvips_aperio": Ratio("aperio", ("pyvips", 1), IDX),
    "speedup_tiatoolbox_aperio": Ratio("aperio 0.5 mpp", ("tiatoolbox", 1), IDX),
    "speedup_openslide_1_mpp": Ratio("mosaic 1 mpp", ("openslide", 1), IDX),
    "speedup_tiatoolbox_1_mpp": Ratio("mosaic 1 mpp", ("tiatoolbox", 1), IDX),
    "x_raw_decode_jpeg2000": Ratio("jpeg2000 rgb", IDX, RAW),
    "speedup_openslide_jpeg2000": Ratio("jpeg2000 rgb", ("openslide", 1), IDX),
    "x_raw_decode_jpeg2000_ycbcr": Ratio("jpeg2000 ycbcr", IDX, RAW),
    "speedup_openslide_jpeg2000_ycbcr": Ratio("jpeg2000 ycbcr", ("openslide", 1), IDX),
}
"""Above 1, ``x_`` is what idx costs more; ``speedup_`` is what a peer costs more."""
OVERLAPS = {"busy_share": "1:1", "busy_share_decode_2_to_1": "2:1", "busy_share_decode_1_to_2": "1:2"}


def summarise(
    series: Sequence[Series], overlap: Mapping[str, Mapping[str, object]], large: Mapping[str, Mapping[str, object]]
) -> tuple[dict[str, float | None], dict[str, str], dict[str, dict[str, float]]]:
    """Summary of a run.

    Parameters
    ----------
    series : sequence of Series
    overlap : mapping
        By ratio of decoding to computing, the paired ``busy_share``, or ``error``.
    large : mapping
        By entry, what :func:`memory_over_time` says, or ``error``.

    Returns
    -------
    summary : dict
        Medians; None where there is none.
    reasons : dict
        Why, for each of these.
    spreads : dict
        Median, lowest and highest of each ratio by round.
    """
    found = {(each.case, each.contender, each.threads): each for each in series}
    spreads: dict[str, dict[str, float]] = {}
    reasons: dict[str, str] = {}
    for name, ratio in RATIOS.items():
        both = [found.get((ratio.case, *which)) for which in (ratio.over, ratio.under)]
        errors = [f"{each.contender}: {each.error}" for each in both if each is not None and each.error]
        if None in both or errors:
            reasons[name] = errors[0] if errors else f"not run: the case '{ratio.case}' or a contender was not chosen"
            continue
        times = ratio_of(*both, ratio.clock)
        if times is None:
            reasons[name] = "not run: no round"
        else:
            spreads[name] = times
    for name, at in OVERLAPS.items():
        share = overlap.get(at, {}).get("busy_share")
        if share is None:
            reasons[name] = str(overlap.get(at, {}).get("error", "not run: overlap was not chosen"))
        else:
            spreads[name] = share
    summary: dict[str, float | None] = {name: spreads[name]["median"] if name in spreads else None for name in (*RATIOS, *OVERLAPS)}
    for name, of in (("peak_gib_large", "peak_gib"), ("growth_gib_large", "growth_gib")):
        errors = [str(each["error"]) for each in large.values() if "error" in each]
        summary[name] = max(each[of] for each in large.values()) if large and not errors else None
        if summary[name] is None:
            reasons[name] = errors[0] if errors else "not run: the large slide was not chosen"
    return summary, reasons, spreads


def memory_over_time(at_s: Sequence[float], resident_bytes: Sequence[int], *, peak_bytes: int | None = None) -> dict[str, float]:
    """How high the resident set rose, and whether it kept rising.

    Parameters
    ----------
    at_s : sequence of float
        When each sample was taken.
    resident_bytes : sequence of int
    peak_bytes : int or None
        Highest resident set as the system counted it, between samples too.

    Returns
    -------
    dict
        ``peak_gib``; ``growth_gib``, the peak of the last third after the warm-up over that of its first third; ``slope_gib_per_min`` of a line
        through what follows the warm-up; ``n_samples``.

    Examples
    --------
    >>> memory_over_time(range(100), [2**30] * 100)["growth_gib"]
    0.0
    """
    at, resident = np.asarray(at_s, dtype=float), np.asarray(resident_bytes, dtype=float) / GIB
    warm = at >= at[0] + WARM_UP_SHARE * (at[-1] - at[0])
    early, _, late = np.array_split(resident[warm], 3)
    slope = float(np.polyfit(at[warm], resident[warm], 1)[0] * 60) if warm.sum() > 2 else 0.0
    return {
        "peak_gib": max(float(resident.max()), (peak_bytes or 0) / GIB),
        "growth_gib": float(late.max() - early.max()) if len(late) else 0.0,
        "slope_gib_per_min": slope,
        "n_samples": len(at),
    }


def compared(pixels: np.ndarray, reference: np.ndarray, *, name: str) -> dict[str, object]:
    """How two deliveries (n, y, x, 3) of the same lattice differ, in grey levels; ``name`` is the reference's."""
    largest, total = 0, 0.0
    for mine, theirs in zip(pixels, reference, strict=True):
        difference = np.abs(mine.astype(np.int16) - theirs)
        largest, total = max(largest, int(difference.max())), total + float(difference.mean())
    return {"reference": name, "is_identical": largest == 0, "max_difference": largest, "mean_difference": total / max(len(pixels), 1)}
