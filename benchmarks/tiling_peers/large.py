"""A slide larger than memory, half of it tissue. Workers read it too: it needs numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIZE_PX = (120_000, 100_000)
N_PIECES = 6
N_VERTICES = 180

FloatArray = npt.NDArray[np.float64]


def tissue_outlines(size_px: tuple[int, int], *, seed: int = 0) -> list[FloatArray]:
    """Outlines (n, 2) of pieces of tissue in level-0 pixels (x, y), side by side in two rows, that together cover about half of a slide."""
    rng = np.random.default_rng(seed)
    theta = np.arange(N_VERTICES) * (2 * np.pi / N_VERTICES)
    columns, rows = N_PIECES // 2, 2
    cell = np.array([size_px[0] / columns, size_px[1] / rows])
    outlines = []
    for piece in range(N_PIECES):
        radius = 0.84 + sum(0.1 / order * rng.standard_normal() * np.cos(order * theta + rng.uniform(0, 2 * np.pi)) for order in range(2, 8))
        centre = (np.array([piece % columns, piece // columns]) + 0.5) * cell
        outlines.append(centre + np.clip(radius, 0.5, 0.97)[:, None] * np.stack([np.cos(theta), np.sin(theta)], axis=-1) * cell / 2)
    return outlines
