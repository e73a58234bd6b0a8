"""From stain amounts to pixels: nuclei drawn into optical density, blur, noise, and a tiled pyramid on disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy import ndimage

from idx._typing import PathLike, RGBArray
from idx.testing._cells import CELL_TYPES, N_VERTICES, Cells
from idx.testing._noise import Float32Array, smooth_noise

GLASS = 245.0
HAEMATOXYLIN = (0.650, 0.704, 0.286)
"""Optical density of unit stain in red, green, blue, decadic (Ruifrok and Johnston 2001)."""
EOSIN = (0.216, 0.801, 0.558)
"""The reference vector of Macenko et al. (ISBI 2009:1107-10): it is the pink of real slides, and not the vector that the measuring code unmixes with."""
STRIP_PX = 128
"""Strips of this many rows keep their temporaries in the processor's cache."""
HALO_PX = 4
"""At least the radius of the blur's kernel (4 standard deviations)."""
BLUR_PX = 0.65
"""Standard deviation of the scanner's point spread in level-0 pixels."""
NOISE_TILE_PX = 1024
SENSOR_NOISE = 2.0
LEVEL_STEP = 4
N_THREADS = 2

Background = Callable[[int, int], tuple[Float32Array, Float32Array]]
"""Maps first and last row (exclusive) to the haematoxylin and eosin amounts (rows, width) of what lies around the nuclei."""


