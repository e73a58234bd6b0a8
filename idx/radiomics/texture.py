"""Texture of a lesion: co-occurrence, runs, zones, tone differences and dependences of its grey levels, under every IBSI aggregation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from idx._typing import Array, BoolArray, FloatArray, IntArray
from idx.kernels.engine import Engine
from idx.kernels.matrix_features import GLCM_FEATURES, glcm_features
from idx.table import Missing

Features = dict[tuple[str, str], float | Missing]
"""Value by feature key and aggregation."""
Wanted = Mapping[str, Sequence[str]]
Measure = Callable[[Array, IntArray], FloatArray]
"""From matrices (m, ...) and numbers of voxels (m,) to features (m, k)."""

CELLS_AT_ONCE = 1 << 24
"""Cells of the matrices of some slices that are held at a time (128 MB)."""
NO_DIFFERENCE_COARSENESS = 1e6
"""Coarseness where no voxel differs from its neighbours, as IBSI QCDE sets it."""
EMPHASES = (
    "{small}_emphasis",
    "{large}_emphasis",
    "low_grey_level_{thing}_emphasis",
    "high_grey_level_{thing}_emphasis",
    "{small_one}_low_grey_level_emphasis",
    "{small_one}_high_grey_level_emphasis",
    "{large_one}_low_grey_level_emphasis",
    "{large_one}_high_grey_level_emphasis",
    "grey_level_non_uniformity",
    "grey_level_non_uniformity_normalised",
    "{second}_non_uniformity",
    "{second}_non_uniformity_normalised",
    "{percentage}",
    "grey_level_variance",
    "{second}_variance",
    "{entropy}",
)
"""The sixteen features that every matrix of grey level against another number has, in the order of :func:`emphasis_features`."""


def _emphasis_keys(family: str, small: str, large: str, thing: str, second: str, *, percentage: str, entropy: str, plural: bool = False) -> tuple[str, ...]:
    words = {"small_one": small, "large_one": large, "thing": thing, "second": second, "percentage": percentage, "entropy": entropy}
    words |= {"small": small + "s", "large": large + "s"} if plural else {"small": small, "large": large}
    return tuple(f"{family}_{name.format(**words)}" for name in EMPHASES)


KEYS: dict[str, tuple[str, ...]] = {
    "glcm": tuple(f"glcm_{name}" for name in GLCM_FEATURES),
    "glrlm": _emphasis_keys("glrlm", "short_run", "long_run", "run", "run_length", percentage="run_percentage", entropy="run_entropy", plural=True),
    "glszm": _emphasis_keys("glszm", "small_zone", "large_zone", "zone", "zone_size", percentage="zone_percentage", entropy="zone_size_entropy"),
    "gldzm": _emphasis_keys(
        *("gldzm", "small_distance", "large_distance", "zone", "zone_distance"), percentage="zone_percentage", entropy="zone_distance_entropy"
    ),
    "ngtdm": tuple(f"ngtdm_{name}" for name in ("coarseness", "contrast", "busyness", "complexity", "strength")),
    "ngldm": (
        *_emphasis_keys(
            *("ngldm", "low_dependence", "high_dependence", "count", "dependence_count"),
            percentage="dependence_count_percentage",
            entropy="dependence_count_entropy",
        ),
        "ngldm_dependence_count_energy",
    ),
}
"""Keys of the catalogue by family, in the order in which the functions below measure them."""


@dataclass(frozen=True, eq=False)
class LevelVolume:
    """Grey levels of a lesion.

    Parameters
    ----------
    levels : array (z, y, x) of int
        Levels 1..n_levels; 0 outside the intensity mask.
    n_levels : int
        Number of levels.
    mask : array (z, y, x)
        The lesion's shape, whose border the distances of zones are measured from (IBSI: morphological mask).
    """

    levels: Array
    n_levels: int
    mask: BoolArray

    def slabs(self, cells_per_slice: int) -> Iterator[LevelVolume]:
        """Pieces of a few whole slices whose matrices together have no more than ``CELLS_AT_ONCE`` cells."""
        step = max(1, CELLS_AT_ONCE // cells_per_slice)
        for start in range(0, len(self.levels), step):
            yield LevelVolume(self.levels[start : start + step], self.n_levels, self.mask[start : start + step])

    def voxels_per_slice(self) -> IntArray:
        """Number of voxels with a level in each slice, (s,)."""
        return np.asarray(np.count_nonzero(self.levels, axis=(1, 2)), dtype=np.int64)


def neighbour_features(volume: LevelVolume, wanted: Wanted, engine: Engine) -> Features:
    """Measure the families "glcm", "ngtdm" and "ngldm" from one look at every voxel's neighbours.

    Parameters
    ----------
    volume : LevelVolume
    wanted : mapping
        Aggregations by family: "3d_merged" ... for "glcm", "2d", "2.5d", "3d" for the others.
    engine : Engine

    Returns
    -------
    dict
        Value or :class:`~idx.table.Missing` by key and aggregation. A feature that is undefined for one matrix of an average (the correlation of
        a slice of one level) is averaged over the others.
    """
    found: Features = {}
    for in_slice, part in _by_plane(wanted):
        collected = {family: _Collected(part[family], _MEASURES[family]) for family in part}
        for slab in volume.slabs(4 * volume.n_levels**2) if in_slice else [volume]:
            counts = engine.count_neighbours(slab.levels, volume.n_levels, in_slice=in_slice)
            matrices = {
                "glcm": counts.pairs,
                "ngldm": counts.dependences[:, None],
                "ngtdm": np.stack([counts.toned, counts.tone_difference], axis=-1)[:, None],
            }
            for family, collector in collected.items():
                collector.add(matrices[family], slab.voxels_per_slice() if in_slice else slab.voxels_per_slice().sum(keepdims=True))
        for family, collector in collected.items():
            found |= collector.features(family)
    return found


def run_features(volume: LevelVolume, aggregations: Sequence[str], engine: Engine) -> Features:
    """Measure the family "glrlm"; as :func:`neighbour_features`."""
    found: Features = {}
    for in_slice, part in _by_plane({"glrlm": aggregations}):
        collector = _Collected(part["glrlm"], _MEASURES["glrlm"])
        for slab in volume.slabs(4 * volume.n_levels * max(volume.levels.shape[1:])) if in_slice else [volume]:
            runs = engine.count_runs(slab.levels, volume.n_levels, in_slice=in_slice)
            collector.add(runs, slab.voxels_per_slice() if in_slice else slab.voxels_per_slice().sum(keepdims=True))
        found |= collector.features("glrlm")
    return found


def zone_features(volume: LevelVolume, wanted: Wanted, engine: Engine) -> Features:
    """Measure the families "glszm" and "gldzm" from one labelling of the zones; as :func:`neighbour_features`."""
    found: Features = {}
    voxels = volume.voxels_per_slice()
    for in_slice, part in _by_plane(wanted):
        distance = engine.border_distance(volume.mask, in_slice=in_slice) if "gldzm" in part else np.zeros(volume.mask.shape, dtype=np.int32)
        zones = engine.find_zones(volume.levels, distance, in_slice=in_slice)
        for family, aggregations in part.items():
            second = zones.size if family == "glszm" else zones.distance
            for aggregation in aggregations:
                if aggregation == "2d":
                    groups = [(zones.slice_index == index, n) for index, n in enumerate(voxels) if n > 0]
                else:
                    groups = [(np.ones(len(second), dtype=bool), voxels.sum())]
                rows = [emphasis_features(*_counted(zones.level[chosen], second[chosen]), int(n)) for chosen, n in groups]
                found |= _named(family, aggregation, np.array(rows))
    return found


def _by_plane(wanted: Wanted) -> Iterator[tuple[bool, dict[str, tuple[str, ...]]]]:
    """Aggregations by family, those within slices apart from those of a volume."""
    for in_slice in (True, False):
        part = {family: tuple(a for a in aggregations if a.startswith("2") is in_slice) for family, aggregations in wanted.items()}
        part = {family: aggregations for family, aggregations in part.items() if aggregations}
        if part:
            yield in_slice, part


class _Collected:
    """Matrices of slices and directions as they come in: measured one by one, merged over directions, or summed for later."""

    def __init__(self, aggregations: Sequence[str], measure: Measure) -> None:
        self._aggregations = aggregations
        self._measure = measure
        self._rows: dict[str, list[FloatArray]] = {aggregation: [] for aggregation in aggregations}
        self._total: Array | None = None
        self._voxels = 0

    def add(self, matrices: Array, voxels: IntArray) -> None:
        """Take matrices (s, d, ...) of slices of some numbers of voxels (s,)."""
        n_directions = matrices.shape[1]
        if "2d_averaged" in self._rows:
            self._measured("2d_averaged", matrices.reshape(-1, *matrices.shape[2:]), np.repeat(voxels, n_directions))
        for aggregation in ("2d_slice_merged", "2d"):
            if aggregation in self._rows:
                self._measured(aggregation, matrices.sum(axis=1), voxels * n_directions)
        total = matrices.sum(axis=0)
        self._total = total if self._total is None else self._total + total
        self._voxels += int(voxels.sum())

    def _measured(self, aggregation: str, matrices: Array, voxels: IntArray) -> None:
        filled = matrices.any(axis=tuple(range(1, matrices.ndim)))
        if filled.any():
            self._rows[aggregation].append(self._measure(np.ascontiguousarray(matrices[filled]), voxels[filled]))

    def features(self, family: str) -> Features:
        """Value by key and aggregation."""
        total = self._total
        found: Features = {}
        for aggregation in self._aggregations:
            if total is not None and aggregation in ("2.5d_direction_merged", "3d_averaged"):
                self._measured(aggregation, total, np.full(len(total), self._voxels))
            elif total is not None and aggregation in ("2.5d_merged", "3d_merged", "2.5d", "3d"):
                self._measured(aggregation, total.sum(axis=0, keepdims=True), np.array([self._voxels * len(total)]))
            rows = self._rows[aggregation]
            found |= _named(family, aggregation, np.concatenate(rows) if rows else np.zeros((0, len(KEYS[family]))))
        return found


def _named(family: str, aggregation: str, rows: FloatArray) -> Features:
    """Mean of measured matrices (m, k) by key and aggregation; NaN marks what a matrix leaves undefined."""
    if len(rows) == 0:
        return {(key, aggregation): Missing("no_pairs") for key in KEYS[family]}
    defined = np.isfinite(rows)
    number = defined.sum(axis=0)
    mean = np.where(defined, rows, 0.0).sum(axis=0) / np.maximum(number, 1)
    undefined = Missing("zero_denominator" if family == "ngtdm" else "constant")
    return {(key, aggregation): float(value) if n else undefined for key, value, n in zip(KEYS[family], mean, number, strict=True)}


def _counted(level: IntArray, second: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Different pairs of level and another number, and how often each occurs."""
    base = int(second.max()) + 1
    pairs, count = np.unique(level * base + second, return_counts=True)
    return (pairs // base).astype(np.float64), (pairs % base).astype(np.float64), count.astype(np.float64)


def _dense_emphases(matrices: Array, voxels: IntArray) -> FloatArray:
    """Emphasis features (m, 16) of matrices (m, n_levels, k) whose columns stand for 1, 2, ..."""
    rows = []
    for matrix, n in zip(matrices, voxels, strict=True):
        row, column = np.nonzero(matrix)
        level, second = (row + 1).astype(np.float64), (column + 1).astype(np.float64)
        rows.append(emphasis_features(level, second, matrix[row, column].astype(np.float64), int(n)))
    return np.array(rows)


def _dependences(matrices: Array, voxels: IntArray) -> FloatArray:
    """The emphases (m, 16) of dependence matrices, and their energy (IBSI CAS9)."""
    share = matrices / matrices.sum(axis=(1, 2), keepdims=True)
    return np.column_stack([_dense_emphases(matrices, voxels), (share**2).sum(axis=(1, 2))])


def emphasis_features(level: FloatArray, second: FloatArray, count: FloatArray, n_voxels: int) -> FloatArray:
    """Features of a matrix of grey level against run length, zone size, zone distance or dependence (IBSI TP0I, 9SAK, VMDZ, REK0).

    Parameters
    ----------
    level, second, count : array (k,)
        Cells that are not empty: grey level, the other number, and how many runs, zones or voxels they count.
    n_voxels : int
        Number of voxels, times the number of directions that were merged.

    Returns
    -------
    array (16,)
        In the order of ``EMPHASES``.
    """
    n = count.sum()
    share = count / n
    level2, second2 = level**2, second**2
    by_level = np.bincount(level.astype(np.int64), count)
    by_second = np.bincount(np.unique(second, return_inverse=True)[1], count)
    level_non_uniformity, second_non_uniformity = by_level @ by_level / n, by_second @ by_second / n
    return np.array(
        [
            share @ (1.0 / second2),
            share @ second2,
            share @ (1.0 / level2),
            share @ level2,
            share @ (1.0 / (level2 * second2)),
            share @ (level2 / second2),
            share @ (second2 / level2),
            share @ (level2 * second2),
            level_non_uniformity,
            level_non_uniformity / n,
            second_non_uniformity,
            second_non_uniformity / n,
            n / n_voxels,
            share @ (level - share @ level) ** 2,
            share @ (second - share @ second) ** 2,
            -(share @ np.log2(share)) + 0.0,
        ]
    )


def _tone_differences(matrices: Array, voxels: IntArray) -> FloatArray:
    """Features (m, 5) of the neighbourhood grey tone difference matrix (IBSI IPET), from (m, n_levels, 2)."""
    return np.array([tone_difference_features(matrix[:, 0], matrix[:, 1]) for matrix in matrices])


def tone_difference_features(toned: FloatArray, difference: FloatArray) -> FloatArray:
    """Coarseness, contrast, busyness, complexity and strength (IBSI QCDE, 65HE, NQ30, HDEZ, 1X9X).

    Parameters
    ----------
    toned : array (n_levels,)
        Voxels of each level that have a neighbour.
    difference : array (n_levels,)
        Sum of the distances between their level and the mean of their neighbours.
    """
    present = np.flatnonzero(toned)
    level, share, tone, n = present + 1.0, toned[present] / toned.sum(), difference[present], toned.sum()
    weighted = float(share @ tone)
    coarseness = 1.0 / weighted if weighted > 0 else NO_DIFFERENCE_COARSENESS
    total = float(tone.sum())
    if len(level) == 1 or total == 0.0:
        return np.array([coarseness, 0.0, 0.0, 0.0, 0.0])
    apart = level[:, None] - level[None]
    sums = share[:, None] + share[None]
    contrast = float(share @ apart**2 @ share) / (len(level) * (len(level) - 1)) * total / n
    # Counts are whole numbers, so that equal products of level and count cancel exactly.
    spread = float(np.abs(np.subtract.outer(level * toned[present], level * toned[present])).sum()) / n
    busyness = weighted / spread if spread > 0 else np.nan
    complexity = float((np.abs(apart) * np.add.outer(share * tone, share * tone) / sums).sum()) / n
    return np.array([coarseness, contrast, busyness, complexity, float((sums * apart**2).sum()) / total])


_MEASURES: dict[str, Measure] = {
    "glcm": lambda matrices, voxels: glcm_features(matrices),
    "glrlm": _dense_emphases,
    "ngtdm": _tone_differences,
    "ngldm": _dependences,
}
