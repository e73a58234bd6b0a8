"""One patient episode: images, masks, slides, how they lie to each other, and what was measured."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import idx
from idx._repr import card, square_pixels, windowed
from idx._typing import Array, FrozenMapping, PathLike, RGBArray
from idx.errors import FormatError, GeometryError
from idx.geometry import Edge, Frame, Transform, TransformGraph
from idx.slide import Contours, Slide
from idx.table import FeatureTable
from idx.volume import CT_WINDOW_HU, CTVolume, Mask, Volume

if TYPE_CHECKING:
    from idx.io.references import SourceFinder

Outcome = Mapping[str, float | str | bool]
OUTLINE_RGB = (255, 80, 60)
"""Colour of the lesion in pictures."""
THUMBNAIL_PX = 280
MANIFEST = "case.json"
SCHEMA_VERSION = 1
"""Version of the case folder's layout. A folder of a higher version is refused; lower ones do not exist yet."""


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
            object.__setattr__(self, name, FrozenMapping(dict(getattr(self, name))))
        object.__setattr__(self, "notes", tuple(self.notes))
        frames = [slide.frame for slide in self.slides.values()]
        if len(set(frames)) < len(frames):
            raise GeometryError(
                f"each slide of a case must have its own frame; got {', '.join(frame.name for frame in frames)} (case '{self.case_id}'). "
                "Give it one with dataclasses.replace(slide, frame=idx.geometry.slide_frame('A12'))."
            )

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
        merged: dict[str, Any] = {
            name: {**getattr(self, name), **value} if isinstance(value, Mapping) and isinstance(getattr(self, name), Mapping) else value
            for name, value in parts.items()
        }
        return replace(self, **merged)

    def between(self, source: Frame, target: Frame) -> Transform:
        """Return the composed transform between two frames of the case."""
        return self.transforms.between(source, target)

    def save(self, path: PathLike, *, overwrite: bool = False) -> None:
        """Write the case to a folder that :func:`load_case` reads.

        Masks, volumes made in memory and displacement fields become Zarr arrays, tables and contours Parquet files. Images that were read from
        files are referenced by path, identifiers and sha256, not copied.

        Parameters
        ----------
        path : path
            Folder to make. Nothing is seen there before everything is on the disk, and an interrupted save leaves an existing case as it was.
        overwrite : bool
            Whether a case that is there may be replaced.

        Raises
        ------
        FormatError
            If something is there and may not be replaced, or a part cannot be found again: a slide without a file, a volume whose source is gone
            or holds other values.
        """
        from idx.io.folders import write_folder

        def fill(parts: Path) -> dict[str, Any]:
            return _to_manifest(self, parts, Path(path).expanduser().absolute())

        write_folder(path, fill, manifest_name=MANIFEST, overwrite=overwrite)

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        rows: list[tuple[str, object]] = []
        for role, volume in self.volumes.items():
            z, y, x = volume.values.shape
            spacing = " x ".join(f"{s:.3g}" for s in volume.spacing_mm)
            rows.append((role, f"{x} x {y} x {z} voxels of {spacing} mm, {volume.quantity}"))
        rows += [(f"mask {name}", f"{mask.label}: {mask.volume_mm3:,.0f} mm3, {mask.n_voxels:,} voxels") for name, mask in self.masks.items()]
        for name, slide in self.slides.items():
            width, height = slide.size_um
            rows.append(
                (
                    f"slide {name}",
                    f"{width / 1000:.2f} x {height / 1000:.2f} mm at {slide.mpp[0]:.4g} um/px, {len(slide.levels)} stored level(s)",
                )
            )
        rows += [(f"contours {name}", f"{len(c):,} polygons, {c.areas_um2.sum() / 1e6:.3g} mm2") for name, c in self.contours.items()]
        rows += [("transform", str(edge)) for edge in self.transforms.edges]
        rows += [(f"table {name}", f"{len(t):,} x {len(t.specs)} features, {len(t.status)} missing") for name, t in self.tables.items()]
        rows += [(name, value) for name, value in self.outcome.items()]
        return rows + [("note", note) for note in self.notes]

    def __repr__(self) -> str:
        parts = {name: list(getattr(self, name)) for name in ("volumes", "masks", "slides", "contours", "tables")}
        listed = ", ".join(f"{name}: {', '.join(names)}" for name, names in parts.items() if names)
        return f"Case('{self.case_id}'{'; ' + listed if listed else ''}; {self.transforms!r})"

    def _repr_html_(self) -> str:
        pictures: list[tuple[str, Array]] = []
        if self.ct is not None:
            pictures.append(_ct_picture(self.ct, self.lesion))
        pictures += [(f"slide {name}", slide.thumbnail(THUMBNAIL_PX)) for name, slide in self.slides.items()]
        return card(f"Case {self.case_id}", self.facts(), pictures)


