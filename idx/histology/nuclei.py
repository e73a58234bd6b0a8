"""Finding nuclei on a slide: each exactly once, outlined and measured in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from idx._repr import card
from idx._typing import BoolArray, FloatArray, IntArray, RGBArray
from idx.algorithms import NucleusModel, find_algorithm
from idx.errors import GeometryError, MissingDependency
from idx.histology.catalog import NUCLEUS_FEATURES
from idx.histology.classical import ClassicalNuclei, fit_classical
from idx.histology.morphology import MeasuredTile, centroids, measure
from idx.histology.stain import StainBasis, fit_stain
from idx.kernels.labels import largest_parts, select
from idx.provenance import Provenance, Setting
from idx.settings import current_settings, resolve_device
from idx.slide import Contours, Slide
from idx.table import FeatureTable
from idx.tiling.planning import TileGrid, plan
from idx.tiling.running import run
from idx.tiling.stitching import in_core

if TYPE_CHECKING:
    import torch

HALO_UM = 48.0
"""Context around each core: a nucleus of up to 25 um, the 16 um that its background is taken from, and the reach of its neighbours."""
_CORE_PX = 1344
_BATCH_TILES = 2


@dataclass(frozen=True, eq=False)
class Nuclei:
    """Nuclei of a slide; row i of the table is polygon i.

    Parameters
    ----------
    contours : Contours
        Outlines in um; labels are classes, "" where the model gives none.
    measurements : FeatureTable
        Index ``nucleus``.
    classes : tuple of str
        Classes that the model tells apart; () when it tells none.
    """

    contours: Contours
    measurements: FeatureTable
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.contours) != len(self.measurements):
            raise GeometryError(
                f"nuclei must have one row of measurements per outline; got {len(self.contours)} outlines and {len(self.measurements)} rows "
                f"({self.contours.frame}). Build them with find_nuclei."
            )

    def __len__(self) -> int:
        return len(self.contours)

    @property
    def centroids_um(self) -> FloatArray:
        """Centroids (n, 2) (x, y) in the slide's frame."""
        return self.measurements.values[["centroid_x_um", "centroid_y_um"]].to_numpy()

    def __repr__(self) -> str:
        kinds = f", classes {', '.join(self.classes)}" if self.classes else ""
        return f"Nuclei({len(self):,} nuclei, {len(self.measurements.specs)} measurements{kinds})"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [("nuclei", f"{len(self):,}"), ("classes", ", ".join(self.classes) or "none given by the model")]
        if len(self):
            rows += [(f"median {name}", f"{self.measurements[name].median():.4g}") for name in ("area_um2", "eccentricity", "haematoxylin_od_mean")]
        return card("Nuclei", rows, [("outlines", self.contours._sketch())] if len(self) else [])


def find_nuclei(
    slide: Slide,
    *,
    within: Contours | None = None,
    model: str | NucleusModel = "classical",
    device: str | torch.device | None = None,
    core_px: int = _CORE_PX,
    progress: bool | None = None,
) -> Nuclei:
    """Find, outline and measure the nuclei of a slide.

    Parameters
    ----------
    slide : Slide
        H&E, at most 1 um per pixel.
    within : Contours or None
        Keep nuclei whose centroid lies within; None searches the whole slide.
    model : str or NucleusModel
        "classical" (no network; fitted to the slide), the name of an installed nucleus model, or a model.
    device : str, torch.device or None
        Where the model runs; None means the setting. "classical" runs on the CPU's threads.
    core_px : int
        Side of what is worked on at a time. It changes memory and speed, not the nuclei.
    progress : bool or None
        Whether to show a bar; None means the setting.

    Returns
    -------
    Nuclei
        From top to bottom by centroid.

    Raises
    ------
    UnitError
        If the slide is coarser than 1 um per pixel.
    MissingDependency
        If the model or the device is not there.
    PixelAccessError
        If a tile cannot be decoded.

    Notes
    -----
    Tiles overlap by a halo; a nucleus belongs to the tile whose half-open core holds its centroid, so none is cut at a seam or counted twice.

    Examples
    --------
    >>> nuclei = idx.histology.find_nuclei(slide, within=tissue)  # doctest: +SKIP
    >>> nuclei.measurements["area_um2"].median()  # doctest: +SKIP
    """
    if core_px < 1:
        raise GeometryError(f"core_px must be at least 1; got {core_px} (slide '{slide.name}'). Pass for example core_px=1344.")
    finder, stain = _model_for(slide, model, within)
    halo_px = int(np.ceil(HALO_UM / finder.mpp))
    grid = plan(slide, size_px=core_px + 2 * halo_px, mpp=finder.mpp, overlap_px=2 * halo_px, within=within)
    target = "cpu" if isinstance(finder, ClassicalNuclei) else str(resolve_device(device))
    result = run(_measuring(finder, stain, grid), slide, grid, device=target, batch_size=_BATCH_TILES, progress=progress)
    settings: dict[str, Setting] = {"model": model if isinstance(model, str) else type(model).__name__, "mpp": grid.mpp[0]}
    if isinstance(finder, ClassicalNuclei):
        settings["threshold_od"] = finder.threshold_od
    inputs = (slide.source.path if slide.source else slide.name,)
    provenance = Provenance("idx.histology.find_nuclei", settings, inputs, target)
    return _collected(result.values, grid, within, provenance)


