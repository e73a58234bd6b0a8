"""Worker of idx on a CUDA device: with and without overlap, and with batches that do not fit."""

from __future__ import annotations

import time
from collections.abc import Mapping

import serving
import torch
from lattice import Lattice
from planned import planned

import idx

DEVICE = "cuda"
BATCH_SIZE = 128
SMALL_BATCH, LARGE_BATCH = 8, 256
FRACTION_BATCHES = 3
"""The device is cut down to what so many small batches take."""


def encoder() -> torch.nn.Module:
    """A convolutional encoder of about the size of a small ResNet."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for before, after in ((3, 64), (64, 128), (128, 256), (256, 512), (512, 512)):
        layers += [torch.nn.Conv2d(before, after, 3, stride=2, padding=1), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval().to(DEVICE)


class Encode:
    """The function that is run; it keeps the sizes of the batches that it finished."""

    def __init__(self) -> None:
        self.network = encoder()
        self.sizes: list[int] = []

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Map uint8 tiles (n, y, x, 3) to (n, 512)."""
        with torch.inference_mode():
            result = self.network(batch.permute(0, 3, 1, 2).float() / 255)
        self.sizes.append(len(batch))
        return result


def with_overlap(slide: idx.Slide, grid: idx.tiling.TileGrid, encode: Encode) -> None:
    """As run does it."""
    idx.tiling.run(encode, slide, grid, device=DEVICE, batch_size=BATCH_SIZE, progress=False)


def without_overlap(slide: idx.Slide, grid: idx.tiling.TileGrid, encode: Encode) -> None:
    """Read, copy and compute in turn, in one thread."""
    for first in range(0, len(grid), BATCH_SIZE):
        pixels = idx.tiling.read_tiles(grid, range(first, min(first + BATCH_SIZE, len(grid))))
        encode(torch.from_numpy(pixels).to(DEVICE)).cpu()


def throughput(path: str, lattice: Lattice) -> dict[str, object]:
    """Tiles per second of both, one after the other, and the most device memory that each took."""
    encode, found = Encode(), {}
    for name, go in (("overlap", with_overlap), ("no_overlap", without_overlap)):
        with idx.open_slide(path) as slide:
            grid = planned(slide, lattice)
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            go(slide, grid, encode)
            torch.cuda.synchronize()
            found[f"{name}_tiles_per_s"] = len(grid) / (time.perf_counter() - started)
            found[f"{name}_peak_device_bytes"] = torch.cuda.max_memory_allocated()
    return found


def out_of_memory(path: str, lattice: Lattice) -> dict[str, object]:
    """Run with a batch that does not fit onto a device that is cut down; compare with batches that do."""
    encode = Encode()
    with idx.open_slide(path) as slide:
        grid = planned(slide, lattice)
        torch.cuda.reset_peak_memory_stats()
        expected = idx.tiling.run(encode, slide, grid, device=DEVICE, batch_size=SMALL_BATCH, progress=False).values
        limit = FRACTION_BATCHES * torch.cuda.max_memory_allocated()
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / torch.cuda.get_device_properties(0).total_memory))
        encode.sizes.clear()
        try:
            got = idx.tiling.run(encode, slide, grid, device=DEVICE, batch_size=LARGE_BATCH, progress=False).values
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    return {"limit_bytes": limit, "asked_batch": LARGE_BATCH, "largest_finished_batch": max(encode.sizes), "max_difference": float(abs(got - expected).max())}


def answer(request: Mapping[str, object]) -> dict[str, object]:
    """One of the two."""
    lattice = Lattice(**request["lattice"])
    return (throughput if request["do"] == "throughput" else out_of_memory)(str(request["slide"]), lattice)


if __name__ == "__main__":
    serving.serve(answer, includes=f"a convolutional encoder in float32, batches of {BATCH_SIZE}")