def load_case(path: PathLike, *, sources: PathLike | None = None, verify: bool = True) -> Case:
    """Read a case that :meth:`Case.save` wrote.

    Parameters
    ----------
    path : path
        The case's folder.
    sources : path, optional
        Folder to look for source images in first, where they were moved: their old paths are tried below it, from the file's name up.
        Without it they are sought where they were, and where they lie relative to the case's folder.
    verify : bool
        Whether to check the sha256 of every part and every source image. Without it only what is missing or unreadable is noticed.

    Returns
    -------
    Case
        Volumes and masks in memory, slides opened.

    Raises
    ------
    FormatError
        If the folder is damaged, was written by a newer idx, or a source image is gone or has changed.
    """
    from idx.io.folders import read_manifest
    from idx.io.references import SourceFinder

    folder = Path(path).expanduser().absolute()
    manifest = read_manifest(folder, manifest_name=MANIFEST, kind="idx case", version=SCHEMA_VERSION, verify=verify)
    finder = SourceFinder(folder, None if sources is None else Path(sources).absolute(), verify)
    try:
        return _from_manifest(manifest, folder, finder)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise FormatError(
            f"{MANIFEST} must describe every part of the case; got {type(error).__name__}: {error} ('{folder / MANIFEST}'). "
            "Restore the file from a copy, or save the case again."
        ) from error


def _to_manifest(case: Case, parts: Path, folder: Path) -> dict[str, Any]:
    """Write every part below ``parts`` and return what ties them together."""
    from idx.io.arrays import write_array
    from idx.io.folders import part_name
    from idx.io.records import grid_to_record, source_to_record, transform_to_record
    from idx.io.references import slide_reference, volume_reference
    from idx.io.tables import write_contours, write_table

    counter = itertools.count()

    def new_part(kind: str, name: str, suffix: str) -> tuple[Path, str]:
        file = parts / kind / (part_name(next(counter), name) + suffix)
        file.parent.mkdir(exist_ok=True)
        return file, file.relative_to(parts.parent).as_posix()

    def store(values: Array, kind: str, name: str) -> str:
        file, relative = new_part(kind, name, ".zarr")
        write_array(values, file)
        return relative

    def volume_record(role: str, volume: Volume) -> dict[str, Any]:
        known = {
            "type": type(volume).__name__,
            "quantity": volume.quantity,
            "header": dict(volume.header),
            "grid": grid_to_record(volume.grid),
        }
        if volume.source is None:
            return {**known, "array": store(volume.values, "volumes", role)}
        return {**known, **volume_reference(volume, folder, what=f"volume '{role}'")}

    def mask_record(name: str, mask: Mask) -> dict[str, Any]:
        array = store(mask.values, "masks", name)
        return {"label": mask.label, "grid": grid_to_record(mask.grid), "source": source_to_record(mask.source), "array": array}

    def edge_record(edge: Edge) -> dict[str, Any]:
        transform = transform_to_record(edge.transform, lambda field: store(field, "fields", "displacement"))
        return {"transform": transform, "error_mm": edge.error_mm, "evidence": _plain(edge.evidence)}

    def table_record(name: str, table: FeatureTable) -> str:
        file, relative = new_part("tables", name, ".parquet")
        write_table(table, file)
        return relative

    def contours_record(name: str, contours: Contours) -> str:
        file, relative = new_part("contours", name, ".parquet")
        write_contours(contours, file)
        return relative

    return {
        "format": "idx case",
        "schema_version": SCHEMA_VERSION,
        "idx_version": idx.__version__,
        "case_id": case.case_id,
        "outcome": _plain(case.outcome),
        "notes": list(case.notes),
        "volumes": {role: volume_record(role, volume) for role, volume in case.volumes.items()},
        "masks": {name: mask_record(name, mask) for name, mask in case.masks.items()},
        "slides": {name: slide_reference(slide, folder, what=f"slide '{name}'") for name, slide in case.slides.items()},
        "contours": {name: contours_record(name, contours) for name, contours in case.contours.items()},
        "transforms": [edge_record(edge) for edge in case.transforms.edges],
        "tables": {name: table_record(name, table) for name, table in case.tables.items()},
    }