def _model_for(slide: Slide, model: str | NucleusModel, within: Contours | None) -> tuple[NucleusModel, StainBasis]:
    if model == "classical":
        fitted = fit_classical(slide, within=within)
        return fitted, fitted.stain
    if model == "default":
        raise MissingDependency(
            f"model 'default' must be a network that ships with idx; got none, this version has none yet (slide '{slide.name}'). Pass model='classical'."
        )
    return (find_algorithm("nucleus_model", model) if isinstance(model, str) else model), fit_stain(slide)


def _measuring(finder: NucleusModel, stain: StainBasis, grid: TileGrid) -> Callable[[torch.Tensor], list[MeasuredTile]]:
    """Function that finds, keeps and measures the nuclei of a batch; only those that a tile owns are outlined."""

    def owned(labels: IntArray, rgb: RGBArray) -> MeasuredTile:
        whole = largest_parts(labels)
        kept = select(whole, in_core(grid, centroids(whole)))
        return measure(kept, stain.haematoxylin_od(rgb), mpp=grid.mpp)

    def find(batch: torch.Tensor) -> list[MeasuredTile]:
        tiles = list(batch.cpu().numpy())
        with ThreadPoolExecutor(max(1, min(current_settings().workers, len(tiles)))) as pool:
            if isinstance(finder, ClassicalNuclei):
                return list(pool.map(lambda rgb: owned(finder.segment(rgb), rgb), tiles))
            labels = finder(batch)
            arrays = labels.cpu().numpy() if hasattr(labels, "cpu") else np.asarray(labels)
            return list(pool.map(owned, arrays, tiles))

    return find


def _collected(tiles: Sequence[MeasuredTile], grid: TileGrid, within: Contours | None, provenance: Provenance) -> Nuclei:
    """Bring the nuclei of all tiles into the slide's frame, in an order that does not depend on the tiles."""
    counts = np.array([len(tile.centroid_px) for tile in tiles], dtype=np.int64)
    owner = np.repeat(np.arange(len(tiles)), counts)
    centroid_um = grid.to_um(owner, np.concatenate([tile.centroid_px for tile in tiles])) if len(tiles) else np.zeros((0, 2))
    columns = {spec.name: np.concatenate([t.columns[spec.name] for t in tiles]) if len(tiles) else np.zeros(0) for spec in NUCLEUS_FEATURES[2:]}
    columns["centroid_x_um"], columns["centroid_y_um"] = centroid_um.T
    kept = np.flatnonzero(centres_within(centroid_um, within))
    # Positions differ in the last bits from tile to tile; a millionth of a um does not.
    rounded = np.round(centroid_um[kept], 6)
    order = kept[np.lexsort((rounded[:, 0], rounded[:, 1]))]
    table = FeatureTable.from_columns(
        {name: values[order] for name, values in columns.items()}, NUCLEUS_FEATURES, index=range(len(order)), index_name="nucleus", provenance=provenance
    )
    return Nuclei(_contours(tiles, grid, order), table)


def centres_within(points_um: FloatArray, within: Contours | None) -> BoolArray:
    """Whether points (n, 2) in um lie within the union of contours; all do without contours."""
    if within is None or len(points_um) == 0:
        return np.ones(len(points_um), dtype=bool)
    import shapely

    union = shapely.union_all([shapely.make_valid(polygon) for polygon in within.polygons()])
    shapely.prepare(union)
    return np.asarray(shapely.contains_xy(union, points_um[:, 0], points_um[:, 1]))


def _contours(tiles: Sequence[MeasuredTile], grid: TileGrid, order: IntArray) -> Contours:
    """Outlines of the chosen nuclei, gathered without a loop over nuclei."""
    if len(order) == 0:
        return Contours(np.zeros((0, 2)), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), frame=grid.slide.frame, source=grid.slide.source)
    vertex_tile = np.repeat(np.arange(len(tiles)), [len(tile.vertices_px) for tile in tiles])
    vertices = grid.to_um(vertex_tile, np.concatenate([tile.vertices_px for tile in tiles]))
    ring_sizes = np.concatenate([np.diff(tile.ring_offsets) for tile in tiles])
    ring_counts = np.concatenate([np.diff(tile.polygon_offsets) for tile in tiles])
    found = Contours(vertices, np.r_[0, np.cumsum(ring_sizes)], np.r_[0, np.cumsum(ring_counts)], frame=grid.slide.frame, source=grid.slide.source)
    return found.select(order)
