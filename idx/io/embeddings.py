"""Vectors of a slide's tiles (embeddings): kept in memory or in a Zarr folder, and read from the feature files of CLAM and TRIDENT."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from idx._repr import card
from idx._typing import Array, FloatArray, Pair, PathLike
from idx.errors import FormatError, GeometryError, UnitError
from idx.geometry.affine import readonly
from idx.io.arrays import open_array, read_array, write_array
from idx.io.records import Record, provenance_from_record, provenance_to_record
from idx.io.slides import mpp_pair
from idx.provenance import Provenance
from idx.slide import SAME_SCALE_RTOL
from idx.table import FeatureSpec, FeatureTable

if TYPE_CHECKING:
    import zarr

    from idx.slide import Slide

Layout = Literal["zarr", "clam", "trident"]
MAX_TABLE_BYTES = 1 << 31
"""Vectors of more bytes (as float64) are not made into a table: 200,000 tiles x 1,536 components would take 2.5 GB, several times over."""
KIND, FORMAT_VERSION = "TileEmbeddings", 1
"""What a Zarr folder's attributes say it holds, and the version of its layout; a folder with a higher one is refused."""
_VECTORS, _CORNERS = "vectors", "corner_level0_px"


@dataclass(frozen=True, eq=False)
class TileEmbeddings:
    """Vectors of the tiles of one slide, and where these tiles lie.

    Parameters
    ----------
    vectors : array (n, d) float32, or zarr.Array
        One row per tile. A Zarr array stays on the disk: ``vectors[a:b]`` reads rows, ``numpy.asarray(vectors)`` all of them.
    corner_level0_px : array (n, 2)
        Upper left corner (x, y) of each tile: the first level-0 pixel, fractional where levels are not whole multiples.
    size_level0_px : (width, height) or None
        Level-0 pixels that a tile covers; None where a file does not say.
    mpp : (x, y) or None
        um per level-0 pixel; None where a file does not say.
    name : str
        The slide's name.
    provenance : Provenance or None

    Raises
    ------
    FormatError
        If vectors and corners do not have one row per tile.
    """

    vectors: Array | zarr.Array[Any]
    corner_level0_px: FloatArray
    size_level0_px: Pair | None
    mpp: Pair | None
    name: str
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        corners = readonly(self.corner_level0_px)
        shape = tuple(self.vectors.shape)
        if len(shape) != 2 or corners.shape != (shape[0], 2) or not np.isfinite(corners).all():
            raise FormatError(
                f"vectors (n, d) and finite corners (n, 2) must have one row per tile; got {shape} and {corners.shape} (slide '{self.name}'). "
                "Pass those of the same tiles."
            )
        object.__setattr__(self, "corner_level0_px", corners)

    def __len__(self) -> int:
        return int(self.vectors.shape[0])

    @property
    def centre_um(self) -> FloatArray:
        """Centre (x, y) of each tile in the slide's frame, whose origin is the centre of the first level-0 pixel; (n, 2).

        Raises
        ------
        UnitError
            If the mpp or the tiles' size is unknown.
        """
        if self.mpp is None or self.size_level0_px is None:
            missing = "mpp" if self.mpp is None else "size of the tiles"
            raise UnitError(
                f"{missing} must be known to place tiles in um; got None (slide '{self.name}'). "
                "Pass read_embeddings(..., slide=...) or mpp=, and patches= or size_level0_px=."
            )
        # A tile begins at its first pixel's corner, half a pixel before that pixel's centre.
        centre_px = self.corner_level0_px + (np.asarray(self.size_level0_px) - 1.0) / 2.0
        return np.asarray(centre_px * np.asarray(self.mpp))

    def to_table(self) -> FeatureTable:
        """Vectors as a feature table.

        Returns
        -------
        FeatureTable
            Index ``tile``; ``level0_x_px``, ``level0_y_px`` (the corner), ``centre_x_um``, ``centre_y_um`` where they are known, then
            ``embedding_0000``, ``embedding_0001`` ... as float64.

        Raises
        ------
        FormatError
            If the table would not fit well in memory (:data:`MAX_TABLE_BYTES`).
        """
        n, d = self.vectors.shape
        if n * d * 8 > MAX_TABLE_BYTES:
            raise FormatError(
                f"vectors must take at most {MAX_TABLE_BYTES / 1e9:.1f} GB to become a table; got {n * d * 8 / 1e9:.1f} GB ({n:,} tiles x {d:,} components "
                f"of slide '{self.name}'). Use .vectors, which stay as they are stored, row by row."
            )
        places = {"level0_x_px": self.corner_level0_px[:, 0], "level0_y_px": self.corner_level0_px[:, 1]}
        if self.mpp is not None and self.size_level0_px is not None:
            places["centre_x_um"], places["centre_y_um"] = self.centre_um.T
        vectors = np.asarray(self.vectors)
        components = {f"embedding_{k:04d}": vectors[:, k] for k in range(d)}
        specs = [_PLACES[name] for name in places] + [FeatureSpec(name, "1", "Component of the encoder's vector.") for name in components]
        return FeatureTable.from_columns({**places, **components}, specs, index=range(n), index_name="tile", provenance=self.provenance)

    def facts(self) -> list[tuple[str, object]]:
        """What a person wants to know, as (name, value with its unit)."""
        n, d = self.vectors.shape
        stored = "in memory" if isinstance(self.vectors, np.ndarray) else "on the disk"
        rows: list[tuple[str, object]] = [("slide", self.name), ("tiles", f"{n:,}"), ("vectors", f"{d:,} components, {self.vectors.dtype}, {stored}")]
        if self.size_level0_px is not None:
            width, height = self.size_level0_px
            um = f", {width * self.mpp[0]:.4g} x {height * self.mpp[1]:.4g} um" if self.mpp is not None else ""
            rows.append(("size of a tile", f"{width:.6g} x {height:.6g} px of level 0{um}"))
        if self.provenance is not None:
            rows.append(("made by", f"{self.provenance.function} {self.provenance.version}"))
            rows += [(key, self.provenance.settings[key]) for key in ("encoder", "layout") if key in self.provenance.settings]
        return rows

    def __repr__(self) -> str:
        n, d = self.vectors.shape
        return f"TileEmbeddings({n:,} tiles x {d:,} components of '{self.name}')"

    def _repr_html_(self) -> str:
        return card("TileEmbeddings", self.facts())


