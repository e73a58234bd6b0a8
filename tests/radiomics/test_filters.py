"""Image filters: what every filter must hold, each against another implementation, and what is refused."""

import dataclasses
import keyword

import numpy as np
import pytest
import pywt
import torch
from scipy import ndimage

from idx.errors import FormatError, GeometryError, MissingDependency, UnitError
from idx.radiomics.filters import GaborFilter, ImageFilter, LaplacianOfGaussian, LawsFilter, MeanFilter
from idx.radiomics.filters_wavelets import RieszFilter, SeparableWavelet, SimoncelliWavelet

MM = (1.0, 1.0, 1.0)
PAD_MODE = {"zero": "constant", "nearest": "edge", "periodic": "wrap", "mirror": "symmetric"}
LINEAR = [
    MeanFilter(3),
    MeanFilter(5, dimensions=2),
    LaplacianOfGaussian(1.0),
    LaplacianOfGaussian(1.5, 3.0, scale_normalised=True, dimensions=2),
    LawsFilter("E5L5S5"),
    LawsFilter("L3S3", "average", dimensions=2),
    SeparableWavelet("db2", "LHL"),
    SeparableWavelet("haar", "HL", 2, "average", dimensions=2),
    SimoncelliWavelet(1),
    SimoncelliWavelet(2, dimensions=2, boundary="mirror"),
    RieszFilter(LaplacianOfGaussian(1.0), (1, 0, 0)),
    RieszFilter(SimoncelliWavelet(1), (0, 1, 1)),
    RieszFilter(SimoncelliWavelet(1, dimensions=2), (2, 0)),
]
ALL = [
    *LINEAR,
    LawsFilter("L5E5E5", "max", 2),
    LawsFilter("L5E5", "max", 2, dimensions=2),
    GaborFilter(1.0, 2.5, 1.5, 30.0, dimensions=2),
    GaborFilter(1.0, 2.5, 1.5, 0.0, 45.0),
    GaborFilter(1.0, 2.5, 0.8, 0.0, 60.0, "max"),
    SeparableWavelet("coif1", "LLH", 1, "max"),
]
SAME_IN_EVERY_DIRECTION = [
    MeanFilter(3),
    LaplacianOfGaussian(1.0),
    LawsFilter("L5E5E5", "max", 2),
    LawsFilter("E5W5R5", "average"),
    SeparableWavelet("db2", "LLH", 2, "average"),
    SeparableWavelet("db2", "LHH", 1, "max"),
    GaborFilter(1.0, 2.5, 1.5, 0.0, 45.0),
    SimoncelliWavelet(1),
    SimoncelliWavelet(1, boundary="mirror"),
]


def names(filters):
    return [f.name for f in filters]


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(5).normal(50.0, 200.0, size=(10, 12, 14))


def respond(image_filter, values, spacing_mm=MM):
    return image_filter.apply(values, spacing_mm, device="cpu")


@pytest.mark.parametrize("image_filter", ALL, ids=names(ALL))
def test_a_response_has_the_shape_of_the_image(image, image_filter):
    before = image.copy()
    response = respond(image_filter, image)
    assert isinstance(image_filter, ImageFilter)
    assert response.shape == image.shape
    assert response.dtype == np.float64
    assert np.array_equal(image, before)
    whole = np.round(image).astype(np.int16)
    whole.flags.writeable = False
    assert np.array_equal(respond(image_filter, whole), respond(image_filter, whole.astype(np.float64)))


@pytest.mark.parametrize("image_filter", LINEAR, ids=names(LINEAR))
def test_a_linear_filter_is_linear(image, image_filter):
    other = np.random.default_rng(6).normal(size=image.shape)
    got = respond(image_filter, 2.0 * image - 3.0 * other)
    assert np.allclose(got, 2.0 * respond(image_filter, image) - 3.0 * respond(image_filter, other), atol=1e-9)


@pytest.mark.parametrize(
    "image_filter",
    [
        LaplacianOfGaussian(1.5, 8.0),
        LawsFilter("L5E5S5"),
        LawsFilter("L5E5E5", "max", 2),
        SeparableWavelet("db3", "LLH", 2),
        SimoncelliWavelet(1),
        SimoncelliWavelet(1, boundary="mirror"),
        RieszFilter(LaplacianOfGaussian(1.5, 8.0), (0, 2, 0)),
    ],
    ids=lambda f: f.name,
)
def test_a_constant_image_has_no_edges(image_filter):
    response = respond(image_filter, np.full((9, 11, 13), -1000.0))
    assert np.abs(response).max() < 1e-6


