"""Slides to be written, of made-up facts."""

from idx.io.slides_writing import SlideToWrite


def to_write(**options) -> SlideToWrite:
    facts = {"sizes_px": ((100, 80),), "tile_px": 64, "mpp": (0.5, 0.5), "compression": "jpeg", "quality": 90, "description": "made up"}
    return SlideToWrite(**{**facts, "offset_um": (0.0, 0.0), "source_size_um": (50.0, 40.0), **options})
