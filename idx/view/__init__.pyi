from . import plot
from .napari_app import napari
from .notebook import linked

__all__ = ["linked", "napari", "plot"]
