"""Feature files of CLAM and TRIDENT: HDF5, and PyTorch files whose positions stand in an HDF5 file beside them."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from idx._optional import require
from idx._typing import Array, FloatArray, Pair, PathLike
from idx.errors import FormatError, GeometryError, MissingDependency
from idx.io.embeddings import TileEmbeddings
from idx.provenance import Provenance, Setting
from idx.table import FeatureSpec, FeatureTable

if TYPE_CHECKING:
    import h5py

    from idx.slide import Slide

Attributes = Mapping[str, Any]
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ATTRIBUTES = (
    "name",
    "encoder",
    "patch_size",
    "patch_size_level0",
    "level0_magnification",
    "target_magnification",
    "level0_width",
    "level0_height",
    "patch_level",
    "downsample",
    "custom_downsample",
)
"""What is read of the attributes of ``features`` and ``coords``."""
_ROWS_PER_WRITE = 4096
"""Vectors that are copied at a time from a Zarr array to a file."""
_EXTRACT = "Extract the features again with CLAM's extract_features_fp.py or TRIDENT's --task feat"


def read_features(file: Path, *, patches: Path | None, slide: Slide | None) -> TileEmbeddings:
    """Read vectors and positions; errors as in :func:`idx.io.read_embeddings`. The mpp is left unknown: no file states it.

    Parameters
    ----------
    file : Path
        HDF5 or PyTorch file with the vectors.
    patches : Path or None
        HDF5 file with the positions; needed beside a PyTorch file.
    slide : Slide or None
        Its levels tell the size of tiles of a coarser level.
    """
    features, corners, attributes = _read_hdf5(file) if _is_hdf5(file) else (_vectors(_tensor_of(file), file), None, {})
    if patches is not None:
        given, stated = _read_patches(patches)
        if corners is not None and not np.array_equal(corners, given):
            raise FormatError(f"patches must be the tiles of the features; got other positions in '{patches}' ({file}). Pass the patch file of this slide.")
        corners, attributes = given, {**stated, **attributes}
    if corners is None:
        raise FormatError(
            f"a PyTorch feature file must come with the positions of its tiles; got none ({file}). Pass patches= the HDF5 file of the same slide: "
            "CLAM's h5_files/NAME.h5 or patches/NAME.h5, TRIDENT's NAME_patches.h5."
        )
    if len(corners) != len(features):
        raise FormatError(f"features and coords must have one row per tile; got {len(features):,} and {len(corners):,} ({file}). {_EXTRACT}.")
    if slide is not None:
        _check_extent(attributes, slide, file)
    settings: dict[str, Setting] = {"layout": "trident" if {"patch_size_level0", "level0_magnification"} & set(attributes) else "clam"}
    if encoder := _text(attributes, "encoder"):
        settings["encoder"] = encoder
    made = Provenance("idx.io.read_embeddings", settings, tuple(str(place) for place in (file, patches) if place is not None))
    return TileEmbeddings(features, corners, _size_level0_px(attributes, slide), None, _text(attributes, "name") or file.stem, made)


def read_slide_embedding(path: PathLike) -> FeatureTable:
    """Read the one vector of a whole slide that TRIDENT writes (``--task feat`` with ``--slide_encoder``).

    Parameters
    ----------
    path : path
        HDF5 file with a dataset ``features`` of shape (d,) or (1, d).

    Returns
    -------
    FeatureTable
        One row (index ``slide``, the slide's name) with ``embedding_0000`` ...; stack those of a cohort with ``idx.table.concat_rows``.

    Raises
    ------
    FormatError
        If the file is absent, damaged, no HDF5, or holds vectors of tiles.
    MissingDependency
        If h5py is not installed.
    """
    file = Path(path).expanduser().absolute()
    with _opened(file) as stored:
        features = _dataset(stored, "features", file)
        attributes = _attributes(features)
        vector = _values(features, file)
    if vector.ndim == 2 and len(vector) == 1:
        vector = vector[0]
    if vector.ndim != 1 or vector.size == 0:
        raise FormatError(f"a slide's embedding must be one vector (d,); got shape {vector.shape} ({file}). Read vectors of tiles with read_embeddings.")
    values = _vectors(vector[None], file)[0]
    names = [f"embedding_{k:04d}" for k in range(len(values))]
    settings: dict[str, Setting] = {"layout": "trident"}
    return FeatureTable.from_rows(
        {_text(attributes, "name") or file.stem: dict(zip(names, map(float, values), strict=True))},
        [FeatureSpec(name, "1", "Component of the slide encoder's vector.") for name in names],
        index_name="slide",
        provenance=Provenance("idx.io.read_slide_embedding", settings, (str(file),)),
    )


def write_features(embeddings: TileEmbeddings, file: Path, *, layout: Literal["clam", "trident"]) -> None:
    """Write the HDF5 file of CLAM or TRIDENT; errors as in :func:`idx.io.write_embeddings`."""
    h5py = _h5py()
    n, d = embeddings.vectors.shape
    corners = np.rint(embeddings.corner_level0_px).astype(np.int32 if layout == "clam" else np.int64)
    file.parent.mkdir(parents=True, exist_ok=True)
    pending = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        with h5py.File(pending, "x") as stored:
            # Both append to what they write, so the datasets can grow; a chunk of 32 rows is CLAM's.
            features = stored.create_dataset("features", (n, d), "f4", maxshape=(None, d), chunks=(min(n, 32), d))
            for first in range(0, n, _ROWS_PER_WRITE):
                features[first : first + _ROWS_PER_WRITE] = np.asarray(embeddings.vectors[first : first + _ROWS_PER_WRITE])
            coords = stored.create_dataset("coords", data=corners, maxshape=(None, 2), chunks=(min(n, 32), 2))
            if layout == "trident":
                features.attrs["name"] = coords.attrs["name"] = embeddings.name
                if embeddings.size_level0_px is not None:
                    coords.attrs["patch_size_level0"] = round(embeddings.size_level0_px[0])
        os.replace(pending, file)
    finally:
        pending.unlink(missing_ok=True)


def _h5py() -> Any:
    return require("h5py", extra="hdf5", purpose="feature files of CLAM and TRIDENT")


def _is_hdf5(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE


def _read_hdf5(file: Path) -> tuple[Array, FloatArray, Attributes]:
    with _opened(file) as stored:
        features, coords = _dataset(stored, "features", file), _dataset(stored, "coords", file)
        return _vectors(_values(features, file), file), _corners(_values(coords, file), file), {**_attributes(features), **_attributes(coords)}


def _read_patches(file: Path) -> tuple[FloatArray, Attributes]:
    with _opened(file) as stored:
        coords = _dataset(stored, "coords", file)
        _check_level0(stored, file)
        return _corners(_values(coords, file), file), _attributes(coords)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file; whatever the library finds wrong with it, now or when datasets are read, names the file."""
    h5py = _h5py()
    if not file.is_file():
        raise FormatError(f"feature file must exist; got no file at '{file}'. Check the path.")
    try:
        with h5py.File(file, "r") as stored:
            yield stored
    except FormatError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise FormatError(f"feature file must be a whole HDF5 file; got {type(error).__name__}: {error} ({file}). Copy it again. {_EXTRACT}.") from error


def _dataset(stored: h5py.File, name: str, file: Path) -> h5py.Dataset:
    found = stored.get(name)
    if not isinstance(found, _h5py().Dataset):
        held = ", ".join(f"{key} {getattr(item, 'shape', '')}".strip() for key, item in stored.items()) or "nothing"
        remedy = "It holds positions only: pass it as patches= beside the features" if name == "features" and "coords" in stored else _EXTRACT
        raise FormatError(f"feature file must have a dataset '{name}'; got {held} ({file}). {remedy}.")
    return found


def _attributes(dataset: h5py.Dataset) -> Attributes:
    return {name: dataset.attrs[name] for name in _ATTRIBUTES if name in dataset.attrs}


def _values(dataset: h5py.Dataset, file: Path) -> Array:
    """Whole dataset; one that lacks a part, which HDF5 would silently fill with zeros, is refused."""
    if dataset.chunks is None:
        present, wanted, unit = dataset.id.get_storage_size(), dataset.nbytes, "bytes"
    else:
        present, unit = dataset.id.get_num_chunks(), "chunks"
        wanted = math.prod(-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    if present < wanted:
        raise FormatError(f"dataset '{dataset.name}' must be complete; got {present:,} of {wanted:,} {unit} ({file}). Copy the file again. {_EXTRACT}.")
    return np.asarray(dataset[()])


def _vectors(values: Array, file: Path) -> Array:
    """Finite float32 (n, d)."""
    values = np.asarray(values)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim == 1:
        raise FormatError(f"features must be one vector per tile (n, d); got one of {values.size} ({file}). Read a slide's vector with read_slide_embedding.")
    if values.ndim != 2 or values.shape[1] == 0 or not np.issubdtype(values.dtype, np.floating):
        raise FormatError(f"features must be floating point (n, d) or (1, n, d); got {values.dtype} {values.shape} ({file}). {_EXTRACT}.")
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(values, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise FormatError(f"features must be finite; got NaN or infinity in {len(bad):,} tiles, the first of them {bad[0]} ({file}). {_EXTRACT} in float32.")
    return vectors


def _corners(values: Array, file: Path) -> FloatArray:
    values = np.asarray(values)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    # TRIDENT squeezes the positions of a slide with a single tile.
    if values.shape == (2,):
        values = values[None]
    if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise FormatError(f"coords must be finite level-0 pixels (n, 2), x and y; got {values.dtype} {values.shape} ({file}). {_EXTRACT}.")
    return values.astype(np.float64)


def _check_level0(stored: h5py.File, file: Path) -> None:
    """Refuse CLAM's older bags of images of a coarser level, whose positions count pixels of that level."""
    images = stored.get("imgs")
    if images is None:
        return
    level_dim, reduced_dim = (np.asarray(images.attrs.get(name, (1, 1))) for name in ("level_dim", "downsampled_level_dim"))
    downsample = np.asarray(images.attrs.get("downsample", 1.0), dtype=np.float64)
    if np.allclose(downsample, 1.0) and np.array_equal(level_dim, reduced_dim):
        return
    raise FormatError(
        f"positions must be level-0 pixels; got a bag of images whose positions count pixels 1/{downsample.max():g} of level 0 ({file}). "
        "Make the patches with CLAM's create_patches_fp.py."
    )


def _check_extent(attributes: Attributes, slide: Slide, file: Path) -> None:
    """Refuse a slide of another size than the one that TRIDENT noted."""
    stated = _number(attributes, "level0_width"), _number(attributes, "level0_height")
    if None not in stated and stated != slide.size_px:
        raise GeometryError(
            f"slide must be the one the features were made from; got {slide.size_px} px for features of {stated} px ({file}, slide '{slide.name}'). "
            "Pass the right slide."
        )


def _size_level0_px(attributes: Attributes, slide: Slide | None) -> Pair | None:
    """Level-0 pixels that a tile covers, from whichever attributes say so; None where they do not."""
    if (side := _number(attributes, "patch_size_level0")) is not None:
        return side, side
    side = _number(attributes, "patch_size")
    if side is None:
        return None
    stored, wanted = _number(attributes, "level0_magnification"), _number(attributes, "target_magnification")
    if stored is not None and wanted is not None:
        return side * stored / wanted, side * stored / wanted
    downsample = _downsample(attributes, slide)
    return None if downsample is None else (side * downsample[0], side * downsample[1])


def _downsample(attributes: Attributes, slide: Slide | None) -> Pair | None:
    """Level-0 pixels (x, y) per pixel of the patch level of CLAM; TRIDENT's older files add ``custom_downsample``."""
    extra = _number(attributes, "custom_downsample") or 1.0
    stated = np.asarray(attributes.get("downsample", ()))
    if stated.shape in ((), (1,), (2,)) and np.issubdtype(stated.dtype, np.number) and (stated > 0).all():
        x, y = np.broadcast_to(stated, 2)
        return float(x) * extra, float(y) * extra
    level = _number(attributes, "patch_level", at_least=0.0)
    if level == 0:
        return extra, extra
    if level is None or slide is None or level >= len(slide.levels):
        return None
    return slide.levels[int(level)].downsample * extra, slide.levels[int(level)].downsample * extra


def _number(attributes: Attributes, name: str, *, at_least: float = 1e-9) -> float | None:
    """Attribute as a number; None where it is absent or, as TRIDENT writes what it does not know, the word 'None'."""
    value = np.asarray(attributes.get(name, "None"))
    if value.size != 1 or not np.issubdtype(value.dtype, np.number):
        return None
    number = float(value.reshape(()))
    return number if np.isfinite(number) and number >= at_least else None


def _text(attributes: Attributes, name: str) -> str | None:
    value = attributes.get(name)
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text if isinstance(text, str) and text not in ("", "None") else None


def _tensor_of(file: Path) -> Array:
    """The array in a PyTorch file, read without running code from it: CLAM saves a tensor, TRIDENT a numpy array."""
    import torch

    safe_globals = getattr(torch.serialization, "safe_globals", None)
    if safe_globals is None:
        raise MissingDependency(f"torch must be at least 2.6 to read feature files safely; got {torch.__version__} ({file}). Run: pip install 'torch>=2.6'")
    try:
        with safe_globals(_numpy_globals()):
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged pickle fails with whatever its garbage leads to.
        reason = str(error).splitlines()[0] if str(error) else ""
        raise FormatError(
            f"feature file must be HDF5 or a tensor saved by PyTorch; got neither: {type(error).__name__}: {reason} ({file}). Copy it again. {_EXTRACT}."
        ) from error
    if isinstance(loaded, torch.Tensor):
        return np.asarray(loaded.detach().float().numpy() if loaded.is_floating_point() else loaded.numpy())
    if isinstance(loaded, np.ndarray):
        return loaded
    raise FormatError(f"a PyTorch feature file must hold one tensor (n, d); got {type(loaded).__name__} ({file}). Save the tensor alone.")


def _numpy_globals() -> list[Any]:
    """What a pickled float array is made of, under the names of numpy 1 and 2; none of it runs code."""
    rebuild = np.zeros(0).__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8")]
    return [np.ndarray, np.dtype, *dtypes, *((rebuild, f"{package}.multiarray._reconstruct") for package in ("numpy._core", "numpy.core"))]
