from .contours import read_contours, write_geojson
from .embeddings import TileEmbeddings, read_embeddings, write_embeddings
from .embeddings_hdf5 import read_slide_embedding
from .masks import read_mask
from .slides import open_slide
from .slides_tiatoolbox import as_slide
from .volumes import read_ct, read_volume

__all__ = [
    "TileEmbeddings",
    "as_slide",
    "open_slide",
    "read_contours",
    "read_ct",
    "read_embeddings",
    "read_mask",
    "read_slide_embedding",
    "read_volume",
    "write_embeddings",
    "write_geojson",
]
