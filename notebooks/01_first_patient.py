# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The first patient
# One patient's CT lesion and a slide of it: read, measured, placed in one space, and modelled.
#
# The patient is a **phantom**, made here with known answers, so that every number below can be compared with the truth. It is written to disk as a
# hospital would hand it over (DICOM series, RTSTRUCT, tiled TIFF, GeoJSON) and read back like any other patient. *For research only.*

# %%
import tempfile
from pathlib import Path

import shapely

import idx
from idx import demo

folder = Path(tempfile.mkdtemp())
phantom, files = demo.write_patient(folder, seed=3)

# %% [markdown]
# ## Reading
# Objects say what they are: units, spacing, frame. Arrays are (z, y, x), points are (x, y, z).

# %%
ct = idx.read_ct(files.ct)
ct

# %%
lesion = idx.read_mask(files.rtstruct, like=ct)
lesion

# %%
slide = idx.open_slide(files.slide)
slide

# %% [markdown]
# ## Measuring the lesion on CT
# A feature table knows the unit, the definition and the IBSI code of each column, and gives a reason for every missing cell.

# %%
radiomics = idx.radiomics.extract(ct, lesion)
radiomics

# %%
volume = radiomics["mesh_volume_mm3"].iloc[0]
print(f"lesion volume: {volume:.1f} mm3 measured, {phantom.volume_mm3:.1f} mm3 true")

# %% [markdown]
# ## Measuring the slide
# Tissue first, then nuclei inside it, each found exactly once however the slide was tiled.

# %%
tissue = idx.histology.find_tissue(slide)
tissue

# %%
nuclei = idx.histology.find_nuclei(slide, within=tissue)
nuclei

# %%
histology = idx.histology.extract(slide, nuclei, level="slide", within=tissue)
histology

# %%
idx.view.plot.slide_overview(slide, tissue, nuclei.contours)

# %% [markdown]
# ## Where in the CT was the slide cut?
# The pathologist outlined the tumour and noted roughly how the specimen was cut: a *prior* on the plane. The search returns a placement with an expected
# error in mm, or a refusal with its reasons.

# %%
tumour = idx.read_contours(files.tumour, slide=slide)
prior = idx.registration.PosePrior(
    phantom.prior_normal,
    tolerance_deg=15.0,
    centre_mm=phantom.prior_centre_mm,
    tolerance_mm=3.0,
)
maps = idx.registration.maps_of(slide, tissue=tissue, lesion=tumour)
placed = idx.registration.register_section(ct, slide, lesion=lesion, prior=prior, maps=maps)
placed

# %%
section = placed.require_placed()
error_mm = demo.transform_error_mm(section, phantom.truth, phantom.tissue)
print(f"placed {error_mm:.2f} mm from the truth; idx expected {placed.error_mm:.2f} mm")

# %%
idx.view.plot.ct_slices(ct, lesion, section=section, slide=slide)

# %%
idx.view.plot.overlay(ct, slide, section, mask=lesion, error_mm=placed.error_mm)

# %% [markdown]
# ## One case
# Everything about the patient in one object, saved as a folder that refers to the images by path and hash.

# %%
case = idx.Case(
    "phantom-patient",
    volumes={"ct": ct},
    masks={"lesion": lesion},
    slides={slide.name: slide},
    contours={"tissue": tissue, "nuclei": nuclei.contours, "tumour": tumour},
    tables={"radiomics": radiomics, "histology": histology},
)
case = placed.add_to(case)
case.save(folder / "case", overwrite=True)
case = idx.load_case(folder / "case")
case

# %% [markdown]
# Move the cursor over the slide: the CT follows, and the circle shows the expected error.

# %%
idx.view.linked(case)

# %% [markdown]
# ## Do both modalities help?
# A synthetic cohort whose outcome depends on CT and pathology. Everything is fitted inside the fold; risks are those of patients that the model never saw.

# %%
patients = idx.testing.cohort(240, seed=3)
blocks = idx.models.Blocks(patients.blocks)
outcome = idx.models.Survival(patients.time_days, patients.event)
evaluation = idx.models.evaluate(idx.models.LateFusion(), blocks, outcome, n_repeats=2, seed=3)
evaluation

# %%
idx.view.plot.survival_curves(outcome.time_days, outcome.event, evaluation.high_risk.map({True: "high risk", False: "low risk"}))

# %% [markdown]
# ## The report

# %%
report = idx.report.write_case_report(case, folder / "report.html", placement=placed, evaluation=evaluation)
print(f"{report.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# ## Is it right?

# %%
assert abs(volume / phantom.volume_mm3 - 1) < 0.03
assert abs(len(nuclei.contours) / phantom.n_nuclei - 1) < 0.1
assert error_mm < 1.5
# Air spaces are holes of the tissue; the phantom's specimen is outlined around them.
specimen_um2 = sum(shapely.Polygon(polygon.exterior).area for polygon in tissue.polygons())
assert abs(specimen_um2 / phantom.tissue.areas_um2.sum() - 1) < 0.15
assert evaluation.c_index > evaluation.blocks["c_index"].max()
assert len(case.contours["nuclei"]) == len(nuclei.contours)
