"""Multiscale arrays as OME-NGFF 0.5 (Zarr v3), with their place in um."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from idx._typing import Pair, PathLike
from idx.errors import FormatError

if TYPE_CHECKING:
    import zarr

NGFF_VERSION = "0.5"
CHUNK_PX = 512


@dataclass(frozen=True)
class Multiscale:
    """Shape and place of a pyramid.

    Parameters
    ----------
    sizes : sequence of (width, height)
        Of the levels, finest first; each is half of the one before, rounded up.
    n_channels : int or None
        None for arrays (y, x), else (c, y, x).
    dtype : dtype
    fill_value : float
        Value of what is never written.
    mpp : tuple of float
        um per pixel (x, y) of the finest level.
    origin_um : tuple of float
        Centre (x, y) of its first pixel in um.
    method : str
        How levels were made, such as "mean".
    """

    sizes: Sequence[tuple[int, int]]
    n_channels: int | None
    dtype: npt.DTypeLike
    fill_value: float
    mpp: Pair
    origin_um: Pair
    method: str

    def attributes(self, name: str) -> dict[str, Any]:
        """NGFF metadata. A pixel of level k begins where its first pixel of the finest level does, so its centre lies (2^k - 1) / 2 of these further on."""
        axes: list[dict[str, str]] = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
        datasets = []
        for level in range(len(self.sizes)):
            scale = [self.mpp[1] * 2**level, self.mpp[0] * 2**level]
            shift = [self.origin_um[1 - k] + self.mpp[1 - k] * (2**level - 1) / 2.0 for k in range(2)]
            if self.n_channels is not None:
                scale, shift = [1.0, *scale], [0.0, *shift]
            transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
            datasets.append({"path": str(level), "coordinateTransformations": transforms})
        if self.n_channels is not None:
            axes.insert(0, {"name": "c", "type": "channel"})
        return {"version": NGFF_VERSION, "multiscales": [{"name": name, "axes": axes, "datasets": datasets, "type": self.method}]}


@contextmanager
def new_multiscale(path: PathLike, scale: Multiscale, *, name: str, attributes: Mapping[str, Any], overwrite: bool) -> Iterator[list[zarr.Array[Any]]]:
    """Make a pyramid, to be filled within the ``with`` block; the folder appears only when all went well.

    Parameters
    ----------
    path : path
    scale : Multiscale
    name : str
    attributes : mapping
        Metadata beside NGFF's; its key "ome" is added to that.
    overwrite : bool
        Whether a Zarr folder at ``path`` may be replaced.

    Yields
    ------
    list of zarr.Array
        The levels, finest first.

    Raises
    ------
    FormatError
        If something is at ``path`` already that may not be replaced.
    """
    import zarr
    from zarr.codecs import ZstdCodec

    target = Path(path)
    if target.exists() and not (overwrite and (target / "zarr.json").is_file()):
        raise FormatError(f"a map must be written to a new folder; got '{target}', which exists. Choose another path, or pass overwrite=True for a map's.")
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        group = zarr.create_group(partial, zarr_format=3, attributes={**attributes, "ome": {**scale.attributes(name), **attributes.get("ome", {})}})
        names = ("y", "x") if scale.n_channels is None else ("c", "y", "x")
        levels = []
        for number, (width, height) in enumerate(scale.sizes):
            leading = () if scale.n_channels is None else (scale.n_channels,)
            levels.append(
                group.create_array(
                    str(number),
                    shape=(*leading, height, width),
                    chunks=(*(1 for _ in leading), CHUNK_PX, CHUNK_PX),
                    dtype=np.dtype(scale.dtype),
                    fill_value=scale.fill_value,
                    compressors=ZstdCodec(level=3, checksum=True),
                    dimension_names=names,
                )
            )
        yield levels
        if target.exists():
            shutil.rmtree(target)
        os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def open_levels(path: PathLike) -> tuple[zarr.Array[Any], ...]:
    """Levels of a pyramid, finest first, read as they are sliced.

    Raises
    ------
    FormatError
        If it is no multiscale Zarr v3 group.
    """
    import zarr

    try:
        group = zarr.open_group(Path(path), mode="r", zarr_format=3)
        datasets: Any = group.attrs["ome"]["multiscales"][0]["datasets"]  # type: ignore[index,call-overload]
        return tuple(zarr.open_array(Path(path) / dataset["path"], mode="r", zarr_format=3) for dataset in datasets)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise FormatError(f"a map must be an OME-NGFF multiscale folder (Zarr v3); got {type(error).__name__}: {error} ('{path}'). Check the path.") from error
