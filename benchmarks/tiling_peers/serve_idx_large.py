"""Worker of idx that goes through a very large slide and watches its own memory."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import large
import numpy as np
import serving
import shapely
import torch
from computing import Network

import idx

ENTRY = sys.argv[1]
EVERY_S = 0.5
STATUS = Path("/proc/self/status")
BATCH_SIZE = 64
N_BLOCKS = 4


class ResidentSet:
    """Samples of this process's resident set, taken by a thread while the context lasts."""

    def __init__(self) -> None:
        self.at_s: list[float] = []
        self.bytes: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while True:
            self.at_s.append(time.perf_counter())
            self.bytes.append(resident_bytes())
            if self._ended.wait(EVERY_S):
                return

    def __enter__(self) -> ResidentSet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def resident_bytes() -> int:
    """Resident set of this process now."""
    if STATUS.exists():
        return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith("VmRSS"))
    import psutil

    return psutil.Process().memory_info().rss


def answer(request: Mapping[str, object]) -> dict[str, object]:
    """Plan the tissue from a level-0 pixel on and go through it."""
    network, offset_px = Network(N_BLOCKS), int(request["offset_px"])
    before = resident_bytes()
    with ResidentSet() as memory, idx.open_slide(str(request["slide"])) as slide:
        started = time.perf_counter()
        edge, end = (np.array([offset_px, offset_px]) - 0.5) * slide.mpp, (np.array(slide.size_px) - 0.5) * slide.mpp
        outlines = [shapely.Polygon(slide.to_um(outline)) for outline in large.tissue_outlines(slide.size_px)]
        grid = idx.tiling.plan(slide, size_px=256, mpp=0.5, within=idx.Contours.from_polygons(outlines), bounds_um=(*edge, *end))
        planned, total, count = time.perf_counter(), 0.0, 0
        options = {"device": "cpu", "batch_size": BATCH_SIZE, "workers": serving.THREADS, "progress": False}
        if ENTRY == "stream":
            for batch in idx.tiling.stream(network, slide, grid, **options):
                total, count = total + float(batch.values.sum(dtype=np.float64)), count + len(batch.values)
        else:
            values = idx.tiling.run(network, slide, grid, **options).values
            total, count = float(values.sum(dtype=np.float64)), len(values)
        ended = time.perf_counter()
    return {
        "at_s": [at - memory.at_s[0] for at in memory.at_s],
        "resident_bytes": memory.bytes,
        "before_bytes": before,
        "peak_bytes": serving.peak_bytes(),
        "n_tiles": count,
        "n_lattice": int(np.prod([-(-length // 256) for length in slide.size_px])),
        "sum": total,
        "plan_s": planned - started,
        "run_s": ended - planned,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    serving.serve(answer, includes=f"idx.tiling.{ENTRY} of a small network over the tissue, planning included")
