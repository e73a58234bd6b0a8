"""The transforms of one case as a graph of frames."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from idx._typing import FrozenMapping
from idx.errors import GeometryError
from idx.geometry.affine import AffineTransform
from idx.geometry.frames import Frame
from idx.geometry.transforms import Transform, compose


@dataclass(frozen=True, eq=False)
class Edge:
    """A transform with what is known of its quality.

    Parameters
    ----------
    transform : Transform
    error_mm : float or None
        Expected error of a mapped point in mm (root mean square); 0 for a definition, None where nobody knows.
    evidence : mapping
        How it was found: method, verdict, scores. Plain strings and numbers, kept with the case.
    """

    transform: Transform
    error_mm: float | None = None
    evidence: Mapping[str, str | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.error_mm is not None and not (math.isfinite(self.error_mm) and self.error_mm >= 0):
            raise GeometryError(f"error_mm must be a finite number of at least 0, or None; got {self.error_mm}. Pass None where the error is unknown.")
        object.__setattr__(self, "evidence", FrozenMapping(dict(self.evidence)))

    def __str__(self) -> str:
        error = "unknown error" if self.error_mm is None else f"{self.error_mm:.2g} mm"
        return f"{self.transform.source.name} -> {self.transform.target.name} ({error})"

    def reversed(self) -> Edge:
        """Return the same edge walked the other way."""
        return Edge(self.transform.inverse(), self.error_mm, self.evidence)


@dataclass(frozen=True, eq=False)
class TransformGraph:
    """Frames joined by transforms, each usable in both directions.

    Examples
    --------
    >>> from idx.geometry import PATIENT, Frame
    >>> scan = Frame("scan", "mm", ("x", "y", "z"))
    >>> graph = TransformGraph().with_edge(AffineTransform(np.diag([2.0, 2, 2, 1]), scan, PATIENT), error_mm=0.0)
    >>> graph.between(PATIENT, scan).apply([2.0, 4.0, 6.0]).tolist()
    [1.0, 2.0, 3.0]
    """

    edges: tuple[Edge, ...] = ()

    def with_edge(self, transform: Transform, *, error_mm: float | None = None, evidence: Mapping[str, str | float | bool] | None = None) -> TransformGraph:
        """Return a graph with one more edge; an edge between the same two frames is replaced."""
        joined = {transform.source, transform.target}
        kept = tuple(e for e in self.edges if {e.transform.source, e.transform.target} != joined)
        return TransformGraph((*kept, Edge(transform, error_mm, evidence or {})))

    @property
    def frames(self) -> tuple[Frame, ...]:
        """All frames, in order of first mention."""
        return tuple(dict.fromkeys(frame for edge in self.edges for frame in (edge.transform.source, edge.transform.target)))

    def _steps_from(self, frame: Frame) -> Iterator[Edge]:
        for edge in self.edges:
            if edge.transform.source == frame:
                yield edge
            if edge.transform.target == frame:
                yield edge.reversed()

    def path(self, source: Frame, target: Frame) -> tuple[Edge, ...]:
        """Edges of the shortest way from source to target, in walking direction; empty when both are one.

        Raises
        ------
        GeometryError
            If no way exists, naming what can be reached.
        """
        routes: dict[Frame, tuple[Edge, ...]] = {source: ()}
        waiting = deque([source])
        while waiting:
            frame = waiting.popleft()
            if frame == target:
                return routes[frame]
            for edge in self._steps_from(frame):
                if edge.transform.target not in routes:
                    routes[edge.transform.target] = (*routes[frame], edge)
                    waiting.append(edge.transform.target)
        reached = ", ".join(f.name for f in routes)
        raise GeometryError(
            f"frames must be joined by transforms; got no way from {source} to {target} (reached: {reached}). "
            "Register them first, for example with idx.registration.register_section."
        )

    def between(self, source: Frame, target: Frame) -> Transform:
        """Return one composed transform from source to target."""
        edges = self.path(source, target)
        if not edges:
            return AffineTransform(np.eye(source.ndim + 1), source, target)
        return compose(*(edge.transform for edge in edges))

    def error_mm(self, source: Frame, target: Frame) -> float | None:
        """Expected error of a point mapped from source to target in mm: root sum of squares along the way, None if any is unknown."""
        total = 0.0
        for edge in self.path(source, target):
            if edge.error_mm is None:
                return None
            total += edge.error_mm**2
        return math.sqrt(total)

    def __repr__(self) -> str:
        return f"TransformGraph({'; '.join(str(edge) for edge in self.edges) or 'no edges'})"
