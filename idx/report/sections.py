"""Sections of a case report. Each returns HTML, or a sentence where there is nothing to show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from idx.case import Case
from idx.provenance import Source
from idx.report.inputs import KeyNumber, SurvivalSummary
from idx.report.page import figure, note, rows, section, table, text, without_folders
from idx.report.pictures import drawing_uri, photo_uri
from idx.report.tables import feature_table, number
from idx.table import FeatureTable
from idx.view import plot
from idx.view.linking import Link

# What an acquisition was like, in words no header of a patient hides in.
_SAFE_HEADER = ("modality", "manufacturer", "model", "kernel", "kvp", "slice_thickness_mm", "contrast")
_PLURALS = {"nucleus": "nuclei", "lesion": "lesions", "tile": "tiles", "slide": "slides", "patient": "patients"}
_NOT_ASKED = "No registration was asked for: CT and slide are shown side by side and share no coordinates."


def numbers_grid(numbers: Sequence[KeyNumber], notes: Iterable[str]) -> str:
    """Key numbers as a grid of plates, then the notes."""
    cells = ""
    for item in numbers:
        if item.value is None:
            value = '<p class="value none">unknown</p>'
        else:
            shown = f"{item.value:,.{item.digits}f}".replace("-", "−")
            value = f'<p class="value">{shown}<small>{text(item.unit)}</small></p>'
        cells += f'<div><p class="label">{text(item.label)}</p>{value}<p class="extra">{text(_beside(item))}</p></div>'
    grid = f'<div class="numbers">{cells}</div>' if cells else ""
    return grid + "".join(note(sentence) for sentence in notes)


def _beside(item: KeyNumber) -> str:
    """Truth and difference, or the note."""
    if item.truth is None or item.value is None:
        return item.note
    shown = f"truth {item.truth:,.{item.digits}f}"
    if item.truth and item.label != "Registration error":
        return f"{shown} ({100 * (item.value - item.truth) / abs(item.truth):+.1f} %)".replace("-", "−")
    return f"{shown} {item.unit}".rstrip() if item.label != "Registration error" else f"measured against the truth: {item.truth:,.{item.digits}f} {item.unit}"


def ct_section(case: Case, link: Link | None) -> str:
    """CT through the lesion with the slide's plane."""
    ct, lesion = case.ct, case.lesion
    if ct is None:
        return section("ct", "CT", note("This case has no CT."))
    line = link if link is None or link.ct is ct else None
    picture = plot.ct_slices(ct, lesion, None if line is None else line.transform, slide=None if line is None else line.slide)
    z, y, x = ct.grid.shape
    facts: list[tuple[str, object]] = [
        ("Voxels (x, y, z)", f"{x} × {y} × {z}"),
        ("Spacing (x, y, z)", " × ".join(f"{s:.4g}" for s in ct.spacing_mm) + " mm"),
    ]
    if lesion is not None:
        facts += [("Lesion", f"{lesion.label}: {lesion.n_voxels:,} voxels, {lesion.volume_mm3 / 1000:.2f} ml")]
        facts += [("Centre (x, y, z)", ", ".join(f"{c:.1f}" for c in lesion.centroid_mm) + " mm, LPS")] if lesion.n_voxels else []
    facts += [(key.replace("_", " ").capitalize(), ct.header[key]) for key in _SAFE_HEADER if ct.header.get(key)]
    words = "Radiological orientation; window −1000 to 400 HU; letters are patient directions."
    alt = "Axial, coronal and sagittal CT through the lesion" + (" with the line where the slide lies" if line is not None else "")
    return section("ct", "CT", figure(photo_uri(picture), alt, words) + "<h3>Image</h3>" + rows(facts))


