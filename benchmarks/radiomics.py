"""Radiomics of idx beside PyRadiomics, flash-radiomics, fastrad and Nyxus, in alternating calls of warm processes.

Run: python benchmarks/radiomics.py --data DIR --json FILE. DIR holds the IBSI 1 CT phantom (ct/ibsi1_ct_phantom) and PyRadiomics' cases
(ct/pyradiomics_cases); without it the environment variable IDX_REAL_DATA is taken. Each peer lives in an environment of its own, which
the first run makes. Every number is from grey levels of 25 units, the image's own grid and the original image. A job of a peer is
compared with idx measuring the same features; "everything" of a peer with idx's full IBSI 1 set.
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
from peers.environments import PeerFailure, environment_python
from peers.machine import machine
from radiomics_peers.cases import CASES, Case, make_cases
from radiomics_peers.recipes import RECIPES
from radiomics_peers.summary import GIB, Comparison, agreement, summarise
from radiomics_peers.worker import RadiomicsWorker

from idx.radiomics.catalog import CATALOG

REFERENCE = Path(__file__).parent.parent / "tests" / "oracles" / "pyradiomics_reference.csv"
FAMILIES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
MAP_FAMILIES = ("firstorder", "glcm")
MAP_CASE = "lung1"
SMALL_CASES = ("ibsi_ct", "lung1", "brain1")
EXTRA_JOBS = {
    "pyradiomics": {"shared_with_provenance": SMALL_CASES},
    "flash": {"shared_with_provenance": SMALL_CASES, "everything": CASES},
    "fastrad": {"shared_whole_image": ("lung1",)},
}
"""Jobs of single peers, with the cases they are run at."""
MAP_PEERS = ("pyradiomics", "flash")
LEFT_OUT = {("fastrad", "large"): "not run: its pairwise diameters take about 20 s at 125,000 voxels and grow with the square of the surface"}
LONG_CALL_S = 5.0
ROUNDS_OF_LONG_CALLS = 3
QUICK_CASES = ("ibsi_ct", "lung1")
QUICK_ROUNDS = 3


@dataclass(frozen=True)
class Run:
    """Choices of a run.

    Parameters
    ----------
    rounds : int
        Timed calls of each side; calls of more than ``LONG_CALL_S`` are repeated ``ROUNDS_OF_LONG_CALLS`` times at most.
    threads : int
        Threads and cores of every worker.
    timeout_s : float
        Longest call.
    memory_gib : float
        Address space of a peer's process.
    families : bool
        Whether each family is timed by itself.
    """

    rounds: int
    threads: int
    timeout_s: float
    memory_gib: float
    families: bool

    def idx_worker(self, device: str = "cpu", **environment: str) -> RadiomicsWorker:
        """Start a worker of idx."""
        python = Path(sys.executable)
        return RadiomicsWorker("idx", python, threads=self.threads, timeout_s=self.timeout_s, arguments=[device], environment=environment)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def shared_features() -> tuple[list[str], list[str]]:
    """PyRadiomics' features that idx has, and those that it has not."""
    lines = REFERENCE.read_text(encoding="utf-8").splitlines()
    names = list(dict.fromkeys(line.split(",")[2] for line in lines if not line.startswith(("#", "case,"))))
    known = {definition.pyradiomics for definition in CATALOG.values()}
    return [name for name in names if name in known], [name for name in names if name not in known]


def jobs_of(peer: str, case: Case, run: Run) -> dict[str, list[str]]:
    """Jobs of a peer at a case, with their features."""
    shared, _ = shared_features()
    jobs = {"shared": shared}
    if run.families:
        jobs |= {family: [name for name in shared if name.startswith(family + "_")] for family in FAMILIES}
    jobs |= {job: shared for job, at in EXTRA_JOBS.get(peer, {}).items() if case.name in at}
    if case.name == MAP_CASE and peer in MAP_PEERS:
        jobs["maps"] = [name for name in shared if name.startswith(tuple(family + "_" for family in MAP_FAMILIES))]
    return jobs