@pytest.mark.parametrize("boundary", ["nearest", "periodic", "mirror"])
def test_the_mean_of_a_constant_is_the_constant(boundary):
    response = respond(MeanFilter(7, boundary=boundary), np.full((3, 5, 4), 41.0))
    assert np.allclose(response, 41.0, rtol=1e-12)


@pytest.mark.parametrize("boundary", PAD_MODE)
@pytest.mark.parametrize(
    "make",
    [
        lambda b: MeanFilter(5, boundary=b),
        lambda b: LaplacianOfGaussian(1.0, boundary=b),
        lambda b: LawsFilter("E5L5S5", "max", boundary=b),
        lambda b: GaborFilter(1.0, 2.5, 1.5, 0.0, 90.0, boundary=b),
        lambda b: SeparableWavelet("db2", "LHL", boundary=b),
    ],
)
def test_a_boundary_is_what_numpy_pads(image, make, boundary):
    margin = make("mirror").margin_voxels(MM)
    padded = np.pad(image, [(n, n) for n in margin[::-1]], mode=PAD_MODE[boundary])
    want = respond(make("zero"), padded)[tuple(slice(n, n + size) for n, size in zip(margin[::-1], image.shape, strict=True))]
    assert np.allclose(respond(make(boundary), image), want, atol=1e-9)


@pytest.mark.parametrize("image_filter", ALL, ids=names(ALL))
def test_a_box_with_its_margin_gives_the_response_of_the_whole(image_filter):
    image = np.random.default_rng(8).normal(size=(40, 44, 48))
    margin = image_filter.margin_voxels(MM)
    if margin is None:
        assert isinstance(image_filter, SimoncelliWavelet | RieszFilter)
        return
    box = (slice(15, 20), slice(2, 6), slice(42, 48))  # inside along z, at the border along y and x
    grown = tuple(slice(max(0, part.start - n), part.stop + n) for part, n in zip(box, margin[::-1], strict=True))
    within = tuple(slice(part.start - outer.start, part.stop - outer.start) for part, outer in zip(box, grown, strict=True))
    assert np.allclose(respond(image_filter, image[grown])[within], respond(image_filter, image)[box], atol=1e-9)


def test_a_periodic_boundary_needs_the_whole_image():
    assert MeanFilter(3, boundary="periodic").margin_voxels(MM) is None


@pytest.mark.parametrize("image_filter", SAME_IN_EVERY_DIRECTION, ids=names(SAME_IN_EVERY_DIRECTION))
@pytest.mark.parametrize("plane", [(0, 1), (1, 2), (0, 2)])
def test_turning_the_image_turns_the_response(image_filter, plane):
    image = np.random.default_rng(9).normal(size=(9, 9, 9))
    turned = respond(image_filter, np.rot90(image, 1, plane))
    assert np.allclose(turned, np.rot90(respond(image_filter, image), 1, plane), atol=1e-9)


def test_a_filter_with_a_direction_does_not_turn():
    image = np.random.default_rng(9).normal(size=(9, 9, 9))
    turned = respond(LawsFilter("E5L5S5"), np.rot90(image, 1, (1, 2)))
    assert not np.allclose(turned, np.rot90(respond(LawsFilter("E5L5S5"), image), 1, (1, 2)))


def test_the_first_letter_of_a_band_is_along_x():
    image = np.zeros((4, 4, 8))
    image[:, :, ::2] = 1.0  # changes along x only
    assert np.abs(respond(SeparableWavelet("haar", "HLL"), image)).max() > 1
    assert np.abs(respond(SeparableWavelet("haar", "LLH"), image)).max() < 1e-12
    assert np.abs(respond(RieszFilter(SimoncelliWavelet(1, boundary="periodic"), (0, 1, 0)), image)).max() < 1e-12


@pytest.mark.parametrize("wavelet", ["haar", "db2", "coif1"])
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("band", ["LLL", "HLL", "LHL", "HHH"])
def test_undecimated_bands_are_pywavelets_stationary_ones(wavelet, level, band):
    image = np.random.default_rng(2).normal(size=(8, 12, 16))
    key = band[::-1].replace("L", "a").replace("H", "d")
    want = pywt.swtn(image, wavelet, level)[0][key]  # the deepest level first
    assert np.allclose(respond(SeparableWavelet(wavelet, band, level, boundary="periodic"), image), want, atol=1e-12)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "coif1"])
