"""The result as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tiling_peers.summary import Series, paired, spread


def lines_of(series: Sequence[Series]) -> list[str]:
    """A case as a table: what a tile took, over what idx took in the same rounds, and whether pixels are those of the reference."""
    own = {each.threads: each for each in series if each.contender == "idx" and not each.error}
    lines = [f"  {'':16s} threads   CPU-ms per tile           wall-ms  CPU over idx's        pixels"]
    for each in series:
        row = f"  {each.contender:16s} {each.threads:7d}   "
        if each.cpu_s:
            cpu, wall = spread(each.ms_per_tile("cpu")), spread(each.ms_per_tile("wall"))
            ratio = paired(each.ms_per_tile("cpu"), own[each.threads].ms_per_tile("cpu")) if each.threads in own else None
            row += f"{_spread(cpu, 3):25s} {wall['median']:7.3f}  {_spread(ratio, 2) if ratio else '-':20s}  "
        lines.append((row + (each.error or _pixels(each.pixels))).rstrip())
    return lines


def _spread(values: Mapping[str, float], digits: int) -> str:
    return f"{values['median']:.{digits}f} ({values['lowest']:.{digits}f} - {values['highest']:.{digits}f})"


def _pixels(found: Mapping[str, object]) -> str:
    if not found:
        return "not compared"
    if found["is_identical"]:
        return f"those of {found['reference']}"
    return f"up to {found['max_difference']} grey levels from {found['reference']}'s, {found['mean_difference']:.2f} on average"


def lines_of_summary(summary: Mapping[str, float | None], reasons: Mapping[str, str], spreads: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The summary, with the spread over rounds or the reason of what is missing."""
    lines = []
    for name, value in summary.items():
        what = reasons[name] if value is None else _spread(spreads[name], 2) if name in spreads else ""
        lines.append(f"{name:34s} {'-' if value is None else f'{value:.3g}':>8s}  {what}".rstrip())
    return lines
