"""Figures of one case, of tiles, of radiomics and of outcome models.

Every function returns a :class:`matplotlib.figure.Figure` that belongs to the caller; none touches pyplot's state.
"""

from idx.view.plot_ct import ct_slices, overlay, section_in_ct
from idx.view.plot_models import survival_curves
from idx.view.plot_radiomics import feature_map, stability_chart
from idx.view.plot_slide import slide_overview
from idx.view.plot_space import section_in_space
from idx.view.plot_tiles import tile_gallery, tile_map

__all__ = [
    "ct_slices",
    "feature_map",
    "overlay",
    "section_in_ct",
    "section_in_space",
    "slide_overview",
    "stability_chart",
    "survival_curves",
    "tile_gallery",
    "tile_map",
]
