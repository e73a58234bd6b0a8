import numpy as np
from array_slides import planned_slide
from hypothesis import given
from hypothesis import strategies as st

from idx.tiling import in_core, plan


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.integers(3, 40),
    halo=st.integers(0, 8),
    mpp=st.sampled_from([0.5, 0.505, 0.7, 1.0, 1.3]),
)
def test_cores_cover_each_delivered_pixel_exactly_once(width, height, size, halo, mpp):
    slide = planned_slide(width, height)
    grid = plan(slide, size_px=size + 2 * halo, overlap_px=2 * halo, mpp=mpp)
    n_x, n_y = (int(np.ceil(length / scale - 1e-3)) for length, scale in zip((width, height), grid.scale, strict=True))
    covered = np.zeros((n_y + 2 * size, n_x + 2 * size), dtype=int)
    local = np.stack(np.meshgrid(np.arange(grid.size_px), np.arange(grid.size_px)), axis=-1).reshape(-1, 2)
    core = local[in_core(grid, local)]
    for origin in grid.origin_px:
        x, y = (origin + core).T
        np.add.at(covered, (y, x), 1)
    assert (covered[:n_y, :n_x] == 1).all()


@given(
    size=st.integers(4, 64),
    halo=st.integers(0, 10),
    points=st.lists(st.tuples(st.floats(0, 149), st.floats(0, 99)), min_size=1, max_size=30),
)
def test_every_position_has_one_owner(size, halo, points):
    grid = plan(planned_slide(150, 100), size_px=size + 2 * halo, overlap_px=2 * halo)
    owners = sum(in_core(grid, np.array(points) - origin).astype(int) for origin in grid.origin_px)
    assert (owners == 1).all()
