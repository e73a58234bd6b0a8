import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from idx.errors import GeometryError
from idx.io.axes import to_patient_axes


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1.0, -1.0), repeat=3)))
def test_every_storage_order_ends_in_patient_axes_at_the_same_points(order, signs):
    shape_xyz = (3, 4, 5)
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3)[:, list(order)] * signs) * (0.7, 1.1, 2.5)
    affine[:3, 3] = (10.0, -20.0, 30.0)
    values = np.arange(60).reshape(shape_xyz[::-1])
    turned, grid = to_patient_axes(values, affine, where="example")
    assert np.allclose(grid.direction, np.eye(3))
    index = np.argwhere(np.ones(turned.shape, dtype=bool))
    homogeneous = np.column_stack([grid.to_physical(index), np.ones(len(index))])
    x, y, z = np.rint(np.linalg.inv(affine) @ homogeneous.T).astype(int)[:3]
    assert np.array_equal(turned[tuple(index.T)], values[z, y, x])


@given(st.tuples(*[st.floats(-180.0, 180.0, allow_nan=False)] * 3))
def test_axes_point_to_the_left_the_posterior_and_the_head(angles):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("zyz", angles, degrees=True).as_matrix()
    _, grid = to_patient_axes(np.zeros((2, 3, 4)), affine, where="example")
    assert (np.diag(grid.direction) >= 0).all()
    assert np.allclose(np.abs(np.linalg.det(grid.direction)), 1.0)


def test_nothing_is_copied():
    values = np.zeros((2, 3, 4))
    turned, _ = to_patient_axes(values, np.diag([-1.0, 1.0, -1.0, 1.0]), where="example")
    assert np.shares_memory(values, turned)


@pytest.mark.parametrize("angle_deg", [0.5, 10.0])
def test_sheared_axes_are_refused_with_the_angle(angle_deg):
    affine = np.eye(4)
    affine[1, 2] = np.tan(np.radians(angle_deg))
    with pytest.raises(GeometryError, match=rf"{90 - angle_deg:.2f} degrees between axes y and z \('shear.nii'\).*dcm2niix"):
        to_patient_axes(np.zeros((2, 3, 4)), affine, where="shear.nii")


@pytest.mark.parametrize("affine", [np.diag([0.0, 1.0, 1.0, 1.0]), np.diag([np.nan, 1.0, 1.0, 1.0])])
def test_axes_must_be_independent_and_finite(affine):
    with pytest.raises(GeometryError, match=r"flat\.nii"):
        to_patient_axes(np.zeros((2, 3, 4)), affine, where="flat.nii")
