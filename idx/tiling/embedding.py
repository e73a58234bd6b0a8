"""Vectors of a slide's tiles by an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from idx._typing import PathLike
from idx.algorithms import TileEncoder
from idx.errors import FormatError, GeometryError, IdxError, UnitError
from idx.io.embeddings import TileEmbeddings, begin_folder, finish_folder
from idx.io.slides_tiatoolbox import as_slide
from idx.provenance import Provenance, Setting
from idx.settings import resolve_device
from idx.slide import SAME_SCALE_RTOL, Slide
from idx.tiling.encoders import encoder_settings, ready
from idx.tiling.planning import TileGrid
from idx.tiling.running import run

if TYPE_CHECKING:
    import torch

_RUN = "tiles"
"""Folder of the run within ``out``: its zarr holds the vectors."""


def embed(
    slide: Slide,
    grid: TileGrid,
    encoder: TileEncoder,
    *,
    device: str | torch.device | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool | None = None,
    out: PathLike | None = None,
    resume: bool = False,
) -> TileEmbeddings:
    """Turn each tile of a plan into a vector.

    Parameters
    ----------
    slide : Slide
        The slide that was planned, or one of the same levels and mpp.
    grid : TileGrid
        From :func:`idx.tiling.plan`, of the encoder's ``size_px`` and (within 2 %) ``mpp``.
    encoder : TileEncoder
        From :func:`idx.tiling.load_encoder`, or any callable that offers what ``idx.algorithms.TileEncoder`` asks for.
    device : str, torch.device or None
        None means the setting. The encoder's module is there only while this function runs.
    batch_size, workers, progress
        As in :func:`idx.tiling.run`.
    out : path or None
        New folder for the vectors, which then need not fit in memory (200,000 tiles x 1,536 components are 1.2 GB); it is opened again with
        :func:`idx.io.read_embeddings`.
    resume : bool
        Go on with what ``out`` holds. Plan, slide and encoder must be the same, down to its weights.

    Returns
    -------
    TileEmbeddings
        One row per tile, in plan order: row k is tile k of ``grid.to_frame()``. float32 vectors, in memory or (with ``out``) a zarr array on the
        disk; where the tiles lie, in level-0 px and um; and how they were made. ``to_table()`` is the feature table.

    Raises
    ------
    UnitError
        If the plan's mpp is not the encoder's.
    GeometryError
        If the plan's size is not the encoder's, there is no tile, or the plan is of another slide.
    FormatError
        If ``out`` holds something else than what is to be resumed.
    IdxError
        If the encoder fails or a vector is not finite; the message names the tile.
    PixelAccessError
        If a tile cannot be decoded.
    MissingDependency
        If a device was asked for that is not there.

    Notes
    -----
    A vector does not depend on the batch its tile was in beyond the last digits of float32: convolutions and products are summed in an order that
    depends on the batch's size. To go on past tiles that cannot be read, ``run`` the encoder with ``on_error="record"`` and embed
    ``grid.select(result.status == 1)``.

    Examples
    --------
    >>> encoder = idx.tiling.load_encoder("encoder.pt", mpp=0.5, size_px=224, mean=(0.7, 0.5, 0.7), std=(0.2, 0.3, 0.2))  # doctest: +SKIP
    >>> grid = idx.tiling.plan(slide, size_px=224, mpp=0.5, within=tissue)  # doctest: +SKIP
    >>> idx.tiling.embed(slide, grid, encoder)  # doctest: +SKIP
    TileEmbeddings(4,211 tiles x 1,024 components of 'A12.svs')
    """
    slide, target = as_slide(slide), resolve_device(device)
    _check_fit(grid, encoder)
    folder = None if out is None else Path(out).expanduser().absolute()
    with ready(encoder, target):
        made = _provenance(slide, grid, encoder, target)
        if folder is not None:
            begin_folder(folder, made, resume=resume)
        result = run(
            lambda batch: _vectors(encoder, batch),
            slide,
            grid,
            device=target,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
            out=None if folder is None else folder / _RUN,
            resume=resume and folder is not None and (folder / _RUN).exists(),
        )
    frame = grid.to_frame()
    size = float(frame["level0_width_px"].iloc[0]), float(frame["level0_height_px"].iloc[0])
    embeddings = TileEmbeddings(result.values, frame[["level0_x_px", "level0_y_px"]].to_numpy(), size, slide.mpp, slide.name, made)
    if folder is not None:
        finish_folder(folder, embeddings, vectors=f"{_RUN}/values/0")
    return embeddings


def _check_fit(grid: TileGrid, encoder: TileEncoder) -> None:
    where = f"slide '{grid.slide.name}'"
    remedy = f"Plan with size_px={encoder.size_px}, mpp={encoder.mpp:g}"
    if any(abs(mpp / encoder.mpp - 1.0) > SAME_SCALE_RTOL for mpp in grid.mpp):
        x, y = grid.mpp
        raise UnitError(
            f"tiles must be at the encoder's {encoder.mpp:g} um/px (within {SAME_SCALE_RTOL:.0%}); got {x:.4g} x {y:.4g} um/px ({where}). {remedy}."
        )
    if grid.size_px != encoder.size_px:
        raise GeometryError(f"tiles must be of the encoder's {encoder.size_px} px; got {grid.size_px} px ({where}). {remedy}.")
    if len(grid) == 0:
        raise GeometryError(f"grid must hold at least one tile to be embedded; got none ({where}). Look at the tissue, or leave this slide out.")


def _provenance(slide: Slide, grid: TileGrid, encoder: TileEncoder, device: torch.device) -> Provenance:
    plan: dict[str, Setting] = {
        "size_px": grid.size_px,
        "mpp_x": grid.mpp[0],
        "mpp_y": grid.mpp[1],
        "overlap_px": grid.overlap_px,
        "level": grid.level,
        "plan": grid.fingerprint,
    }
    return Provenance("idx.tiling.embed", {**encoder_settings(encoder), **plan}, (slide.source.path if slide.source else slide.name,), str(device))


def _vectors(encoder: TileEncoder, batch: torch.Tensor) -> torch.Tensor:
    import torch

    vectors = encoder(batch)
    if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or not vectors.is_floating_point():
        got = f"{vectors.dtype} {tuple(vectors.shape)}" if isinstance(vectors, torch.Tensor) else type(vectors).__name__
        raise FormatError(f"an encoder must return one vector per tile, floating point (n, features); got {got} ({encoder!r}). Tell its authors.")
    vectors = vectors.float()
    if not torch.isfinite(vectors).all():
        raise IdxError(f"vectors must be finite; got NaN or infinity ({encoder!r}). Where float16 overflows, pass precision='bfloat16' or 'float32'.")
    return vectors
