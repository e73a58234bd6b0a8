"""Arithmetic of the comparison: medians, paired ratios and the summary."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

SPEEDUPS = {
    "speedup_pyradiomics_ibsi_ct": ("pyradiomics", "ibsi_ct", "shared"),
    "speedup_flash_ibsi_ct": ("flash", "ibsi_ct", "shared"),
    "speedup_pyradiomics_large": ("pyradiomics", "large", "shared"),
    "speedup_fastrad_lung1": ("fastrad", "lung1", "shared"),
    "speedup_maps_pyradiomics": ("pyradiomics", "lung1", "maps"),
}
"""Peer, case and job of each speed-up of the summary."""
GIB = 2**30


@dataclass
class Comparison:
    """A peer and idx at one job of one case, in alternating calls.

    Parameters
    ----------
    peer, case, job : str
        Who was compared, on what, at what.
    peer_s, idx_s : list of float
        Seconds of each round, in order; the warming calls are apart.
    peer_first_s, idx_first_s : float or None
        Seconds of the warming call.
    peer_n, idx_n : int or None
        Features, or maps, that a call returned.
    peer_peak_bytes : int or None
        Largest resident set of the peer's process so far.
    agreement : dict
        How many numbers of the same name were compared and how many agree to 1e-6 relative.
    error : str or None
        Why there is no comparison.
    """

    peer: str
    case: str
    job: str
    peer_s: list[float] = field(default_factory=list)
    idx_s: list[float] = field(default_factory=list)
    peer_first_s: float | None = None
    idx_first_s: float | None = None
    peer_n: int | None = None
    idx_n: int | None = None
    peer_peak_bytes: int | None = None
    agreement: dict[str, object] = field(default_factory=dict)
    error: str | None = None

    @property
    def speedup(self) -> float | None:
        """Median time of the peer over median time of idx; None without a round."""
        if self.error or not self.peer_s or not self.idx_s:
            return None
        return statistics.median(self.peer_s) / statistics.median(self.idx_s)

    def as_dict(self) -> dict[str, object]:
        """Everything, with the medians and the lowest and highest ratio of one round."""
        row = asdict(self) | {"speedup": self.speedup}
        if self.speedup is not None:
            ratios = [peer / own for peer, own in zip(self.peer_s, self.idx_s, strict=True)]
            row |= {"peer_median_s": statistics.median(self.peer_s), "idx_median_s": statistics.median(self.idx_s)}
            row |= {"lowest_paired_ratio": min(ratios), "highest_paired_ratio": max(ratios)}
        return row


def agreement(theirs: Mapping[str, float], ours: Mapping[str, float], *, relative: float = 1e-6) -> dict[str, object]:
    """Compare numbers of the same name; the larger of the two scales the difference.

    Examples
    --------
    >>> agreement({"a": 1.0, "b": 2.0, "c": 0.0}, {"a": 1.0, "b": 2.1, "d": 5.0})["differ"]
    {'b': [2.0, 2.1]}
    """
    both = [name for name in theirs if name in ours]
    differ = {name: [theirs[name], ours[name]] for name in both if not _close(theirs[name], ours[name], relative)}
    return {"relative": relative, "n_compared": len(both), "n_agree": len(both) - len(differ), "differ": differ}


def _close(a: float, b: float, relative: float) -> bool:
    return a == b or abs(a - b) <= relative * max(abs(a), abs(b))


def ratio_of_medians(numerator_s: Sequence[float], denominator_s: Sequence[float]) -> float | None:
    """Ratio of two medians; None where one is empty."""
    if not numerator_s or not denominator_s:
        return None
    return statistics.median(numerator_s) / statistics.median(denominator_s)


def summarise(
    comparisons: Sequence[Comparison], full: Mapping[str, Mapping[str, object]], memory: Mapping[str, object]
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Summary of a run, and the reason of each value that is missing.

    Parameters
    ----------
    comparisons : sequence of Comparison
        All of them.
    full : mapping
        By case: ``full_s`` and ``shared_s``, or ``error``.
    memory : mapping
        ``peak_bytes`` of a fresh process at the full set of the large lesion, or ``error``.
    """
    summary: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    found = {(each.peer, each.case, each.job): each for each in comparisons}
    for name, key in SPEEDUPS.items():
        comparison = found.get(key)
        summary[name] = comparison.speedup if comparison else None
        if summary[name] is None:
            reasons[name] = (comparison.error if comparison else None) or "not run: its peer, case or job was not chosen"
    own = full.get("ibsi_ct", {})
    summary["full_over_shared"] = ratio_of_medians(own.get("full_s", ()), own.get("shared_s", ()))
    if summary["full_over_shared"] is None:
        reasons["full_over_shared"] = str(own.get("error", "not run: the case ibsi_ct was not chosen"))
    peak = memory.get("peak_bytes")
    summary["peak_gib_large"] = None if peak is None else peak / GIB
    if peak is None:
        reasons["peak_gib_large"] = str(memory.get("error", "not run: the case large was not chosen"))
    return summary, reasons
