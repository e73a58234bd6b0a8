import numpy as np
import pytest
from array_slides import array_slide, planned_slide
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass, label

from idx.errors import GeometryError
from idx.tiling import plan, run, stitch


def squares(seed: int) -> np.ndarray:
    """Dark squares of up to 7 px, none touching, on white."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((140, 170), dtype=bool)
    for _ in range(120):
        w, h, x, y = *rng.integers(1, 8, 2), *rng.integers(0, 160, 2)
        if not mask[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1].any():
            mask[y : y + h, x : x + w] = True
    return mask


def centres(mask: np.ndarray) -> np.ndarray:
    parts, n = label(mask)
    return np.array(center_of_mass(mask, parts, range(1, n + 1))).reshape(-1, 2)[:, ::-1]


@given(seed=st.integers(0, 1000), core=st.integers(6, 90), halo=st.integers(8, 20), batch_size=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_tiled_objects_are_those_of_the_whole_slide(seed, core, halo, batch_size):
    mask = squares(seed)
    slide = array_slide(np.where(mask[..., None], 0, 255).astype(np.uint8).repeat(3, axis=-1))
    grid = plan(slide, size_px=core + 2 * halo, overlap_px=2 * halo)
    found = run(lambda batch: [centres(tile[..., 0].numpy() < 128) for tile in batch], slide, grid, batch_size=batch_size).values
    keep, positions = stitch(grid, np.repeat(np.arange(len(grid)), [len(f) for f in found]), np.concatenate(found))
    expected = slide.to_um(centres(mask))
    assert keep.sum() == len(expected)
    kept = positions[keep].round(6)
    np.testing.assert_allclose(kept[np.lexsort(kept.T)], expected[np.lexsort(expected.round(6).T)], atol=1e-5)


def test_an_object_of_an_unknown_tile_is_refused():
    grid = plan(planned_slide(100, 100), size_px=50)
    with pytest.raises(GeometryError, match="4 tiles"):
        stitch(grid, [4], [[1.0, 1.0]])
