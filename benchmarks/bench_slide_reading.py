"""256 px tiles of level 0: idx's TIFF route against OpenSlide, one thread each, alternating.

Run: python benchmarks/bench_slide_reading.py [SLIDE]. Without a slide a phantom is made.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import idx

TILE_PX = 256
ROUNDS = 7


def read_all(slide: idx.Slide) -> int:
    """Read every full tile of level 0 once; return how many."""
    width, height = slide.size_px
    corners = [(x, y) for y in range(0, height - TILE_PX + 1, TILE_PX) for x in range(0, width - TILE_PX + 1, TILE_PX)]
    for x, y in corners:
        slide.read_region(x, y, width_px=TILE_PX, height_px=TILE_PX)
    return len(corners)


def main() -> None:
    """Print CPU ms per tile and the paired ratio."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else idx.testing.he_slide(Path(folder) / "slide.tif", size_px=(4096, 4096), compression="jpeg").path
        times: dict[str, list[float]] = {"tifffile": [], "openslide": []}
        n_tiles = 0
        for _ in range(ROUNDS):
            for backend, measured in times.items():
                # Opened anew, so that no route profits from a cache filled in an earlier round.
                with idx.open_slide(path, backend=backend) as slide:
                    started = time.process_time()
                    n_tiles = read_all(slide)
                    measured.append((time.process_time() - started) / n_tiles * 1e3)
        ratios = [b / a for a, b in zip(times["tifffile"], times["openslide"], strict=True)]
        print(f"{path.name}: {n_tiles} tiles of {TILE_PX} px, {ROUNDS} alternating rounds")
        for backend, measured in times.items():
            print(f"  {backend:10s} {statistics.median(measured):.3f} CPU-ms per tile ({min(measured):.3f} - {max(measured):.3f})")
        print(f"  OpenSlide / idx: {statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})")


if __name__ == "__main__":
    main()