def compare(peer: RadiomicsWorker, own: RadiomicsWorker, case: Case, job: str, features: Sequence[str], run: Run) -> Comparison:
    """Call both in turn."""
    comparison = Comparison(peer.name, case.name, job)
    try:
        theirs = peer.run(case, job, features, values=True)
        ours = own.run(case, job, features, values=True)
        comparison.peer_first_s, comparison.peer_n = theirs["seconds"], theirs["n"]
        comparison.idx_first_s, comparison.idx_n = ours["seconds"], ours["n"]
        comparison.agreement = agreement(theirs["values"], ours["values"])
        rounds = run.rounds if theirs["seconds"] < LONG_CALL_S else min(run.rounds, ROUNDS_OF_LONG_CALLS)
        for _ in range(rounds):
            answer = peer.run(case, job, features)
            comparison.peer_s.append(answer["seconds"])
            comparison.idx_s.append(own.run(case, job, features)["seconds"])
            comparison.peer_peak_bytes = answer["peak_bytes"]
    except PeerFailure as failure:
        comparison.error = str(failure)
    say(f"  {peer.name:12s} {case.name:8s} {job:24s} " + (comparison.error or f"{comparison.speedup:8.2f} times; idx {min(comparison.idx_s) * 1e3:.1f} ms"))
    return comparison


def compare_peer(peer: str, cases: Sequence[Case], run: Run, envs: Path) -> tuple[list[Comparison], dict[str, object]]:
    """All jobs of a peer; one that died, or has kept much memory of earlier calls, is started again for the next job."""
    comparisons: list[Comparison] = []
    facts: dict[str, object] = {}
    try:
        python = environment_python(envs, peer, RECIPES[peer])
        for case in cases:
            if (peer, case.name) in LEFT_OUT:
                comparisons.append(Comparison(peer, case.name, "shared", error=LEFT_OUT[peer, case.name]))
                continue
            waiting = jobs_of(peer, case, run)
            while waiting:
                with RadiomicsWorker(peer, python, threads=run.threads, timeout_s=run.timeout_s, memory_gib=run.memory_gib) as theirs, run.idx_worker() as own:
                    facts = facts or theirs.ask(do="describe")
                    theirs.load(case)
                    own.load(case)
                    while waiting:
                        job = next(iter(waiting))
                        comparisons.append(compare(theirs, own, case, job, waiting.pop(job), run))
                        if not (theirs.alive and own.alive) or (comparisons[-1].peer_peak_bytes or 0) > run.memory_gib * GIB / 2:
                            break
    except PeerFailure as failure:
        say(f"  {peer}: {failure}")
        facts = facts | {"error": str(failure)}
        done = {(each.case, each.job) for each in comparisons}
        planned = [(case.name, job) for case in cases for job in jobs_of(peer, case, run)]
        comparisons += [Comparison(peer, *each, error=str(failure)) for each in planned if each not in done]
    return comparisons, facts


def full_and_shared(case: Case, run: Run) -> dict[str, object]:
    """Idx's full IBSI 1 set beside PyRadiomics' features, in turn."""
    shared, _ = shared_features()
    times: dict[str, list[float]] = {"full": [], "shared": []}
    try:
        with run.idx_worker() as own:
            own.load(case)
            n = {kind: own.run(case, kind, shared)["n"] for kind in times}
            for _ in range(run.rounds):
                for kind, seconds in times.items():
                    seconds.append(own.run(case, kind, shared)["seconds"])
    except PeerFailure as failure:
        return {"error": str(failure)}
    return {f"{kind}_s": seconds for kind, seconds in times.items()} | {f"n_{kind}": count for kind, count in n.items()}


def first_calls(case: Case, run: Run) -> dict[str, object]:
    """Seconds of the first full call of a process without compiled code on disk (it compiles), and with it (it loads)."""
    try:
        with tempfile.TemporaryDirectory() as empty, run.idx_worker(NUMBA_CACHE_DIR=empty) as own:
            own.load(case)
            compiling, warm = (own.run(case, "full", [])["seconds"] for _ in range(2))
        with run.idx_worker() as own:
            own.load(case)
            own.run(case, "full", [])
        with run.idx_worker() as own:
            own.load(case)
            loading = own.run(case, "full", [])["seconds"]
    except PeerFailure as failure:
        return {"error": str(failure)}
    return {"case": case.name, "without_cache_s": compiling, "with_cache_s": loading, "next_call_s": warm}


def peak_memory(case: Case, run: Run) -> dict[str, object]:
    """Memory of a fresh process before and after its first full call."""
    try:
        with run.idx_worker() as own:
            own.load(case)
            answer = own.run(case, "full", [])
    except PeerFailure as failure:
        return {"error": str(failure)}
    return {name: answer[name] for name in ("peak_before_bytes", "peak_bytes", "seconds")}


