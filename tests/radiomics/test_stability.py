"""Lesions measured under perturbations: what is put into the table, what is left out, and what must not change it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from idx import testing
from idx.errors import FormatError, GeometryError
from idx.geometry import Grid
from idx.radiomics.extraction import extract
from idx.radiomics.filters import LaplacianOfGaussian
from idx.radiomics.perturbation import DEFAULT_PERTURBATIONS, Perturbation
from idx.radiomics.reliability import ICC_KINDS, intraclass_correlation, verdict
from idx.radiomics.robustness import UNDEFINED, Stability, stability
from idx.radiomics.settings import RadiomicsSettings
from idx.settings import use_settings
from idx.volume import CTVolume, Mask

FIRST_ORDER = RadiomicsSettings(
    families=("shape", "intensity"), features=("voxel_volume", "elongation", "mean_intensity", "minimum_intensity", "intensity_skewness")
)
MOVES = (Perturbation(), Perturbation((0.25, 0.75, 0.5)), Perturbation(rotation_deg=9.0), Perturbation(growth_fraction=-0.1))
NOISE = tuple(Perturbation(noise_sd=40.0, repeat=repeat) for repeat in range(4))


@pytest.fixture(scope="module")
def phantoms():
    sizes = [(6.0, 0.0), (7.0, 25.0), (8.0, 50.0), (9.0, 75.0), (10.0, 100.0)]
    return [testing.lesion_ct(seed=seed, radius_mm=radius, size_mm=50.0, core_hu=hu) for seed, (radius, hu) in enumerate(sizes)]


def scans(phantoms):
    return [phantom.ct for phantom in phantoms]


def masks(phantoms):
    return [phantom.mask for phantom in phantoms]


@pytest.fixture(scope="module")
def study(phantoms):
    return stability(scans(phantoms), masks(phantoms), FIRST_ORDER, perturbations=MOVES + NOISE)


SETTINGS = {
    "own grid": RadiomicsSettings(),
    "C": RadiomicsSettings.ibsi("C"),
    "B, in slices": RadiomicsSettings.ibsi("B"),
    "E, splines": RadiomicsSettings.ibsi("E"),
    "nearest": RadiomicsSettings(spacing_mm=1.6, interpolation="nearest"),
    "filtered": RadiomicsSettings(spacing_mm=1.0, families=("intensity",), filters=(None, LaplacianOfGaussian(sigma_mm=1.5))),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (2.0, -3.0, 1.0)])
def test_nothing_and_whole_voxels_leave_every_feature(phantoms, settings, shift):
    phantom = phantoms[1]
    expected = extract(phantom.ct, phantom.mask, settings)
    perturbed = Perturbation(shift).apply(phantom.ct, phantom.mask, np.random.default_rng(0), settings=settings)
    found = extract(*perturbed, settings.replace(spacing_mm=None))
    assert list(found.values.columns) == list(expected.values.columns)
    np.testing.assert_allclose(found.values.to_numpy(), expected.values.to_numpy(), rtol=1e-9, atol=1e-12)


def test_values_are_those_of_extract_on_the_perturbed_scan(phantoms):
    settings = FIRST_ORDER.replace(spacing_mm=1.2)
    found = stability(scans(phantoms[:2]), masks(phantoms[:2]), settings, perturbations=MOVES, names=["one", "two"])
    for name, phantom in zip(["one", "two"], phantoms, strict=False):
        for perturbation in MOVES:
            perturbed = perturbation.apply(phantom.ct, phantom.mask, np.random.default_rng(0), settings=settings)
            expected = extract(*perturbed, settings.replace(spacing_mm=None)).values.iloc[0]
            rows = found.values[(found.values["lesion"] == name) & (found.values["perturbation"] == perturbation.name)].set_index("feature")
            pd.testing.assert_series_equal(rows["value"], expected, check_names=False, rtol=1e-12)


@pytest.mark.parametrize("kind", ICC_KINDS)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_table_is_the_icc_of_the_values(phantoms, kind, confidence):
    study = stability(scans(phantoms[:3]), masks(phantoms[:3]), FIRST_ORDER, perturbations=MOVES[:3], icc=kind, confidence=confidence)
    assert (study.icc, study.confidence, len(study.table)) == (kind, confidence, 5)
    for row in study.table.itertuples():
        ratings = study.values[study.values["feature"] == row.feature].pivot(index="lesion", columns="perturbation", values="value").to_numpy()
        np.testing.assert_allclose((row.icc, row.low, row.high), intraclass_correlation(ratings, kind=kind, confidence=confidence), rtol=1e-9)
        assert row.verdict == verdict(row.low)
        assert (row.n_lesions, row.n_perturbations, row.reason) == (3, 3, "")
        assert row.cov == pytest.approx(np.median(ratings.std(axis=1, ddof=1) / np.abs(ratings.mean(axis=1))))


def test_volume_is_reliable_and_extremes_are_not(study):
    table = study.table.set_index("feature")
    assert table.loc["voxel_volume_mm3", "icc"] > 0.9
    assert table.loc["minimum_intensity_hu", "icc"] < table.loc["mean_intensity_hu", "icc"]
    assert set(study.stable(0.9)) <= set(study.stable(0.5))
    assert set(study.stable(0.9)) <= set(study.stable(0.9, by="icc"))
    assert "voxel_volume_mm3" in study.stable(0.5)


def test_noise_does_not_touch_the_shape(phantoms):
    table = stability(scans(phantoms), masks(phantoms), FIRST_ORDER, perturbations=NOISE).table.set_index("feature")
    np.testing.assert_array_equal(table.loc[["voxel_volume_mm3", "elongation"], ["icc", "low", "high"]], 1.0)
    np.testing.assert_array_equal(table.loc[["voxel_volume_mm3", "elongation"], "cov"], 0.0)
    assert table.loc["minimum_intensity_hu", "icc"] < table.loc["mean_intensity_hu", "icc"] < 1.0


def test_the_seed_decides_and_neither_workers_nor_order_do(phantoms):
    few, names = phantoms[:3], ["a", "b", "c"]
    options = {"perturbations": MOVES[:1] + NOISE[:2], "icc": "ICC(1,1)"}
    one = stability(scans(few), masks(few), FIRST_ORDER, names=names, seed=7, workers=1, **options)
    many = stability(scans(few), masks(few), FIRST_ORDER, names=names, seed=7, workers=4, **options)
    pd.testing.assert_frame_equal(one.values, many.values)
    pd.testing.assert_frame_equal(one.table, many.table)
    turned = stability(scans(few)[::-1], masks(few)[::-1], FIRST_ORDER, names=names[::-1], seed=7, perturbations=options["perturbations"][::-1])
    keys = ["lesion", "perturbation", "feature"]
    pd.testing.assert_frame_equal(one.values.sort_values(keys, ignore_index=True), turned.values.sort_values(keys, ignore_index=True))
    with use_settings(seed=7):
        pd.testing.assert_frame_equal(one.values, stability(scans(few), masks(few), FIRST_ORDER, names=names, **options).values)
    other = stability(scans(few), masks(few), FIRST_ORDER, names=names, seed=8, **options).values
    changed = one.values["value"] != other["value"]
    assert set(one.values["perturbation"][changed]) == {p.name for p in NOISE[:2]}


def test_each_lesion_and_repeat_has_noise_of_its_own(phantoms):
    phantom = phantoms[0]
    twins = [phantom.mask, dataclasses.replace(phantom.mask, label="twin")]
    values = stability(phantom.ct, twins, FIRST_ORDER, perturbations=NOISE).values
    minima = values.loc[values["feature"] == "mean_intensity_hu", "value"]
    assert minima.nunique() == 2 * len(NOISE)


def constant(radius_mm, hu=40):
    ball = testing.ball(radius_mm=radius_mm, spacing_mm=1.0, hu=hu)
    return ball.ct, dataclasses.replace(ball.mask, label=f"ball {radius_mm:g}")


SHRINK = (Perturbation(), Perturbation(growth_fraction=-0.1), Perturbation(growth_fraction=-0.2))


def test_a_lesion_without_a_feature_is_left_out_and_counted(phantoms):
    ct, mask = constant(6.0)
    study = stability([*scans(phantoms[:3]), ct], [*masks(phantoms[:3]), mask], FIRST_ORDER, perturbations=SHRINK)
    without = stability(scans(phantoms[:3]), masks(phantoms[:3]), FIRST_ORDER, perturbations=SHRINK)
    rows, other = study.table.set_index("feature"), without.table.set_index("feature")
    assert rows.loc["intensity_skewness", "n_lesions"] == 3
    pd.testing.assert_series_equal(rows.loc["intensity_skewness"], other.loc["intensity_skewness"])
    assert (rows.drop("intensity_skewness")["n_lesions"] == 4).all()
    gaps = study.values[study.values["reason"] != ""]
    assert len(gaps) == 3
    assert set(gaps["lesion"]) == {"4 ball 6"}
    assert gaps["value"].isna().all()
    assert set(gaps["reason"]) == {"constant"}
    assert study.values["value"].notna().sum() == len(study.values) - 3


def test_undefined_reliability_has_a_reason():
    cases = [constant(radius) for radius in (4.0, 5.0, 6.0)]
    study = stability([ct for ct, _ in cases], [mask for _, mask in cases], FIRST_ORDER, perturbations=SHRINK)
    rows = study.table.set_index("feature")
    assert rows.loc["intensity_skewness", ["n_lesions", "reason", "verdict"]].tolist() == [0, "too_few_lesions", ""]
    assert rows.loc["mean_intensity_hu", ["n_lesions", "reason", "verdict"]].tolist() == [3, "constant", ""]
    assert rows.loc[["intensity_skewness", "mean_intensity_hu"], ["icc", "low", "high"]].isna().all(axis=None)
    assert rows.loc["voxel_volume_mm3", "reason"] == ""
    assert set(rows["reason"]) - {""} <= set(UNDEFINED)
    assert "intensity_skewness" not in study.stable(-1.0)


def test_one_lesion_has_a_variation_and_no_icc(phantoms):
    phantom = phantoms[0]
    with pytest.raises(FormatError, match=r"at least 2 .*better 30; got 1\. .*icc=None"):
        stability(phantom.ct, phantom.mask, FIRST_ORDER, perturbations=MOVES)
    study = stability(phantom.ct, phantom.mask, FIRST_ORDER, perturbations=MOVES, icc=None)
    assert (study.table["reason"] == "not_asked").all()
    assert study.table["icc"].isna().all()
    variation = study.variation.set_index("feature")
    for feature, rows in study.values.groupby("feature"):
        assert variation.loc[feature, "mean"] == pytest.approx(rows["value"].mean())
        assert variation.loc[feature, "cov"] == pytest.approx(rows["value"].std(ddof=1) / abs(rows["value"].mean()))
        assert variation.loc[feature, "n_perturbations"] == len(MOVES)
    np.testing.assert_allclose(study.table.set_index("feature")["cov"], variation["cov"].loc[study.table["feature"]])
    with pytest.raises(FormatError, match="need an intraclass correlation"):
        study.stable()
    assert "no ICC" in repr(study)
    assert "not asked for" in study._repr_html_()


def test_several_lesions_of_one_scan(phantoms):
    phantom = phantoms[4]
    halves = []
    for i, label in enumerate(("left", "right")):
        values = phantom.mask.values.copy()
        middle = int(np.argwhere(values)[:, 2].mean())
        values[:, :, slice(middle, None) if i == 0 else slice(0, middle)] = False
        halves.append(Mask(values, phantom.mask.grid, label))
    study = stability(phantom.ct, halves, FIRST_ORDER, perturbations=MOVES)
    assert list(study.values["lesion"].unique()) == ["left", "right"]
    same = stability([phantom.ct] * 2, halves, FIRST_ORDER, perturbations=MOVES)
    pd.testing.assert_frame_equal(study.table, same.table)


def test_a_sequence_that_reads_scans_is_read_once_for_each(phantoms):
    class Folder:
        def __init__(self):
            self.n_read = 0

        def __len__(self):
            return 3

        def __getitem__(self, i):
            if i >= 3:
                raise IndexError
            self.n_read += 1
            return phantoms[i].ct

    folder = Folder()
    stability(folder, masks(phantoms[:3]), FIRST_ORDER, perturbations=MOVES[:2])
    assert folder.n_read == 3


def test_what_it_shows(study):
    assert isinstance(study, Stability)
    assert repr(study).startswith("Stability(5 features, 5 lesions, 8 perturbations; ")
    shown = study._repr_html_()
    assert "5 features of 5 lesions under 8 perturbations" in shown
    assert "voxel_volume_mm3" in shown
    settings = study.provenance.settings
    assert study.provenance.function == "idx.radiomics.stability"
    assert (settings["icc"], settings["confidence"], settings["seed"]) == ("ICC(1,1)", 0.95, 0)
    assert settings["perturbations"].split("; ") == [p.name for p in study.perturbations]
    assert list(study.values["lesion"].unique()) == [f"{i} lesion" for i in range(1, 6)]
    with pytest.raises(dataclasses.FrozenInstanceError):
        study.icc = "ICC(C,1)"


def test_the_default_perturbations(phantoms):
    study = stability(scans(phantoms[:2]), masks(phantoms[:2]), FIRST_ORDER.replace(families=("shape",), features=("voxel_volume",)))
    assert study.perturbations == DEFAULT_PERTURBATIONS
    volumes = study.values[study.values["lesion"] == "1 lesion"].set_index("perturbation")["value"]
    assert volumes["volume +20 %"] == pytest.approx(1.2 * volumes["unperturbed"], abs=1)


def test_an_error_says_where(phantoms):
    ct, mask = phantoms[0].ct, phantoms[0].mask
    speck = np.zeros(mask.values.shape, dtype=bool)
    speck[tuple(np.argwhere(mask.values)[0])] = True
    with pytest.raises(GeometryError, match="keep at least one voxel") as caught:
        stability(ct, [mask, Mask(speck, mask.grid, "speck")], FIRST_ORDER, perturbations=(Perturbation(), Perturbation((0.5, 0.5, 0.5))))
    assert caught.value.__notes__ == ["lesion 'speck', perturbation 'translation 0.5 0.5 0.5'"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"icc": "ICC(2,1)"}, r"icc must be one of ICC\(1,1\)"),
        ({"confidence": 95}, "between 0 and 1; got 95"),
        ({"names": ["a", "a"]}, "one for each of 2 lesions, each once"),
        ({"names": ["a"]}, "one for each of 2 lesions"),
        ({"perturbations": [Perturbation()]}, "at least 2, no two alike; got .'unperturbed'"),
        ({"perturbations": [NOISE[0], NOISE[0]]}, "Give each noise its own repeat"),
    ],
)
def test_refuses(phantoms, options, words):
    with pytest.raises(FormatError, match=words):
        stability(scans(phantoms[:2]), masks(phantoms[:2]), FIRST_ORDER, **options)


def test_refuses_numbers_that_do_not_fit(phantoms, study):
    with pytest.raises(FormatError, match="3 images for 2 lesions"):
        stability(scans(phantoms[:3]), masks(phantoms[:2]), FIRST_ORDER)
    with pytest.raises(FormatError, match="got 0"):
        stability([], [], FIRST_ORDER, icc=None)
    elsewhere = CTVolume(phantoms[0].ct.values, Grid(phantoms[0].ct.grid.shape, np.eye(4)))
    with pytest.raises(GeometryError, match="image's grid"):
        stability(elsewhere, masks(phantoms[:1]), FIRST_ORDER, icc=None)
    with pytest.raises(FormatError, match="'low' or 'icc'; got 'high'"):
        study.stable(by="high")
