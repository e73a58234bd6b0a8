"""Images that a case refers to instead of copying: how they are recorded, found and opened again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from idx._typing import Array, Pair
from idx.errors import FormatError
from idx.io.records import Record, frame_from_record, frame_to_record, grid_from_record, source_from_record, source_to_record
from idx.io.slides import Backend, open_slide
from idx.io.volumes import read_ct, read_volume
from idx.provenance import Source
from idx.slide import Slide
from idx.volume import CTVolume, Volume


@dataclass(frozen=True)
class SourceFinder:
    """Finds source images again.

    Parameters
    ----------
    folder : Path
        The case's folder.
    sources : Path or None
        Folder to look in first.
    verify : bool
        Whether content must have the recorded sha256.
    """

    folder: Path
    sources: Path | None
    verify: bool

    def find(self, record: Record, what: str) -> Source:
        """Return the source where it lies now.

        Raises
        ------
        FormatError
            If it is nowhere, or only with other content.
        """
        recorded = cast(Source, source_from_record(record))
        changed = None
        for place in self._places(recorded, record["relative_path"]):
            files = [place / name for name in recorded.files] or [place]
            if not all(file.is_file() for file in files):
                continue
            source = replace(recorded, path=str(place))
            if not self.verify or source.sha256() == record["sha256"]:
                return source
            changed = place
        if changed is not None:
            raise FormatError(
                f"{what} must be the file that was saved; got other content at '{changed}'. Put the original back, name its folder with sources=, "
                "or pass verify=False to take the changed file."
            )
        looked = f" and below '{self.sources}'" if self.sources else ""
        raise FormatError(f"{what} must be found again; got nothing at '{recorded.path}'{looked}. Put it back, or name the folder it is in with sources=.")

    def _places(self, recorded: Source, relative: str | None) -> Iterator[Path]:
        old = Path(recorded.path)
        if self.sources is not None:
            tail = old.parts[1:]
            yield from (self.sources.joinpath(*tail[-n:]) for n in range(1, len(tail) + 1))
            if recorded.files:
                yield self.sources
        yield old
        if relative is not None:
            yield (self.folder / relative).resolve()


def _reference(source: Source, folder: Path) -> Record:
    record = cast(Record, source_to_record(source))
    try:
        relative = Path(os.path.relpath(source.path, folder)).as_posix()
    except ValueError:  # another drive of Windows: there is no relative path
        relative = None
    return {**record, "relative_path": relative, "sha256": source.sha256()}


def values_sha256(values: Array) -> str:
    """Hash of an array's values, shape and type."""
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def volume_reference(volume: Volume, folder: Path, *, what: str) -> Record:
    """Record of a volume that was read from files, after reading it again: a source that gives other values is no source.

    Raises
    ------
    FormatError
        If the source is gone, cannot be read, or differs from the volume.
    """
    source = cast(Source, volume.source)
    stored = _reference(source, folder)
    again = _reopen(source, volume.quantity, is_ct=isinstance(volume, CTVolume))
    if not again.grid.is_close(volume.grid) or values_sha256(again.values) != values_sha256(volume.values):
        raise FormatError(
            f"{what} must hold what its source says; got other values or another grid than '{source.path}'. "
            "Save volume.with_values(volume.values, volume.grid), which stores the values in the case."
        )
    return {"reference": stored, "values_sha256": values_sha256(volume.values)}


def open_volume(record: Record, finder: SourceFinder, *, what: str) -> Volume:
    """Volume of a record that :func:`volume_reference` made.

    Raises
    ------
    FormatError
        If the source is gone or gives other values.
    """
    source = finder.find(record["reference"], what)
    volume = _reopen(source, record["quantity"], is_ct=record["type"] == "CTVolume")
    grid = grid_from_record(record["grid"])
    if not volume.grid.is_close(grid) or (finder.verify and values_sha256(volume.values) != record["values_sha256"]):
        raise FormatError(
            f"{what} must read as it was saved; got other values or another grid from '{source.path}'. "
            "Check that no slices were added to its folder; pass verify=False to take other values on the same grid."
        )
    return replace(volume, grid=grid, header=record["header"], source=source)


def _reopen(source: Source, quantity: str, *, is_ct: bool) -> Volume:
    series = source.ids.get("series_uid") if source.kind == "dicom" else None
    return read_ct(source.path, series=series) if is_ct else read_volume(source.path, quantity=quantity, series=series)


def slide_reference(slide: Slide, folder: Path, *, what: str) -> Record:
    """Record of a slide.

    Raises
    ------
    FormatError
        If it was not opened from a file, or the file is gone.
    """
    if slide.source is None:
        raise FormatError(
            f"{what} must come from a file to be saved; got pixels in memory. Write them to a TIFF or PNG and open that with open_slide(path, mpp=)."
        )
    return {
        "reference": _reference(slide.source, folder),
        "name": slide.name,
        "mpp": list(slide.mpp),
        "magnification": slide.magnification,
        "frame": frame_to_record(slide.frame),
    }


def open_referenced_slide(record: Record, finder: SourceFinder, *, what: str) -> Slide:
    """Slide of a record that :func:`slide_reference` made, through the same route and with the same mpp."""
    found = finder.find(record["reference"], what)
    # Who decodes on a GPU is a matter of the machine: a case must open where there is none.
    source = replace(found, ids={name: value for name, value in found.ids.items() if name != "decoder"})
    backend = source.ids.get("backend")
    # The mpp is given again only where it was given first: a file that states its own needs none.
    given = tuple(float(m) for m in source.ids["mpp"].split(",")) if "mpp" in source.ids else None
    mpp = None if given is None else (given * 2 if len(given) == 1 else given)
    slide = open_slide(
        source.path,
        mpp=cast("Pair | None", mpp),
        backend=cast("Any", backend if backend in get_args(Backend) else None),
        icc=source.ids.get("icc") == "true",
        jpeg_colours=cast("Any", source.ids.get("jpeg_colours", "stated")),
    )
    x_um, y_um = record["mpp"]
    return replace(slide, name=record["name"], mpp=(x_um, y_um), magnification=record["magnification"], frame=frame_from_record(record["frame"]), source=source)
