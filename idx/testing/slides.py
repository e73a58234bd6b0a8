"""A haematoxylin and eosin slide whose every nucleus is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from scipy import ndimage

from idx._typing import Array, FloatArray, PathLike
from idx.errors import FormatError, GeometryError, UnitError
from idx.slide import Contours
from idx.testing._cells import Cells, plant
from idx.testing._noise import Float32Array, smooth_noise
from idx.testing._stain import NOISE_TILE_PX, render, tile_noise, write_pyramid

COARSE_PX = 8
"""Smooth maps are made on a grid this many pixels coarse and interpolated."""
COMPRESSIONS = ("jpeg", "deflate")
JPEG_QUALITY = 88
MAX_ROUNDS = 40
TUMOUR_SHARE = 0.5
CROWDED_PER_MM2 = 2200.0


@dataclass(frozen=True, eq=False)
class SlidePhantom:
    """A slide on disk and what is on it.

    Parameters
    ----------
    path : Path
        Tiled pyramidal TIFF.
    mpp : float
        um per level-0 pixel.
    tissue : Contours
        Outline of the tissue, with holes.
    nuclei : Contours
        Exact outlines; labels "tumour", "lymphocyte", "stroma". No two touch.
    n_nuclei : int
    """

    path: Path
    mpp: float
    tissue: Contours
    nuclei: Contours
    n_nuclei: int


def upsample(coarse: Float32Array, first: int, last: int, width: int, step: int = COARSE_PX) -> Float32Array:
    """Rows ``first..last`` of a map whose sample (j, i) lies at pixel (j, i) * step, interpolated linearly."""
    y, x = np.arange(first, last, dtype=np.float32) / step, np.arange(width, dtype=np.float32) / step
    j, i = y.astype(int), x.astype(int)
    # float32 throughout: float64 would double the time of a whole slide.
    fy, fx = (y - j.astype(np.float32))[:, None], x - i.astype(np.float32)
    low = int(j[0])
    rows = coarse[low : int(j[-1]) + 2]
    columns = rows[:, i] * (1 - fx) + rows[:, i + 1] * fx
    result: Float32Array = columns[j - low] * (1 - fy) + columns[j - low + 1] * fy
    return result


def sample(coarse: Array, points_um: FloatArray, mpp: float, step: int = COARSE_PX) -> FloatArray:
    """Values (n,) of such a map at points (n, 2) in um."""
    index = np.asarray(points_um).T[::-1] / (mpp * step)
    result: FloatArray = ndimage.map_coordinates(coarse, index, order=1, mode="nearest").astype(np.float64)
    return result


def coarse_shape(size_px: tuple[int, int]) -> tuple[int, int]:
    """Shape (y, x) of a coarse map that reaches past the last pixel."""
    return size_px[1] // COARSE_PX + 2, size_px[0] // COARSE_PX + 2


def blob(rng: np.random.Generator, centre_um: FloatArray, radii_um: tuple[float, float], *, roughness: float) -> shapely.Polygon:
    """Return a smooth irregular outline about a centre."""
    theta = np.arange(240) * (2 * np.pi / 240)
    radius = np.ones_like(theta)
    for order in range(2, 12):
        radius += roughness / order * rng.standard_normal() * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.55, 1.3)
    return shapely.Polygon(centre_um + np.stack([radii_um[0] * radius * np.cos(theta), radii_um[1] * radius * np.sin(theta)], axis=-1))


def _draw_tissue(rng: np.random.Generator, size_um: FloatArray) -> shapely.Polygon:
    """An irregular piece that fills most of the slide, with two holes."""
    outline = blob(rng, size_um / 2, (0.41 * size_um[0], 0.40 * size_um[1]), roughness=0.16)
    outline = outline.intersection(shapely.box(*(0.03 * size_um), *(0.97 * size_um)))
    for direction in rng.uniform(0, 2 * np.pi) + np.array([0.0, 2.4]):
        centre = size_um / 2 + 0.2 * size_um * np.array([np.cos(direction), np.sin(direction)])
        outline = outline.difference(blob(rng, centre, (float(rng.uniform(0.035, 0.07) * size_um.min()),) * 2, roughness=0.2))
    return outline


def coverage_of(polygon: shapely.Polygon, size_px: tuple[int, int], mpp: float) -> np.ndarray:
    """Which pixels (y, x) a polygon in um covers, 0 or 255 (uint8)."""
    from PIL import Image, ImageDraw

    image = Image.new("L", size_px, 0)
    draw = ImageDraw.Draw(image)
    for ring, value in ((polygon.exterior, 255), *((hole, 0) for hole in polygon.interiors)):
        draw.polygon([(x / mpp, y / mpp) for x, y in ring.coords], fill=value)
    return np.asarray(image)


@dataclass(frozen=True, eq=False)
class Stroma:
    """Fibrous ground: a stream function whose level lines are the fibres, and fine grain.

    Parameters
    ----------
    stream : array (y, x)
        Coarse map in um; fibres follow its level lines.
    patches : array (y, x)
        Coarse map of unit variance: denser and paler collagen.
    grain, fine : array (1024, 1024)
        Periodic tiles of unit variance.
    """

    stream: Float32Array
    patches: Float32Array
    grain: Float32Array
    fine: Float32Array

    @classmethod
    def draw(cls, rng: np.random.Generator, size_px: tuple[int, int], mpp: float) -> Stroma:
        """Draw the maps for a slide."""
        shape, step_um = coarse_shape(size_px), COARSE_PX * mpp
        stream = 75.0 * smooth_noise(rng, shape, 70.0 / step_um) + 9.0 * smooth_noise(rng, shape, 18.0 / step_um)
        return cls(
            stream.astype(np.float32),
            smooth_noise(rng, shape, 45.0 / step_um),
            smooth_noise(rng, (NOISE_TILE_PX, NOISE_TILE_PX), 2.4 / mpp),
            smooth_noise(rng, (NOISE_TILE_PX, NOISE_TILE_PX), 0.7 / mpp),
        )

    def eosin(self, first: int, last: int, width: int) -> Float32Array:
        """Eosin (rows, width) of fibrous stroma: wavy bundles with pale clefts between them."""
        grain = tile_noise(self.grain, first, last, width)
        phase = np.float32(2 * np.pi / 13.0) * upsample(self.stream, first, last, width) + 0.5 * grain
        bundle = np.sin(phase)
        cleft = np.clip(bundle - 0.72, 0, None) * 1.5
        amount = 0.25 + 0.035 * bundle + 0.035 * upsample(self.patches, first, last, width) + 0.02 * tile_noise(self.fine, first, last, width)
        return np.maximum(amount * (1 - cleft), 0.03).astype(np.float32)

    def cytoplasm(self, first: int, last: int, width: int) -> Float32Array:
        """Granular factor (rows, width) about 1 for cell bodies."""
        result: Float32Array = 1 + 0.10 * tile_noise(self.grain, first, last, width, 517) + 0.08 * tile_noise(self.fine, first, last, width, 211)
        return result.astype(np.float32)

    def angle(self, points_um: FloatArray, mpp: float) -> FloatArray:
        """Direction (n,) of the fibres at points (n, 2) in um."""
        dy, dx = (np.asarray(g) for g in np.gradient(self.stream))
        result: FloatArray = np.arctan2(sample(dy, points_um, mpp), sample(dx, points_um, mpp)) + np.pi / 2
        return result


def smooth_step(values: Array, low: float, high: float) -> Float32Array:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    result: Float32Array = (t * t * (3 - 2 * t)).astype(np.float32)
    return result


def _plant_exactly(rng: np.random.Generator, n: int, tissue: shapely.Polygon, nests: Float32Array, stroma: Stroma, size_um: FloatArray, mpp: float) -> Cells:
    """Plant exactly ``n`` nuclei: try with rising density, then drop what is too many."""
    allowed = tissue.buffer(-10.0)

    def density(points: FloatArray) -> FloatArray:
        nest = sample(nests, points, mpp)
        tumour = smooth_step(nest, 0.15, 0.3)
        crowd = 0.15 + 0.85 * smooth_step(-nest, 0.0, 1.2) * smooth_step(sample(stroma.patches, points, mpp), 0.3, 0.9)
        each = np.stack([tumour, 0.75 * (1 - tumour) * crowd, 0.45 * (1 - tumour)], axis=1)
        return np.asarray(peak / 1.25 * each * shapely.contains_xy(allowed, points)[:, None])

    peak = 2.5 * n / max(allowed.area * 1e-6, 1e-9)
    for _ in range(MAX_ROUNDS):
        cells = plant(
            rng, size_um=(float(size_um[0]), float(size_um[1])), density_per_mm2=density, fibre_angle=lambda p: stroma.angle(p, mpp), peak_per_mm2=peak
        )
        if len(cells) >= n:
            return cells.select(np.sort(rng.permutation(len(cells))[:n]))
        if peak > 60000:
            break
        peak *= 1.4
    raise GeometryError(
        f"n_nuclei must fit into the tissue without touching; got {n} for {allowed.area * 1e-6:.3f} mm2 (slide phantom). Pass fewer nuclei or a larger size_px."
    )


def check_slide_options(mpp: float, size_px: tuple[int, int], compression: str) -> None:
    """Raise where a phantom slide cannot be made as asked."""
    if not 0.1 <= mpp <= 2.0:
        raise UnitError(f"mpp must be in 0.1..2 um per pixel to show nuclei; got {mpp} (slide phantom). Pass for example 0.5.")
    if min(size_px) < 256 or any(n % 16 for n in size_px):
        raise GeometryError(
            f"size_px must be at least 256 and multiples of 16, so that every level is exact; got {size_px} (slide phantom). Pass (2048, 2048)."
        )
    if compression not in COMPRESSIONS:
        raise FormatError(f"compression must be one of {COMPRESSIONS}; got '{compression}' (slide phantom). Pass 'jpeg' or the lossless 'deflate'.")


def he_slide(
    path: PathLike,
    *,
    seed: int = 0,
    n_nuclei: int = 400,
    mpp: float = 0.5,
    size_px: tuple[int, int] = (2048, 2048),
    compression: str = "jpeg",
) -> SlidePhantom:
    """Write a slide stained with haematoxylin and eosin whose tissue and nuclei are known.

    Parameters
    ----------
    path : path
        File to write (.tif); a tiled pyramidal TIFF that OpenSlide opens as generic-tiled-tiff.
    seed : int
        The same seed gives the same bytes.
    n_nuclei : int
        Exactly this many are drawn.
    mpp : float
        um per level-0 pixel.
    size_px : tuple of int
        Width and height of level 0, multiples of 16.
    compression : {"jpeg", "deflate"}

    Returns
    -------
    SlidePhantom

    Raises
    ------
    UnitError, GeometryError, FormatError
        If an option cannot be, or the nuclei do not fit into the tissue.

    Notes
    -----
    Light follows Beer and Lambert; haematoxylin of Ruifrok and Johnston (Anal Quant Cytol Histol 2001; 23:291-299), eosin of Macenko et al. (ISBI 2009).
    Nests of tumour cells stand in fibrous stroma whose spindle nuclei follow the fibres; lymphocytes crowd in the stroma.
    Nuclear outlines are polygons of 24 vertices, and exactly these are drawn.
    """
    check_slide_options(mpp, size_px, compression)
    if n_nuclei < 0:
        raise GeometryError(f"n_nuclei must be at least 0; got {n_nuclei} (slide phantom). Pass a count.")
    rng, size_um = np.random.default_rng(seed), np.asarray(size_px, dtype=np.float64) * mpp
    tissue = _draw_tissue(rng, size_um)
    stroma = Stroma.draw(rng, size_px, mpp)
    step_um = COARSE_PX * mpp
    nests = smooth_noise(rng, coarse_shape(size_px), 55.0 / step_um) + 0.25 * smooth_noise(rng, coarse_shape(size_px), 12.0 / step_um)
    # Nests just large enough to be crowded: few nuclei in wide nests look like no tumour.
    share = np.clip(TUMOUR_SHARE * n_nuclei / (CROWDED_PER_MM2 * tissue.area * 1e-6), 0.12, 0.5)
    nests = (nests - np.quantile(nests, 1 - share)).astype(np.float32)
    cells = _plant_exactly(rng, n_nuclei, tissue, nests, stroma, size_um, mpp)
    covered, width = coverage_of(tissue, size_px, mpp), size_px[0]

    def background(first: int, last: int) -> tuple[Float32Array, Float32Array]:
        body = smooth_step(upsample(nests, first, last, width), 0.0, 0.18)
        present = covered[first:last] * np.float32(1 / 255)
        cytoplasm = stroma.cytoplasm(first, last, width)
        eosin = present * (stroma.eosin(first, last, width) * (1 - body) + 0.17 * cytoplasm * body)
        haematoxylin = present * (0.035 * (1 - body) + 0.085 * cytoplasm * body)
        return haematoxylin.astype(np.float32), eosin.astype(np.float32)

    write_pyramid(path, render(size_px, mpp, background, cells, rng=rng), mpp=mpp, compression=compression, quality=JPEG_QUALITY)
    return SlidePhantom(Path(path), float(mpp), Contours.from_polygons([tissue], labels=["tissue"]), cells.contours(), len(cells))
