"""What mask files share: choosing one structure by its name or number, and belonging to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from idx.errors import FormatError, GeometryError
from idx.volume import Volume


@dataclass(frozen=True)
class Structure:
    """A structure that a mask file offers.

    Parameters
    ----------
    number : int
        Its number in the file (ROI Number, Segment Number, voxel value).
    name : str
        Its name; the number as text where the format has no names.
    """

    number: int
    name: str

    def __str__(self) -> str:
        return f"'{self.name}'" if self.name == str(self.number) else f"'{self.name}' (number {self.number})"


def choose_structure(offered: Sequence[Structure], label: str | int | None, *, path: str) -> Structure:
    """Return the structure that a label names.

    An exact name comes first, then a name that differs only in case and spaces, then the number; with one structure the label may be None.

    Raises
    ------
    FormatError
        If there are none, if several are there and no label is given, or if the label fits none or more than one; it lists all of them.
    """
    if not offered:
        raise FormatError(f"mask must hold at least one structure; got none ('{path}'). Check that this is the file with the contours or segments.")
    listing = ", ".join(str(s) for s in offered)
    if label is None:
        if len(offered) == 1:
            return offered[0]
        raise FormatError(f"label must be given where a file holds several structures; got None for {listing} ('{path}'). Pass label='{offered[0].name}'.")
    wanted = str(label)
    rules = (
        lambda s: s.name == wanted,
        lambda s: s.name.strip().casefold() == wanted.strip().casefold(),
        lambda s: str(s.number) == wanted.strip(),
    )
    for rule in rules:
        fitting = [s for s in offered if rule(s)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise FormatError(f"label must name one structure; got '{wanted}' for {listing} ('{path}'). Pass the number as the label.")
    raise FormatError(f"label must be one of {listing}; got '{wanted}' ('{path}'). Pass one of these names.")


def require_same_frame(drawn_in: str, like: Volume, *, path: str) -> None:
    """Refuse a mask whose FrameOfReferenceUID is another than its image's; where either states none there is nothing to compare.

    Raises
    ------
    GeometryError
        If both are known and differ.
    """
    image_in = like.source.ids.get("frame_of_reference_uid", "") if like.source else ""
    if drawn_in and image_in and drawn_in != image_in:
        raise GeometryError(
            f"mask must be drawn in the image's frame of reference {image_in}; got {drawn_in} ('{path}'). "
            "It is a mask of another patient or another scan: pass the image that it was drawn on as like=."
        )