_PLACES = {
    spec.name: spec
    for spec in (
        FeatureSpec("level0_x_px", "px", "Left edge of the tile: its first column of level-0 pixels."),
        FeatureSpec("level0_y_px", "px", "Upper edge of the tile: its first row of level-0 pixels."),
        FeatureSpec("centre_x_um", "um", "x of the tile's centre in the slide's frame."),
        FeatureSpec("centre_y_um", "um", "y of the tile's centre in the slide's frame."),
    )
}


def read_embeddings(
    path: PathLike,
    *,
    patches: PathLike | None = None,
    slide: Slide | None = None,
    mpp: float | Pair | None = None,
    size_level0_px: float | None = None,
) -> TileEmbeddings:
    """Read vectors of tiles: feature files of CLAM and TRIDENT, or what idx wrote.

    Parameters
    ----------
    path : path
        - HDF5 (``.h5``) with datasets ``features`` (n, d) or (1, n, d) and ``coords`` (n, 2), the upper left corners in level-0 px.
        - ``.pt`` of CLAM or TRIDENT: the vectors alone, so ``patches`` must name their positions. Read without running code from it.
        - Zarr folder that idx wrote: the vectors stay on the disk.
    patches : path, optional
        HDF5 file with the positions (``coords``) of the same tiles: CLAM's ``patches/NAME.h5`` or ``h5_files/NAME.h5``, TRIDENT's
        ``NAME_patches.h5``. CLAM's feature files do not say how large a tile is; its patch files do.
    slide : Slide, optional
        The slide of these tiles: gives the mpp, and tiles that lie off it are refused.
    mpp : float or (x, y), optional
        um per level-0 pixel, where there is no slide at hand.
    size_level0_px : float, optional
        Side of a tile in level-0 pixels, where no file says it.

    Returns
    -------
    TileEmbeddings
        Vectors as float32. Positions in um (``centre_um``) where the mpp and the tiles' size are known.

    Raises
    ------
    FormatError
        If a file is absent, damaged or another kind of file, a dataset is missing, or vectors and positions do not fit together.
    GeometryError
        If tiles lie off the slide.
    UnitError
        If ``mpp`` or ``size_level0_px`` is not positive, both ``slide`` and ``mpp`` are given, or they contradict what idx wrote.
    MissingDependency
        If h5py is not installed.

    Notes
    -----
    Layouts as in the sources of `CLAM <https://github.com/mahmoodlab/CLAM>`_ (``extract_features_fp.py``, ``utils/file_utils.py: save_hdf5``,
    ``wsi_core/WholeSlideImage.py: process_contour``) and `TRIDENT <https://github.com/mahmoodlab/TRIDENT>`_ (``trident/IO.py: coords_to_h5``,
    ``trident/wsi_objects/WSI.py: extract_patch_features``). Positions are level-0 pixels in both. The exception are the bags of CLAM's older
    ``create_patches.py`` + ``extract_features.py``, which count pixels of the patch level: their feature files look the same, so only a bag
    passed as ``patches`` can be told and is refused.

    Examples
    --------
    >>> tiles = idx.io.read_embeddings("h5_files/A12.h5", patches="patches/A12.h5", slide=slide)  # doctest: +SKIP
    >>> tiles.vectors.shape, tiles.centre_um.shape  # doctest: +SKIP
    ((4211, 1024), (4211, 2))
    """
    file = Path(path).expanduser().absolute()
    if slide is not None and mpp is not None:
        raise UnitError(f"mpp must come from one place; got both slide= and mpp= ({file}). Leave mpp out.")
    if size_level0_px is not None and not (np.isfinite(size_level0_px) and size_level0_px > 0):
        raise UnitError(f"size_level0_px must be positive; got {size_level0_px} ({file}). Pass for example 512 for 256 px at half of level 0's resolution.")
    if not file.exists():
        raise FormatError(f"feature file must exist; got nothing at '{file}'. Check the path.")
    scale = slide.mpp if slide is not None else None if mpp is None else mpp_pair(mpp, where=str(file))
    if file.is_dir():
        found = _read_folder(file)
    else:
        from idx.io.embeddings_hdf5 import read_features

        found = read_features(file, patches=None if patches is None else Path(patches).expanduser().absolute(), slide=slide)
    if scale and found.mpp and not np.allclose(scale, found.mpp, rtol=SAME_SCALE_RTOL):
        raise UnitError(f"mpp must be that of the slide the tiles were made from; got {scale} for {found.mpp} um/px ({file}). Pass the right slide.")
    size = found.size_level0_px if size_level0_px is None else (float(size_level0_px), float(size_level0_px))
    result = TileEmbeddings(found.vectors, found.corner_level0_px, size, scale or found.mpp, found.name, found.provenance)
    if slide is not None:
        _check_on_slide(result, slide, file)
    return result


