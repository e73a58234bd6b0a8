"""Kernels start where nothing can be written: they are compiled anew, not refused."""

import numpy as np

from idx.kernels.compiled import compiled


def test_without_a_place_for_a_cache_code_is_compiled_anew(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])

    @compiled()
    def doubled(x):
        return 2.0 * x

    assert doubled(np.float64(4.0)) == 8.0
    assert doubled.stats.cache_path is None


def test_with_a_place_code_is_kept():
    @compiled(reorder_sums=True)
    def total(x):
        result = 0.0
        for value in x:
            result += value
        return result

    assert total(np.arange(10.0)) == 45.0
    assert total.stats.cache_path
