"""Size, shape and intensity of all objects of a label image at once."""

from __future__ import annotations

import numpy as np

from idx._typing import Array, FloatArray, IntArray, Pair


def pixel_moments(labels: IntArray, n: int, *, spacing: Pair) -> dict[str, FloatArray]:
    """Area, centroid and second central moments of objects 1..n.

    Parameters
    ----------
    labels : array (y, x) of int
    n : int
        Number of objects; each must have a pixel.
    spacing : tuple of float
        Size of a pixel (x, y).

    Returns
    -------
    dict of array (n,)
        ``area`` (spacing^2), ``x_px``, ``y_px`` (pixel positions), ``xx``, ``yy``, ``xy`` (variances and covariance of the pixel centres).
    """
    rows, columns = np.nonzero(labels)
    owner = labels[rows, columns].astype(np.int64)

    def total(weights: Array | None) -> FloatArray:
        return np.bincount(owner, weights, n + 1)[1:].astype(np.float64)

    count = total(None)
    x, y = total(columns) / count, total(rows) / count
    # Around each object's own centroid: sums of squares of slide positions would cost digits.
    dx = (columns - x[owner - 1]) * spacing[0]
    dy = (rows - y[owner - 1]) * spacing[1]
    return {
        "area": count * spacing[0] * spacing[1],
        "x_px": x,
        "y_px": y,
        "xx": total(dx * dx) / count,
        "yy": total(dy * dy) / count,
        "xy": total(dx * dy) / count,
    }


def ellipse(xx: FloatArray, yy: FloatArray, xy: FloatArray) -> dict[str, FloatArray]:
    """Ellipse with the same second moments: ``major``, ``minor`` (full axes), ``eccentricity``, ``orientation_deg``.

    Orientation is the angle from the x axis to the major axis, clockwise as seen on the slide (y points down), in [0, 180).
    """
    middle, half_gap = (xx + yy) / 2.0, np.hypot((xx - yy) / 2.0, xy)
    large, small = middle + half_gap, np.maximum(middle - half_gap, 0.0)
    ratio = np.divide(small, large, out=np.ones_like(small), where=large > 0)
    orientation = np.degrees(np.arctan2(2.0 * xy, xx - yy) / 2.0) % 180.0
    return {
        "major": 4.0 * np.sqrt(large),
        "minor": 4.0 * np.sqrt(small),
        "eccentricity": np.sqrt(1.0 - ratio),
        # The remainder of an angle just below zero rounds to 180, which is 0.
        "orientation_deg": np.where(orientation >= 180.0, 0.0, orientation),
    }


def crofton_perimeter(labels: IntArray, n: int, *, spacing: Pair) -> FloatArray:
    """Perimeter (n,) of objects 1..n from the number of times that lines in four directions cross their border.

    Notes
    -----
    Cauchy-Crofton: half the integral of crossings over offsets and directions. Unlike the length of the outline, which follows the pixels'
    steps and is about 5 % too long for a disc at any resolution, it converges. A convex object of a few pixels is still off by a few percent.
    """
    padded = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2), dtype=labels.dtype)
    padded[1:-1, 1:-1] = labels
    diagonal = np.hypot(*spacing)
    angle = np.arctan2(spacing[1], spacing[0])
    pixel = spacing[0] * spacing[1]
    shifted = (
        (padded[:, :-1], padded[:, 1:], pixel / spacing[0] * angle),
        (padded[:-1], padded[1:], pixel / spacing[1] * (np.pi / 2.0 - angle)),
        (padded[:-1, :-1], padded[1:, 1:], pixel / diagonal * np.pi / 4.0),
        (padded[:-1, 1:], padded[1:, :-1], pixel / diagonal * np.pi / 4.0),
    )
    result = np.zeros(n)
    for one, other, weight in shifted:
        crossed = one != other
        crossings = np.bincount(one[crossed], minlength=n + 1) + np.bincount(other[crossed], minlength=n + 1)
        result += weight * crossings[1:]
    return result / 2.0


def solidity(labels: IntArray, n: int) -> FloatArray:
    """Pixels of objects 1..n over the pixels whose centres lie within the convex hull of theirs, (n,).

    Notes
    -----
    Counting centres makes this exactly 1 for a convex object however it was rastered; areas of outlines are biased by 2 to 3 % at the size of
    nuclei. The count comes from Pick's theorem, so that no hull is drawn.
    """
    import shapely

    if n == 0:
        return np.zeros(0)
    padded = np.pad(labels, 1)
    core = padded[1:-1, 1:-1]
    # Corners of the hull are pixels with another value beside them.
    edge = (core > 0) & ((padded[:-2, 1:-1] != core) | (padded[2:, 1:-1] != core) | (padded[1:-1, :-2] != core) | (padded[1:-1, 2:] != core))
    rows, columns = np.nonzero(edge)
    owner = labels[rows, columns].astype(np.int64) - 1
    order = np.argsort(owner, kind="stable")
    points = shapely.points(columns[order], rows[order])
    hulls = shapely.convex_hull(shapely.multipoints(points, indices=owner[order]))
    corners, of_hull = shapely.get_coordinates(hulls, return_index=True)
    steps = np.diff(corners.astype(np.int64), axis=0)
    on_border = np.where(of_hull[1:] == of_hull[:-1], np.gcd(np.abs(steps[:, 0]), np.abs(steps[:, 1])), 0)
    border = np.bincount(of_hull[:-1], on_border, n) if len(steps) else np.zeros(n)
    # A hull that is a line is walked one way only; a ring comes back.
    border[shapely.get_type_id(hulls) == 1] *= 2
    within = shapely.area(hulls) + border / 2.0 + 1.0
    return np.asarray(np.bincount(labels.ravel(), minlength=n + 1)[1:] / within)


def intensity(labels: IntArray, values: Array, n: int) -> dict[str, FloatArray]:
    """Mean, standard deviation (over all pixels, n in the denominator), least and greatest value of objects 1..n, each (n,)."""
    inside = np.flatnonzero(labels)
    owner, chosen = labels.ravel()[inside], values.ravel()[inside].astype(np.float64)
    count = np.bincount(owner, minlength=n + 1)[1:]
    mean = np.bincount(owner, chosen, n + 1)[1:] / count
    variance = np.bincount(owner, (chosen - mean[owner - 1]) ** 2, n + 1)[1:] / count
    order = np.argsort(owner, kind="stable")
    starts = np.r_[0, np.cumsum(count)[:-1]]
    if n == 0:
        return {"mean": mean, "sd": variance, "min": mean, "max": mean}
    return {
        "mean": mean,
        "sd": np.sqrt(variance),
        "min": np.minimum.reduceat(chosen[order], starts),
        "max": np.maximum.reduceat(chosen[order], starts),
    }
