"""Something to compute on tiles, as long as it should take. It runs beside idx and needs torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

SUBSAMPLING = 4
CHANNELS = 8
TRIAL_BLOCKS = (4, 24)
TRIAL_CALLS = 12


class Network(torch.nn.Module):
    """A small convolutional network over a coarse sample of each tile.

    Parameters
    ----------
    n_blocks : int
        Convolutions after the first; what it takes grows by the same amount with each.
    """

    def __init__(self, n_blocks: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.blocks = torch.nn.ModuleList(torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(n_blocks))
        self.eval()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Map uint8 tiles (n, y, x, 3) to (n, 8)."""
        with torch.inference_mode():
            x = self.stem(batch[:, ::SUBSAMPLING, ::SUBSAMPLING].permute(0, 3, 1, 2).float() / 255)
            for block in self.blocks:
                x = torch.relu(block(x))
            return x.mean(dim=(2, 3))


def calibrated(target_s: float, batches: Sequence[torch.Tensor]) -> Network:
    """A network that takes about ``target_s`` per batch in the calling thread."""
    few, many = (median_s(Network(n_blocks), batches) for n_blocks in TRIAL_BLOCKS)
    per_block = max((many - few) / (TRIAL_BLOCKS[1] - TRIAL_BLOCKS[0]), 1e-7)
    return Network(max(0, round(TRIAL_BLOCKS[0] + (target_s - few) / per_block)))


def median_s(fn: Callable[[torch.Tensor], torch.Tensor], batches: Sequence[torch.Tensor]) -> float:
    """Median seconds of this thread per call over batches, taken in turn; the first calls warm up. Others on the processor do not count."""
    times = []
    for call in range(TRIAL_CALLS):
        started = time.thread_time()
        fn(batches[call % len(batches)])
        times.append(time.thread_time() - started)
    return sorted(times[2:])[len(times[2:]) // 2]
