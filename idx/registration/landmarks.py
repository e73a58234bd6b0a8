"""Pairs of points seen on a slide and in the CT, and the plane fitted to them.

Points of a plane placed in space have no mirror ambiguity: turning the slide over is a rotation of the plane about a line in it,
which reverses the normal. So the closed form needs no sign of a determinant, and a mirrored slide shows only as a section normal
that points to the other side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from idx._typing import BoolArray, FloatArray, PathLike
from idx.errors import FormatError, GeometryError
from idx.geometry import PATIENT, SLIDE, Frame, SectionTransform
from idx.geometry.affine import readonly

COLUMNS = ("slide_x_um", "slide_y_um", "ct_x_mm", "ct_y_mm", "ct_z_mm")
COLLINEAR_RATIO = 0.05
"""Pairs whose spread across their best line is below this fraction of the spread along it do not fix a plane:
20 mm along and 1 mm across, a reading error of 1 mm tilts it by 45 degrees."""
N_AFFINE = 6
"""Pairs from which an affine fit (9 unknowns) is tried beside the similarity (7 unknowns)."""
OUTLIER_P = 0.01
"""Chance that a set of good pairs has a pair flagged (Bonferroni over the pairs)."""
READING_FLOOR_MM = 0.05
"""No reader marks a point better than this; keeps near-exact fits from flagging rounding as an outlier."""

Model = Literal["similarity", "affine"]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Corresponding points on a slide and in the CT.

    Parameters
    ----------
    slide_um : array (n, 2)
        Points (x, y) in the slide's frame, um.
    ct_mm : array (n, 3)
        The same points (x, y, z) in the patient frame (LPS), mm.
    names : tuple of str
        One name per pair; "1", "2", ... where none are given.
    path : str or None
        File they were read from, named in errors.

    Raises
    ------
    GeometryError
        If the shapes do not fit or a coordinate is not finite.
    """

    slide_um: FloatArray
    ct_mm: FloatArray
    names: tuple[str, ...] = ()
    path: str | None = None

    def __post_init__(self) -> None:
        slide, ct = readonly(self.slide_um), readonly(self.ct_mm)
        if slide.ndim != 2 or slide.shape[1:] != (2,) or ct.shape != (len(slide), 3):
            raise GeometryError(f"landmarks must be (n, 2) um and (n, 3) mm of one n; got {slide.shape} and {ct.shape} ({self.where}). Give one row per pair.")
        if not (np.isfinite(slide).all() and np.isfinite(ct).all()):
            raise GeometryError(f"landmark coordinates must be finite; got NaN or infinity ({self.where}). Remove pairs that were not marked on both images.")
        names = tuple(str(n) for n in self.names) or tuple(str(i + 1) for i in range(len(slide)))
        if len(names) != len(slide):
            raise GeometryError(f"landmark names must be one per pair; got {len(names)} for {len(slide)} pairs ({self.where}). Name each pair, or none.")
        for field, value in (("slide_um", slide), ("ct_mm", ct), ("names", names)):
            object.__setattr__(self, field, value)

    @property
    def where(self) -> str:
        """File the pairs came from, for messages."""
        return self.path or "landmarks given as arrays"

    def __len__(self) -> int:
        return len(self.slide_um)

    def select(self, keep: npt.ArrayLike) -> Landmarks:
        """Return the pairs picked by a bool mask or by indices."""
        index = np.arange(len(self))[np.asarray(keep)]
        return Landmarks(self.slide_um[index], self.ct_mm[index], tuple(self.names[i] for i in index), self.path)


def read_landmarks(path: PathLike) -> Landmarks:
    """Read pairs from a CSV file with the columns slide_x_um, slide_y_um, ct_x_mm, ct_y_mm, ct_z_mm and optionally name.

    Raises
    ------
    FormatError
        If the file is missing, a column is missing or a cell is not a number.

    Notes
    -----
    CT coordinates are DICOM patient coordinates (LPS). Points exported from 3-D Slicer or a NIfTI viewer in RAS need x and y negated first.
    """
    import pandas as pd

    path = Path(path).expanduser()
    if not path.is_file():
        raise FormatError(f"landmarks must be a CSV file; got nothing at '{path}'. Give the file that write_landmarks or your viewer saved.")
    try:
        table = pd.read_csv(path, dtype={"name": str}, float_precision="round_trip")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FormatError(f"landmarks must be a CSV table; got {error} ('{path}'). Save it as comma-separated text with a header.") from error
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise FormatError(
            f"landmark columns must include {', '.join(COLUMNS)}; got no {', '.join(missing)} ('{path}'). Rename the columns; units are part of the names."
        )
    try:
        values = table[list(COLUMNS)].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise FormatError(f"landmark coordinates must be numbers; got {error} ('{path}'). Correct the cell.") from error
    # A pair without a name gets its row's number, as in a file without names.
    names = tuple(str(i + 1) if pd.isna(name) else name for i, name in enumerate(table["name"])) if "name" in table.columns else ()
    return Landmarks(values[:, :2], values[:, 2:], names, str(path))


