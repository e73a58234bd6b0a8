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
# # Radiomics
# From a DICOM folder to a table of stable features and a feature map over the CT.
#
# The patient is a **phantom**, made here with known answers: two lung lesions of known volume and a spot of two voxels, written to disk as a hospital
# would hand them over. All results are synthetic. *For research only.*

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import idx
from idx.io.tables import read_table, write_table
from idx.radiomics import RadiomicsSettings

pd.set_option("display.max_colwidth", None)
folder = Path(tempfile.mkdtemp())

lower = idx.testing.lesion_ct(seed=4, radius_mm=8.0, size_mm=(76.8, 76.8, 72.0))
upper = idx.testing.lesion_ct(seed=11, radius_mm=10.5, size_mm=(76.8, 76.8, 72.0))
# One scan on top of the other; the patient lies on the lower one's grid.
stacked = np.concatenate([lower.ct.values, upper.ct.values])
grid = idx.geometry.Grid(stacked.shape, lower.ct.grid.affine)
nothing = np.zeros_like(upper.mask.values)
spot = np.zeros(stacked.shape, dtype=bool)
spot[20, 30, 40:42] = True
rois = {
    "GTV-1": idx.Mask(np.concatenate([nothing, upper.mask.values]), grid),
    "GTV-2": idx.Mask(np.concatenate([lower.mask.values, nothing]), grid),
    "spot": idx.Mask(spot, grid),
}
idx.testing.write_ct_series(idx.CTVolume(stacked, grid), folder / "ct")
idx.testing.write_rtstruct(rois, folder / "ct", folder / "rtstruct.dcm")
print(f"{len(list((folder / 'ct').iterdir()))} slices and one RTSTRUCT in {folder.name}")

# %% [markdown]
# ## Reading
# A DICOM folder becomes a CT in HU, a structure becomes a mask on its grid. A missing slice, or a structure of another scan, is an error and not a guess.

# %%
ct = idx.read_ct(folder / "ct")
ct

# %%
lesions = [idx.read_mask(folder / "rtstruct.dcm", like=ct, label=label) for label in ("GTV-1", "GTV-2", "spot")]
lesion = lesions[0]
lesion

# %%
idx.view.plot.ct_slices(ct, lesion)

# %% [markdown]
# ## All of IBSI 1
# All 174 features with one call. A column knows its unit, its IBSI code, where its formula stands and how it was measured.

# %%
table = idx.radiomics.extract(ct, lesion)
table

# %%
spec = table.spec("glcm_contrast_3d_merged")
pd.Series({"unit": spec.unit, "IBSI code": spec.ibsi_id, "definition": spec.definition, **spec.params}, name=spec.name).dropna().to_frame()

# %%
volume = table["mesh_volume_mm3"].iloc[0]
print(f"GTV-1: {volume:.0f} mm3 measured, {upper.volume_mm3:.0f} mm3 true")

# %% [markdown]
# ## Several lesions, and what cannot be measured
# One row for each lesion. The spot has two voxels, so some features are undefined for it: each missing cell has its reason, and the other features stand.

# %%
everything = idx.radiomics.extract(ct, lesions)
everything.values[["voxel_volume_mm3", "sphericity", "mean_intensity_hu", "intensity_skewness", "glcm_contrast_3d_merged"]].round(3)

# %%
everything.status.assign(meaning=everything.status["reason"].map(dict(idx.table.REASONS)))

# %% [markdown]
# ## Settings
# A small frozen value. IBSI's configurations A to E have names, and what differs is changed.

# %%
configuration_c = RadiomicsSettings.ibsi("C")
idx.radiomics.extract(ct, lesions[:2], configuration_c, columns="ibsi_name")

# %% [markdown]
# Every texture feature in as many aggregations as wanted, from one count of the matrices.

# %%
entropies = RadiomicsSettings(
    aggregations=idx.radiomics.AGGREGATIONS,
    families=("glcm",),
    features=("glcm_joint_entropy", "glcm_contrast", "glcm_correlation"),
)
aggregated = idx.radiomics.extract(ct, lesion, entropies)
names = pd.MultiIndex.from_tuples([(s.params["key"], s.params["aggregation"]) for s in aggregated.specs], names=["feature", "aggregation"])
aggregated.values.set_axis(names, axis=1).iloc[0].unstack().round(3)

