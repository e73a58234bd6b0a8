"""Label images and maps of a slide cut into the tiles of a plan, as functions on tiles would return them."""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter, label
from skimage.measure import label as connected

from idx.tiling import TileBatch, TileGrid


def cut(picture: np.ndarray, grid: TileGrid, *, factor: int = 1, margin_px: int = 0) -> np.ndarray:
    """What each tile sees of a picture of the lattice (one pixel per ``factor`` delivered ones), 0 beyond the border."""
    side, around = (grid.size_px - 2 * margin_px) // factor, 2 * grid.size_px // factor
    padded = np.pad(picture, [(around, around), (around, around)] + [(0, 0)] * (picture.ndim - 2))
    corners = (grid.origin_px + margin_px) // factor + around
    tiles = [padded[y : y + side, x : x + side] for x, y in corners]
    return np.stack(tiles) if tiles else np.empty((0, side, side), dtype=picture.dtype)


def numbered_anew(tile: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same objects under other numbers."""
    found, where = np.unique(tile, return_inverse=True)
    new = np.zeros(len(found), dtype=np.int32)
    new[found > 0] = rng.permutation((found > 0).sum()) + 1
    return new[where].reshape(tile.shape)


def parted(tile: np.ndarray) -> np.ndarray:
    """Objects as a tile sees them that knows nothing of the others: parts that hang together elsewhere are apart."""
    return np.asarray(connected(tile, connectivity=1, background=0), dtype=np.int32)


def batches(values: np.ndarray | tuple[np.ndarray, ...], *, size: int = 7, without: tuple[int, ...] = ()) -> Iterator[TileBatch]:
    """Values of all tiles in batches, some tiles left out."""
    parts = values if isinstance(values, tuple) else (values,)
    tiles = np.setdiff1d(np.arange(len(parts[0])), without)
    for first in range(0, len(tiles), size):
        chosen = tiles[first : first + size]
        taken = tuple(part[chosen] for part in parts)
        yield TileBatch(chosen, taken if isinstance(values, tuple) else taken[0])


def blobs(shape: tuple[int, int], *, seed: int, kind: str) -> tuple[np.ndarray, int]:
    """Label image of 4-connected objects and their number: "noise" (from specks to labyrinths), "mosaic" (all touch) or "smooth" (like glands)."""
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return label(rng.random(shape) < rng.uniform(0.1, 0.9))
    if kind == "mosaic":
        levels = gaussian_filter(rng.normal(size=shape), 1.0)
        out = parted(np.digitize(levels, [-0.2, 0.0, 0.2]) + 1)
        return out, int(out.max())
    return label(gaussian_filter(rng.normal(size=shape), 3.0) > 0)


def discs(shape: tuple[int, int], *, seed: int, radius: tuple[float, float], gap: float = 1.0, tries: int = 250) -> np.ndarray:
    """Centres and radii (n, 3) (x, y, r) of discs that keep a distance from each other and from the border."""
    rng = np.random.default_rng(seed)
    found: list[tuple[float, float, float]] = []
    for _ in range(tries):
        r = rng.uniform(*radius)
        x, y = (rng.uniform(r + 2, length - r - 3) for length in shape[::-1])
        if all((x - a) ** 2 + (y - b) ** 2 > (r + q + gap) ** 2 for a, b, q in found):
            found.append((x, y, r))
    return np.array(found).reshape(-1, 3)


def drawn(circles: np.ndarray, shape: tuple[int, int], *, origin: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Discs as a label image; disc k has the number k + 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape, dtype=np.int32)
    for number, (cx, cy, r) in enumerate(circles):
        image[((x - cx + origin[0]) ** 2 + (y - cy + origin[1]) ** 2 <= r**2) & (image == 0)] = number + 1
    return image


def same_objects(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label images show the same objects, whatever their numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs) and bool(((one == 0) == (other == 0)).all())
