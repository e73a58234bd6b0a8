"""Worker of idx that decodes in one thread and computes in another: alone, and together in run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import serving
import torch
from computing import Network, calibrated
from delivering import memory_for_jpeg
from lattice import Lattice
from planned import planned

import idx
from idx.slide import TileRect

BATCH_SIZE = 32
N_PRELOADED = 4
"""Batches that computing alone goes through in turn: more than a processor's second cache holds, as in run."""


class Overlap:
    """A slide, its tiles, and a network that takes a multiple of what decoding them takes."""

    def __init__(self, path: str, lattice: Lattice) -> None:
        self.path, self.lattice = path, lattice
        self.networks: dict[float, Network] = {}
        with idx.open_slide(path) as slide:
            grid = planned(slide, lattice)
            self.preloaded = [
                torch.from_numpy(idx.tiling.read_tiles(grid, range(k * BATCH_SIZE, (k + 1) * BATCH_SIZE)))
                for k in range(min(N_PRELOADED, len(grid) // BATCH_SIZE))
            ]

    @property
    def starts(self) -> Sequence[int]:
        """First tile of each batch."""
        return range(0, len(self.lattice), BATCH_SIZE)

    def decode_alone(self) -> serving.Timed:
        """Decode all tiles into one array that is used again, by the pixel source itself, in this thread."""
        batch = memory_for_jpeg((BATCH_SIZE, self.lattice.size_px, self.lattice.size_px, 3))
        with idx.open_slide(self.path) as slide:
            grid = planned(slide, self.lattice)
            rects = [TileRect(grid.level, *rect) for rect in grid.read_rects_px.tolist()]

            def decode() -> None:
                for first in self.starts:
                    part = rects[first : first + BATCH_SIZE]
                    slide.pixels.read_tiles_into(batch[: len(part)], part)

            return serving.timed(decode)

    def compute_alone(self, network: Network) -> serving.Timed:
        """Compute as many batches, pixels in memory, in this thread."""

        def compute() -> None:
            for number, first in enumerate(self.starts):
                network(self.preloaded[number % len(self.preloaded)][: len(self.lattice) - first])

        return serving.timed(compute)

    def together(self, network: Network) -> serving.Timed:
        """Run with one decoding thread."""
        with idx.open_slide(self.path) as slide:
            grid = planned(slide, self.lattice)
            return serving.timed(lambda: idx.tiling.run(network, slide, grid, device="cpu", batch_size=BATCH_SIZE, workers=1, progress=False))

    def calibrate(self, decode_over_compute: float) -> dict[str, object]:
        """Make the network of a ratio."""
        per_batch_s = min(self.decode_alone().cpu_s for _ in range(3)) / len(self.starts)
        network = calibrated(per_batch_s / decode_over_compute, self.preloaded)
        self.networks[decode_over_compute] = network
        return {"n_blocks": len(network.blocks)}

    def round(self, decode_over_compute: float) -> dict[str, object]:
        """All three, one after the other, and the largest share of a processor that others took meanwhile."""
        network = self.networks[decode_over_compute]
        done = {"decode": self.decode_alone(), "compute": self.compute_alone(network), "run": self.together(network)}
        others = max((each.others_s or 0.0) / each.wall_s for each in done.values())
        return {f"{name}_s": each.wall_s for name, each in done.items()} | {"run_cpu_s": done["run"].cpu_s, "others_share": others}


def main() -> None:
    torch.set_num_threads(1)
    opened: list[Overlap] = []

    def answer(request: Mapping[str, object]) -> dict[str, object]:
        if request["do"] == "open":
            opened[:] = [Overlap(str(request["slide"]), Lattice(**request["lattice"]))]
            return {}
        return getattr(opened[0], str(request["do"]))(float(request["decode_over_compute"]))

    serving.serve(answer, includes="idx.tiling.run with one decoding thread and a network in one thread, and each by itself")


if __name__ == "__main__":
    main()