def slide_section(case: Case) -> str:
    """Slide with its tissue and nuclei."""
    slide = case.slide
    if slide is None:
        return section("slide", "Slide", note("This case has no slide."))
    tissue, nuclei = (None if c is None or c.frame != slide.frame else c for c in (case.contours.get("tissue"), case.contours.get("nuclei")))
    picture = plot.slide_overview(slide, tissue, nuclei)
    facts: list[tuple[str, object]] = [
        ("Size", f"{slide.size_px[0]:,} × {slide.size_px[1]:,} px; {slide.size_um[0] / 1000:.2f} × {slide.size_um[1] / 1000:.2f} mm"),
        ("Pixel", f"{slide.mpp[0]:.4g} × {slide.mpp[1]:.4g} µm"),
        ("Levels", ", ".join(f"1:{level.downsample:.4g}" for level in slide.levels)),
    ]
    if nuclei is not None and len(nuclei):
        names, counts = np.unique(nuclei.labels, return_counts=True)
        facts.append(("Nuclei", "; ".join(f"{name or 'no class'} {count:,}" for name, count in zip(names, counts, strict=True))))
        facts.append(("Nucleus area, median", f"{np.median(nuclei.areas_um2):.1f} µm²"))
    others = [name for name in case.slides if case.slides[name] is not slide]
    facts += [("Further slides", ", ".join(others))] if others else []
    words = "Left: the slide and its tissue; the red square marks the detail. Right: outlines of single nuclei."
    return section("slide", "Slide", figure(photo_uri(picture), "The slide and a detail with outlined nuclei", words) + "<h3>Image</h3>" + rows(facts))


def registration_section(case: Case, link: Link | None, placement: Any) -> str:
    """Verdict, pictures of both in one plane, and scores."""
    if case.ct is None or case.slide is None:
        return section("registration", "CT and slide", note("Both a CT and a slide are needed to place one in the other."))
    body = _verdict(link, placement)
    if link is not None:
        tissue = case.contours.get("tissue")
        side = plot.section_in_ct(link.ct, link.slide, link.transform, mask=case.lesion, tissue=tissue)
        laid = plot.overlay(link.ct, link.slide, link.transform, mask=case.lesion, tissue=tissue, error_mm=link.error_mm)
        body += figure(
            photo_uri(laid),
            "Slide over the CT in the slide's plane, blended and as a checkerboard",
            "The CT is resampled where the slide lies; the circle's radius is the expected error.",
        )
        body += figure(
            photo_uri(side),
            "The slide and the CT on its plane side by side",
            "Each scale bar counts in its own picture: tissue shrinks between the body and the slide.",
        )
    scores = _scores(link, placement)
    facts = ("<h3>How it was placed</h3>" + rows(scores)) if scores else ""
    if link is not None and case.lesion is not None and case.lesion.n_voxels:
        space = photo_uri(plot.section_in_space(case.lesion, link.slide, link.transform, tissue=case.contours.get("tissue")))
        return section(
            "registration",
            "CT and slide",
            body + f'<h3>In the patient</h3><div class="pair">{figure(space, "Surface of the lesion cut by the slide")}<div>{rows(scores)}</div></div>',
        )
    return section("registration", "CT and slide", body + facts)


def _verdict(link: Link | None, placement: Any) -> str:
    reasons = "".join(note(reason, kind="warn" if link is None else "") for reason in getattr(placement, "reasons", ()))
    if getattr(placement, "verdict", None) == "refused":
        return note("Refused: the slide was not placed, because no pose could be told from the others with confidence.", kind="warn") + reasons
    if link is None:
        return note(_NOT_ASKED)
    error = "with an unknown error" if link.error_mm is None else f"with an expected error of {link.error_mm:.2f} mm"
    return note(f"Placed {error}.", kind="warn" if link.error_mm is None else "good") + reasons


def _scores(link: Link | None, placement: Any) -> list[tuple[str, object]]:
    evidence = dict(getattr(placement, "evidence", {}) or (link.evidence if link is not None else {}))
    method = getattr(placement, "method", None) or evidence.pop("method", None)
    verdict = getattr(placement, "verdict", None) or evidence.pop("verdict", None)
    pairs: list[tuple[str, object]] = [("Method", str(method).replace("_", " "))] if method and method != "none" else []
    pairs += [("Verdict", verdict)] if verdict else []
    pairs += [("Expected error", f"{link.error_mm:.2f} mm" if link.error_mm is not None else "unknown")] if link is not None else []
    pairs += [("Scale, CT per slide", f"{link.mm_per_um * 1000:.3f}")] if link is not None else []
    merged = {**evidence, **dict(getattr(placement, "scores", {}))}
    pairs += [
        (name.replace("_", " ").capitalize(), number(v) if isinstance(v, float) and np.isfinite(v) else v)
        for name, v in merged.items()
        if name not in ("method", "verdict")
    ]
    return pairs


