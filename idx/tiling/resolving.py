"""Which of the objects that several tiles see are kept, so that each counts once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from idx._typing import Array, BoolArray, IntArray
from idx.kernels.groups import counted
from idx.kernels.spans import OBJECT, measure_spans, sorted_by_object
from idx.tiling.windows import MISSING, UNPLANNED, Arrivals

SAME_IOU = 0.5
"""Two tiles show one object where their views of it agree at least so far in what both see (intersection over union)."""
RIVAL_SHARE = 0.3
"""Of two objects that share this much of the smaller one only one counts: views of a nucleus of 5 px that are 2 px apart share a third of it, neighbours
that touch and are drawn 1 px wider a fifth."""

LINK = np.dtype([("one", np.int64), ("other", np.int64), ("shared", np.int64), ("is_same", np.bool_)])
"""Two instances of different tiles that are the same or rivals, and the pixels that they share."""


def instance_dtype(n_classes: int) -> np.dtype[np.void]:
    """An object as one tile sees it; positions in the lattice, ``bottom`` is the row after its last."""
    numbers = [("tile", np.int64), ("label", np.int64), ("area", np.int64), ("x", np.float64), ("y", np.float64), ("bottom", np.int64)]
    return np.dtype([*numbers, ("is_cut", np.bool_), ("votes", np.int64, (n_classes,))])


@dataclass(frozen=True, eq=False)
class Objects:
    """Objects in the lattice of delivered pixels.

    Parameters
    ----------
    spans : int32 array (n_spans, 4)
        Object 0..n-1, row, start and end; sorted.
    offsets : array (n + 1,)
        Spans of each object.
    tile : array (n,)
        Tile that the object belongs to.
    label : array (n,)
        Its number there.
    is_cut : array (n,) of bool
        Whether it reaches the rim of what the tiles saw, so that some of it may be missing.
    votes : array (n, n_classes)
        Pixels that were given each class.
    """

    spans: IntArray
    offsets: IntArray
    tile: IntArray
    label: IntArray
    is_cut: BoolArray
    votes: IntArray

    def __len__(self) -> int:
        return len(self.tile)


def objects_of(instances: Array, spans: IntArray) -> Objects:
    """Instances as objects of their own."""
    ordered, offsets = sorted_by_object(spans, len(instances))
    return Objects(ordered, offsets, instances["tile"], instances["label"], np.zeros(len(instances), dtype=bool), instances["votes"])


def together(groups: Sequence[Objects]) -> Objects:
    """Objects of some groups (at least one), one after the other."""
    firsts = np.cumsum([0, *(len(group) for group in groups)])
    spans = np.concatenate([group.spans + np.array([first, 0, 0, 0], np.int32) for group, first in zip(groups, firsts[:-1], strict=True)])
    sizes = np.concatenate([np.diff(group.offsets) for group in groups])
    parts = (np.concatenate([getattr(group, name) for group in groups]) for name in ("tile", "label", "is_cut", "votes"))
    return Objects(spans, np.r_[0, np.cumsum(sizes)], *parts)


def components(n: int, one: IntArray, other: IntArray) -> IntArray:
    """Number of the connected component of each of n nodes."""
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(n, n))
    component: IntArray = connected_components(graph, directed=False)[1].astype(np.int64)
    return component


def resolve(arrivals: Arrivals, instances: Array, links: Array, spans: IntArray) -> Objects:
    """Choose the objects that count.

    Parameters
    ----------
    arrivals : Arrivals
    instances : array of instance_dtype (n,)
    links : array of LINK
        Between them.
    spans : int32 array
        Theirs.

    Notes
    -----
    An instance that its tile sees whole is a candidate. It belongs to the tile whose core holds its centroid, and is surely kept if that is its own,
    or if that tile has not arrived, so that its neighbours stand in for it. If that tile sees the object too, but as another's, it is kept unless one
    that is linked with it is. If that tile sees nothing of the kind, or is not in the plan, it is not kept.

    An instance that ends at the border of what its tile sees is a part. If much of it lies in an object that another tile sees whole, it is
    explained. Other parts that are the same where their tiles overlap make one candidate: it belongs to the tile whose core holds most of it.

    Candidates that are linked exclude each other: what is surely kept comes first, and of these what is larger.
    """
    candidate = _candidates(instances, links)
    n = int(candidate.max(initial=-1)) + 1
    merged, _ = sorted_by_object(_of_objects(spans, candidate), n)
    area, _, _ = measure_spans(merged, n)
    members = np.flatnonzero(candidate >= 0)
    is_joined, home = np.zeros(n, dtype=bool), np.zeros(n, np.int64)
    is_joined[candidate[members]] = instances["is_cut"][members]
    home[candidate[members]] = arrivals.owner(instances["x"][members], instances["y"][members])
    home[is_joined] = _home_of_joined(arrivals, merged, n)[is_joined]
    # Of several instances the largest one in the tile that the candidate belongs to speaks for it.
    speaker = np.zeros(n, np.int64)
    last_is_best = members[np.lexsort((-members, instances["area"][members], instances["tile"][members] == home[candidate[members]]))]
    speaker[candidate[last_is_best]] = last_is_best
    kept = _kept(home, candidate, instances["tile"], links, np.argsort(np.lexsort((speaker, -area))))

    votes = np.zeros((n, instances["votes"].shape[1]), np.int64)
    np.add.at(votes, candidate[members], instances["votes"][members])
    of_joined = np.where((candidate >= 0) & instances["is_cut"], np.arange(len(candidate)), -1)
    is_cut = np.zeros(n, dtype=bool)
    is_cut[candidate[_at_rim(arrivals, _of_objects(spans, of_joined), instances["tile"])]] = True
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    final = _of_objects(merged, number)
    offsets = np.searchsorted(final[:, OBJECT], np.arange(kept.sum() + 1))
    return Objects(final, offsets, instances["tile"][speaker[kept]], instances["label"][speaker[kept]], is_cut[kept], votes[kept])


def _candidates(instances: Array, links: Array) -> IntArray:
    """Candidate of each instance; -1 for a part that is explained, which only bears witness for others."""
    whole, one, other = ~instances["is_cut"], links["one"], links["other"]
    is_part = ~whole
    for part, by in ((one, other), (other, one)):
        is_explained = ~whole[part] & whole[by] & (links["shared"] >= RIVAL_SHARE * instances["area"][part])
        is_part[part[is_explained]] = False
    joined = links["is_same"] & is_part[one] & is_part[other]
    component = components(len(instances), one[joined], other[joined])
    candidate = np.full(len(instances), -1, dtype=np.int64)
    candidate[whole | is_part] = np.unique(component[whole | is_part], return_inverse=True)[1]
    return candidate


def _of_objects(spans: IntArray, number: IntArray) -> IntArray:
    """Spans under new numbers, those with a negative one left out."""
    renumbered = spans.copy()
    renumbered[:, OBJECT] = number[spans[:, OBJECT]]
    return renumbered[renumbered[:, OBJECT] >= 0]


def _home_of_joined(arrivals: Arrivals, spans: IntArray, n: int) -> IntArray:
    """Tile (n,) that has arrived and whose core holds most of each object; ``UNPLANNED`` where none does or most of it lies beyond the plan."""
    owner, owned, pixels = arrivals.split(spans)
    beyond = np.bincount(owner, pixels * (owned == UNPLANNED), minlength=n)
    total = np.bincount(owner, pixels, minlength=n)
    home = np.full(n, UNPLANNED, dtype=np.int64)
    has_arrived = owned >= 0
    owner, owned, pixels = owner[has_arrived], owned[has_arrived], pixels[has_arrived]
    if len(owner) == 0:
        return home
    n_tiles = int(owned.max()) + 1
    key, where = np.unique(owner.astype(np.int64) * n_tiles + owned, return_inverse=True)
    share = np.bincount(where, pixels)
    owner, owned = key // n_tiles, key % n_tiles
    last_is_best = np.lexsort((-owned, share))
    home[owner[last_is_best]] = owned[last_is_best]
    home[beyond > total - beyond] = UNPLANNED
    return home


def _kept(home: IntArray, candidate: IntArray, tile: IntArray, links: Array, rank: IntArray) -> BoolArray:
    """Whether candidates (n,) are kept; of two that exclude each other the one of lower rank is. ``candidate`` and ``tile`` are those of instances."""
    me, them = np.r_[links["one"], links["other"]], np.r_[links["other"], links["one"]]
    me, them = me[candidate[me] >= 0], them[candidate[me] >= 0]
    mine, theirs = candidate[me], candidate[them]
    is_sure = home == MISSING
    is_sure[candidate[(candidate >= 0) & (home[candidate] == tile)]] = True
    kept = _independent(is_sure, mine, theirs, rank)

    is_open = np.zeros_like(kept)
    is_open[mine[home[mine] == tile[them]]] = True
    is_open[theirs[kept[mine] & (theirs >= 0)]] = False
    return kept | _independent(is_open & ~is_sure, mine, theirs, rank)


def _independent(is_valid: BoolArray, one: IntArray, other: IntArray, rank: IntArray) -> BoolArray:
    """Valid ones of n nodes that are not linked with a better one (of lower rank) that is taken."""
    matters = (other >= 0) & (one != other)
    matters[matters] = is_valid[one[matters]] & is_valid[other[matters]] & (rank[one[matters]] < rank[other[matters]])
    better, worse = one[matters], other[matters]
    undecided, taken = is_valid.copy(), np.zeros_like(is_valid)
    while undecided.any():
        waits = np.zeros_like(undecided)
        waits[worse[undecided[better] & undecided[worse]]] = True
        won = undecided & ~waits
        taken |= won
        undecided &= ~won
        undecided[worse[won[better]]] = False
    return taken


def _at_rim(arrivals: Arrivals, spans: IntArray, tile: IntArray) -> IntArray:
    """Instances of the spans that touch a pixel which no tile has seen; ``tile`` is that of each instance."""
    w = arrivals.windows
    owner, row, start, end = spans.T
    left, top, right, bottom = w.boxes(w.column[tile[owner]], w.row[tile[owner]]).T
    beside = [(owner[hit], x[hit], row[hit]) for hit, x in ((start == left, start - 1), (end == right, end))]
    for hit, step in ((row == top, -1), (row == bottom - 1, 1)):
        at, offset = counted((end - start) * hit)
        beside.append((owner[at], start[at] + offset, row[at] + step))
    owner, x, y = (np.concatenate(parts) for parts in zip(*beside, strict=True))
    exists = (x >= 0) & (x < w.width) & (y >= 0) & (y < w.height)
    owner, x, y = owner[exists], x[exists], y[exists]
    return np.unique(owner[~arrivals.is_seen(x, y)])