@pytest.mark.parametrize("level", [1, 2])
def test_decimated_bands_are_pywavelets(wavelet, level):
    image = np.random.default_rng(2).normal(size=(8, 12, 16))
    bands = {"aaa": image}
    for _ in range(level):
        bands = pywt.dwtn(bands["aaa"], wavelet, "periodization")
    got = SeparableWavelet(wavelet, "HLL", level, boundary="periodic").decimated(image, MM, device="cpu")
    assert np.allclose(got, bands["aad"], atol=1e-12)


def test_slices_are_decimated_in_their_plane():
    image = np.random.default_rng(2).normal(size=(3, 6, 8))
    got = SeparableWavelet("db2", "LH", dimensions=2, boundary="periodic").decimated(image, MM, device="cpu")
    assert got.shape == (3, 3, 4)
    assert np.allclose(got[1], pywt.dwtn(image[1], "db2", "periodization")["da"], atol=1e-12)


def test_on_thick_slices_the_laplacian_is_taken_in_mm():
    """A smooth blob sampled with voxels of 1 x 1 x 2 mm responds as the same blob at 1 mm does, in the unit of its voxels."""

    def blob(spacing_mm, n):
        z, y, x = np.ogrid[tuple(slice(-(size // 2), size // 2 + 1) for size in n)]
        sx, sy, sz = spacing_mm
        return np.exp(-((x * sx) ** 2 + (y * sy) ** 2 + (z * sz) ** 2) / (2 * 4.0**2))

    log = LaplacianOfGaussian(3.0, 6.0)
    fine = respond(log, blob((1, 1, 1), (61, 41, 41)))
    thick = respond(log, blob((1, 1, 2), (31, 41, 41)), (1.0, 1.0, 2.0))
    edge = 2.0 ** (1 / 3)
    assert np.allclose(thick[5:-5], fine[::2][5:-5] * edge**2, atol=1e-6)
    normalised = dataclasses.replace(log, scale_normalised=True)
    # Closed form: a Gaussian of variance s^2 smoothed by sigma is one of s^2 + sigma^2.
    peak = -3 * 3.0**2 * (16.0 / 25.0) ** 1.5 / 25.0
    assert respond(normalised, blob((1, 1, 2), (31, 41, 41)), (1.0, 1.0, 2.0))[15, 20, 20] == pytest.approx(peak, rel=1e-4)


def test_the_normalised_laplacian_is_scipys():
    image = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(20, 20, 20)), 2.0)
    got = respond(LaplacianOfGaussian(4.0, 6.0, scale_normalised=True), image, (2.0, 2.0, 2.0))
    want = 4.0 * ndimage.gaussian_laplace(image, 2.0, mode="reflect", truncate=6.0)
    assert np.allclose(got, want, atol=2e-6 * np.abs(want).max())


def test_sizes_in_mm_follow_the_spacing(image):
    for coarse, fine in [(LaplacianOfGaussian(3.0), LaplacianOfGaussian(1.5)), (GaborFilter(3.0, 6.0, 1.0, 10.0), GaborFilter(1.5, 3.0, 1.0, 10.0))]:
        assert np.allclose(respond(coarse, image, (2.0, 2.0, 2.0)), respond(fine, image), atol=1e-12)


def test_opposite_directions_are_not_computed_twice(image):
    whole = GaborFilter(1.0, 2.5, 1.5, 20.0, 30.0, dimensions=2)
    each = [respond(GaborFilter(1.0, 2.5, 1.5, 20.0 + 30.0 * k, dimensions=2), image) for k in range(12)]
    assert len(whole._directions()) == 6
    assert np.allclose(respond(whole, image), np.mean(each, axis=0), atol=1e-10)


def test_names_and_settings_tell_filters_apart():
    variants = [
        *ALL,
        MeanFilter(3, boundary="zero"),
        LaplacianOfGaussian(1.5),
        LaplacianOfGaussian(1.5000001),
        LaplacianOfGaussian(1.0, 5.0),
        GaborFilter(1.0, 2.5, 1.5, -30.0, dimensions=2),
        SeparableWavelet("bior1.3", "LLH"),
        RieszFilter(LaplacianOfGaussian(1.0, boundary="zero"), (1, 0, 0)),
        LawsFilter("L5E5E5", "max", 3),
        LawsFilter("L5E5E5", "average", 2),
    ]
    found = names(variants)
    assert len(set(found)) == len(found)
    assert all(name.isidentifier() and not keyword.iskeyword(name) for name in found)
    assert len({tuple(v.params().items()) for v in variants}) == len(variants)
    assert all(isinstance(value, str | int | float | bool | None) for v in variants for value in v.params().values())
    assert all("IBSI" in v.definition for v in variants)
    assert LaplacianOfGaussian(3.0).name == "log_3mm"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: MeanFilter(4), UnitError),
        (lambda: MeanFilter(3, dimensions=1), FormatError),
        (lambda: MeanFilter(3, boundary="reflect"), FormatError),
        (lambda: LaplacianOfGaussian(0.0), UnitError),
        (lambda: LaplacianOfGaussian(1.0, -4.0), UnitError),
        (lambda: LawsFilter("L5E5"), FormatError),
        (lambda: LawsFilter("L5X5E5"), FormatError),
        (lambda: LawsFilter("L5E5E5", "mean"), FormatError),
        (lambda: LawsFilter("L5E5E5", None, 0), UnitError),
        (lambda: GaborFilter(1.0, -1.0), UnitError),
        (lambda: GaborFilter(1.0, 2.0, theta_step_deg=50.0), UnitError),
        (lambda: GaborFilter(1.0, 2.0, theta_deg=np.nan), UnitError),
        (lambda: GaborFilter(1.0, 2.0, pooling="sum"), FormatError),
        (lambda: SeparableWavelet("db99", "LLH"), FormatError),
        (lambda: SeparableWavelet("db2", "LH"), FormatError),
        (lambda: SeparableWavelet("db2", "LLH", 0), FormatError),
        (lambda: SimoncelliWavelet(9), FormatError),
        (lambda: RieszFilter(MeanFilter(3), (1, 0, 0)), FormatError),
        (lambda: RieszFilter(SimoncelliWavelet(1), (1, 0)), FormatError),
        (lambda: RieszFilter(SimoncelliWavelet(1), (0, 0, 0)), FormatError),
    ],
)
def test_settings_that_cannot_be_are_refused(make, error):
    with pytest.raises(error, match="must"):
        make()


