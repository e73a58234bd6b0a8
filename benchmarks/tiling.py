"""Tiles of idx beside raw decoding, OpenSlide, tifffile with zarr, pyvips, cuCIM on the CPU, fastslide and tiatoolbox, in alternating calls of warm processes.

Run: python benchmarks/tiling.py --json FILE. All deliver the same lattices of 256 px tiles as uint8 RGB arrays: of mosaics that are made here of the
pixels of the Aperio sample (--aperio FILE, or slides/CMU-1-Small-Region.svs under the environment variable IDX_REAL_DATA; a phantom without either), of the
sample itself, and of JPEG 2000 slides. Pixels are compared before anything is timed, and those of OpenSlide, raw decoding and idx must be equal; if they are
not, the status is 1. Then idx decodes in one thread and computes in another, and streams through the tissue of a slide of 120,000 x 100,000 px (3 GB in
--folder) while its memory is watched. Peers that are no dependency of idx live in environments of their own, which the first run makes; tiatoolbox in that of
make test-tiatoolbox.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
import torch
from peers.client import Worker
from peers.environments import PeerFailure
from peers.machine import machine
from tiling_peers import large
from tiling_peers.cases import CASES, QUICK_CASES, TILES_PER_ROUND, UNALIGNED_PX, Case, Made, make_case, make_large, read_texture
from tiling_peers.fleet import INEXACT, Fleet, measure
from tiling_peers.recipes import HERE, OWN, PEERS
from tiling_peers.summary import OVERLAPS, QUIET_SHARE, Series, busy_share, memory_over_time, paired, spread, summarise
from tiling_peers.table import lines_of, lines_of_summary

PARTS = ("tiles", "overlap", "large", "gpu")
QUICK_PARTS = ("tiles", "overlap", "gpu")
ROUNDS, QUICK_ROUNDS = 7, 3
QUICK_TILES = 256
OVERLAP_TILES = 2048
MOST_ROUNDS = 4
"""So many times the rounds that were asked for, until as many were left alone by other processes."""
SAMPLE = "slides/CMU-1-Small-Region.svs"
PACKAGES = ("idx", "numpy", "imagecodecs", "tifffile", "zarr", "openslide-python", "openslide-bin", "torch")


@dataclass(frozen=True)
class Run:
    """Choices of a run.

    Parameters
    ----------
    rounds : int
        Timed calls of each contender at each case.
    most_tiles : int
        Tiles of each of them.
    peers, cases, parts : tuple of str
    timeout_s : float
        Longest call.
    large_px : tuple of int
        Width and height of the large slide.
    """

    rounds: int
    most_tiles: int
    peers: tuple[str, ...]
    cases: tuple[str, ...]
    parts: tuple[str, ...]
    timeout_s: float
    large_px: tuple[int, int]

    def idx_worker(self, script: str, *arguments: str, threads: int = 2) -> Worker:
        """Start a worker of idx."""
        return Worker(HERE / f"serve_{script}.py", Path(sys.executable), threads=threads, timeout_s=self.timeout_s, arguments=arguments)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def tiles(run: Run, made: Made, *, aperio: Path | None, jpeg2000: Path | None, envs: Path) -> tuple[list[Series], list[Case], dict[str, object]]:
    """All contenders at all cases."""
    series: list[Series] = []
    cases: list[Case] = []
    with Fleet(envs, timeout_s=run.timeout_s) as fleet:
        for name in run.cases:
            case = make_case(name, made, aperio=aperio, jpeg2000=jpeg2000)
            if isinstance(case, str):
                series += [Series(contender, name, 1, 1, error=case) for contender in (*run.peers, *OWN)]
                say(f"{name}: {case}")
                continue
            cases.append(case)
            say(f"{name}: {len(case.lattice)} tiles of {case.lattice.size_px} px, {case.passes} times a round, {run.rounds} rounds")
            found = measure(case, (*run.peers, *OWN), fleet, made.folder, rounds=run.rounds)
            say("\n".join(lines_of(found)))
            series += found
        return series, cases, fleet.facts


def overlap(run: Run, made: Made) -> dict[str, dict[str, object]]:
    """Decoding and computing alone and together, at three ratios."""
    case = make_case("mosaic", made, aperio=None, jpeg2000=None)
    lattice = asdict(case.lattice) | {"rows": min(case.lattice.columns, max(1, OVERLAP_TILES // case.lattice.columns))}
    found: dict[str, dict[str, object]] = {}
    try:
        with run.idx_worker("idx_overlap") as worker:
            worker.ask(do="open", slide=str(case.slide), lattice=lattice)
            for at in OVERLAPS.values():
                decode, compute = map(float, at.split(":"))
                found[at] = worker.ask(do="calibrate", decode_over_compute=decode / compute)
                rounds: list[dict[str, float]] = []
                while len(rounds) < MOST_ROUNDS * run.rounds and sum(each["others_share"] <= QUIET_SHARE for each in rounds) < run.rounds:
                    rounds.append(worker.ask(do="round", decode_over_compute=decode / compute))
                found[at] |= {name: [each[name] for each in rounds] for name in rounds[0]} | {"busy_share": busy_share(rounds)}
                n_quiet = sum(each["others_share"] <= QUIET_SHARE for each in rounds)
                medians = ", ".join(f"{name} {spread(found[at][f'{name}_s'])['median']:.3f} s" for name in ("decode", "compute", "run"))
                share = found[at]["busy_share"]["median"]
                say(f"overlap, decoding to computing {at}: {medians}; busy share {share:.3f} ({n_quiet} of {len(rounds)} rounds quiet)")
    except PeerFailure as failure:
        say(f"overlap: {failure}")
        return {at: found[at] if "busy_share" in found.get(at, {}) else {"error": str(failure)} for at in OVERLAPS.values()}
    return found


def watch_large(run: Run, made: Made) -> dict[str, dict[str, object]]:
    """Memory while idx goes through the tissue of a large slide: by stream along the stored tiles, and by run across them, where decoded ones are kept."""
    say(f"making a slide of {run.large_px[0]:,} x {run.large_px[1]:,} px ...")
    path = make_large(made, run.large_px)
    if isinstance(path, str):
        return {"stream": {"error": path}}
    found: dict[str, dict[str, object]] = {"stream": {"offset_px": 0}, "run": {"offset_px": UNALIGNED_PX}}
    for entry, row in found.items():
        try:
            with run.idx_worker("idx_large", entry) as worker:
                row |= worker.ask(do="go", slide=str(path), offset_px=row["offset_px"])
        except PeerFailure as failure:
            row["error"] = str(failure)
            say(f"  {entry}: {failure}")
            continue
        row |= memory_over_time(row["at_s"], row["resident_bytes"], peak_bytes=row["peak_bytes"]) | {"slide_bytes": path.stat().st_size}
        say(
            f"  {entry}: {row['n_tiles']:,} of {row['n_lattice']:,} tiles in {row['run_s']:.1f} s after {row['plan_s']:.1f} s of planning; peak "
            f"{row['peak_gib']:.2f} GiB, growth {row['growth_gib']:+.3f} GiB, {row['slope_gib_per_min']:+.3f} GiB per minute"
        )
    path.unlink()
    return found


def on_gpu(run: Run, made: Made) -> dict[str, object] | str:
    """Tiles per second with and without overlap, device memory, and what becomes of batches that do not fit."""
    if not torch.cuda.is_available():
        return "not run on a GPU"
    case = make_case("mosaic", made, aperio=None, jpeg2000=None)
    request = {"slide": str(case.slide), "lattice": asdict(case.lattice) | {"rows": case.lattice.columns}}
    found: dict[str, object] = {"device": torch.cuda.get_device_name()}
    try:
        with run.idx_worker("idx_gpu", threads=os.cpu_count() or 1) as worker:
            worker.ask(do="throughput", **request)
            rounds = [worker.ask(do="throughput", **request) for _ in range(run.rounds)]
            found |= {name: spread([each[name] for each in rounds]) for name in rounds[0]}
            found["speedup_of_overlap"] = paired(*([each[f"{name}_tiles_per_s"] for each in rounds] for name in ("overlap", "no_overlap")))
            found["out_of_memory"] = worker.ask(do="out_of_memory", **request)
    except PeerFailure as failure:
        found["error"] = str(failure)
    return found


def bench(run: Run, folder: Path, *, aperio: Path | None, jpeg2000: Path | None, envs: Path) -> dict[str, object]:
    """Run everything and put the result together."""
    started_on = machine("1 or 2, as each row says", PACKAGES)
    made = Made(folder, read_texture(aperio, folder), run.most_tiles)
    series, cases, facts = tiles(run, made, aperio=aperio, jpeg2000=jpeg2000, envs=envs) if "tiles" in run.parts else ([], [], {})
    overlapped = overlap(run, made) if "overlap" in run.parts else {}
    watched = watch_large(run, made) if "large" in run.parts else {}
    gpu = on_gpu(run, made) if "gpu" in run.parts else "not chosen"
    say(f"GPU: {gpu if isinstance(gpu, str) else json.dumps(gpu)}")
    summary, reasons, spreads = summarise(series, overlapped, watched)
    return {
        "summary": summary,
        "reasons": reasons,
        "details": {
            "machine": started_on,
            "run": asdict(run),
            "spreads": spreads,
            "texture": aperio.name if aperio else "idx.testing.he_slide",
            "cases": [asdict(case) | {"slide": case.slide.name} for case in cases],
            "contenders": facts,
            "series": [each.as_dict() for each in series],
            "overlap": overlapped,
            "large": watched,
            "gpu": gpu,
        },
    }


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aperio", type=Path, help=f"Aperio slide (default: {SAMPLE} under $IDX_REAL_DATA)")
    parser.add_argument("--jpeg2000", type=Path, help="JPEG 2000 slide to be read beside those that are made")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--folder", type=Path, help="where slides are made, in a folder that is removed at the end (default: the system's for temporary files)")
    parser.add_argument("--envs", type=Path, default=platformdirs.user_cache_path("idx") / "benchmarks", help="folder of the peers' environments")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=None)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=None)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--rounds", type=int, default=None, help=f"timed calls of each contender at each case (default: {ROUNDS})")
    parser.add_argument("--tiles", type=int, default=None, help=f"tiles of each call (default: {TILES_PER_ROUND})")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds that one call may take")
    parser.add_argument("--large-size", type=int, nargs=2, default=large.SIZE_PX, metavar=("WIDTH", "HEIGHT"), help="px of the large slide")
    parser.add_argument("--quick", action="store_true", help=f"cases {', '.join(QUICK_CASES)}; {QUICK_ROUNDS} rounds of {QUICK_TILES} tiles; no large slide")
    chosen = parser.parse_args(given)
    sample = Path(os.environ.get("IDX_REAL_DATA", "")).expanduser() / SAMPLE
    if chosen.aperio is None and "IDX_REAL_DATA" in os.environ and sample.exists():
        chosen.aperio = sample
    chosen.cases = chosen.cases or (QUICK_CASES if chosen.quick else CASES)
    chosen.parts = chosen.parts or (QUICK_PARTS if chosen.quick else PARTS)
    chosen.rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    chosen.tiles = chosen.tiles or (QUICK_TILES if chosen.quick else TILES_PER_ROUND)
    return chosen


def main() -> None:
    chosen = arguments()
    groups = tuple(tuple(getattr(chosen, name)) for name in ("peers", "cases", "parts"))
    run = Run(chosen.rounds, chosen.tiles, *groups, timeout_s=chosen.timeout, large_px=tuple(chosen.large_size))
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        result = bench(run, Path(folder), aperio=chosen.aperio, jpeg2000=chosen.jpeg2000, envs=chosen.envs.expanduser())
    print("\n".join(lines_of_summary(result["summary"], result["reasons"], result["details"]["spreads"])))
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    wrong = [each for each in result["details"]["series"] if (each["error"] or "").startswith(INEXACT)]
    sys.exit("\n".join(f"{each['contender']} ({each['threads']} threads) at {each['case']}: {each['error']}" for each in wrong) if wrong else 0)


if __name__ == "__main__":
    main()