def tile_noise(tile: Float32Array, first: int, last: int, width: int, shift: int = 0) -> Float32Array:
    """Rows ``first..last`` of a periodic tile repeated over the slide."""
    rows = np.roll(tile[np.arange(first, last) % tile.shape[0]], -shift, axis=1)
    result: Float32Array = np.tile(rows, (1, -(-width // tile.shape[1])))[:, :width]
    return result


def _window(cells: Cells, indices: np.ndarray, corners: np.ndarray, size: int, mpp: float) -> tuple[Float32Array, Float32Array]:
    """Coverage and relative depth (1 at the centre, 0 at the outline) of nuclei in square windows (n, size, size).

    The outline is the exact polygon: in the frame where the ellipse is the unit circle its vertices stand at equal angles, and the distance of an edge
    from the centre along a direction is a closed form.
    """
    steps = np.arange(size, dtype=np.float32)
    offset_x = (corners[:, 0, None] + steps) * mpp - cells.centres_um[indices, 0, None]
    offset_y = (corners[:, 1, None] + steps) * mpp - cells.centres_um[indices, 1, None]
    dx, dy = offset_x[:, None, :].astype(np.float32), offset_y[:, :, None].astype(np.float32)
    cos, sin = (f(cells.angles[indices]).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    semi = cells.semi_um[indices].astype(np.float32)
    u, v = (cos * dx + sin * dy) / semi[:, 0, None, None], (cos * dy - sin * dx) / semi[:, 1, None, None]
    sector = np.float32(2 * np.pi / N_VERTICES)
    theta = np.arctan2(v, u) % np.float32(2 * np.pi)
    k = np.minimum((theta / sector).astype(np.int64), N_VERTICES - 1)
    within = theta - k * sector
    profiles = cells.profiles[indices].astype(np.float32)
    row = np.arange(len(indices))[:, None, None]
    near, far = profiles[row, k], profiles[row, (k + 1) % N_VERTICES]
    edge = near * far * np.sin(sector) / (near * np.sin(within) + far * np.sin(sector - within))
    rho = np.hypot(u, v)
    depth = 1.0 - rho / edge
    # One pixel of soft edge: relative depth times the distance from centre to outline along this direction.
    along_um = edge * np.hypot(dx, dy) / np.maximum(rho, 1e-6)
    coverage = np.clip(depth * along_um / mpp + 0.5, 0.0, 1.0)
    return coverage.astype(np.float32), depth.astype(np.float32)


def _haematoxylin(cells: Cells, indices: np.ndarray, depth: Float32Array, chromatin: Float32Array) -> Float32Array:
    """Amount of haematoxylin in each window: membrane, chromatin and, in tumour nuclei, an off-centre nucleolus."""
    kinds = cells.kinds[indices]
    density, rim, clumps = (
        np.array([getattr(t, name) for t in CELL_TYPES], dtype=np.float32)[kinds, None, None] for name in ("optical_density", "rim", "clumps")
    )
    shade = (1.0 + 0.12 * np.sin(37.0 * cells.angles[indices] + cells.centres_um[indices, 0]))[:, None, None].astype(np.float32)
    membrane = np.exp(-((depth / 0.16) ** 2))
    return density * shade * np.maximum(1.0 - 0.5 * rim + rim * membrane + clumps * chromatin, 0.35)


def draw_nuclei(haematoxylin: Float32Array, eosin: Float32Array, cells: Cells, *, first_row: int, mpp: float, chromatin: Float32Array) -> None:
    """Draw nuclei, each in its own window, into the stain amounts of a strip that starts at ``first_row``."""
    height, width = haematoxylin.shape
    has_nucleolus = np.array([t.has_nucleolus for t in CELL_TYPES])
    reach = np.ceil(cells.reach_um / mpp).astype(int) + 2
    for size in np.unique(reach // 4 * 8 + 8):
        group = np.flatnonzero(reach // 4 * 8 + 8 == size)
        for indices in np.array_split(group, max(1, len(group) // 256)):
            corners = np.round(cells.centres_um[indices] / mpp).astype(int) - size // 2
            coverage, depth = _window(cells, indices, corners, int(size), mpp)
            y, x = corners[:, 1, None, None] + np.arange(size)[:, None], corners[:, 0, None, None] + np.arange(size)
            texture = chromatin[y % chromatin.shape[0], x % chromatin.shape[1]]
            amount = _haematoxylin(cells, indices, depth, texture)
            for n, index in enumerate(indices):
                top, left = int(corners[n, 1]) - first_row, int(corners[n, 0])
                rows, columns = slice(max(top, 0), min(top + size, height)), slice(max(left, 0), min(left + size, width))
                if rows.start >= rows.stop or columns.start >= columns.stop:
                    continue
                window = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
                cover, stain = coverage[n][window], amount[n][window]
                if has_nucleolus[cells.kinds[index]]:
                    spot = cells.centres_um[index] / mpp + 0.28 * cells.semi_um[index].min() / mpp * np.array(
                        [np.cos(5 * cells.angles[index]), np.sin(5 * cells.angles[index])]
                    )
                    near = (y[n][window[0]] - spot[1]) ** 2 + (x[n][:, window[1]] - spot[0]) ** 2
                    stain = stain + 0.38 * np.exp(-near / (2 * (0.75 / mpp) ** 2)).astype(np.float32)
                haematoxylin[rows, columns] += cover * (stain - haematoxylin[rows, columns])
                eosin[rows, columns] += cover * (0.10 - eosin[rows, columns])


def _to_rgb(haematoxylin: Float32Array, eosin: Float32Array, noise: Float32Array, first: int) -> RGBArray:
    """Beer-Lambert: glass times ten to minus the optical density, plus sensor noise."""
    rgb = np.empty((*haematoxylin.shape, 3), dtype=np.uint8)
    for channel in range(3):
        light = np.exp(np.float32(-np.log(10.0)) * (HAEMATOXYLIN[channel] * haematoxylin + EOSIN[channel] * eosin))
        grain = tile_noise(noise, first, first + len(light), light.shape[1], shift=331 * channel)
        rgb[..., channel] = np.clip(np.float32(GLASS) * light + np.float32(SENSOR_NOISE) * grain + 0.5, 0, 255)
    return rgb


def render(size_px: tuple[int, int], mpp: float, background: Background, cells: Cells, *, rng: np.random.Generator) -> RGBArray:
    """Render a slide (y, x, 3) strip by strip; the result does not depend on the strips or on the number of threads."""
    width, height = size_px
    chromatin = smooth_noise(rng, (NOISE_TILE_PX, NOISE_TILE_PX), 0.6 / mpp)
    grain = smooth_noise(rng, (NOISE_TILE_PX, NOISE_TILE_PX), 0.4)
    slide = np.empty((height, width, 3), dtype=np.uint8)
    middle, reach = cells.centres_um[:, 1] / mpp, cells.reach_um / mpp + 2

    def strip(first: int) -> None:
        last = min(first + STRIP_PX, height)
        top, bottom = max(first - HALO_PX, 0), min(last + HALO_PX, height)
        haematoxylin, eosin = background(top, bottom)
        here = cells.select((middle + reach >= top) & (middle - reach <= bottom))
        draw_nuclei(haematoxylin, eosin, here, first_row=top, mpp=mpp, chromatin=chromatin)
        rows = slice(first - top, last - top)
        haematoxylin, eosin = (ndimage.gaussian_filter(stain, BLUR_PX, truncate=4.0, mode="nearest")[rows] for stain in (haematoxylin, eosin))
        slide[first:last] = _to_rgb(haematoxylin, eosin, grain, first)

    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(strip, range(0, height, STRIP_PX)))
    return slide


def _halved(rgb: RGBArray, step: int) -> RGBArray:
    """Mean of step x step pixels; sizes are multiples of the step."""
    height, width = rgb.shape[0] // step, rgb.shape[1] // step
    total = np.zeros((height, width, 3), dtype=np.uint16)
    for y in range(step):
        for x in range(step):
            total += rgb[y::step, x::step]
    return ((total + step * step // 2) // (step * step)).astype(np.uint8)


def write_pyramid(path: PathLike, rgb: RGBArray, *, mpp: float, compression: str, quality: int) -> None:
    """Write a tiled pyramidal TIFF with reduced pages, a resolution in pixels per cm, and nothing that depends on the day."""
    import tifffile

    options: dict[str, Any] = {
        "tile": (256, 256),
        "photometric": "rgb",
        "compression": "jpeg" if compression == "jpeg" else "zlib",
        "compressionargs": {"level": quality} if compression == "jpeg" else {"level": 6},
        "metadata": None,
        "software": False,
        "resolutionunit": "CENTIMETER",
        "maxworkers": N_THREADS,
    }
    if compression == "jpeg":
        options["subsampling"] = (1, 1)
    with tifffile.TiffWriter(path, bigtiff=rgb.nbytes > 2**31) as tif:
        level, factor = rgb, 1
        while True:
            tif.write(level, resolution=(1e4 / (mpp * factor), 1e4 / (mpp * factor)), subfiletype=int(factor > 1), **options)
            if min(level.shape[:2]) < 2 * 256 or level.shape[0] % LEVEL_STEP or level.shape[1] % LEVEL_STEP:
                return
            level, factor = _halved(level, LEVEL_STEP), factor * LEVEL_STEP
