"""A plan as a person sees it: its tiles over the slide, one of them enlarged, and the first rows of its table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from idx._repr import card
from idx._typing import Array, BoolArray, FloatArray, IntArray, Pair, RGBArray
from idx.errors import PixelAccessError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as Draw

    from idx.tiling.grid import TileGrid

_SHOWN_PX = (520, 260)
"""Most width and height of the slide's picture on the page; it is drawn twice as fine, for fine screens."""
_LEAST_SHOWN_PX = 110
_FINE = 2
_MOST_READ_PX = 1 << 26
"""Stored pixels that are read for a picture at most: a slide without coarse levels must not be decoded whole to be looked at."""
_LEAST_CELL_PX = 9
"""Cores smaller than this in the picture are drawn as one area with its outline."""
_LEAST_DOT_PX, _MOST_DOTS = 5, 1000
_HEAD_ROWS = 5
_LOW, _HIGH = np.array([246.0, 183.0, 60.0]), np.array([12.0, 110.0, 125.0])
"""Colours of a core that is hardly and wholly within; neither is a colour of H&E."""
_TINT, _TINT_OF_ALL, _LINE = 0.35, 0.15, 0.85
"""Opacities: of cores that differ, of cores that are all alike, and of their borders."""
_GLASS_SHARE = 0.25
"""Places that differ less from the brightest, as a share of what the darkest does, are taken for glass."""
_NOWHERE = -1


def plan_html(grid: TileGrid) -> str:
    """Card of a plan with its pictures, and the first rows of its table below."""
    facts, pictures, height_px = [("slide", grid.slide.name), *grid.facts()], [], _SHOWN_PX[1]
    try:
        overview, height_px = plan_picture(grid)
        pictures.append(("cores over the slide" if len(grid) else "no tiles", overview))
        if len(grid):
            tile = typical_tile(grid)
            pictures.append((f"tile {tile}, {grid.size_px} px" + (", its halo pale" if grid.halo_px else ""), tile_picture(grid, tile)))
    except PixelAccessError as error:
        facts.append(("not shown", str(error)))
    html = card("TileGrid", facts, pictures, height_px=height_px)
    if len(grid) == 0:
        return html
    more = f"{min(len(grid), _HEAD_ROWS)} of {len(grid):,} rows of to_frame()"
    return f'{html}<div style="overflow-x:auto;font-size:11px;margin-top:6px">{_head(grid)}<div style="opacity:.65">{more}</div></div>'


def _head(grid: TileGrid) -> str:
    frame = grid.select(slice(_HEAD_ROWS)).to_frame().reset_index()
    lines = [[*frame.columns], *([f"{value:.6g}" for value in row] for row in frame.itertuples(index=False))]
    cells = "".join("<tr>" + "".join(f'<td style="padding:1px 8px 1px 0;text-align:right">{cell}</td>' for cell in line) + "</tr>" for line in lines)
    return f'<table style="border-collapse:collapse;font-size:inherit;font-variant-numeric:tabular-nums">{cells}</table>'


def plan_picture(grid: TileGrid) -> tuple[RGBArray, int]:
    """Cores tinted and outlined over the slide, and the height in which it is to be shown on a page.

    A core that is wholly within is teal, one that is hardly so amber. Where cores are too small to be told apart, the area that they cover is
    outlined instead. The time does not grow with the number of tiles.
    """
    (width_um, height_um), (half_x, half_y) = grid.slide.size_um, (m / 2.0 for m in grid.slide.mpp)
    per_um = _FINE * min(_SHOWN_PX[0] / width_um, _SHOWN_PX[1] / height_um)
    size = max(1, round(width_um * per_um)), max(1, round(height_um * per_um))
    below, has_slide = _below(grid, size)
    tile, are_told_apart = _tile_of_pixels(grid, size)
    share = grid.tissue_fraction[tile][..., None] if len(grid) else np.zeros((*tile.shape, 1))
    colour = _LOW + (_HIGH - _LOW) * share
    tint = _TINT if len(grid) and grid.tissue_fraction.min() < 1.0 else _TINT_OF_ALL
    opacity = np.where(_borders(tile if are_told_apart else tile != _NOWHERE), _LINE, tint) * (tile != _NOWHERE)
    image = Image.fromarray(np.rint(below + opacity[..., None] * (colour - below)).astype(np.uint8))
    draw = ImageDraw.Draw(image, "RGBA")
    if not grid.is_whole_slide:
        left, top, right, bottom = ((edge + half) * per_um for edge, half in zip(grid.bounds_um, (half_x, half_y) * 2, strict=True))
        draw.rectangle((left, top, right - 1, bottom - 1), outline=(0, 0, 0, 255), width=_FINE)
    _draw_scale_bar(draw, size, per_um, fine=_FINE)
    if len(grid) and grid.tissue_fraction.min() < 1.0:
        _draw_colours(draw, size)
    if not has_slide:
        draw.text((size[0] / 2, 8 * _FINE), "no coarse level to show", fill="black", font=ImageFont.load_default(size=10 * _FINE), anchor="ma")
    return np.asarray(image), max(_LEAST_SHOWN_PX, round(size[1] / _FINE))