def write_landmarks(landmarks: Landmarks, path: PathLike) -> None:
    """Write pairs as the CSV that :func:`read_landmarks` reads, with full precision."""
    import pandas as pd

    table = pd.DataFrame(np.hstack([landmarks.slide_um, landmarks.ct_mm]), columns=list(COLUMNS))
    table.insert(0, "name", landmarks.names)
    table.to_csv(path, index=False, float_format="%.17g")


@dataclass(frozen=True, eq=False)
class LandmarkFit:
    """A section fitted to landmarks, and how far it can be believed.

    Parameters
    ----------
    transform : SectionTransform
        Slide to patient.
    model : {"similarity", "affine"}
    residual_mm : array (n,)
        Distance of each pair after the fit. Not an estimate of the error: the fit has seen the pair.
    left_out_mm : array (n,)
        Distance of each pair to the fit of all others; NaN where the others do not fix the fit.
    is_outlier : array (n,)
        Pairs that lie further from the fit of the others than chance explains.
    error_mm : float or None
        Root mean square of ``left_out_mm``: expected error of a mapped point that is marked in the CT; None where it cannot be known (three pairs).
    propagated_mm : float or None
        Root mean square over the landmarks of the target registration error that the residuals predict
        (first-order propagation, which for a rigid fit is Fitzpatrick and West, IEEE TMI 2001;20:917); leaves out what the model cannot follow.
    """

    transform: SectionTransform
    model: Model
    residual_mm: FloatArray
    left_out_mm: FloatArray
    is_outlier: BoolArray
    error_mm: float | None
    propagated_mm: float | None


