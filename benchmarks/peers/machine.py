"""What numbers were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def machine(threads: int | str, packages: Sequence[str]) -> dict[str, object]:
    """Processor, load, how threads are held to a number, and versions of packages of this environment."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    return {
        "platform": platform.platform(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_average_at_start": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "threads": f"{threads}, as OMP_NUM_THREADS, NUMBA_NUM_THREADS and the like, by each library's own setting, and by binding processes to as many cores",
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
    }