# %% [markdown]
# ## Coming from PyRadiomics
# A parameter file is read as it is, and the columns keep PyRadiomics' names.

# %%
parameters = folder / "params.yaml"
parameters.write_text(
    """
imageType:
  Original: {}
  LoG: {sigma: [3.0]}
featureClass:
  shape:
  firstorder:
  glcm:
  glrlm:
setting:
  binWidth: 25
  resampledPixelSpacing: [1, 1, 1]
  interpolator: sitkBSpline
  padDistance: 10
"""
)
moved = RadiomicsSettings.from_pyradiomics(parameters)
as_before = idx.radiomics.extract(ct, lesions[:2], moved, columns="pyradiomics")
as_before

# %% [markdown]
# Where PyRadiomics departs from IBSI, idx follows IBSI. What that means for this file:

# %%
deviations = pd.DataFrame(idx.radiomics.PYRADIOMICS_DEVIATIONS)
concerned = deviations["what"].str.contains("binWidth|resampledPixelSpacing|interpolator|padDistance")
deviations[concerned & (deviations["kind"] == "setting")].set_index("what")[["pyradiomics", "idx"]]

# %% [markdown]
# An entry that idx does not follow is refused with the remedy, never ignored.

# %%
try:
    RadiomicsSettings.from_pyradiomics({"setting": {"normalize": True}})
except idx.IdxError as error:
    print(error)

# %% [markdown]
# ## Filters
# The filters of IBSI 2 are settings too. This is what a Laplacian of Gaussian sees: dense blobs of about its size are dark, with a bright seam.

# %%
log = idx.radiomics.LaplacianOfGaussian(sigma_mm=3.0)
response = idx.Volume(log.apply(ct.values, ct.spacing_mm), ct.grid, "response")
idx.view.plot.ct_slices(response, lesion, window_hu=(-40.0, 40.0))

# %%
wavelet = idx.radiomics.SeparableWavelet("coif1", "LLH", rotations="average")
bank = RadiomicsSettings(
    spacing_mm=1.0,
    n_bins=32,
    families=("intensity", "glcm"),
    features=("mean_intensity", "intensity_variance", "intensity_kurtosis", "glcm_joint_entropy"),
    filters=(None, log, wavelet),
)
filtered = idx.radiomics.extract(ct, lesions[:2], bank)
names = pd.MultiIndex.from_tuples([(s.params["image"], s.params["key"]) for s in filtered.specs], names=["image", "feature"])
filtered.values.set_axis(names, axis=1).stack("image", future_stack=True).round(3)

# %% [markdown]
# ## Which features can be trusted?
# Thirty phantom lesions of different size and density, each measured under 18 perturbations: the patient turned and shifted on the scanner's grid, noise
# added, the outline grown and shrunk. The intraclass correlation compares what a perturbation changes with what tells lesions apart. Thirty is the number
# that Koo and Li advise; which features are stable depends on the lesions, so do this with yours.

# %%
settings = RadiomicsSettings(name="1 mm, 25 HU", spacing_mm=1.0, resegment_range=(-1000.0, 400.0))
rng = np.random.default_rng(7)
phantoms = [
    idx.testing.lesion_ct(
        seed=100 + i,
        radius_mm=rng.uniform(6.0, 11.0),
        size_mm=44.0,
        core_fraction=rng.uniform(0.5, 0.85),
        core_hu=rng.uniform(-60.0, 60.0),
        rim_hu=rng.uniform(-650.0, -250.0),
    )
    for i in range(30)
]
study = idx.radiomics.stability([p.ct for p in phantoms], [p.mask for p in phantoms], settings, seed=0)
study

# %%
idx.view.plot.stability_chart(study)

# %% [markdown]
# Stable is what has the lower end of its interval at 0.9 or above.

# %%
stable = study.stable(0.9)
families = pd.Series({s.name: s.params["family"] for s in idx.radiomics.extract(ct, lesion, settings).specs})
pd.Series(stable, name="stable features").groupby(families[stable].to_numpy(), sort=False).agg(", ".join).to_frame()

# %% [markdown]
# ## The stable feature table
# The patient's lesions, like those of the study and measured in the same way, with the features that survived it. The file is ordinary Parquet;
# definitions, reasons and provenance travel in its metadata.

