"""One cursor in two images: positions on a slide and in a CT, each from the other. No widget, no browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from idx._typing import Array, FloatArray, Pair, Triple
from idx.case import Case
from idx.errors import GeometryError
from idx.geometry import Transform
from idx.geometry.grids import Grid
from idx.slide import Slide
from idx.view.planes import canonical, mm_per_um
from idx.volume import Volume


@dataclass(frozen=True, eq=False)
class Link:
    """A slide placed in a CT.

    Parameters
    ----------
    ct : Volume
    slide : Slide
    transform : Transform
        Slide (um) to patient (mm).
    error_mm : float or None
        Expected error of a mapped point.
    evidence : mapping
        What the case knows of how the slide was placed.
    """

    ct: Volume
    slide: Slide
    transform: Transform
    error_mm: float | None = None
    evidence: Mapping[str, str | float | bool] = field(default_factory=dict)

    @property
    def mm_per_um(self) -> float:
        """Length in the CT of one um on the slide, mm."""
        return mm_per_um(self.transform, self.slide)


def find_link(case: Case) -> Link | None:
    """Return the case's CT and its first slide that is placed in it, or None where no slide is."""
    ct = case.ct
    if ct is None:
        return None
    for slide in case.slides.values():
        try:
            edges = case.transforms.path(slide.frame, ct.grid.frame)
        except GeometryError:
            continue
        if edges:
            evidence = {key: value for edge in edges for key, value in edge.evidence.items()}
            return Link(ct, slide, case.between(slide.frame, ct.grid.frame), case.transforms.error_mm(slide.frame, ct.grid.frame), evidence)
    return None


@dataclass(frozen=True)
class Cursor:
    """One place in both images.

    Parameters
    ----------
    slide_um : tuple of float or None
        Position on the slide; None where the images are not linked.
    ct_mm : tuple of float or None
        Position in the patient frame.
    ct_pixel : tuple of float or None
        Column, row and slice in the displayed CT; an integer is a voxel centre.
    distance_mm : float
        Signed distance of the CT point from the slide's plane; 0 when the slide was pointed at.
    """

    slide_um: Pair | None
    ct_mm: Triple | None
    ct_pixel: Triple | None
    distance_mm: float = 0.0

    def as_message(self) -> dict[str, Any]:
        """Plain lists and numbers for the browser."""
        return {
            "slide_um": None if self.slide_um is None else list(self.slide_um),
            "ct_mm": None if self.ct_mm is None else list(self.ct_mm),
            "ct_pixel": None if self.ct_pixel is None else list(self.ct_pixel),
            "distance_mm": self.distance_mm,
        }


@dataclass(frozen=True, eq=False)
class LinkedImages:
    """The CT as it is displayed, the slide, and the maps between them.

    Parameters
    ----------
    values : array (z, y, x) or None
        CT with its axes turned to head, posterior, left (a view; see :func:`idx.view.planes.canonical`).
    grid : Grid or None
        Where those voxels are.
    slide : Slide or None
    link : Link or None
        None where the images share no coordinates.
    lesion : array (z, y, x) or None
        Lesion on the same voxels.
    """

    values: Array | None
    grid: Grid | None
    slide: Slide | None
    link: Link | None
    lesion: Array | None = None

    @classmethod
    def of(cls, case: Case) -> LinkedImages:
        """Take the images of a case."""
        link = find_link(case)
        ct = case.ct
        slide = link.slide if link is not None else case.slide
        if ct is None:
            return cls(None, None, slide, None)
        values, grid = canonical(ct.values, ct.grid)
        lesion = case.lesion
        on_grid = lesion is not None and lesion.grid.is_close(ct.grid)
        return cls(values, grid, slide, link, canonical(lesion.values, ct.grid)[0] if lesion is not None and on_grid else None)

    def from_slide(self, point_um: Pair) -> Cursor:
        """Cursor for a place on the slide (x, y) in um."""
        x, y = float(point_um[0]), float(point_um[1])
        if self.link is None:
            return Cursor((x, y), None, None)
        point_mm = self.link.transform.apply(np.array([x, y]))[:3]
        return Cursor((x, y), _triple(point_mm), self._pixel(point_mm))

    def from_ct(self, pixel: Triple) -> Cursor:
        """Cursor for a place in the displayed CT: column, row, slice."""
        if self.grid is None:
            return Cursor(None, None, None)
        column, row, z = (float(p) for p in pixel)
        point_mm = self.grid.to_physical(np.array([z, row, column]))
        place = _triple(point_mm)
        if self.link is None:
            return Cursor(None, place, (column, row, z))
        u, v, distance = (float(c) for c in self.link.transform.inverse().apply(point_mm))
        return Cursor((u, v), place, (column, row, z), distance)

    def _pixel(self, point_mm: FloatArray) -> Triple | None:
        if self.grid is None:
            return None
        z, row, column = self.grid.to_index(point_mm)
        return float(column), float(row), float(z)

    def start(self) -> Cursor:
        """Where the viewer opens: the lesion's middle, else the middle of what there is."""
        if self.grid is not None:
            shape = np.array(self.grid.shape)
            z, row, column = np.argwhere(self.lesion).mean(axis=0) if self.lesion is not None and self.lesion.any() else (shape - 1) / 2
            if self.link is not None:
                u, v, _ = self.link.transform.inverse().apply(self.grid.to_physical(np.array([z, row, column])))
                return self.from_slide((float(u), float(v)))
            return self.from_ct((float(column), float(row), float(z)))
        if self.slide is not None:
            return Cursor((self.slide.size_um[0] / 2, self.slide.size_um[1] / 2), None, None)
        return Cursor(None, None, None)


def _triple(point: Array) -> Triple:
    x, y, z = (float(c) for c in point)
    return x, y, z
