"""One patient, end to end: read, measure, place, report. ``idx run`` and a notebook walk the same path."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from idx import histology, io, radiomics, registration, report
from idx._typing import PathLike
from idx.case import MANIFEST, Case, load_case
from idx.errors import FormatError, GeometryError
from idx.io.description import describe_file
from idx.io.tables import write_table
from idx.settings import current_settings

if TYPE_CHECKING:
    from idx.histology import Nuclei
    from idx.models import Evaluation
    from idx.registration import Placement, PosePrior
    from idx.table import FeatureTable

NO_REGISTRATION = (
    "No registration was asked for: the CT and the slide are shown side by side and share no space. Pass landmarks or a pose prior to place the slide."
)
CLASSICAL_NUCLEI = "Nuclei were found by classical means, without a trained network: expect false ones in dark keratin, folds and crowded epithelium."


@dataclass(frozen=True, eq=False)
class Journey:
    """What one patient's walk left behind.

    Parameters
    ----------
    case : Case
    nuclei : Nuclei
    placement : Placement or None
        None where no registration was asked for.
    seconds : dict of str to float
        Wall time of each step.
    """

    case: Case
    nuclei: Nuclei
    placement: Placement | None
    seconds: dict[str, float]


def run_patient(
    ct: PathLike,
    mask: PathLike,
    slide: PathLike,
    *,
    label: str | None = None,
    series: str | None = None,
    mpp: float | None = None,
    landmarks: PathLike | None = None,
    tumour: PathLike | None = None,
    prior: PosePrior | None = None,
    case_id: str = "case",
) -> Journey:
    """Read, measure and (where asked) place one patient's CT lesion and slide.

    Parameters
    ----------
    ct, mask, slide : path
        Anything that ``read_ct``, ``read_mask`` and ``open_slide`` read.
    label : str, optional
        Structure to take from the mask; needed where it holds several.
    series : str, optional
        Series to take from a folder of several.
    mpp : float, optional
        um per pixel of the slide, where its file does not say.
    landmarks : path, optional
        CSV of point pairs; asks for a registration.
    tumour : path, optional
        Contours of the tumour on the slide (GeoJSON, ImageScope or ASAP XML).
    prior : PosePrior, optional
        What is known of the section's plane; asks for a registration by search.
    case_id : str
        Pseudonym.

    Raises
    ------
    IdxError
        If an input cannot be used; the message names the file and the remedy.
    """
    if landmarks is not None and prior is not None:
        # Said before anything is measured; register_section would say it a minute later.
        raise GeometryError(f"landmarks must be the only thing that places the slide; got a prior besides ('{landmarks}'). Leave one of them out.")
    seconds: dict[str, float] = {}
    with step("reading the CT", seconds):
        volume = io.read_ct(ct, series=series)
    with step("reading the mask", seconds):
        lesion = io.read_mask(mask, like=volume, label=label).require_voxels()
    opened = io.open_slide(slide, mpp=mpp)
    outline = None if tumour is None else io.read_contours(tumour, slide=opened)
    # Landmarks place the slide at once, so a bad file of them costs no measuring.
    placement = None if landmarks is None else registration.register_section(volume, opened, lesion=lesion, landmarks=registration.read_landmarks(landmarks))
    with step("radiomic features", seconds):
        radiomic = radiomics.extract(volume, lesion)
    with step("finding tissue", seconds):
        tissue = histology.find_tissue(opened)
    with step("finding nuclei", seconds):
        nuclei = histology.find_nuclei(opened, within=tissue)
    with step("histology features", seconds):
        histologic = histology.extract(opened, nuclei, level="slide", within=tissue)
    if prior is not None:
        with step("placing the slide in the CT", seconds):
            maps = registration.maps_of(opened, tissue=tissue, lesion=outline)
            placement = registration.register_section(volume, opened, lesion=lesion, prior=prior, maps=maps)
    case = Case(
        case_id,
        volumes={"ct": volume},
        masks={"lesion": lesion},
        slides={opened.name: opened},
        contours={"tissue": tissue, "nuclei": nuclei.contours} | ({} if outline is None else {"tumour": outline}),
        tables={"radiomics": radiomic, "histology": histologic},
        notes=(*_placement_notes(placement), CLASSICAL_NUCLEI),
    )
    if placement is not None and placement.is_placed:
        case = placement.add_to(case)
    return Journey(case, nuclei, placement, seconds)


def _placement_notes(placement: Placement | None) -> tuple[str, ...]:
    """What a reader must know where the slide has no place in the CT."""
    if placement is None:
        return (NO_REGISTRATION,)
    return () if placement.is_placed else (f"The slide was not placed: {' '.join(placement.reasons)}",)


def result_folder(out: PathLike) -> Path:
    """Make the folder for results, or say at once that it cannot be one.

    Raises
    ------
    FormatError
        If ``out`` is a file.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise FormatError(f"out must be a folder; got the file '{folder}'. Pass another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_journey(
    journey: Journey,
    out: PathLike,
    *,
    evaluation: Evaluation | None = None,
    truth: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Path:
    """Save the case and write its report; return the report's path.

    Parameters
    ----------
    journey : Journey
    out : path
        Folder; gets ``case/`` and ``report.html``.
    evaluation : Evaluation, optional
        Of an outcome model, shown in the report.
    truth : mapping, optional
        Known answers of a phantom (see :func:`idx.report.write_case_report`).
    title : str, optional
        Heading of the report.

    Raises
    ------
    FormatError
        If ``out`` is a file.
    """
    folder = result_folder(out)
    with step("saving the case", journey.seconds):
        journey.case.save(folder / "case", overwrite=True)
    with step("writing the report", journey.seconds):
        report.write_case_report(journey.case, folder / "report.html", placement=journey.placement, evaluation=evaluation, truth=truth, title=title)
    return folder / "report.html"


def describe(path: PathLike) -> list[tuple[str, object]]:
    """Say what a file, a DICOM folder or a saved case is, as (name, value with its unit).

    Raises
    ------
    FormatError
        If nothing is there, or idx does not read it.
    """
    if (Path(path) / MANIFEST).is_file():
        case = load_case(path, verify=False)
        return [("kind", "saved case"), ("case", case.case_id), *case.facts()]
    return describe_file(path)


@contextlib.contextmanager
def step(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Say what is going on, for how long, and keep the time."""
    started = time.perf_counter()
    console = Console(stderr=True, quiet=not current_settings().progress)
    with console.status(name):
        yield
    seconds[name] = time.perf_counter() - started
    console.print(f"  {name} [dim]{seconds[name]:.1f} s[/dim]", highlight=False)


def measure_lesions(
    image: PathLike,
    mask: PathLike,
    *,
    labels: Sequence[str] | None = None,
    series: str | None = None,
    quantity: str = "hu",
    ibsi: str | None = None,
    pyradiomics: PathLike | None = None,
    columns: str = "name",
    device: str | None = None,
    out: PathLike | None = None,
) -> FeatureTable:
    """Read an image and lesions, measure their radiomic features, and write them where asked.

    Parameters
    ----------
    image, mask : path
        Anything that ``read_ct`` (or ``read_volume``) and ``read_mask`` read.
    labels : sequence of str, optional
        Structures to take from the mask, a row each; needed where it holds several.
    series : str, optional
        Series to take from a folder of several.
    quantity : str
        "hu" for a CT; otherwise what the image holds, such as "suv".
    ibsi : str, optional
        IBSI configuration, "A" to "E".
    pyradiomics : path, optional
        Parameter file of PyRadiomics, instead of a configuration.
    columns, device
        As for :func:`idx.radiomics.extract`.
    out : path, optional
        ``.parquet`` for the table with its definitions and reasons, ``.csv`` for the values alone.

    Raises
    ------
    IdxError
        If an input cannot be used; the message names the file and the remedy.
    """
    target = None if out is None else Path(out).expanduser()
    if target is not None and target.suffix not in (".parquet", ".csv"):
        raise FormatError(f"--out must end in .parquet or .csv; got '{target}'. Pass for example radiomics.parquet.")
    if ibsi is not None and pyradiomics is not None:
        raise FormatError(f"settings must come from one place; got --ibsi {ibsi} and --pyradiomics '{pyradiomics}'. Leave one of them out.")
    settings = radiomics.RadiomicsSettings() if ibsi is None else radiomics.RadiomicsSettings.ibsi(ibsi)
    if pyradiomics is not None:
        settings = radiomics.RadiomicsSettings.from_pyradiomics(pyradiomics)
    volume = io.read_ct(image, series=series) if quantity == "hu" else io.read_volume(image, quantity=quantity, series=series)
    wanted: Sequence[str | None] = labels or [None]
    lesions = [io.read_mask(mask, like=volume, label=label).require_voxels() for label in wanted]
    table = radiomics.extract(volume, lesions, settings, columns=columns, device=device)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".csv":
            table.values.to_csv(target)
        else:
            write_table(table, target)
    return table