def write_embeddings(embeddings: TileEmbeddings, path: PathLike, *, layout: Layout = "zarr") -> None:
    """Write vectors of tiles and their positions.

    Parameters
    ----------
    embeddings : TileEmbeddings
    path : path
        New folder or file.
    layout : {"zarr", "clam", "trident"}
        A Zarr v3 folder, which :func:`read_embeddings` opens without loading it, or the HDF5 file of CLAM or TRIDENT, with positions rounded
        to whole level-0 pixels. For a Parquet file write ``embeddings.to_table()`` with ``idx.io.tables.write_table``.

    Raises
    ------
    FormatError
        If something is at ``path``, the layout is unknown, or there is no tile.
    MissingDependency
        If h5py is not installed.
    """
    target = Path(path).expanduser().absolute()
    if layout not in get_args(Layout):
        raise FormatError(f"layout must be one of {', '.join(get_args(Layout))}; got '{layout}' ({target}). Pass layout='zarr'.")
    if target.exists():
        raise FormatError(f"embeddings must be written to a new place; got '{target}', which exists. Choose another path or remove it.")
    if len(embeddings) == 0:
        raise FormatError(f"embeddings must hold at least one tile to be written; got none (slide '{embeddings.name}'). Leave this slide out.")
    if layout == "zarr":
        write_array(np.asarray(embeddings.vectors, dtype=np.float32), target / _VECTORS)
        finish_folder(target, embeddings, vectors=_VECTORS)
    else:
        from idx.io.embeddings_hdf5 import write_features

        write_features(embeddings, target, layout=layout)


