"""The worker's side: answer JSON lines on stdin with JSON lines on stdout, and time the measuring call.

It runs in each peer's environment and so imports the standard library only.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distributions

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
FAMILIES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
"""PyRadiomics' families, in whose names jobs are stated."""


class Peer:
    """What a worker script provides."""

    includes: str
    """What the timed call includes besides the measuring itself."""

    def load(self, image: str, mask: str, quantity: str) -> object:
        """Read a case; not timed."""
        raise NotImplementedError

    def job(self, case: object, kind: str, features: Sequence[str]) -> Callable[[], object]:
        """Prepare the timed call, which measures the features, named as PyRadiomics names them."""
        raise NotImplementedError

    def values(self, result: object) -> Mapping[str, float]:
        """Numbers that a call returned, by name, or the sum over each map; not timed."""
        raise NotImplementedError

    def device_peak_bytes(self) -> int | None:
        """Most device memory taken so far; None without a device."""
        return None


def families_of(features: Sequence[str]) -> list[str]:
    """Families of some features, in PyRadiomics' order."""
    return [family for family in FAMILIES if any(name.startswith(family + "_") for name in features)]


def by_family(features: Sequence[str]) -> dict[str, list[str]]:
    """Features without their family's name, by family."""
    return {family: [name.partition("_")[2] for name in features if name.startswith(family + "_")] for family in families_of(features)}


def peak_bytes() -> int | None:
    """Largest resident set of this process so far; None where the platform does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(peer: Peer) -> None:
    """Answer requests until stdin ends. Whatever the peer prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    loaded: dict[str, object] = {}
    for line in sys.stdin:
        try:
            answer = _answer(peer, json.loads(line), loaded)
        except Exception as error:  # any failure of a peer is a result of the benchmark
            answer = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc(limit=-4)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(peer: Peer, request: Mapping[str, object], loaded: dict[str, object]) -> dict[str, object]:
    if request["do"] == "describe":
        versions = {distribution.metadata["Name"]: distribution.version for distribution in distributions()}
        return {"python": sys.version.split()[0], "threads": THREADS, "includes": peer.includes, "versions": dict(sorted(versions.items()))}
    name = str(request["case"])
    if request["do"] == "load":
        # One case at a time, so that a small case is not measured beside a large one's memory.
        loaded.clear()
        loaded[name] = peer.load(str(request["image"]), str(request["mask"]), str(request["quantity"]))
        return {"peak_bytes": peak_bytes()}
    call = peer.job(loaded[name], str(request["kind"]), list(request["features"]))
    gc.collect()
    before = peak_bytes()
    started = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - started
    values = peer.values(result)
    answer = {"seconds": seconds, "n": len(values), "peak_before_bytes": before, "peak_bytes": peak_bytes(), "device_peak_bytes": peer.device_peak_bytes()}
    return answer | ({"values": {name: value for name, value in values.items() if math.isfinite(value)}} if request["values"] else {})
