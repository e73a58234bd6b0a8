"""The embedded phantom patient: made, measured like any other patient, and compared with the truth. Nothing is downloaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from idx import io, models, registration, testing
from idx._typing import FloatArray, PathLike, Triple
from idx.errors import GeometryError
from idx.geometry import Transform
from idx.slide import Contours
from idx.testing import PairedPhantom
from idx.workflow import Journey, result_folder, run_patient, step, write_journey

N_PATIENTS = 240
"""Patients of the synthetic cohort."""
SYNTHETIC = (
    "Synthetic: this patient's CT and slide were made at run time with known answers, and so was the cohort of the outcome model. "
    "The figures show that the path works, not what idx reaches on patients."
)
"""Said on the demo's report, so that nobody takes a phantom for evidence."""
PRIOR_DEG, PRIOR_MM = 15.0, 3.0
"""How far the pathologist's note of the plane may be off; the phantom's is off by 10 degrees and 2 mm."""
Summary = dict[str, float | str | None]
MARKER = ".idx-demo"
"""File that tells a folder of ours, which may be replaced, from a folder of the user's, which may not."""


@dataclass(frozen=True)
class PatientFiles:
    """Paths of the phantom patient's files, as a hospital would hand them over."""

    ct: Path
    rtstruct: Path
    slide: Path
    tumour: Path
    landmarks: Path


def write_patient(folder: Path, *, seed: int) -> tuple[PairedPhantom, PatientFiles]:
    """Make the phantom patient and write it as DICOM, RTSTRUCT, tiled TIFF, GeoJSON and a table of landmark pairs."""
    phantom = testing.paired_case(folder, seed=seed)
    files = PatientFiles(folder / "ct", folder / "rtstruct.dcm", phantom.slide_path, folder / "tumour.geojson", folder / "landmarks.csv")
    testing.write_ct_series(phantom.ct, files.ct)
    testing.write_rtstruct(phantom.mask, files.ct, files.rtstruct)
    with io.open_slide(files.slide) as slide:
        io.write_geojson(phantom.lesion_outline, files.tumour, slide=slide)
    registration.write_landmarks(registration.Landmarks(phantom.landmarks_slide_um, phantom.landmarks_ct_mm), files.landmarks)
    return phantom, files


def run_demo(out: PathLike, *, seed: int = 0) -> Summary:
    """Walk the phantom patient through idx and write ``report.html`` and ``summary.json``.

    Parameters
    ----------
    out : path
        Folder for the report, the summary, the saved case and the patient's files.
    seed : int
        Of the phantom and the cohort.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    GeometryError
        If ``out`` holds a folder "patient" that no demo has made.
    """
    folder = result_folder(out)
    seconds: dict[str, float] = {}
    with step("making the phantom patient", seconds):
        phantom, files = write_patient(_fresh_folder(folder / "patient"), seed=seed)
    prior = registration.PosePrior(triple(phantom.prior_normal), tolerance_deg=PRIOR_DEG, centre_mm=triple(phantom.prior_centre_mm), tolerance_mm=PRIOR_MM)
    journey = run_patient(files.ct, files.rtstruct, files.slide, label=phantom.mask.label, tumour=files.tumour, prior=prior, case_id="phantom-patient")
    journey = replace(journey, case=journey.case.with_(notes=(SYNTHETIC, *journey.case.notes)))
    with step("cross-validating the outcome model", seconds):
        evaluation = evaluate_cohort(seed)
    summary = summarise(phantom, journey, evaluation)
    write_journey(journey, folder, evaluation=evaluation, truth=known_answers(phantom, summary), title="Phantom patient")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _fresh_folder(folder: Path) -> Path:
    """Make the patient's folder, replacing only an earlier demo's."""
    if folder.exists():
        if not (folder / MARKER).is_file():
            raise GeometryError(f"the demo's patient folder must be new or an earlier demo's; got '{folder}'. Pass another --out.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    return folder


def evaluate_cohort(seed: int) -> models.Evaluation:
    """Cross-validate late fusion on a synthetic cohort whose outcome depends on CT and pathology."""
    patients = testing.cohort(N_PATIENTS, seed=seed)
    return models.evaluate(models.LateFusion(), models.Blocks(patients.blocks), models.Survival(patients.time_days, patients.event), n_repeats=3, seed=seed)


def transform_error_mm(found: Transform, truth: Transform, tissue: Contours) -> float:
    """Root mean square distance in mm between two placements over the tissue's outline and inside."""
    import shapely

    left, top, right, bottom = tissue.bounds_um
    x, y = np.meshgrid(np.linspace(left, right, 60), np.linspace(top, bottom, 60))
    inside = shapely.contains_xy(shapely.union_all(list(tissue.polygons())), x, y)
    points = np.stack([x[inside], y[inside]], axis=-1)
    distance = np.linalg.norm(found.apply(points) - truth.apply(points), axis=-1)
    return float(np.sqrt((distance**2).mean()))


def triple(vector: FloatArray) -> Triple:
    """A vector (3,) as the tuple that priors hold."""
    x, y, z = (float(component) for component in vector)
    return x, y, z


def summarise(phantom: PairedPhantom, journey: Journey, evaluation: models.Evaluation) -> Summary:
    """Figures of the demo beside the truth."""
    radiomics = journey.case.tables["radiomics"]
    placement = journey.placement
    summary: Summary = {
        "error_mm": None,
        "error_expected_mm": None,
        "verdict": placement.verdict if placement else "not asked",
        "nuclei_found": len(journey.nuclei.contours),
        "nuclei_planted": phantom.n_nuclei,
        "volume_mm3": float(radiomics["mesh_volume_mm3"].iloc[0]),
        "volume_true_mm3": phantom.volume_mm3,
        "c_index": evaluation.c_index,
        "c_index_low": evaluation.c_index_low,
        "c_index_high": evaluation.c_index_high,
    }
    if placement is not None and placement.is_placed:
        summary["error_mm"] = transform_error_mm(placement.require_placed(), phantom.truth, phantom.tissue)
        summary["error_expected_mm"] = placement.error_mm
    return summary


def known_answers(phantom: PairedPhantom, summary: Summary) -> dict[str, float]:
    """Truth of the phantom under the report's keys."""
    truth = {"lesion_volume_mm3": phantom.volume_mm3, "n_nuclei": float(phantom.n_nuclei)}
    return truth | ({} if summary["error_mm"] is None else {"registration_error_mm": float(summary["error_mm"])})