def begin_folder(folder: Path, made: Provenance, *, resume: bool) -> None:
    """Make a Zarr folder for vectors that come in batches; until :func:`finish_folder` it says that it is not complete.

    Raises
    ------
    FormatError
        If something is there and ``resume`` is false, or it was begun by another encoder or plan.
    """
    import zarr

    if not folder.exists():
        zarr.create_group(folder, zarr_format=3, attributes={"idx": _record(made, is_complete=False)})
        return
    if not resume:
        raise FormatError(f"out must be new; got '{folder}', which exists. Pass resume=True to go on with it, or another folder.")
    begun, settings = _read_record(folder)["provenance"]["settings"], dict(made.settings)
    if begun != settings:
        other = ", ".join(sorted(key for key in {*begun, *settings} if begun.get(key) != settings.get(key)))
        raise FormatError(f"vectors must be gone on with by the encoder and plan that began them; got another {other} ('{folder}'). Pass another folder.")


def finish_folder(folder: Path, embeddings: TileEmbeddings, *, vectors: str) -> None:
    """Write the places of tiles beside their vectors (an array within the folder), and that the folder is complete."""
    import zarr

    # There may be a part of them where an earlier run was broken off here.
    shutil.rmtree(folder / _CORNERS, ignore_errors=True)
    write_array(embeddings.corner_level0_px, folder / _CORNERS)
    record = _record(embeddings.provenance, is_complete=True) | {
        "vectors": vectors,
        "size_level0_px": embeddings.size_level0_px,
        "mpp": embeddings.mpp,
        "name": embeddings.name,
    }
    zarr.open_group(folder, mode="a", zarr_format=3).attrs["idx"] = record


def _record(made: Provenance | None, *, is_complete: bool) -> Record:
    return {"kind": KIND, "version": FORMAT_VERSION, "is_complete": is_complete, "provenance": provenance_to_record(made)}


def _read_folder(folder: Path) -> TileEmbeddings:
    record = _read_record(folder)
    if not record["is_complete"]:
        raise FormatError(f"embeddings must be complete to be read; got a run that was broken off ('{folder}'). Go on with embed(..., resume=True).")
    vectors = open_array(folder / record["vectors"])
    size, mpp = (None if record[key] is None else (float(record[key][0]), float(record[key][1])) for key in ("size_level0_px", "mpp"))
    return TileEmbeddings(vectors, read_array(folder / _CORNERS), size, mpp, record["name"], provenance_from_record(record["provenance"]))


def _read_record(folder: Path) -> Record:
    import zarr

    try:
        record = zarr.open_group(folder, mode="r", zarr_format=3).attrs.asdict().get("idx")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"folder must be a Zarr group of embeddings; got {type(error).__name__}: {error} ('{folder}'). Pass a folder idx wrote.") from error
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise FormatError(f"folder must hold {KIND} of idx; got another Zarr group ('{folder}'). Pass the folder that idx wrote.")
    if record["version"] > FORMAT_VERSION:
        raise FormatError(f"folder must be of version {FORMAT_VERSION} or lower; got {record['version']} ('{folder}'). Update idx to read it.")
    return record


def _check_on_slide(embeddings: TileEmbeddings, slide: Slide, file: Path) -> None:
    size = embeddings.size_level0_px or (1.0, 1.0)
    corner = embeddings.corner_level0_px
    off = np.flatnonzero(((corner + np.asarray(size) <= 0) | (corner >= np.asarray(slide.size_px))).any(axis=1))
    if len(off):
        x, y = corner[off[0]]
        width, height = slide.size_px
        raise GeometryError(
            f"tiles must lie on the slide; got {len(off):,} of {len(corner):,} off it, the first at level-0 px x={x:.0f}, y={y:.0f} of {width} x {height} "
            f"({file}, slide '{slide.name}'). Pass the slide they were made from."
        )
