"""The report of one case."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import idx
from idx._typing import PathLike
from idx.case import Case
from idx.errors import FormatError
from idx.report.inputs import KeyNumber, SurvivalSummary
from idx.report.page import document, text
from idx.report.sections import ct_section, feature_section, model_section, numbers_grid, provenance_section, registration_section, slide_section
from idx.view.linking import Link, find_link

TRUTHS = frozenset({"lesion_volume_mm3", "tissue_area_mm2", "n_nuclei", "registration_error_mm"})
"""Keys of numbers that a report finds in the case and that may be compared with a known answer."""


def write_case_report(
    case: Case,
    path: PathLike,
    *,
    placement: Any = None,
    evaluation: Any = None,
    truth: Mapping[str, float] | None = None,
    numbers: Sequence[KeyNumber] = (),
    notes: Sequence[str] = (),
    title: str | None = None,
    hashes: bool = False,
) -> Path:
    """Write one self-contained HTML file about a case.

    Parameters
    ----------
    case : Case
        Whatever is in it is shown; what is missing is said in a sentence.
    path : path
        File to write; its folder must exist.
    placement : Placement or None
        What ``idx.registration.register_section`` returned: verdict, reasons and scores. Without it they are taken
        from the evidence of the case's transform. A refused placement shows no overlay.
    evaluation : Evaluation, SurvivalSummary or None
        How an outcome model did.
    truth : mapping or None
        Known answers of a phantom, by the keys "lesion_volume_mm3", "tissue_area_mm2", "n_nuclei" and "registration_error_mm"
        (for the last: the error that was measured against the truth).
    numbers : sequence of KeyNumber
        More numbers for the head of the report.
    notes : sequence of str
        Sentences for the reader, beside the case's own.
    title : str or None
        Heading; the case's id when None.
    hashes : bool
        Whether source files are read again for their SHA-256.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FormatError
        If the folder does not exist, or ``truth`` has an unknown key.

    Notes
    -----
    The file makes no network request and holds no script. Absolute paths are cut to their last part and DICOM identifiers are left out,
    but free text (notes, labels, file names) is shown as it is given: do not put identities there.
    """
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise FormatError(f"report must be written into an existing folder; got '{target.parent}'. Create it first.")
    if not set(truth or {}) <= TRUTHS:
        raise FormatError(
            f"truth keys must be among {sorted(TRUTHS)}; got {sorted(set(truth or {}) - TRUTHS)} (case '{case.case_id}'). "
            "Pass other numbers as KeyNumber(..., truth=...)."
        )
    link = None if getattr(placement, "verdict", "placed") == "refused" else find_link(case)
    model = evaluation if evaluation is None or isinstance(evaluation, SurvivalSummary) else SurvivalSummary.from_evaluation(evaluation)
    parts = [
        ("ct", "CT", ct_section(case, link)),
        ("slide", "Slide", slide_section(case)),
        ("registration", "CT and slide", registration_section(case, link, placement)),
        ("features", "Features", feature_section(case)),
        ("model", "Outcome model", model_section(model)),
        ("provenance", "Provenance", provenance_section(case, hashes=hashes)),
    ]
    page = document(
        title=f"{title or case.case_id} – idx",
        heading=title or f"Case {case.case_id}",
        subtitle=_subtitle(case),
        contents=[(anchor, name) for anchor, name, body in parts if body],
        body=numbers_grid(key_numbers(case, link, truth or {}, numbers), [*case.notes, *notes]) + "".join(body for _, _, body in parts),
        footer=_footer(),
    )
    target.write_text(page, encoding="utf-8")
    return target


def key_numbers(case: Case, link: Link | None, truth: Mapping[str, float], more: Sequence[KeyNumber]) -> list[KeyNumber]:
    """Numbers at the head: what the case can tell, each beside its truth where one is given."""
    found: dict[str, KeyNumber] = {}
    tissue, nuclei = case.contours.get("tissue"), case.contours.get("nuclei")
    if case.lesion is not None:
        volume = case.lesion.volume_mm3
        found["lesion_volume_mm3"] = KeyNumber(
            "Lesion volume", volume, "mm³", truth.get("lesion_volume_mm3"), "by counting voxels", digits=1 if volume < 1000 else 0
        )
    if tissue is not None:
        found["tissue_area_mm2"] = KeyNumber("Tissue on the slide", float(tissue.areas_um2.sum()) / 1e6, "mm²", truth.get("tissue_area_mm2"), digits=1)
    if nuclei is not None:
        found["n_nuclei"] = KeyNumber("Nuclei", float(len(nuclei)), "", truth.get("n_nuclei"))
    if link is not None:
        found["registration_error_mm"] = KeyNumber(
            "Registration error", link.error_mm, "mm", truth.get("registration_error_mm"), "expected, root mean square", digits=2
        )
    return [*found.values(), *more]


def _subtitle(case: Case) -> str:
    what = [f"CT of {case.ct.grid.shape[2]} × {case.ct.grid.shape[1]} × {case.ct.grid.shape[0]} voxels"] if case.ct is not None else []
    what += [f"{len(case.slides)} slide{'s' if len(case.slides) > 1 else ''}"] if case.slides else []
    outcome = ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in case.outcome.items())
    return "; ".join([" and ".join(what) or "No images", *([f"outcome: {outcome}"] if outcome else [])]) + "."


def _plain(value: float | str | bool) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return str(value)


def _footer() -> str:
    versions = f"idx {idx.__version__}, Python {platform.python_version()}, numpy {np.__version__}"
    return (
        "<p><b>Research use only.</b> Not a medical device; not for diagnosis or treatment.</p>"
        f"<p>{text(versions)}. Written on {datetime.datetime.now(datetime.UTC):%d %B %Y}. Feature codes: Image Biomarker Standardisation Initiative.</p>"
    )
