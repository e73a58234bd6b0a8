"""The worker's side: answer JSON lines on stdin with JSON lines on stdout, and time calls.

It runs in each peer's environment and so imports the standard library only.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
STATUS = Path("/proc/self/status")
STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Timed:
    """What a call took.

    Parameters
    ----------
    wall_s, cpu_s : float
        By the clock, and of the processor by all threads of this process.
    others_s : float or None
        Of the processors by everyone else meanwhile, to a few hundredths of a second; None where the platform does not say.
    result : object
        What it returned.
    """

    wall_s: float
    cpu_s: float
    others_s: float | None
    result: object


def timed(call: Callable[[], object]) -> Timed:
    """Call and time it, garbage collected beforehand."""
    gc.collect()
    busy, wall, cpu = processors_busy_s(), time.perf_counter(), time.process_time()
    result = call()
    wall_s, cpu_s, busy_after = time.perf_counter() - wall, time.process_time() - cpu, processors_busy_s()
    return Timed(wall_s, cpu_s, None if busy is None or busy_after is None else max(0.0, busy_after - busy - cpu_s), result)


def processors_busy_s() -> float | None:
    """Seconds that all processors together have been busy since the system started; None where the platform does not say."""
    if not STAT.exists():
        return None
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(int, STAT.read_text(encoding="ascii").split(maxsplit=9)[1:9])
    return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")


def peak_bytes() -> int | None:
    """Largest resident set of this process so far; None where the platform does not say."""
    if STATUS.exists():
        # getrusage would do, but on Linux its peak begins with that of the process that started this one.
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe(includes: str) -> dict[str, object]:
    """Python, threads and packages of this process, and what its timed call includes."""
    versions = {distribution.metadata["Name"]: distribution.version for distribution in distributions()}
    return {"python": sys.version.split()[0], "threads": THREADS, "includes": includes, "versions": dict(sorted(versions.items()))}


def serve(answer: Callable[[Mapping[str, object]], Mapping[str, object]], *, includes: str) -> None:
    """Answer requests until stdin ends; "describe" is answered here. Whatever the peer prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            request = json.loads(line)
            found = describe(includes) if request["do"] == "describe" else answer(request)
        except Exception as error:  # any failure of a peer is a result of the benchmark
            found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc(limit=-4)}
        answers.write(json.dumps(found) + "\n")
        answers.flush()
