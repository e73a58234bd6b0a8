"""A small CT with a lesion, and a slide cut from it at a known pose: independent of idx.testing and of the code under test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import shapely
from scipy import ndimage
from scipy.spatial.transform import Rotation

from idx.geometry import PATIENT, SLIDE, Grid, SectionTransform
from idx.registration import PosePrior, SectionMaps
from idx.slide import Contours, Level, Slide
from idx.volume import CTVolume, Mask

SLIDE_CENTRE_UM = np.array([20_000.0, 15_000.0])


class NoPixels:
    """A pixel source for a slide whose maps are given: reading is a failure of the test."""

    name = "none"
    levels = (Level(80_000, 60_000, 1.0),)

    def read_tiles_into(self, batch, tiles):
        raise AssertionError("the slide must not be read when maps are given")

    def close(self):
        pass


@dataclass(frozen=True, eq=False)
class CutLesion:
    ct: CTVolume
    lesion: Mask
    slide: Slide
    maps: SectionMaps
    truth: SectionTransform
    prior: PosePrior
    tissue_um: np.ndarray
    true_mm: np.ndarray

    def error_mm(self, transform):
        """Root mean square error over the tissue, the warp that no plane can follow included."""
        return float(np.sqrt(((transform.apply(self.tissue_um) - self.true_mm) ** 2).sum(-1).mean()))


def field(rng, shape, sigma):
    """Smooth random field of unit variance."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return noise / noise.std()


def cut_lesion(
    seed: int = 0,
    *,
    mirrored=None,
    texture_hu=70.0,
    sphere=False,
    slide_noise_hu=60.0,
    shrinkage=0.15,
    prior_deg=10.0,
    prior_mm=2.0,
    radius_mm=11.0,
    warp_mm=0.0,
) -> CutLesion:
    rng = np.random.default_rng(seed)
    spacing = np.array([0.9, 0.9, 1.25])
    shape = (52, 72, 72)
    grid = Grid.from_spacing(shape, tuple(spacing), (-30.0, 10.0, -100.0))
    points = grid.to_physical(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))
    centre = np.asarray(grid.centre_mm)
    local = points - centre
    distance = np.linalg.norm(local, axis=-1)
    if sphere:
        surface = np.full(shape, radius_mm)
    else:
        direction = local / np.maximum(distance, 1e-9)[..., None]
        lobes = sum(
            a * np.maximum(direction @ v, 0) ** 4
            for a, v in zip(rng.uniform(-0.3, 0.5, 7), rng.standard_normal((7, 3)), strict=True)
            for v in [v / np.linalg.norm(v)]
        )
        surface = radius_mm * (1 + lobes) * np.linalg.norm(direction * rng.uniform(0.75, 1.1, 3), axis=-1)
    inside = distance <= surface
    blur = lambda mm: tuple(mm / s for s in spacing[::-1])  # noqa: E731
    interior = 30 + texture_hu * field(rng, shape, blur(2.5))
    around = np.full(shape, -820.0) if sphere else -820 + 60 * field(rng, shape, blur(4.0)) + 500 * (field(rng, shape, blur(1.5)) > 1.9)
    clean = ndimage.gaussian_filter(np.where(inside, interior, around), blur(0.5))
    ct = CTVolume(np.round(clean + rng.normal(0, 15, shape)).astype(np.int16), grid)

    rotation = Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix()
    normal = rotation[:, 2]
    depth = rng.uniform(-0.35, 0.35) * radius_mm
    shift = rotation[:, :2] @ rng.uniform(-2, 2, 2)
    origin = centre + depth * normal + shift
    facing_back = bool(rng.integers(2)) if mirrored is None else mirrored
    axes = rotation[:, :2] / (1 - shrinkage) * 1e-3
    truth = SectionTransform(axes, origin - axes @ SLIDE_CENTRE_UM, SLIDE, PATIENT)

    pixel_um = 250.0
    extent = 19_000 * (1 - shrinkage)
    x, y = (np.arange(c - extent, c + extent, pixel_um) for c in SLIDE_CENTRE_UM)
    raster = np.stack(np.meshgrid(x, y), axis=-1)
    warp = np.zeros_like(raster)
    if warp_mm:
        warp = np.stack([field(rng, raster.shape[:2], 5000 / pixel_um) for _ in range(2)], -1)
        # What an affine map could follow is taken out: the truth is then the best affine, and the warp its residual.
        design = np.column_stack([np.ones(raster[..., 0].size), (raster - SLIDE_CENTRE_UM).reshape(-1, 2)])
        flat = warp.reshape(-1, 2)
        warp = (flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]).reshape(warp.shape)
        warp *= warp_mm * 1e3 * (1 - shrinkage) / np.sqrt((warp**2).sum(-1).mean())
    index = np.moveaxis(grid.to_index(truth.apply(raster + warp)), -1, 0)
    hu = ndimage.map_coordinates(clean, index, order=1, mode="nearest")
    depth_inside = radius_mm - np.linalg.norm(truth.apply(raster + warp) - centre, axis=-1)
    if sphere:
        # From the formula: the staircase of a voxelised ball would give its orientation away.
        hu = -820 + 850 / (1 + np.exp(-depth_inside / 0.4))
    hu = hu + slide_noise_hu * field(rng, hu.shape, 2)
    on_slide = depth_inside > 0 if sphere else ndimage.map_coordinates(inside.astype(float), index, order=1) > 0.5
    half = (15_500 if not sphere else 14_000) * (1 - shrinkage)
    tissue = shapely.box(*(SLIDE_CENTRE_UM - half), *(SLIDE_CENTRE_UM + half))
    cells = [shapely.box(px - pixel_um / 2, py - pixel_um / 2, px + pixel_um / 2, py + pixel_um / 2) for px, py in raster[on_slide]]
    outline = shapely.union_all(cells).buffer(0)
    pieces = list(outline.geoms) if outline.geom_type == "MultiPolygon" else [outline]
    in_tissue = np.abs(raster - SLIDE_CENTRE_UM).max(-1) <= half
    maps = SectionMaps(
        Contours.from_polygons([tissue]),
        Contours.from_polygons(pieces),
        np.where(in_tissue, hu, np.nan),
        (float(x[0]), float(y[0])),
        (pixel_um, pixel_um),
    )
    tilt = rng.standard_normal(3)
    tilt -= tilt @ normal * normal
    tilted = Rotation.from_rotvec(np.radians(prior_deg) * tilt / np.linalg.norm(tilt)).apply(normal)
    direction = rng.standard_normal(3)
    prior_centre = origin + prior_mm * direction / np.linalg.norm(direction)
    # The note does not know which way the slide faces: truth lies against the prior's normal where it is mirrored.
    prior_normal = -tilted if facing_back else tilted
    prior = PosePrior(tuple(prior_normal), prior_deg * 1.3 + 1.0, tuple(prior_centre), prior_mm * 1.5 + 0.5)
    slide = Slide(NoPixels(), (0.5, 0.5), "cut")
    points = raster[in_tissue][::37]
    return CutLesion(ct, Mask(inside, grid), slide, maps, truth, prior, points, truth.apply(points + warp[in_tissue][::37]))


@pytest.fixture(scope="session")
def make_cut():
    return cut_lesion


@pytest.fixture
def make_slide():
    return lambda: Slide(NoPixels(), (0.5, 0.5), "cut")


@pytest.fixture
def plain_ct():
    return CTVolume(np.zeros((4, 4, 4), dtype=np.int16), Grid.from_spacing((4, 4, 4), (1.0, 1.0, 1.0)))