# %%
result = idx.radiomics.extract(ct, lesions[:2], settings).select(stable)
write_table(result, folder / "stable.parquet")
result

# %%
restored = read_table(folder / "stable.parquet")
made = restored.provenance
pd.Series({"made by": f"{made.function} {made.version}", "device": made.device, **made.settings}, name="provenance").dropna().to_frame()

# %% [markdown]
# ## Where in the lesion?
# The same features in a ball of 4 mm around every voxel, on the CT in mm.

# %%
maps = idx.radiomics.feature_maps(ct, lesion, settings, radius_mm=4.0, features=["mean_intensity", "histogram_entropy", "glcm_contrast"])
idx.view.plot.feature_map(ct, maps["local_mean_intensity_hu"], lesion=lesion)

# %%
idx.view.plot.feature_map(ct, maps["local_histogram_entropy"], lesion=lesion)

# %%
maps["local_glcm_contrast"]

# %% [markdown]
# ## For the methods section
# The IBSI reporting guidelines for this run. What idx knows is filled in; what only the author knows is left open.

# %%
checklist = idx.radiomics.reporting_checklist(result, ct, lesion)
print(checklist["status"].value_counts().to_string())
known = (checklist["status"] == "filled") & ~checklist["value"].str.startswith("does not apply")
checklist[known].set_index("number")[["topic", "item", "ibsi", "value"]]

# %% [markdown]
# ## Does idx keep to IBSI?
# Check it yourself against IBSI's digital phantom, its CT in configurations A to E and its filters, with the reference files that IBSI publishes:
# ```
# idx radiomics conformance --data DIR
# ```
# It prints what matches and what does not, with the consensus of each value. It is not run here, since it needs these files.

# %% [markdown]
# ## Is it right?

# %%
# The volumes are those of the phantoms, and the mask from the RTSTRUCT is the one that was drawn.
assert len(table.specs) == 174
assert abs(volume / upper.volume_mm3 - 1) < 0.02
assert abs(everything.values.loc["GTV-2", "mesh_volume_mm3"] / lower.volume_mm3 - 1) < 0.02
assert np.array_equal(lesion.values, rois["GTV-1"].values)

# The spot keeps its row: two voxels have a volume and a mean, but no extent in three directions.
assert np.isclose(everything.values.loc["spot", "voxel_volume_mm3"], 2 * 0.8 * 0.8 * 1.5)
assert np.isclose(everything.values.loc["spot", "mean_intensity_hu"], stacked[spot].mean())
assert set(everything.status["row"]) == {"spot"}

# PyRadiomics' kurtosis is 3 higher than IBSI's, and its file's settings are what was measured.
same = idx.radiomics.extract(ct, lesions[:2], moved)
assert np.allclose(as_before["original_firstorder_Kurtosis"] - same["intensity_kurtosis"], 3.0)
assert as_before.spec("original_glcm_Contrast").params["spacing_mm"] == "1 x 1 x 1"

# Volume survives another scan and another reader; a minimum, one voxel's value, does not.
assert {"voxel_volume_mm3", "mesh_volume_mm3", "median_intensity_hu"} <= set(stable)
assert "minimum_intensity_hu" not in stable
assert (study.table.set_index("feature").loc[stable, "low"] >= 0.9).all()
assert restored.values.equals(result.values)
assert restored.specs == result.specs

# A neighbourhood that holds the whole lesion gives the lesion's own mean at every voxel.
(whole,) = idx.radiomics.feature_maps(ct, lesion, settings, radius_mm=100.0, features=["mean_intensity"]).values()
assert np.allclose(whole.values[np.isfinite(whole.values)], idx.radiomics.extract(ct, lesion, settings)["mean_intensity_hu"].iloc[0])

# The map's value at a voxel is the mean of what lies within 4 mm of it (five voxels of 0.8 mm are 4 mm but for rounding).
(own,) = idx.radiomics.feature_maps(ct, lesion, radius_mm=4.0, features=["mean_intensity"]).values()
at = np.argwhere(np.isfinite(own.values))[1234]
inside = np.argwhere(lesion.values)
near = inside[np.linalg.norm(ct.grid.to_physical(inside) - own.grid.to_physical(at), axis=1) <= 4.0 + 1e-6]
assert np.isclose(own.values[tuple(at)], ct.values[tuple(near.T)].mean())