def on_gpu(cases: Sequence[Case], run: Run) -> dict[str, object] | str:
    """CPU beside CUDA: how many features agree, maps per second and peak device memory."""
    if not torch.cuda.is_available():
        return "not run on a GPU"
    shared, _ = shared_features()
    found: dict[str, object] = {"device": torch.cuda.get_device_name()}
    for case in cases:
        jobs = {"full": shared} | ({"maps": jobs_of("pyradiomics", case, run)["maps"]} if case.name == MAP_CASE else {})
        for job, features in jobs.items():
            try:
                with run.idx_worker() as host, run.idx_worker("cuda") as device:
                    host.load(case)
                    device.load(case)
                    on_host, on_device = (worker.run(case, job, features, values=True) for worker in (host, device))
                    seconds = [device.run(case, job, features)["seconds"] for _ in range(run.rounds)]
            except PeerFailure as failure:
                found[f"{case.name} {job}"] = {"error": str(failure)}
                continue
            found[f"{case.name} {job}"] = {
                "agreement": agreement(on_host["values"], on_device["values"]),
                "seconds": seconds,
                "per_second": on_device["n"] / sorted(seconds)[len(seconds) // 2],
                "device_peak_bytes": on_device["device_peak_bytes"],
            }
    return found


def measure(names: Sequence[str], peers: Sequence[str], data: Path, envs: Path, run: Run) -> dict[str, object]:
    """Run everything and put the result together."""
    started_on = machine(run.threads, ("idx", "numpy", "numba", "scipy", "torch", "SimpleITK"))
    with tempfile.TemporaryDirectory() as folder:
        say("making the cases ...")
        cases = make_cases(names, data, Path(folder))
        say("idx by itself ...")
        first = first_calls(min(cases, key=lambda case: case.n_voxels), run)
        full = {case.name: full_and_shared(case, run) for case in cases}
        memory = next((peak_memory(case, run) for case in cases if case.name == "large"), {})
        comparisons: list[Comparison] = []
        facts: dict[str, object] = {}
        for peer in peers:
            say(f"{peer} and idx ...")
            found, facts[peer] = compare_peer(peer, cases, run, envs)
            comparisons += found
        gpu = on_gpu(cases, run)
    summary, reasons = summarise(comparisons, full, memory)
    shared, lacking = shared_features()
    return {
        "summary": summary,
        "reasons": reasons,
        "details": {
            "machine": started_on,
            "run": asdict(run),
            "cases": [asdict(case) | {"image": case.image.name, "mask": case.mask.name} for case in cases],
            "features": {"shared": shared, "of PyRadiomics, not of idx": lacking},
            "first_call": first,
            "full_and_shared": full,
            "memory_large": memory,
            "peers": facts,
            "comparisons": [each.as_dict() for each in comparisons],
            "gpu": gpu,
        },
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("IDX_REAL_DATA"), help="folder of the images (default: $IDX_REAL_DATA)")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--envs", type=Path, default=platformdirs.user_cache_path("idx") / "benchmarks", help="folder of the peers' environments")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=None)
    parser.add_argument("--peers", nargs="*", choices=tuple(RECIPES), default=tuple(RECIPES))
    parser.add_argument("--rounds", type=int, default=None, help="timed calls of each side (default: 7)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds that one call may take")
    parser.add_argument("--memory-gib", type=float, default=16.0, help="address space of a peer")
    parser.add_argument("--quick", action="store_true", help=f"cases {', '.join(QUICK_CASES)}, {QUICK_ROUNDS} rounds, no single families")
    chosen = parser.parse_args()
    if chosen.data is None:
        parser.error("data must be named; got none. Pass --data DIR or set IDX_REAL_DATA.")
    chosen.cases = chosen.cases or (QUICK_CASES if chosen.quick else CASES)
    chosen.rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else 7)
    return chosen


def main() -> None:
    chosen = arguments()
    run = Run(chosen.rounds, chosen.threads, chosen.timeout, chosen.memory_gib, families=not chosen.quick)
    result = measure(chosen.cases, chosen.peers, Path(chosen.data).expanduser(), chosen.envs.expanduser(), run)
    for name, value in result["summary"].items():
        print(f"{name:30s} {'-' if value is None else f'{value:.3g}'}  {result['reasons'].get(name, '')}")
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
