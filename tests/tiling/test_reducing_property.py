"""Coarser levels against sums over the whole picture, for any size."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from idx.tiling.reducing import halved_sizes, with_coarser_levels

TILE = 16


def cut(picture: np.ndarray, *, beyond: int) -> list[np.ndarray]:
    """Tiles row by row; ``beyond`` stands where the picture ends."""
    height, width = picture.shape[:2]
    rows, columns = -(-height // TILE), -(-width // TILE)
    padded = np.full((rows * TILE, columns * TILE, 3), beyond, dtype=np.uint8)
    padded[:height, :width] = picture
    return [padded[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE] for y in range(rows) for x in range(columns)]


def block_means(picture: np.ndarray, factor: int) -> np.ndarray:
    """Rounded mean of each block of pixels, of what there is of it."""
    y, x = np.arange(0, picture.shape[0], factor), np.arange(0, picture.shape[1], factor)
    sums = np.add.reduceat(np.add.reduceat(picture.astype(np.int64), y, axis=0), x, axis=1)
    n = np.minimum(picture.shape[0] - y, factor)[:, None] * np.minimum(picture.shape[1] - x, factor)
    return (sums + (n // 2)[..., None]) // n[..., None]


@given(width=st.integers(1, 150), height=st.integers(1, 150), seed=st.integers(0, 5))
@example(width=1, height=1, seed=0)
@example(width=16, height=17, seed=0)
@example(width=128, height=128, seed=0)
@example(width=4, height=5000, seed=0)  # sums that need 32 bits
@settings(max_examples=40)
def test_every_level_is_the_rounded_mean_of_the_finest_pixels(width, height, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture[height // 2 :] |= 0xF0  # bright, so that sums are large
    sizes = halved_sizes(width, height, until_px=TILE)
    levels: list[list[np.ndarray]] = [[] for _ in sizes]
    for level, tile in with_coarser_levels(iter(cut(picture, beyond=7)), sizes, tile_px=TILE):
        levels[level].append(tile)
    for number, (tiles, (w, h)) in enumerate(zip(levels, sizes, strict=True)):
        columns, rows = -(-w // TILE), -(-h // TILE)
        assert len(tiles) == rows * columns
        whole = np.concatenate([np.concatenate(tiles[r * columns : (r + 1) * columns], axis=1) for r in range(rows)])
        np.testing.assert_array_equal(whole[:h, :w], block_means(picture, 1 << number))
        # Beyond the border the last pixels are repeated: neither garbage nor what lay there.
        assert (whole[h:] == whole[h - 1]).all()
        assert (whole[:, w:] == whole[:, w - 1 : w]).all()


@given(width=st.integers(1, 10_000_000), height=st.integers(1, 10_000_000))
def test_sizes_are_halved_until_one_tile_is_enough(width, height):
    sizes = halved_sizes(width, height, until_px=256)
    assert max(sizes[-1]) <= 256
    assert all(max(size) > 256 for size in sizes[:-1])
    for number, size in enumerate(sizes):
        assert size == (-(-width // 2**number), -(-height // 2**number))


def test_only_one_row_of_tiles_is_kept_however_high_the_picture_is():
    """Tiles are made as they are asked for; what is not yielded yet must be within two rows of the finest level per level."""
    n_columns, n_rows, made = 4, 64, 0
    tile = np.zeros((TILE, TILE, 3), dtype=np.uint8)

    def tiles():
        nonlocal made
        for _ in range(n_columns * n_rows):
            made += 1
            yield tile

    seen = 0
    for level, _ in with_coarser_levels(tiles(), halved_sizes(n_columns * TILE, n_rows * TILE, until_px=TILE), tile_px=TILE):
        seen += level == 1
        assert made // n_columns <= seen // (n_columns // 2) * 2 + 2
    assert seen == n_columns * n_rows / 4
