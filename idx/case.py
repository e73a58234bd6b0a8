"""One patient episode: images, masks, slides, how they lie to each other, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from idx.errors import FormatError
from idx.geometry import Frame, Transform, TransformGraph
from idx.slide import Contours, Slide
from idx.table import FeatureTable
from idx.volume import CTVolume, Mask, Volume

Outcome = Mapping[str, float | str | bool]


@dataclass(frozen=True, eq=False)
class Case:
    """One patient episode.

    Parameters
    ----------
    case_id : str
        Pseudonym of the patient; never a name or a hospital number.
    volumes : mapping of str to Volume
        Images by role; the CT of the story is "ct".
    masks : mapping of str to Mask
        Structures by name; the lesion of the story is "lesion".
    slides : mapping of str to Slide
        Slides by name.
    contours : mapping of str to Contours
        Outlines by name, such as "tissue" and "nuclei".
    transforms : TransformGraph
        How the frames lie to each other.
    tables : mapping of str to FeatureTable
        Measurements by name, such as "radiomics" and "histology".
    outcome : mapping
        What happened to the patient: plain numbers, strings and flags with units in their names.
    notes : tuple of str
        Sentences that a reader of the case must know, such as "no registration was asked for".
    """

    case_id: str
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    masks: Mapping[str, Mask] = field(default_factory=dict)
    slides: Mapping[str, Slide] = field(default_factory=dict)
    contours: Mapping[str, Contours] = field(default_factory=dict)
    transforms: TransformGraph = field(default_factory=TransformGraph)
    tables: Mapping[str, FeatureTable] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.case_id.strip():
            raise FormatError("case_id must be a non-empty pseudonym; got ''. Pass Case('P001', ...).")
        for name in ("volumes", "masks", "slides", "contours", "tables", "outcome"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        object.__setattr__(self, "notes", tuple(self.notes))

    @property
    def ct(self) -> CTVolume | None:
        """The CT, if there is one."""
        volume = self.volumes.get("ct")
        return volume if isinstance(volume, CTVolume) else None

    @property
    def lesion(self) -> Mask | None:
        """The lesion's mask, if there is one."""
        return self.masks.get("lesion")

    @property
    def slide(self) -> Slide | None:
        """The first slide, if there is one."""
        return next(iter(self.slides.values()), None)

    def with_(self, **parts: Any) -> Case:
        """Return a case with some parts added; mappings are merged, everything else is replaced.

        Examples
        --------
        >>> Case("P001").with_(outcome={"os_months": 20.0}).with_(outcome={"death": True}).outcome["os_months"]
        20.0
        """
        merged = {
            name: {**getattr(self, name), **value} if isinstance(value, Mapping) and isinstance(getattr(self, name), Mapping) else value
            for name, value in parts.items()
        }
        return replace(self, **merged)

    def between(self, source: Frame, target: Frame) -> Transform:
        """Return the composed transform between two frames of the case."""
        return self.transforms.between(source, target)
