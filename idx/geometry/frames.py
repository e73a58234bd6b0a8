"""Named coordinate frames. A point without its frame is only numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from idx.errors import GeometryError

Unit = Literal["mm", "um", "px"]
MM_PER_UNIT: dict[str, float] = {"mm": 1.0, "um": 1e-3}
"""Physical units in mm; pixels have no size of their own."""


@dataclass(frozen=True)
class Frame:
    """A coordinate frame: its name, the unit of its axes and their order.

    Parameters
    ----------
    name : str
        Unique within a case, such as "patient" or "slide:A12".
    unit : {"mm", "um", "px"}
        Unit of every axis.
    axes : tuple of str
        Names of the axes in the order of a point's components.
    """

    name: str
    unit: Unit
    axes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.name:
            raise GeometryError("frame name must be a non-empty string; got ''. Name the frame, for example 'patient'.")
        object.__setattr__(self, "axes", tuple(self.axes))
        if self.unit not in ("mm", "um", "px"):
            raise GeometryError(f"frame unit must be 'mm', 'um' or 'px'; got '{self.unit}' (frame '{self.name}'). Convert the points to one of these.")
        if len(self.axes) not in (2, 3):
            raise GeometryError(f"frame axes must be two or three; got {self.axes} (frame '{self.name}'). Pass ('x', 'y') or ('x', 'y', 'z').")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.axes)}; {self.unit})"


PATIENT = Frame("patient", "mm", ("x", "y", "z"))
"""DICOM patient coordinates: x to the left, y to the posterior, z to the head (LPS), mm."""
SLIDE = Frame("slide", "um", ("x", "y"))
"""A slide: x right, y down, um; the centre of the first level-0 pixel is the origin."""


def slide_frame(name: str) -> Frame:
    """Return the frame of one slide among several of a case.

    Examples
    --------
    >>> print(slide_frame("A12"))
    slide:A12 (x, y; um)
    """
    return Frame(f"slide:{name}", "um", ("x", "y"))
