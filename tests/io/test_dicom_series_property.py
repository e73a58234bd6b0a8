"""Any small CT in any direction, spacing and file order comes back as it was written."""

import tempfile

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from idx.geometry.grids import Grid
from idx.io.volumes import read_ct
from idx.testing.dicom import write_ct_series, write_enhanced_ct
from idx.volume import CTVolume

finite = {"allow_nan": False, "allow_infinity": False}
spacings = st.tuples(*[st.floats(0.2, 6.0, **finite)] * 3)
origins = st.tuples(*[st.floats(-700.0, 700.0, **finite)] * 3)
hu = st.integers(-1024, 32767)


def grids(rotations):
    def build(shape, spacing_mm, origin_mm, rotation):
        return Grid.from_spacing(shape, spacing_mm, origin_mm, direction=rotation.as_matrix())

    return st.builds(build, st.tuples(*[st.integers(2, 5)] * 3), spacings, origins, rotations)


# Up to 25 degrees about each axis the written axes stay the ones nearest to the patient's; beyond, reading may permute and flip them.
small_rotations = st.builds(lambda angles: Rotation.from_euler("xyz", angles, degrees=True), st.tuples(*[st.floats(-25.0, 25.0, **finite)] * 3))
any_rotations = st.builds(lambda angles: Rotation.from_euler("zyz", angles, degrees=True), st.tuples(*[st.floats(-180.0, 180.0, **finite)] * 3))


def volumes(rotations):
    return grids(rotations).flatmap(lambda grid: st.builds(CTVolume, arrays(np.int16, grid.shape, elements=hu), st.just(grid)))


@given(ct=volumes(small_rotations), data=st.data(), enhanced=st.booleans())
@settings(max_examples=40, deadline=None)
def test_values_and_grid_survive_writing_and_reading(ct, data, enhanced):
    order = data.draw(st.permutations(range(ct.grid.shape[0])))
    with tempfile.TemporaryDirectory() as folder:
        if enhanced:
            write_enhanced_ct(ct, f"{folder}/enhanced.dcm", order=order)
        else:
            write_ct_series(ct, folder, order=order)
        read = read_ct(folder)
    assert np.array_equal(read.values, ct.values)
    assert read.grid.is_close(ct.grid, tolerance_mm=1e-6)


@given(ct=volumes(any_rotations), data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_point_keeps_its_hu_in_any_direction(ct, data):
    order = data.draw(st.permutations(range(ct.grid.shape[0])))
    with tempfile.TemporaryDirectory() as folder:
        write_ct_series(ct, folder, order=order)
        read = read_ct(folder)
    index = np.argwhere(np.ones(read.values.shape, dtype=bool))
    there = ct.grid.to_index(read.grid.to_physical(index))
    nearest = np.rint(there).astype(int)
    assert np.abs(there - nearest).max() * max(ct.spacing_mm) < 1e-6
    assert np.array_equal(read.values[tuple(index.T)], ct.values[tuple(nearest.T)])
    assert len(np.unique(nearest, axis=0)) == ct.values.size
    assert np.linalg.det(read.grid.direction) > 0
    assert (np.diag(read.grid.direction) > -1e-6).all()
