import numpy as np
import pytest

from idx.kernels.autocorrelation import moran_geary


def double_loop(values, mask, spacing_mm):
    points = np.argwhere(mask) * spacing_mm[::-1]
    x = values[mask]
    n, mean = len(x), x.mean()
    total = products = differences = 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                weight = 1.0 / np.linalg.norm(points[i] - points[j])
                total += weight
                products += weight * (x[i] - mean) * (x[j] - mean)
                differences += weight * (x[i] - x[j]) ** 2
    variation = np.sum((x - mean) ** 2)
    return n / total * products / variation, (n - 1) / (2 * total) * differences / variation


# Odd and even sizes, and a single slice: the padding differs.
@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 4, 8), (8, 4, 3), (1, 5, 5), (2, 2, 2)])
@pytest.mark.parametrize(("direct_length", "pairs_per_cell"), [(96, 0), (0, 0), (0, 10**6)])
def test_equals_the_double_loop(shape, direct_length, pairs_per_cell, monkeypatch):
    # Many planes are summed through their spectrum, a few planes or a few voxels pair by pair.
    monkeypatch.setattr("idx.kernels.autocorrelation.DIRECT_LENGTH", direct_length)
    monkeypatch.setattr("idx.kernels.autocorrelation.PAIRS_PER_CELL", pairs_per_cell)
    monkeypatch.setattr("idx.kernels.autocorrelation.BLOCK_BYTES", 1)
    monkeypatch.setattr("idx.kernels.autocorrelation.MIN_COLUMNS", 3)
    rng = np.random.default_rng(11)
    values = rng.normal(-300.0, 120.0, shape)
    mask = rng.random(shape) < 0.7
    mask[0, 0, :2] = True
    spacing_mm = (0.7, 0.9, 2.5)
    assert moran_geary(values, mask, spacing_mm) == pytest.approx(double_loop(values, mask, spacing_mm), rel=1e-10)
