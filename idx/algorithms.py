"""What an algorithm must offer to be used by idx, and how an installed one is found.

A distribution offers algorithms through the entry-point group ``idx.algorithms``; an entry's name is ``kind.name``::

    [project.entry-points."idx.algorithms"]
    "nucleus_model.instanseg" = "my_package.nuclei:load_model"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from idx._typing import Array
from idx.errors import FormatError, MissingDependency

if TYPE_CHECKING:
    import torch

GROUP = "idx.algorithms"
"""Name of the entry-point group."""

VolumeT = TypeVar("VolumeT", contravariant=True)
MaskT = TypeVar("MaskT", covariant=True)


@runtime_checkable
class LesionFinder(Protocol[VolumeT, MaskT]):
    """Finds lesions on a CT."""

    def __call__(self, ct: VolumeT) -> MaskT:
        """Return the mask of the lesions on the grid of ``ct``."""
        ...


@runtime_checkable
class NucleusModel(Protocol):
    """Finds nuclei on tiles."""

    @property
    def mpp(self) -> float:
        """Um per pixel of the tiles it wants."""
        ...

    def __call__(self, batch: torch.Tensor) -> Array | torch.Tensor:
        """Map uint8 (n, y, x, 3) to instance labels int32 (n, y, x); 0 is background, each tile numbers its nuclei itself."""
        ...


@runtime_checkable
class TileEncoder(Protocol):
    """Turns tiles into vectors."""

    @property
    def mpp(self) -> float:
        """Um per pixel of the tiles it wants."""
        ...

    @property
    def size_px(self) -> int:
        """Side of the tiles it wants."""
        ...

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Map uint8 (n, y, x, 3) to float32 (n, features)."""
        ...


@runtime_checkable
class FusionEstimator(Protocol):
    """Learns one risk from several blocks of features (scikit-learn conventions)."""

    def fit(self, blocks: Any, outcome: Any) -> Any:
        """Learn from aligned blocks and their outcome; returns the estimator."""
        ...

    def predict(self, blocks: Any) -> Any:
        """Return one risk per patient, a Series with the blocks' index; higher is worse."""
        ...


KINDS: dict[str, type] = {
    "fusion_estimator": FusionEstimator,
    "lesion_finder": LesionFinder,
    "nucleus_model": NucleusModel,
    "tile_encoder": TileEncoder,
}
"""Kinds of algorithms and what each must offer."""


def installed_algorithms(kind: str) -> dict[str, EntryPoint]:
    """Algorithms of a kind that installed distributions offer, by name; none is imported.

    Raises
    ------
    FormatError
        If there is no such kind.
    """
    if kind not in KINDS:
        raise FormatError(f"kind must be one of {sorted(KINDS)}; got '{kind}'. See idx.algorithms.KINDS.")
    prefix = f"{kind}."
    return {entry.name.removeprefix(prefix): entry for entry in entry_points(group=GROUP) if entry.name.startswith(prefix)}


def find_algorithm(kind: str, name: str) -> Any:
    """Load an installed algorithm.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    name : str
        Its name within the kind.

    Returns
    -------
    object
        What the entry point names: the algorithm itself, or what makes it (called without arguments) when it is a class or a function that
        does not itself fulfil the protocol.

    Raises
    ------
    FormatError
        If there is no such kind, or what was loaded does not offer what the kind must.
    MissingDependency
        If no installed distribution offers the name; the message lists those that are offered.
    """
    installed = installed_algorithms(kind)
    if name not in installed:
        offered = ", ".join(sorted(installed)) or "none"
        raise MissingDependency(
            f"{kind} must be one that is installed ({offered}); got '{name}' (entry-point group '{GROUP}'). Install the distribution that offers it."
        )
    loaded = installed[name].load()
    if isinstance(loaded, type) or not isinstance(loaded, KINDS[kind]):
        loaded = loaded()
    if not isinstance(loaded, KINDS[kind]):
        raise FormatError(
            f"{kind} must offer what idx.algorithms.{KINDS[kind].__name__} asks for; got {type(loaded).__name__} ('{name}' from {installed[name].value}). "
            "Tell its authors."
        )
    return loaded
