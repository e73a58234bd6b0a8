"""A small case made of closed forms: an ellipsoid in a CT and a slide painted from the same ellipsoid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import shapely

from idx.case import Case
from idx.geometry import PATIENT, SLIDE, SectionTransform, TransformGraph
from idx.geometry.grids import Grid, level0_position
from idx.provenance import Provenance, Source
from idx.slide import Contours, Level, Slide, TileRect
from idx.table import FeatureSpec, FeatureTable, Missing
from idx.volume import CTVolume, Mask

CENTRE = np.array([12.0, -30.0, 55.0])
RADII = np.array([11.0, 9.0, 13.0])
MPP = 8.0
SIZE_PX = (3296, 3000)
SHRINK = 1.15


@dataclass(frozen=True)
class ArrayPixels:
    """Pixels from arrays in memory."""

    arrays: tuple[np.ndarray, ...]
    name: str = "array"

    @property
    def levels(self) -> tuple[Level, ...]:
        full = self.arrays[0].shape[1]
        return tuple(Level(a.shape[1], a.shape[0], full / a.shape[1]) for a in self.arrays)

    def read_tiles_into(self, batch: np.ndarray, tiles: Sequence[TileRect]) -> None:
        batch[:] = 255
        for out, tile in zip(batch, tiles, strict=True):
            a = self.arrays[tile.level]
            y0, y1 = max(0, tile.y_px), min(a.shape[0], tile.y_px + tile.height_px)
            x0, x1 = max(0, tile.x_px), min(a.shape[1], tile.x_px + tile.width_px)
            if y1 > y0 and x1 > x0:
                out[y0 - tile.y_px : y1 - tile.y_px, x0 - tile.x_px : x1 - tile.x_px] = a[y0:y1, x0:x1]

    def close(self) -> None: ...


def section_truth() -> SectionTransform:
    """A plane through the lesion, turned about two axes, magnified by the shrinkage of the tissue."""
    a, b = np.radians(20.0), np.radians(25.0)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    axes = turn[:, :2] * SHRINK * 1e-3
    middle_um = np.array(SIZE_PX) * MPP / 2
    return SectionTransform(axes, CENTRE + np.array([0, 0, 1.5]) - axes @ middle_um, SLIDE, PATIENT)


def _inside(points: np.ndarray) -> np.ndarray:
    return (((points - CENTRE) / RADII) ** 2).sum(axis=-1) <= 1.0


def make_ct() -> tuple[CTVolume, Mask]:
    grid = Grid.from_spacing((50, 72, 80), (1.0, 1.0, 1.5), (-28.0, -66.0, 18.0))
    points = grid.to_physical(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1))
    inside = _inside(points)
    rng = np.random.default_rng(0)
    hu = np.where(inside, 45.0, -820.0)
    hu[((points[..., 0] - 2) ** 2 + (points[..., 2] - 60) ** 2) < 9] = 60
    hu[np.abs(points[..., 1] - 2) < 3] = 350
    return CTVolume(
        (hu + rng.normal(0, 18, hu.shape)).round().astype(np.int16), grid, source=Source("/home/jane/private/ct_series", "dicom", files=("1.dcm",))
    ), Mask(inside, grid)


def make_slide() -> tuple[Slide, Contours, Contours]:
    rng = np.random.default_rng(1)
    width, height = SIZE_PX
    half = np.full((height // 2, width // 2, 3), 247, np.uint8)
    index = np.stack(np.meshgrid(np.arange(width // 2), np.arange(height // 2)), axis=-1)
    points = section_truth().apply(level0_position(index, 2.0) * MPP)
    inside = _inside(points)
    rim = (((points - CENTRE) / (RADII + 2.5)) ** 2).sum(axis=-1) <= 1.0
    half[rim] = (238, 190, 214)
    half[inside] = (208, 140, 184)
    half = np.where(rim[..., None], np.clip(half + rng.normal(0, 8, half.shape), 0, 255), half).astype(np.uint8)
    spots = rng.permutation(np.argwhere(inside))[:600]
    nuclei = []
    for row, column in spots:
        yy, xx = np.ogrid[-3:4, -3:4]
        block = half[row - 3 : row + 4, column - 3 : column + 4]
        if block.shape == (7, 7, 3):
            block[yy**2 + xx**2 <= 9] = (84, 52, 122)
            centre = level0_position(np.array([column, row]), 2.0) * MPP
            nuclei.append(shapely.Point(*centre).buffer(3.3 * 2 * MPP, quad_segs=6))
    full = half.repeat(2, axis=0).repeat(2, axis=1)
    coarse = half.reshape(height // 8, 4, width // 8, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    slide = Slide(ArrayPixels((full, half, coarse)), (MPP, MPP), "A12.svs", source=Source("/home/jane/private/A12.svs", "svs"))
    ellipse = shapely.Polygon(level0_position(_ring(rim), 2.0) * MPP)
    labels = ["tumour" if i % 3 else "lymphocyte" for i in range(len(nuclei))]
    return slide, Contours.from_polygons([ellipse], labels=["tissue"]), Contours.from_polygons(nuclei, labels=labels)


def _ring(region: np.ndarray) -> np.ndarray:
    from skimage.measure import find_contours

    ring = max(find_contours(np.pad(region[::4, ::4].astype(float), 1), 0.5), key=len)[:-1] - 1
    return ring[:, ::-1] * 4.0


def make_tables() -> dict[str, FeatureTable]:
    specs = [
        FeatureSpec("morph_volume_mesh_mm3", "mm3", "Volume of the mesh.", "RNU0"),
        FeatureSpec("morph_sphericity", "1", "How like a ball the lesion is.", "QCFX"),
        FeatureSpec("stat_mean_hu", "hu", "Mean attenuation.", "Q4LE"),
        FeatureSpec("stat_skewness", "1", "Third standardised moment <of> values & more.", "KE2A"),
        FeatureSpec("glcm_contrast", "1", "Weighted squared grey-level difference.", "ACUI", {"bin_width_hu": 25.0}),
    ]
    row = {"morph_volume_mesh_mm3": 5391.25, "morph_sphericity": 0.9811, "stat_mean_hu": 45.02, "stat_skewness": Missing("constant"), "glcm_contrast": 1.25}
    made = Provenance("idx.radiomics.extract", {"bin_width_hu": 25.0, "resample_mm": None}, ("/home/jane/private/ct_series", "lesion"))
    radiomics = FeatureTable.from_rows({"lesion": row}, specs, index_name="lesion", provenance=made)
    rng = np.random.default_rng(2)
    nucleus_specs = [
        FeatureSpec("nucleus_area_um2", "um2", "Area of the outline."),
        FeatureSpec("nucleus_eccentricity", "1", "Of the ellipse of equal moments."),
    ]
    columns = {"nucleus_area_um2": rng.gamma(9.0, 6.0, 300), "nucleus_eccentricity": np.where(np.arange(300) < 5, np.nan, rng.beta(4, 3, 300))}
    histology = FeatureTable.from_columns(columns, nucleus_specs, index=range(300), index_name="nucleus", missing={"nucleus_eccentricity": "too_few_pixels"})
    return {"radiomics": radiomics, "histology": histology}


@pytest.fixture(scope="session")
def unlinked_case() -> Case:
    ct, mask = make_ct()
    slide, tissue, nuclei = make_slide()
    return Case("P001", volumes={"ct": ct}, masks={"lesion": mask}, slides={"A12": slide}, contours={"tissue": tissue, "nuclei": nuclei}, tables=make_tables())


@pytest.fixture(scope="session")
def linked_case(unlinked_case: Case) -> Case:
    evidence = {"method": "landmarks", "verdict": "placed", "mutual_information": 0.412, "chance_mutual_information": 0.05}
    return unlinked_case.with_(transforms=TransformGraph().with_edge(section_truth(), error_mm=1.2, evidence=evidence))


@pytest.fixture(scope="session")
def warped_case(unlinked_case: Case) -> Case:
    """Placed by a stretch on the slide, then a section: a sequence is exercised where it does not fold."""
    from idx.geometry import DisplacementTransform, Frame, compose

    flat = Frame("flat", "um", ("x", "y"))
    bend = np.zeros((5, 5, 2))
    bend[2, 2] = (600.0, -400.0)
    step = np.diag([SIZE_PX[0] * MPP / 4, SIZE_PX[1] * MPP / 4, 1.0])
    section = section_truth()
    warped = compose(DisplacementTransform(bend, step, SLIDE, flat), SectionTransform(section.axes, section.origin_mm, flat, PATIENT))
    return unlinked_case.with_(transforms=TransformGraph().with_edge(warped, error_mm=1.2))


@pytest.fixture(scope="session")
def section() -> SectionTransform:
    """The plane that the linked case was painted with."""
    return section_truth()