@pytest.mark.parametrize(
    ("image_filter", "spacing_mm", "remedy"),
    [
        (LaplacianOfGaussian(1.0), (0.8, 0.8, 3.0), "dimensions=2"),
        (LawsFilter("L5E5E5", "max"), (1.0, 1.0, 3.0), "Resample"),
        (SeparableWavelet("db2", "LLH", 1, "max"), (1.0, 1.0, 3.0), "Resample"),
        (GaborFilter(3.0, 6.0), (1.0, 1.0, 3.0), "Resample"),
        (GaborFilter(3.0, 6.0, dimensions=2), (1.0, 2.0, 3.0), "Resample"),
        (GaborFilter(3.0, 1.5), (1.0, 1.0, 1.0), "finer"),
        (SimoncelliWavelet(1), (1.0, 1.0, 3.0), "Resample"),
        (RieszFilter(LaplacianOfGaussian(3.0), (1, 0, 0)), (1.0, 1.0, 3.0), "Resample"),
        (MeanFilter(3), (1.0, 1.0), "Pass"),
        (MeanFilter(3), (1.0, 1.0, -1.0), "Pass"),
    ],
)
def test_spacings_that_do_not_suit_are_refused_with_the_remedy(image, image_filter, spacing_mm, remedy):
    with pytest.raises(GeometryError, match=remedy):
        respond(image_filter, image, spacing_mm)


def test_slices_may_be_thick_for_filters_in_the_slice(image):
    for flat in (f for f in ALL if f.dimensions == 2):
        assert np.allclose(respond(flat, image, (1.0, 1.0, 5.0)), respond(flat, image))


def test_images_that_cannot_be_filtered_are_refused(image):
    with pytest.raises(GeometryError, match="values\\[None\\]"):
        respond(MeanFilter(3), image[0])
    with pytest.raises(UnitError, match="finite"):
        respond(MeanFilter(3), np.where(image > 0, image, np.nan))
    with pytest.raises(FormatError, match="rotations"):
        SeparableWavelet("db2", "LLH", 1, "max").decimated(image, MM)


def test_a_device_without_float64_is_refused_only_where_it_was_asked_for(image, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingDependency, match="float64"):
        MeanFilter(3).apply(image, MM, device="mps")
    assert np.array_equal(MeanFilter(3).apply(image, MM), respond(MeanFilter(3), image))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("image_filter", ALL, ids=names(ALL))
def test_cuda_agrees(image, image_filter):
    want = respond(image_filter, image)
    assert np.allclose(image_filter.apply(image, MM, device="cuda"), want, atol=1e-10 * np.abs(want).max())