def _below(grid: TileGrid, size: tuple[int, int]) -> tuple[FloatArray, bool]:
    """The slide in a picture of that size (width, height); plain grey where too much would have to be decoded for it."""
    slide = grid.slide
    stored = slide.levels[slide.level_for(max(slide.size_um[0] / size[0], slide.size_um[1] / size[1]))]
    if stored.width_px * stored.height_px > _MOST_READ_PX:
        return np.full((size[1], size[0], 3), 225.0), False
    return np.asarray(Image.fromarray(slide.thumbnail(max(size))).resize(size, Image.Resampling.BICUBIC), dtype=np.float64), True


def _tile_of_pixels(grid: TileGrid, size: tuple[int, int]) -> tuple[IntArray, bool]:
    """Tile (y, x) whose core each pixel of a picture of the slide shows, and whether cores are large enough to be told apart."""
    from scipy.ndimage import maximum_filter

    tiles = np.full((size[1], size[0]), _NOWHERE, dtype=np.int64)
    if len(grid) == 0:
        return tiles, True
    inside, cells, lines_px = [], [], []
    for axis, lines_um in enumerate(grid.core_lines_um):
        lines_px.append((lines_um + grid.slide.mpp[axis] / 2.0) * size[axis] / grid.slide.size_um[axis])
        cell = np.searchsorted(lines_px[axis], np.arange(size[axis]) + 0.5, side="right") - 1
        inside.append(np.flatnonzero((cell >= 0) & (cell < len(lines_um) - 1)))
        cells.append(cell[inside[axis]])
    tiles[np.ix_(inside[1], inside[0])] = grid.as_map(np.arange(len(grid)), missing=_NOWHERE)[np.ix_(cells[1], cells[0])]
    cell_px = min(float(np.diff(lines).max()) for lines in lines_px)
    if cell_px < _LEAST_DOT_PX:
        # Cores that lie between the centres of pixels are shown all the same, and a few of them as dots that can be seen.
        x, y = (
            np.minimum((lines[:-1] + lines[1:]) / 2.0, length - 1)[place].astype(np.int64)
            for lines, length, place in zip(lines_px, size, (grid.column, grid.row), strict=True)
        )
        dots = np.full_like(tiles, _NOWHERE)
        dots[y, x] = np.arange(len(grid))
        tiles = np.where(tiles == _NOWHERE, maximum_filter(dots, size=_LEAST_DOT_PX if len(grid) <= _MOST_DOTS else 1), tiles)
    return tiles, cell_px >= _LEAST_CELL_PX


def _borders(values: Array) -> BoolArray:
    """Pixels (y, x) beside one of another value or beside the picture's border."""
    border = np.ones(values.shape, dtype=bool)
    middle = values[1:-1, 1:-1]
    border[1:-1, 1:-1] = (middle != values[:-2, 1:-1]) | (middle != values[2:, 1:-1]) | (middle != values[1:-1, :-2]) | (middle != values[1:-1, 2:])
    return border