def fit_similarity(slide_um: FloatArray, ct_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least-squares scaled rotation of plane points into space: axes (3, 2) in mm per um and origin (3,) in mm.

    Notes
    -----
    Minimises ``|ct - origin - s Q slide|^2`` over s > 0 and Q (3, 2) with orthonormal columns. With centred points and the thin
    singular value decomposition ``ct.T @ slide = U S V.T`` the answer is ``Q = U V.T`` and ``s = tr(S) / |slide|^2`` (orthogonal
    Procrustes; Umeyama, IEEE PAMI 1991;13:376, where the third column of the rotation is free, so no reflection can arise).
    """
    slide_mean, ct_mean = slide_um.mean(axis=0), ct_mm.mean(axis=0)
    slide, ct = slide_um - slide_mean, ct_mm - ct_mean
    u, singular, vt = np.linalg.svd(ct.T @ slide, full_matrices=False)
    axes = (u @ vt) * (singular.sum() / (slide**2).sum())
    return axes, ct_mean - axes @ slide_mean


def fit_affine(slide_um: FloatArray, ct_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least-squares affine map of plane points into space: axes (3, 2) in mm per um and origin (3,) in mm."""
    slide_mean, ct_mean = slide_um.mean(axis=0), ct_mm.mean(axis=0)
    solution, *_ = np.linalg.lstsq(slide_um - slide_mean, ct_mm - ct_mean, rcond=None)
    axes = solution.T
    return axes, ct_mean - axes @ slide_mean


_FITS = {"similarity": fit_similarity, "affine": fit_affine}
_N_UNKNOWNS = {"similarity": 7, "affine": 9}


def _spread_ratio(points: FloatArray) -> float:
    """Spread across the best line through points over the spread along it; 0 for collinear points."""
    singular = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return float(singular[1] / singular[0]) if len(points) > 2 and singular[0] > 0 else 0.0


def _fixes_plane(landmarks: Landmarks) -> bool:
    return len(landmarks) >= 3 and min(_spread_ratio(landmarks.slide_um), _spread_ratio(landmarks.ct_mm)) >= COLLINEAR_RATIO


def _design(slide_um: FloatArray, axes: FloatArray, model: Model) -> FloatArray:
    """Derivatives (n, 3, parameters) of the mapped points by the fit's parameters, about the centre of the points."""
    centred = slide_um - slide_um.mean(axis=0)
    shift = np.broadcast_to(np.eye(3), (len(centred), 3, 3))
    if model == "affine":
        linear = np.einsum("nk,ij->nijk", centred, np.eye(3)).reshape(len(centred), 3, 6)
    else:
        moved = centred @ axes.T
        turns = [np.cross(axis, moved) for axis in np.eye(3)]
        linear = np.stack([*turns, moved], axis=-1)
    return np.concatenate([shift, linear], axis=-1)


def _left_out(landmarks: Landmarks, model: Model) -> tuple[FloatArray, BoolArray]:
    """Distance (n,) of each pair to the fit of the others, and whether it is beyond chance."""
    n = len(landmarks)
    distance, outlier = np.full(n, np.nan), np.zeros(n, dtype=bool)
    for i in range(n):
        others = landmarks.select(np.arange(n) != i)
        dof = 3 * (n - 1) - _N_UNKNOWNS[model]
        if not _fixes_plane(others) or dof < 1:
            continue
        axes, origin = _FITS[model](others.slide_um, others.ct_mm)
        miss = landmarks.ct_mm[i] - origin - axes @ landmarks.slide_um[i]
        distance[i] = np.linalg.norm(miss)
        residual = others.ct_mm - origin - others.slide_um @ axes.T
        variance = max(float((residual**2).sum()) / dof, READING_FLOOR_MM**2)
        design = _design(np.vstack([others.slide_um, landmarks.slide_um[i]]), axes, model)
        normal_matrix = np.einsum("nip,niq->pq", design[:-1], design[:-1])
        # Variance of a new pair about the fit: its own reading error plus that of the fitted point.
        covariance = np.eye(3) + design[-1] @ np.linalg.pinv(normal_matrix) @ design[-1].T
        statistic = float(miss @ np.linalg.solve(covariance, miss)) / (3 * variance)
        outlier[i] = bool(stats.f.sf(statistic, 3, dof) < OUTLIER_P / n)
    return distance, outlier


def _propagated(landmarks: Landmarks, axes: FloatArray, residual: FloatArray, *, model: Model) -> float | None:
    """Target registration error at the landmarks that the residuals predict to first order, root mean square in mm."""
    dof = 3 * len(landmarks) - _N_UNKNOWNS[model]
    if dof < 1:
        return None
    design = _design(landmarks.slide_um, axes, model)
    covariance = np.linalg.pinv(np.einsum("nip,niq->pq", design, design)) * float((residual**2).sum()) / dof
    return float(np.sqrt(np.einsum("nip,pq,niq->n", design, covariance, design).mean()))


def _fit(landmarks: Landmarks, model: Model, source: Frame, target: Frame) -> LandmarkFit:
    axes, origin = _FITS[model](landmarks.slide_um, landmarks.ct_mm)
    residual = landmarks.ct_mm - origin - landmarks.slide_um @ axes.T
    left_out, outlier = _left_out(landmarks, model)
    known = left_out[np.isfinite(left_out)]
    return LandmarkFit(
        SectionTransform(axes, origin, source, target),
        model,
        np.linalg.norm(residual, axis=1),
        left_out,
        outlier,
        float(np.sqrt((known**2).mean())) if len(known) >= 3 else None,
        _propagated(landmarks, axes, residual, model=model),
    )


def fit_landmarks(landmarks: Landmarks, *, model: Model | None = None, source: Frame = SLIDE, target: Frame = PATIENT) -> LandmarkFit:
    """Fit a section to landmark pairs in closed form and estimate its error by leaving each pair out.

    Parameters
    ----------
    landmarks : Landmarks
        At least three pairs that do not lie on one line; five or more spread over the section are advised.
    model : {"similarity", "affine"} or None
        None takes the similarity (rotation, position, one scale), and from six pairs on the affine map (shear and two scales besides)
        where that has the smaller leave-one-out error.
    source, target : Frame
        Frames of the two point sets.

    Raises
    ------
    GeometryError
        If there are too few pairs or they lie on a line.

    Examples
    --------
    >>> square = np.array([[0, 0], [10e3, 0], [0, 10e3], [10e3, 10e3]])
    >>> pairs = Landmarks(square, np.column_stack([square * 1.2e-3, np.full(4, 30.0)]))
    >>> fit_landmarks(pairs).transform.apply([5e3, 5e3]).round(6).tolist()
    [6.0, 6.0, 30.0]
    """
    n = len(landmarks)
    if n < 3:
        raise GeometryError(
            f"landmarks must be at least 3 pairs to place a slide; got {n} ({landmarks.where}). Mark more pairs, or use these few for PosePrior.from_landmarks."
        )
    if not _fixes_plane(landmarks):
        raise GeometryError(
            f"landmarks must not lie on one line; got {n} pairs whose spread across their best line is {_spread_ratio(landmarks.slide_um):.1%} (slide) and "
            f"{_spread_ratio(landmarks.ct_mm):.1%} (CT) of the spread along it ({landmarks.where}). Mark a pair off that line; its tilt is unknown otherwise."
        )
    if model is not None:
        return _fit(landmarks, model, source, target)
    similarity = _fit(landmarks, "similarity", source, target)
    if n < N_AFFINE or similarity.error_mm is None:
        return similarity
    affine = _fit(landmarks, "affine", source, target)
    return affine if affine.error_mm is not None and affine.error_mm < similarity.error_mm else similarity