def _from_manifest(manifest: Mapping[str, Any], folder: Path, finder: SourceFinder) -> Case:
    """Read every part that a manifest names."""
    from idx.io.arrays import read_array
    from idx.io.records import grid_from_record, source_from_record, transform_from_record
    from idx.io.references import open_referenced_slide, open_volume
    from idx.io.tables import contours_from_table, read_table

    def volume(role: str, record: Mapping[str, Any]) -> Volume:
        if "array" not in record:
            return open_volume(dict(record), finder, what=f"volume '{role}'")
        kind = {"CTVolume": CTVolume, "Volume": Volume}[record["type"]]
        values = read_array(folder / record["array"])
        return kind(values, grid_from_record(record["grid"]), quantity=record["quantity"], header=record["header"])

    def mask(record: Mapping[str, Any]) -> Mask:
        source = source_from_record(record["source"])
        return Mask(read_array(folder / record["array"]), grid_from_record(record["grid"]), record["label"], source)

    def edge(record: Mapping[str, Any]) -> Edge:
        transform = transform_from_record(record["transform"], lambda name: read_array(folder / name))
        return Edge(transform, record["error_mm"], record["evidence"])

    return Case(
        case_id=manifest["case_id"],
        volumes={role: volume(role, record) for role, record in manifest["volumes"].items()},
        masks={name: mask(record) for name, record in manifest["masks"].items()},
        slides={name: open_referenced_slide(record, finder, what=f"slide '{name}'") for name, record in manifest["slides"].items()},
        contours={name: contours_from_table(folder / file) for name, file in manifest["contours"].items()},
        transforms=TransformGraph(tuple(edge(record) for record in manifest["transforms"])),
        tables={name: read_table(folder / file) for name, file in manifest["tables"].items()},
        outcome=manifest["outcome"],
        notes=tuple(manifest["notes"]),
    )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain Python scalars of a mapping that may hold numpy's."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}


def _ct_picture(ct: CTVolume, lesion: Mask | None) -> tuple[str, RGBArray]:
    """Axial slice with most of the lesion, outlined, or the middle slice; square mm."""
    z = ct.values.shape[0] // 2
    inside = None
    if lesion is not None and lesion.n_voxels and lesion.grid.is_close(ct.grid):
        z = int(np.argmax(lesion.values.sum(axis=(1, 2))))
        inside = lesion.values[z]
    aspect = ct.spacing_mm[1] / ct.spacing_mm[0]
    picture = np.repeat(square_pixels(windowed(ct.values[z], *CT_WINDOW_HU), aspect)[..., None], 3, axis=-1)
    if inside is not None:
        from scipy import ndimage

        region = square_pixels(inside, aspect)
        # The picture is shown at about 140 pixels: the line must survive the shrinking.
        core = ndimage.binary_erosion(region, iterations=max(1, picture.shape[1] // 140))
        picture[region & ~core] = OUTLINE_RGB
    return f"CT, axial slice {z}{'' if inside is None else ', lesion outlined'}", picture
