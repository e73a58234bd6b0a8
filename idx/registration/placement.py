"""Where a slide was placed, how well, and why or why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeVar

from idx._repr import card
from idx.case import Case
from idx.errors import GeometryError
from idx.geometry import SectionTransform, TransformGraph

Verdict = Literal["placed", "refused"]
CaseOrGraph = TypeVar("CaseOrGraph", Case, TransformGraph)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A pose that was considered.

    Parameters
    ----------
    transform : SectionTransform
        Slide to patient.
    scores : mapping of str to float
    distance_mm : float
        Root mean square distance from the best hypothesis over the tissue.
    """

    transform: SectionTransform
    scores: Mapping[str, float]
    distance_mm: float


@dataclass(frozen=True, eq=False)
class Placement:
    """A slide's place in the CT, or the refusal to give one.

    Parameters
    ----------
    transform : SectionTransform or None
        Slide (um) to patient (mm); None where refused, so that a refused pose cannot be used by accident.
    error_mm : float or None
        Expected error of a mapped tissue point, root mean square; None where refused or unknown.
    verdict : {"placed", "refused"}
    reasons : tuple of str
        Why it was refused and what to do; for a placed slide, what to be careful of.
    method : {"landmarks", "mask_search", "none"}
    scores : mapping of str to float
        Scores by name; for a search also the chance level.
    hypotheses : tuple of Hypothesis
        Distinct poses, best first, also where refused.
    evidence : mapping
        How the inputs were obtained, in plain strings and numbers.
    """

    transform: SectionTransform | None
    error_mm: float | None
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    method: Literal["landmarks", "mask_search", "none"] = "none"
    scores: Mapping[str, float] = field(default_factory=dict)
    hypotheses: tuple[Hypothesis, ...] = ()
    evidence: Mapping[str, str | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.verdict == "placed") != (self.transform is not None):
            raise GeometryError(
                f"a placement must have a transform exactly when it is placed; got verdict '{self.verdict}' (method {self.method}). Pass None to refuse."
            )
        object.__setattr__(self, "scores", MappingProxyType(dict(self.scores)))
        object.__setattr__(self, "evidence", MappingProxyType(dict(self.evidence)))

    @property
    def is_placed(self) -> bool:
        """Whether there is a transform to use."""
        return self.verdict == "placed"

    def require_placed(self) -> SectionTransform:
        """Return the transform.

        Raises
        ------
        GeometryError
            If the placement was refused, with the reasons.
        """
        if self.transform is None:
            raise GeometryError(f"a slide must be placed to be used; got a refusal ({self.method}). {' '.join(self.reasons)}")
        return self.transform

    def add_to(self, target: CaseOrGraph) -> CaseOrGraph:
        """Return a case or graph with this placement as an edge slide -> patient, its error and its evidence.

        Raises
        ------
        GeometryError
            If the placement was refused.
        """
        transform = self.require_placed()
        facts: dict[str, str | float | bool] = {
            "method": self.method,
            "verdict": self.verdict,
            "reasons": " ".join(self.reasons),
            **self.evidence,
            **self.scores,
        }
        if isinstance(target, Case):
            # mypy narrows the type variable to a union here; with_ returns the class it is called on.
            return target.with_(transforms=target.transforms.with_edge(transform, error_mm=self.error_mm, evidence=facts))  # type: ignore[return-value]
        return target.with_edge(transform, error_mm=self.error_mm, evidence=facts)

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        error = "unknown" if self.error_mm is None else f"{self.error_mm:.2f} mm (root mean square over the tissue)"
        rows: list[tuple[str, object]] = [("verdict", self.verdict), ("method", self.method), ("expected error", error)]
        if self.transform is not None:
            rows.append(("normal (x, y, z)", ", ".join(f"{c:.3f}" for c in self.transform.normal)))
        rows += [(name, f"{value:.3f}") for name, value in self.scores.items()]
        rows += [("reason" if self.verdict == "refused" else "note", reason) for reason in self.reasons]
        return rows

    def __repr__(self) -> str:
        error = "unknown error" if self.error_mm is None else f"{self.error_mm:.2f} mm"
        return f"Placement({self.verdict} by {self.method}, {error}{'; ' + ' '.join(self.reasons) if self.reasons else ''})"

    def _repr_html_(self) -> str:
        return card("Placement of a slide in the CT", self.facts())