def typical_tile(grid: TileGrid) -> int:
    """Tile to be shown enlarged: of those that are most within, one in the middle of those that are not as pale as glass."""
    fullest = np.flatnonzero(grid.tissue_fraction >= grid.tissue_fraction.max() - 1e-9)
    below, _ = _below(grid, (200, 200))
    x, y = (grid.core_bounds_um[fullest].reshape(-1, 2, 2).mean(axis=1) / np.asarray(grid.slide.size_um) * 200).astype(np.int64).clip(0, 199).T
    brightness = below[y, x].mean(axis=-1)
    stained = np.flatnonzero(brightness <= brightness.max() - _GLASS_SHARE * np.ptp(brightness))
    return int(fullest[stained[len(stained) // 2]])


def tile_picture(grid: TileGrid, tile: int) -> RGBArray:
    """One tile with its halo paler than its core and a scale bar, from the coarsest level that has enough pixels for it.

    Raises
    ------
    PixelAccessError
        If it cannot be read.
    """
    side = min(max(grid.size_px, _SHOWN_PX[1]), _SHOWN_PX[1] * _FINE)
    slide, size_um = grid.slide, np.asarray(grid.mpp) * grid.size_px
    level = max(grid.level, slide.level_for(max(*grid.mpp, float(size_um.max()) / side)))
    # Edges of the tile, not centres of its pixels, in pixels of the level that is read.
    corners = slide.to_px(grid.lattice_to_um(grid.origin_px[tile] + np.array([[0], [grid.size_px]]) - 0.5), level=level) + 0.5
    low, high = np.floor(corners[0] + 1e-6).astype(int), np.ceil(corners[1] - 1e-6).astype(int)
    width, height = (high - low).tolist()
    if width * height > _MOST_READ_PX:
        return np.full((side, side, 3), 225, dtype=np.uint8)
    stored = Image.fromarray(slide.read_region(int(low[0]), int(low[1]), width_px=width, height_px=height, level=level))
    box = np.clip((corners - low).ravel(), 0.0, [width, height] * 2)
    is_finer = min(width, height) >= side
    image = stored.resize((side, side), Image.Resampling.BOX if is_finer else Image.Resampling.NEAREST, box=tuple(box.tolist()))
    if grid.halo_px:
        edge = round(grid.halo_px / grid.size_px * side)
        core = (edge, edge, side - edge, side - edge)
        halo = Image.blend(image, Image.new("RGB", image.size, "white"), 0.5)
        halo.paste(image.crop(core), core)
        image = halo
    draw = ImageDraw.Draw(image, "RGBA")
    _draw_scale_bar(draw, (side, side), side / float(size_um[0]), fine=side / _SHOWN_PX[1])
    return np.asarray(image)


def picture_with_scale_bar(pixels: RGBArray, mpp: Pair) -> tuple[RGBArray, int]:
    """Pixels (y, x, 3) of ``mpp`` um (x, y) with a scale bar, no larger than a page shows, and the height in which they are to be shown there."""
    size_um = pixels.shape[1] * mpp[0], pixels.shape[0] * mpp[1]
    per_um = _FINE * min(_SHOWN_PX[0] / size_um[0], _SHOWN_PX[1] / size_um[1])
    size = max(1, round(size_um[0] * per_um)), max(1, round(size_um[1] * per_um))
    is_finer = pixels.shape[1] >= size[0]
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BOX if is_finer else Image.Resampling.NEAREST)
    _draw_scale_bar(ImageDraw.Draw(image, "RGBA"), size, per_um, fine=_FINE)
    return np.asarray(image), max(1, round(size[1] / _FINE))


def _draw_scale_bar(draw: Draw, size: tuple[int, int], per_um: float, *, fine: float) -> None:
    """A bar of a round length, at most a quarter of the picture, at the lower left; ``fine`` pixels of it are one on the page."""
    most = size[0] / 4.0 / per_um
    decade = 10.0 ** np.floor(np.log10(most))
    length_um = next(step * decade for step in (5.0, 2.0, 1.0) if step * decade <= most * (1 + 1e-9))
    text, font = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} um", ImageFont.load_default(size=10 * fine)
    _draw_key(draw, text, (8 * fine, size[1] - 8 * fine), max(length_um * per_um, draw.textlength(text, font=font)), fine=fine)
    draw.rectangle((8 * fine, size[1] - 9 * fine, 8 * fine + length_um * per_um, size[1] - 7 * fine), fill="black")


def _draw_colours(draw: Draw, size: tuple[int, int]) -> None:
    """What the colours say, at the lower right."""
    length = 60 * _FINE
    x, y = size[0] - 8 * _FINE - length, size[1] - 8 * _FINE
    _draw_key(draw, "within 0 to 1", (x, y), length, fine=_FINE)
    for step in range(length):
        colour = (_LOW + (_HIGH - _LOW) * step / (length - 1)).astype(int).tolist()
        draw.line((x + step, y - 2 * _FINE, x + step, y + _FINE), fill=tuple(colour))


def _draw_key(draw: Draw, text: str, corner: tuple[float, float], width: float, *, fine: float) -> None:
    """Text on a pale ground whose lower left corner is given."""
    x, y = corner
    draw.rectangle((x - 4 * fine, y - 18 * fine, x + width + 4 * fine, y + 4 * fine), fill=(255, 255, 255, 200))
    draw.text((x, y - 16 * fine), text, fill="black", font=ImageFont.load_default(size=10 * fine))