def feature_section(case: Case) -> str:
    """All feature tables of the case."""
    if not case.tables:
        return section("features", "Features", note("No features were extracted."))
    body = ""
    for name, features in case.tables.items():
        words = f"{len(features.specs)} features" + (
            f" of {len(features):,} {_PLURALS.get(str(features.values.index.name), 'rows')}" if len(features) > 1 else ""
        )
        body += f"<h3>{text(name.replace('_', ' ').capitalize())}<small>{text(words)}{_gap_count(features)}</small></h3>" + feature_table(features, label=name)
    lead = "Point at a name for its definition and settings. Missing cells give their reason."
    return section("features", "Features", body, lead=lead)


def _gap_count(features: FeatureTable) -> str:
    return f"; {len(features.status):,} missing cells" if len(features.status) else ""


def model_section(model: SurvivalSummary | None) -> str:
    """Survival curves and concordance; empty where there is no model."""
    if model is None:
        return ""
    curves = plot.survival_curves(model.time_days, model.event, model.groups)
    entries = [("All blocks", model.c_index, model.c_index_low, model.c_index_high, float(len(model.time_days)))]
    if model.blocks is not None:
        n_patients = model.blocks.get("n_patients")
        entries += [
            (f"{name} alone", row["c_index"], row["c_index_low"], row["c_index_high"], np.nan if n_patients is None else float(n_patients[name]))
            for name, row in model.blocks.iterrows()
        ]
    lines = [[text(name), f"{c:.3f}", f"{low:.3f} to {high:.3f}", "" if np.isnan(n) else f"{n:.0f}"] for name, c, low, high, n in entries]
    head = [("Model", ""), ("c-index", "num"), ("Interval", "num"), ("Patients", "num")]
    body = figure(
        drawing_uri(curves), "Kaplan-Meier curves with pointwise intervals", "Kaplan-Meier estimate; Greenwood intervals on the log-log scale.", css="narrow"
    )
    body += "<h3>Concordance<small>0.5 is chance, 1 is perfect ranking</small></h3>" + table(head, [("", lines)], label="Concordance")
    return section("model", "Outcome model", body, lead=model.description)


def provenance_section(case: Case, *, hashes: bool) -> str:
    """Source files and how each table was made. Folders and identifiers are left out."""
    sources: list[tuple[str, Source]] = []
    for kind, parts in (("Volume", case.volumes), ("Mask", case.masks), ("Slide", case.slides), ("Contours", case.contours)):
        sources += [(f"{kind} {name}", part.source) for name, part in parts.items() if part.source is not None]
    lines = [[text(what), text(s.name), text(s.kind), f"{max(1, len(s.files)):,}", *([text(s.sha256())] if hashes else [])] for what, s in sources]
    head = [("Part", ""), ("File", ""), ("Format", "unit"), ("Files", "num"), *([("SHA-256", "code")] if hashes else [])]
    body = "<h3>Inputs</h3>" + (table(head, [("", lines)], label="Inputs") if lines else note("Made in memory: no source files."))
    for name, features in case.tables.items():
        made = features.provenance
        if made is not None:
            settings: list[tuple[str, object]] = [(key, "none" if value is None else value) for key, value in made.settings.items()]
            inputs: list[tuple[str, object]] = [("inputs", ", ".join(without_folders(i) for i in made.inputs))] if made.inputs else []
            body += f"<h3>{text(name.capitalize())}<small>{text(made.function)}, idx {text(made.version)}, {text(made.device)}</small></h3>" + rows(
                [*inputs, *settings]
            )
    return section("provenance", "Provenance", body)
