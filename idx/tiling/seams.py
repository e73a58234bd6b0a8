"""Objects that several tiles see: gathered in a sweep down the slide that forgets what no tile to come can see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idx._typing import Array, BoolArray, IntArray
from idx.kernels.spans import OBJECT, count_values, find_spans, measure_spans, number_objects, shared_parts
from idx.tiling.resolving import LINK, RIVAL_SHARE, SAME_IOU, Objects, components, instance_dtype, objects_of, resolve
from idx.tiling.windows import Arrivals, Box, Windows


@dataclass(frozen=True, eq=False)
class _View:
    """What one tile saw of objects that others see too: spans row by row, numbered as the instances are."""

    column: int
    row: int
    spans: IntArray


class SeamSweep:
    """Takes the label images of tiles in plan order and gives back finished objects.

    Objects that lie where no other tile looks are finished at once. The others are kept as spans, compared with those of the neighbours, and
    resolved (:func:`idx.tiling.resolving.resolve`) once no tile to come can see them.

    Parameters
    ----------
    windows : Windows
    n_classes : int
        Classes that are voted on.
    """

    def __init__(self, windows: Windows, *, n_classes: int = 0) -> None:
        self._windows = windows
        self._n_classes = n_classes
        self._arrivals = Arrivals(windows)
        self._instances: Array = np.zeros(0, instance_dtype(n_classes))
        self._links: Array = np.zeros(0, LINK)
        self._views: dict[tuple[int, int], _View] = {}

    def add(self, tile: int, labels: Array, classes: Array | None = None) -> Objects:
        """Take in the label image of a tile and return the objects that no other tile sees.

        Parameters
        ----------
        tile : int
        labels : int32 array (y, x)
            As large as a window that is not cut.
        classes : array (y, x) of int or None
            Class 1.. of each pixel; 0 for none.
        """
        w = self._windows
        column, row = int(w.column[tile]), int(w.row[tile])
        self._arrivals.deliver(tile)
        left, top, right, bottom = w.box(column, row)
        x, y = column * w.core - w.halo, row * w.core - w.halo
        spans = find_spans(labels[top - y : bottom - y, left - x : right - x], x=left, y=top)
        numbers = number_objects(spans)
        area, sums, box = measure_spans(spans, len(numbers))
        instances = np.zeros(len(numbers), self._instances.dtype)
        instances["tile"], instances["label"], instances["area"], instances["bottom"] = tile, numbers, area, box[:, 3]
        instances["x"], instances["y"] = (sums / area[:, None]).T
        instances["is_cut"] = (box == self._borders(column, row)).any(axis=1)
        if classes is not None:
            instances["votes"] = count_values(spans - np.array([0, y, x, x], np.int32), classes, len(numbers), self._n_classes)
        low, high = np.split(np.array(self._alone(column, row)), 2)
        is_alone = np.asarray(np.all(np.concatenate([box[:, :2] >= low, box[:, 2:] <= high], axis=1), axis=1))
        self._remember(_View(column, row, _renumbered(spans, ~is_alone, len(self._instances))), instances[~is_alone])
        return objects_of(instances[is_alone], _renumbered(spans, is_alone, 0))

    @property
    def n_waiting(self) -> int:
        """Views of objects that are held until no tile to come can see them."""
        return len(self._instances)

    def _borders(self, column: int, row: int) -> Box:
        """Borders of what a tile sees; those of the slide are put out of reach, as nothing lies beyond them."""
        w = self._windows
        left, top, right, bottom = w.box(column, row)
        return left or -1, top or -1, right if right < w.width else -1, bottom if bottom < w.height else -1

    def _alone(self, column: int, row: int) -> Box:
        """What no other tile of the lattice sees or, where tiles do not overlap, touches."""
        w = self._windows
        rows, columns = w.shape
        away = w.halo or 1
        return (
            column * w.core + away if column > 0 else 0,
            row * w.core + away if row > 0 else 0,
            (column + 1) * w.core - away if column < columns - 1 else w.width,
            (row + 1) * w.core - away if row < rows - 1 else w.height,
        )

    def _remember(self, view: _View, instances: Array) -> None:
        """Keep instances that others see, and compare them with those already known."""
        self._instances = np.concatenate([self._instances, instances])
        reach = range(-self._windows.reach, self._windows.reach + 1)
        places = [(view.column + dx, view.row + dy) for dy in reach for dx in reach]
        self._links = np.concatenate([self._links, *(self._compared(view, self._views[place]) for place in places if place in self._views)])
        self._views[view.column, view.row] = view

    def _compared(self, one: _View, other: _View) -> Array:
        """Links between the instances of two tiles."""
        boxes = self._windows.boxes(np.array([one.column, other.column]), np.array([one.row, other.row]))
        low, high = boxes[:, :2].max(axis=0), boxes[:, 2:].min(axis=0)
        spans = one.spans
        step = np.array([other.column - one.column, other.row - one.row])
        only_touch = self._windows.halo == 0
        if only_touch and np.abs(step).sum() == 1:
            # What meets at the seam is compared along it, as if the one's last line of pixels were the other's first. What bulges over it by a few pixels
            # has a much shorter line there, so that only the shorter one counts.
            spans = spans + np.array([0, step[1], step[0], step[0]], np.int32)
            low, high = low - (step < 0), high + (step > 0)
        pairs, likeness = shared_parts(spans, other.spans, (int(low[0]), int(low[1]), int(high[0]), int(high[1])), over="smaller" if only_touch else "union")
        links = np.zeros(len(pairs), LINK)
        links["one"], links["other"], links["shared"] = pairs.T
        links["is_same"] = likeness >= SAME_IOU
        if only_touch:
            links["shared"] = 0
        smaller = np.minimum(self._instances["area"][links["one"]], self._instances["area"][links["other"]])
        is_rival = (links["shared"] >= RIVAL_SHARE * smaller) & (not only_touch)
        return links[links["is_same"] | is_rival]

    def finish(self, first_row_to_come: int | None = None) -> Objects:
        """Resolve and return what no tile to come can see or touch; without a row, everything that is left."""
        n, one = len(self._instances), self._links["one"]
        cluster = components(n, one, self._links["other"])
        bottom = np.zeros(n, np.int64)
        np.maximum.at(bottom, cluster, self._instances["bottom"])
        is_done = np.full(n, True) if first_row_to_come is None else bottom[cluster] < first_row_to_come
        number = np.where(is_done, np.cumsum(is_done), np.cumsum(~is_done)) - 1
        spans = np.concatenate([np.zeros((0, 4), np.int32), *(_picked(view.spans, is_done, number) for view in self._views.values())])
        finished = resolve(self._arrivals, self._instances[is_done], _renamed(self._links[is_done[one]], number), spans)
        self._instances, self._links = self._instances[~is_done], _renamed(self._links[~is_done[one]], number)
        views = (_View(view.column, view.row, _picked(view.spans, ~is_done, number)) for view in self._views.values())
        self._views = {(view.column, view.row): view for view in views if len(view.spans)}
        return finished


def _renumbered(spans: IntArray, chosen: BoolArray, first: int) -> IntArray:
    """Spans of the chosen objects, which are numbered from ``first``."""
    return _picked(spans, chosen, np.cumsum(chosen) - 1 + first)


def _picked(spans: IntArray, chosen: BoolArray, number: IntArray) -> IntArray:
    """Spans of the chosen objects under new numbers."""
    picked = spans[chosen[spans[:, OBJECT]]]
    picked[:, OBJECT] = number[picked[:, OBJECT]]
    return picked


def _renamed(links: Array, number: IntArray) -> Array:
    renamed = links.copy()
    renamed["one"], renamed["other"] = number[links["one"]], number[links["other"]]
    return renamed
