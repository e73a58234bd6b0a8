import numpy as np
import pytest
from array_slides import array_slide

from idx.errors import FormatError
from idx.histology import StainBasis, fit_stain
from idx.kernels.stain import HE_RUIFROK

TRUE = np.array([[0.60, 0.73, 0.33], [0.12, 0.96, 0.25]]) / np.linalg.norm([[0.60, 0.73, 0.33], [0.12, 0.96, 0.25]], axis=1, keepdims=True)
WHITE = np.array([243.0, 239.0, 244.0])


def stained(height: int = 400, width: int = 600) -> np.ndarray:
    """Left third glass; the rest pixels of haematoxylin, eosin and mixtures, in blocks of 10 px."""
    rng = np.random.default_rng(0)
    share = np.where(rng.random((height // 10, width // 10)) < 0.3, rng.integers(0, 2, (height // 10, width // 10)), rng.random((height // 10, width // 10)))
    amount = rng.uniform(0.4, 0.9, share.shape)
    density = np.stack([amount * share, amount * (1 - share)], axis=-1) @ TRUE
    density[:, : width // 30] = 0
    picture = WHITE * 10 ** -density.repeat(10, axis=0).repeat(10, axis=1)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def test_the_fixed_basis_measures_the_glass():
    basis = fit_stain(array_slide(stained()))
    np.testing.assert_array_equal(basis.vectors, HE_RUIFROK)
    np.testing.assert_allclose(basis.white, WHITE, atol=1.0)
    assert np.abs(basis.haematoxylin_od(np.rint(WHITE).astype(np.uint8)[None])).max() < 0.01


def test_macenko_finds_the_slides_own_stains():
    basis = fit_stain(array_slide(stained(), mpp=2.0), method="macenko")
    angles = np.degrees(np.arccos(np.clip((basis.vectors * TRUE).sum(axis=1), -1, 1)))
    assert angles.max() < 3.0
    pure = np.rint(WHITE * 10 ** -(0.7 * TRUE)).astype(np.uint8)
    np.testing.assert_allclose(basis.haematoxylin_od(pure), [0.7, 0.0], atol=0.05)
    np.testing.assert_allclose(basis.eosin_od(pure), [0.0, 0.7], atol=0.05)


def test_a_slide_without_stain_cannot_be_fitted():
    with pytest.raises(FormatError, match="1,000 stained pixels"):
        fit_stain(array_slide(np.full((300, 300, 3), 240, dtype=np.uint8)), method="macenko")


def test_an_unknown_method_is_refused():
    with pytest.raises(FormatError, match="'ruifrok' or 'macenko'"):
        fit_stain(array_slide(stained()), method="vahadane")


def test_a_basis_checks_its_shape():
    with pytest.raises(ValueError, match="vectors"):
        StainBasis(np.eye(3), WHITE)
