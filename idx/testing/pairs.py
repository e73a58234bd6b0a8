"""A CT and a slide of one lesion, joined by a transform that is known at every point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from scipy import spatial
from skimage import measure

from idx._typing import Array, BoolArray, FloatArray, PathLike, RGBArray, Triple
from idx.errors import GeometryError
from idx.geometry import PATIENT, SLIDE, DisplacementTransform, Frame, SectionTransform, Transform, compose
from idx.slide import Contours
from idx.testing._cells import Cells, plant
from idx.testing._noise import Float32Array, smooth_noise
from idx.testing._stain import Background, render, write_pyramid
from idx.testing.balls import spacing_triple
from idx.testing.lesions import DEFAULT_CENTRE_MM, LesionPhantom, draw_field, grid_about, scan
from idx.testing.slides import COARSE_PX, JPEG_QUALITY, Stroma, check_slide_options, coarse_shape, coverage_of, sample, smooth_step, upsample
from idx.volume import CTVolume, Mask

FLAT = Frame("slide:unwarped", "um", ("x", "y"))
"""The slide as it would lie had it not been stretched in mounting."""
CT_STEP_PX = 16
"""Step of the maps taken from the continuous CT: 12 um at 0.75 um per pixel, far below its smoothing."""
WARP_NODE_UM = 150.0
WARP_LENGTH_UM = 1100.0
"""Spacing of the nodes and correlation length of the warp."""
GLASS_UM = 250.0
SIZE_MULTIPLE_PX = 64
ALVEOLUS_UM = 170.0
"""Mean distance of alveolar centres on the slide, after shrinkage."""
SOLID_FRACTION = 0.9
"""Above this tissue fraction there are no air holes."""
VESSEL_WALL_MM = 0.05
MIN_JACOBIAN = 0.2
N_LANDMARKS = 8
LANDMARK_DISTANCE_UM = 450.0


@dataclass(frozen=True, eq=False)
class PairedPhantom:
    """One lesion on CT and on a slide, and the truth that joins them.

    Parameters
    ----------
    ct : CTVolume
    mask : Mask
        Voxels whose centre is inside the lesion.
    slide_path : Path
        Tiled pyramidal TIFF.
    mpp : float
        um per level-0 pixel.
    section : SectionTransform
        Least-squares affine of ``truth`` over the tissue: what a registration without a warp can find at best.
    residual_mm : float
        Root mean square distance between ``section`` and ``truth`` over the tissue.
    truth : Transform
        Slide (um) to patient (mm), with the warp.
    warp : DisplacementTransform
        Slide to unwarped slide, um; the first step of ``truth``.
    landmarks_slide_um : array (n, 2)
    landmarks_ct_mm : array (n, 3)
        Vessels in cross section, and lobes and notches of the lesion's outline; with localisation noise where that was asked.
    lesion_outline : Contours
        Outline of the lesion on the slide, label "tumour".
    tissue : Contours
        Outline of the specimen; air spaces are not cut out.
    nuclei : Contours
        Exact outlines; labels "tumour", "lymphocyte", "stroma".
    n_nuclei : int
    volume_mm3 : float
        Of the continuous lesion.
    lesion : LesionPhantom
        The continuous phantom: ``hu_at``, ``inside``, ``centre_mm``.
    normal : array (3,)
        Unit normal of the section plane, right-handed with the slide's axes.
    section_centre_mm : array (3,)
        Patient point of the slide's middle on the unwarped section.
    offset_mm : float
        Distance of the plane from the lesion's centre.
    shrinkage : float
        Linear shrinkage: slide lengths are (1 - shrinkage) times those on CT.
    is_mirrored : bool
    prior_normal : array (3,)
        ``normal`` turned by ``prior_error_deg``, as a grossing note would give it.
    prior_centre_mm : array (3,)
        ``section_centre_mm`` moved by ``prior_error_mm``.
    prior_error_deg, prior_error_mm : float
    """

    ct: CTVolume
    mask: Mask
    slide_path: Path
    mpp: float
    section: SectionTransform
    residual_mm: float
    truth: Transform
    warp: DisplacementTransform
    landmarks_slide_um: FloatArray
    landmarks_ct_mm: FloatArray
    lesion_outline: Contours
    tissue: Contours
    nuclei: Contours
    n_nuclei: int
    volume_mm3: float
    lesion: LesionPhantom
    normal: FloatArray
    section_centre_mm: FloatArray
    offset_mm: float
    shrinkage: float
    is_mirrored: bool
    prior_normal: FloatArray
    prior_centre_mm: FloatArray
    prior_error_deg: float
    prior_error_mm: float


def _unit(vector: FloatArray) -> FloatArray:
    result: FloatArray = vector / np.linalg.norm(vector)
    return result


def _turned(rng: np.random.Generator, normal: FloatArray, angle_deg: float) -> FloatArray:
    """Turn a unit vector by an angle about a random axis perpendicular to it."""
    side = _unit(np.cross(normal, rng.standard_normal(3)))
    result: FloatArray = np.cos(np.radians(angle_deg)) * normal + np.sin(np.radians(angle_deg)) * side
    return result


def _in_plane_axes(rng: np.random.Generator, normal: FloatArray) -> FloatArray:
    """Two orthonormal vectors (3, 2) at a random rotation, right-handed with the normal."""
    first = _unit(np.cross(normal, rng.standard_normal(3)))
    return np.stack([first, np.cross(normal, first)], axis=1)


def _plane_outline(lesion: LesionPhantom, point: FloatArray, axes: FloatArray, step_mm: float = 0.05) -> shapely.Polygon:
    """Outline of the lesion in a plane, in mm along its axes from ``point``."""
    reach = lesion.field.shape.reach_mm
    steps = np.arange(-reach, reach + step_mm, step_mm)
    u, v = np.meshgrid(steps, steps)
    distance = lesion.field.lesion_distance_mm(point + np.stack([u, v], axis=-1) @ axes.T)
    return _largest_ring(distance, lambda ring: ring * step_mm - reach)


def _largest_ring(distance: FloatArray, to_points: Callable[[FloatArray], FloatArray]) -> shapely.Polygon:
    """Zero level of a signed distance (y, x) as the polygon of largest area; ``to_points`` maps (x, y) indices."""
    rings = [ring for ring in measure.find_contours(distance, 0.0) if len(ring) > 3]
    if not rings:
        raise GeometryError("the section must cut the lesion; got a plane that misses it (paired phantom). Pass a smaller offset_fraction.")
    polygons = [shapely.Polygon(to_points(ring[:-1, ::-1])) for ring in rings]
    return max(polygons, key=lambda polygon: polygon.area)


def _draw_warp(rng: np.random.Generator, size_um: FloatArray, tissue: shapely.Polygon, amplitude_um: float) -> DisplacementTransform:
    """Draw a smooth displacement over the slide that holds no affine part over the tissue, of the given largest length in it.

    Raises
    ------
    GeometryError
        If it folds.
    """
    pad = 4
    counts = np.ceil(size_um / WARP_NODE_UM).astype(int) + 2 * pad
    shape = (int(counts[1]), int(counts[0]))
    field = np.stack([smooth_noise(rng, shape, WARP_LENGTH_UM / WARP_NODE_UM) for _ in range(2)], axis=-1).astype(np.float64)
    matrix = np.array([[WARP_NODE_UM, 0.0, -pad * WARP_NODE_UM], [0.0, WARP_NODE_UM, -pad * WARP_NODE_UM], [0.0, 0.0, 1.0]])
    y, x = np.indices(shape)
    nodes = np.stack([x, y], axis=-1) * WARP_NODE_UM - pad * WARP_NODE_UM
    points = points_within(tissue, WARP_NODE_UM / 3)
    raw = DisplacementTransform(field, matrix, SLIDE, FLAT).displacement_at(points)
    coefficients = np.linalg.lstsq(np.column_stack([points, np.ones(len(points))]), raw, rcond=None)[0]
    field -= nodes @ coefficients[:2] + coefficients[2]
    free = DisplacementTransform(field, matrix, SLIDE, FLAT).displacement_at(points)
    largest = np.linalg.norm(free, axis=-1).max()
    # Far outside the tissue the affine part that was taken off grows; the glass there is not stretched further than the tissue.
    length = np.linalg.norm(field, axis=-1, keepdims=True)
    field *= amplitude_um / largest * np.minimum(1.0, 1.5 * largest / np.maximum(length, 1e-12))
    warp = DisplacementTransform(field, matrix, SLIDE, FLAT)
    if warp.jacobian_determinant().min() < MIN_JACOBIAN:
        raise GeometryError(
            f"warp_mm must not fold the section; the local change of area falls to {warp.jacobian_determinant().min():.2f} "
            "(paired phantom). Pass a smaller warp_mm."
        )
    return warp


def points_within(polygon: shapely.Polygon, step: float) -> FloatArray:
    """Points (n, 2) of a square lattice inside a polygon."""
    left, top, right, bottom = polygon.bounds
    x, y = np.meshgrid(np.arange(left, right, step), np.arange(top, bottom, step))
    inside = shapely.contains_xy(polygon, x, y)
    return np.stack([x[inside], y[inside]], axis=-1)


def _best_section(truth: Transform, points_um: FloatArray) -> tuple[SectionTransform, float]:
    """Least-squares affine of a transform over points, and its root mean square residual in mm."""
    wanted = truth.apply(points_um)
    design = np.column_stack([points_um, np.ones(len(points_um))])
    solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
    section = SectionTransform(np.asarray(solution[:2].T, dtype=np.float64), solution[2], SLIDE, PATIENT)
    return section, float(np.sqrt(((design @ solution - wanted) ** 2).sum(axis=1).mean()))


@dataclass(frozen=True, eq=False)
class _SectionMaps:
    """Coarse maps of the slide taken from the continuous CT, and the lattice of alveoli.

    ``lesion``, ``core`` and ``vessel`` are signed distances in CT mm; ``wall`` is in um, positive in tissue and negative in air, and about twice the
    distance to the surface.
    """

    lesion: Float32Array
    core: Float32Array
    vessel: Float32Array
    wall: Float32Array
    ridge: Float32Array


def _alveoli(rng: np.random.Generator, size_px: tuple[int, int], mpp: float) -> Float32Array:
    """Distance to the second nearest less that to the nearest alveolar centre, um: zero in the middle of a septum."""
    height, width = coarse_shape(size_px)
    step = COARSE_PX * mpp
    counts = np.ceil(np.array([width, height]) * step / ALVEOLUS_UM).astype(int) + 4
    lattice = np.stack(np.meshgrid(np.arange(counts[0]) - 2.0, np.arange(counts[1]) - 2.0), axis=-1).reshape(-1, 2)
    seeds = (lattice + rng.uniform(0.0, 1.0, lattice.shape)) * ALVEOLUS_UM
    wobble = np.stack([12.0 * smooth_noise(rng, (height, width), 30.0 / step) for _ in range(2)], axis=-1)
    y, x = np.indices((height, width))
    near = spatial.cKDTree(seeds).query(np.stack([x, y], axis=-1) * step + wobble, k=2)[0]
    return (near[..., 1] - near[..., 0]).astype(np.float32)


def _section_maps(rng: np.random.Generator, lesion: LesionPhantom, truth: Transform, size_px: tuple[int, int], mpp: float) -> _SectionMaps:
    y, x = np.indices((size_px[1] // CT_STEP_PX + 2, size_px[0] // CT_STEP_PX + 2))
    points = truth.apply(np.stack([x, y], axis=-1) * (CT_STEP_PX * mpp))
    field = lesion.field
    fraction = np.clip((field.hu_at(points) + 1000.0) / 1050.0, 0.0, 1.0)
    ridge = _alveoli(rng, size_px, mpp)
    # Tissue is where the ridge is below the quantile that equals the tissue fraction: the covered area follows the CT by construction.
    levels = np.linspace(0.0, 1.0, 201)
    threshold = np.interp(fraction, levels, np.quantile(ridge[::4, ::4], levels)) + 1e3 * np.clip(fraction - SOLID_FRACTION, 0.0, None)
    fine = _refine(threshold.astype(np.float32), ridge.shape)
    lesion_mm, core_mm, vessel_mm = (
        m.astype(np.float32) for m in (field.lesion_distance_mm(points), field.core_distance_mm(points), field.vessels.distance_mm(points))
    )
    return _SectionMaps(lesion_mm, core_mm, vessel_mm, fine - ridge, ridge)


def _refine(coarse: Float32Array, shape: tuple[int, int]) -> Float32Array:
    """Bring a map of step ``CT_STEP_PX`` to the step ``COARSE_PX``."""
    return upsample(coarse, 0, shape[0], shape[1], CT_STEP_PX // COARSE_PX)


def _background(maps: _SectionMaps, stroma: Stroma, nests: Array, tissue: RGBArray, mpp: float) -> Background:
    """Return the function that gives the stain amounts around the nuclei for rows of the slide."""
    width = tissue.shape[1]

    def background(first: int, last: int) -> tuple[Float32Array, Float32Array]:
        lesion, core, vessel = (upsample(m, first, last, width, CT_STEP_PX) for m in (maps.lesion, maps.core, maps.vessel))
        present = tissue[first:last] * np.float32(1 / 255)
        cover = np.clip(upsample(maps.wall, first, last, width) / (2 * mpp) + 0.5, 0.0, 1.0)
        cytoplasm = stroma.cytoplasm(first, last, width)
        fibre = stroma.eosin(first, last, width)
        solid = 1.0 - smooth_step(core, -0.03, 0.03)
        ill = 1.0 - smooth_step(lesion, -0.008, 0.008)
        nest = ill * (1.0 - solid * (1.0 - smooth_step(upsample(nests, first, last, width), 0.0, 0.18)))
        eosin = cover * ((0.20 * (1 - ill) + ill * fibre) * (1 - nest) + 0.17 * cytoplasm * nest)
        haematoxylin = cover * (0.03 * (1 - nest) + 0.085 * cytoplasm * nest)
        # Vessels keep their wall and blood in lung and rim; the solid core has grown over them.
        tube = (1.0 - smooth_step(vessel, VESSEL_WALL_MM - 0.006, VESSEL_WALL_MM + 0.006)) * (1 - solid)
        blood = (1.0 - smooth_step(vessel, -0.006, 0.006)) * (1 - solid)
        eosin += tube * (0.27 * cytoplasm - eosin)
        haematoxylin += tube * (0.03 - haematoxylin)
        eosin += blood * (0.40 * cytoplasm - eosin)
        return (present * haematoxylin).astype(np.float32), (present * eosin).astype(np.float32)

    return background


def _plant_section(
    rng: np.random.Generator,
    maps: _SectionMaps,
    stroma: Stroma,
    nests: Array,
    tissue: shapely.Polygon,
    size_um: FloatArray,
    *,
    mpp: float,
    per_mm2: float,
) -> Cells:
    """Plant tumour nuclei in the lesion, lymphocytes and spindle nuclei in its stroma, and thin nuclei along the alveolar septa."""
    allowed = tissue.buffer(-12.0)
    septa = Stroma(maps.ridge, nests, stroma.grain, stroma.fine)

    def in_lung(points: FloatArray) -> BoolArray:
        return sample(maps.lesion, points, mpp, CT_STEP_PX) > 0

    def density(points: FloatArray) -> FloatArray:
        lung = in_lung(points)
        core = sample(maps.core, points, mpp, CT_STEP_PX) < 0
        nest = np.where(core, smooth_step(sample(nests, points, mpp), 0.1, 0.3), 1.0) * ~lung
        matrix = (1 - nest) * ~lung
        lymph = smooth_step(sample(stroma.patches, points, mpp), 0.4, 0.9)
        each = np.stack([nest, 0.9 * matrix * lymph + 0.10 * lung, 0.4 * matrix + 0.9 * lung], axis=1)
        # A nucleus needs some wall around it, less for the thin ones of the septa.
        room = sample(maps.wall, points, mpp) > np.where(lung, 5.0, 9.0)
        blood = (sample(maps.vessel, points, mpp, CT_STEP_PX) < VESSEL_WALL_MM) & ~core
        return np.asarray(per_mm2 * each * (room & ~blood & shapely.contains_xy(allowed, points))[:, None])

    def angle(points: FloatArray) -> FloatArray:
        return np.where(in_lung(points), septa.angle(points, mpp), stroma.angle(points, mpp))

    return plant(rng, size_um=(float(size_um[0]), float(size_um[1])), density_per_mm2=density, fibre_angle=angle, peak_per_mm2=1.35 * per_mm2)


def _landmarks(lesion: LesionPhantom, truth: Transform, point: FloatArray, normal: FloatArray, outline: shapely.Polygon, tissue: shapely.Polygon) -> FloatArray:
    """Points (n, 2) on the slide that a reader can find on both: vessels cut across first, then lobes and notches of the outline."""
    vessels = lesion.field.vessels
    before, after = (vessels.starts - point) @ normal, (vessels.ends - point) @ normal
    cut = before * after < 0
    share = (before[cut] / (before[cut] - after[cut]))[:, None]
    crossings = vessels.starts[cut] + share * (vessels.ends[cut] - vessels.starts[cut])
    candidates = list(truth.inverse().apply(crossings)[:, :2]) if len(crossings) else []
    candidates = [c for c in candidates if tissue.buffer(-60.0).contains(shapely.Point(c)) and not outline.contains(shapely.Point(c))]
    ring = np.array(outline.segmentize(20.0).exterior.coords)[:-1]
    radius = np.linalg.norm(ring - np.array(outline.centroid.coords[0]), axis=1)
    extreme = [
        i
        for i in range(len(ring))
        if radius[i] in (np.take(radius, range(i - 15, i + 16), mode="wrap").max(), np.take(radius, range(i - 15, i + 16), mode="wrap").min())
    ]
    extreme.sort(key=lambda i: -abs(radius[i] - radius.mean()))
    candidates += [ring[i] for i in extreme] + [ring[i * len(ring) // 12] for i in range(12)]
    chosen: list[FloatArray] = []
    for candidate in candidates:
        if len(chosen) < N_LANDMARKS and all(np.linalg.norm(candidate - other) >= LANDMARK_DISTANCE_UM for other in chosen):
            chosen.append(candidate)
    return np.array(chosen)


def paired_case(
    folder: PathLike,
    *,
    seed: int = 0,
    radius_mm: float = 2.6,
    spacing_mm: float | Sequence[float] = (0.4, 0.4, 0.5),
    size_mm: float = 28.0,
    mpp: float = 0.75,
    margin_mm: float = 0.7,
    shrinkage: float = 0.15,
    warp_mm: float = 0.35,
    offset_fraction: float = 0.2,
    tilt_deg: float = 38.0,
    is_mirrored: bool = False,
    nuclei_per_mm2: float = 900.0,
    noise_hu: float = 15.0,
    landmark_noise_mm: float = 0.0,
    prior_error_deg: float = 10.0,
    prior_error_mm: float = 2.0,
    compression: str = "jpeg",
) -> PairedPhantom:
    """Make a CT of a lesion and a slide that is a known oblique, shrunken, warped section of it.

    Parameters
    ----------
    folder : path
        Where ``slide.tif`` is written; made where it is missing.
    seed : int
        The same seed gives the same bytes.
    radius_mm : float
        Radius of the ball of the lesion's volume.
    spacing_mm : float or three floats
        CT voxel spacing (x, y, z) in mm.
    size_mm : float
        Extent of the CT.
    mpp : float
        um per level-0 pixel.
    margin_mm : float
        Lung around the lesion in the section, in CT mm; more than ``warp_mm``.
    shrinkage : float
        Linear, of fixation and embedding.
    warp_mm : float
        Largest displacement by the in-plane warp, in CT mm.
    offset_fraction : float
        Distance of the plane from the lesion's centre relative to its radius.
    tilt_deg : float
        Angle between the section's normal and the CT's z axis.
    is_mirrored : bool
        Whether the section lies face down on the glass.
    nuclei_per_mm2 : float
        Density of tumour nuclei in nests before those that would touch are dropped.
    noise_hu : float
        Standard deviation of CT noise.
    landmark_noise_mm : float
        Standard deviation, per axis, of the error of the CT landmarks.
    prior_error_deg, prior_error_mm : float
        By how much the prior differs from the truth.
    compression : {"jpeg", "deflate"}

    Returns
    -------
    PairedPhantom

    Raises
    ------
    GeometryError
        If the plane misses the lesion, or the warp folds or leaves the margin.

    Notes
    -----
    ``truth = compose(warp, pose)`` with pose a similarity: (1 - shrinkage) slide um for each CT um. The warp holds no affine part over the tissue, so that
    ``section`` is the pose. Tissue fraction follows the noise-free CT as (HU + 1000) / 1050. A nodule of 5.2 mm spans 13 voxels of a high-resolution chest
    CT and 8,000 pixels of 0.75 um, at which the smallest nuclei (7 um) are 9 pixels wide. Nuclei keep their shape: the warp moves them only.
    """
    if not (0 <= shrinkage < 0.5 and 0 < warp_mm < margin_mm):
        raise GeometryError(
            f"shrinkage must be in 0..0.5 and warp_mm in 0..margin_mm; got {shrinkage}, {warp_mm}, {margin_mm} (paired phantom). "
            "Pass a larger margin_mm or a smaller warp_mm."
        )
    rng = np.random.default_rng(seed)
    lesion = _draw_lesion(rng, radius_mm=radius_mm, spacing=spacing_triple(spacing_mm), size_mm=size_mm, noise_hu=noise_hu)
    azimuth, tilt = rng.uniform(0, 2 * np.pi), np.radians(tilt_deg)
    plane_normal = np.array([np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)])
    offset_mm = offset_fraction * radius_mm
    point = np.asarray(lesion.centre_mm) + offset_mm * plane_normal
    axes = _in_plane_axes(rng, plane_normal)
    if is_mirrored:
        axes = axes * (-1.0, 1.0)

    cut = _plane_outline(lesion, point, axes)
    um_per_mm = 1e3 * (1.0 - shrinkage)
    left, top, right, bottom = cut.bounds
    half_um = (np.array([right - left, bottom - top]) / 2 + margin_mm) * um_per_mm + GLASS_UM
    size = np.ceil(2 * half_um / mpp / SIZE_MULTIPLE_PX).astype(int) * SIZE_MULTIPLE_PX
    size_px, size_um = (int(size[0]), int(size[1])), size * mpp
    check_slide_options(mpp, size_px, compression)
    section_centre = point + axes @ np.array([(left + right) / 2, (top + bottom) / 2])
    pose = SectionTransform(axes / um_per_mm, section_centre - axes / um_per_mm @ (size_um / 2), FLAT, PATIENT)
    to_slide = shapely.transform(cut, lambda p: (p - [(left + right) / 2, (top + bottom) / 2]) * um_per_mm + size_um / 2)
    tissue = to_slide.buffer(margin_mm * um_per_mm, quad_segs=24).simplify(1.0)

    warp = _draw_warp(rng, size_um, tissue, warp_mm * um_per_mm)
    truth = compose(warp, pose)
    section, residual_mm = _best_section(truth, points_within(tissue, WARP_NODE_UM / 3))
    maps = _section_maps(rng, lesion, truth, size_px, mpp)
    outline = _largest_ring(maps.lesion.astype(np.float64), lambda ring: ring * (CT_STEP_PX * mpp))
    stroma = Stroma.draw(rng, size_px, mpp)
    nests = (
        smooth_noise(rng, coarse_shape(size_px), 55.0 / (COARSE_PX * mpp)) + 0.25 * smooth_noise(rng, coarse_shape(size_px), 12.0 / (COARSE_PX * mpp)) + 0.35
    )
    cells = _plant_section(rng, maps, stroma, nests, tissue, size_um, mpp=mpp, per_mm2=nuclei_per_mm2)
    rgb = render(size_px, mpp, _background(maps, stroma, nests, coverage_of(tissue, size_px, mpp), mpp), cells, rng=rng)
    path = Path(folder) / "slide.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pyramid(path, rgb, mpp=mpp, compression=compression, quality=JPEG_QUALITY)

    marks = _landmarks(lesion, truth, point, plane_normal, outline, tissue)
    return PairedPhantom(
        lesion.ct,
        lesion.mask,
        path,
        float(mpp),
        section,
        residual_mm,
        truth,
        warp,
        marks,
        truth.apply(marks) + landmark_noise_mm * rng.standard_normal((len(marks), 3)),
        Contours.from_polygons([outline], labels=["tumour"]),
        Contours.from_polygons([tissue], labels=["tissue"]),
        cells.contours(),
        len(cells),
        lesion.volume_mm3,
        lesion,
        pose.normal,
        section_centre,
        offset_mm,
        shrinkage,
        is_mirrored,
        _turned(rng, pose.normal, prior_error_deg),
        section_centre + prior_error_mm * _unit(rng.standard_normal(3)),
        prior_error_deg,
        prior_error_mm,
    )


def _draw_lesion(rng: np.random.Generator, *, radius_mm: float, spacing: Triple, size_mm: float, noise_hu: float) -> LesionPhantom:
    """Draw a small part-solid nodule scanned at high resolution."""
    field = draw_field(
        rng,
        radius_mm=radius_mm,
        centre_mm=DEFAULT_CENTRE_MM,
        reach_mm=size_mm / 2,
        core_fraction=0.72,
        rim_hu=-380.0,
        core_hu=35.0,
        lung_hu=-850.0,
        psf_mm=0.35,
        n_lobes=9,
    )
    ct, mask = scan(field, grid_about(DEFAULT_CENTRE_MM, (size_mm,) * 3, spacing), noise_hu=noise_hu, rng=rng)
    return LesionPhantom(ct, mask, field.shape.volume_mm3(), DEFAULT_CENTRE_MM, float(noise_hu), field)
