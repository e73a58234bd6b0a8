"""Late fusion and its cross-validation: nothing leaks, a missing block costs nobody their prediction."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from idx.errors import FormatError
from idx.models import Blocks, CoxModel, LateFusion, Survival, evaluate
from idx.models.split import patient_folds


def make_cohort(seed, n=160, missing=0.2, strength=1.0):
    """Two blocks, each with one informative feature among noise; exponential times, about a third censored."""
    rng = np.random.default_rng(seed)
    patients = pd.Index([f"p{i}" for i in range(n)], name="patient")
    ct = pd.DataFrame(rng.normal(size=(n, 4)), index=patients, columns=["signal", "n1", "n2", "n3"])
    pathology = pd.DataFrame(rng.normal(size=(n, 3)), index=patients, columns=["grade", "m1", "m2"])
    time = rng.exponential(np.exp(-strength * (ct["signal"] + pathology["grade"]))) * 500 + 1
    censoring = rng.exponential(900, n) + 1
    outcome = Survival(pd.Series(np.minimum(time, censoring), index=patients), pd.Series(time <= censoring, index=patients))
    lacks = rng.random(n) < missing
    return Blocks({"ct": ct, "pathology": pathology[~lacks]}), outcome


def test_patient_with_one_block_gets_that_block_s_score():
    blocks, outcome = make_cohort(0)
    model = LateFusion().fit(blocks, outcome)
    lacking = blocks.presence.index[~blocks.presence["pathology"]][0]
    by_block = model.predict_blocks(blocks)
    assert np.isnan(by_block.loc[lacking, "pathology"])
    assert model.predict(blocks)[lacking] == by_block.loc[lacking, "ct"]
    complete = blocks.presence.index[blocks.presence.all(axis=1)]
    np.testing.assert_allclose(model.predict(blocks)[complete], by_block.loc[complete].mean(axis=1))


def test_scores_are_standardised_on_training_patients():
    blocks, outcome = make_cohort(1, missing=0.0)
    scores = LateFusion().fit(blocks, outcome).predict_blocks(blocks)
    np.testing.assert_allclose(scores.mean(), 0.0, atol=1e-12)
    np.testing.assert_allclose(scores.std(ddof=0), 1.0, atol=1e-12)


def test_follows_scikit_learn():
    model = LateFusion(estimator=CoxModel(penalizer=0.3))
    assert clone(model).get_params()["estimator__penalizer"] == 0.3
    assert not [name for name in vars(model) if name.endswith("_")]


def test_estimator_is_cloned_not_fitted():
    blocks, outcome = make_cohort(2)
    estimator = CoxModel()
    LateFusion(estimator=estimator).fit(blocks, outcome)
    assert not hasattr(estimator, "coefficients_")


def test_patient_without_any_block_is_refused():
    blocks, outcome = make_cohort(3)
    stranger = Survival(
        pd.concat([outcome.time_days, pd.Series({"stranger": 10.0})]),
        pd.concat([outcome.event, pd.Series({"stranger": True})]),
    )
    with pytest.raises(FormatError, match="'stranger'"):
        LateFusion().fit(blocks, stranger)


def test_renamed_block_is_refused():
    blocks, outcome = make_cohort(4)
    model = LateFusion().fit(blocks, outcome)
    with pytest.raises(FormatError, match="'pathology'"):
        model.predict(Blocks({"ct": blocks.tables["ct"]}))


def test_each_patient_is_tested_once_per_repeat_and_never_trained_on():
    _, outcome = make_cohort(5)
    tested = []
    for repeat, _, train, test in patient_folds(outcome, n_splits=5, n_repeats=2, seed=0):
        assert not set(train) & set(test)
        tested += [(repeat, p) for p in test]
    assert len(tested) == len(set(tested)) == 2 * len(outcome)


def test_too_many_folds_are_refused():
    _, outcome = make_cohort(6)
    with pytest.raises(FormatError, match="n_splits"):
        list(patient_folds(outcome, n_splits=150, n_repeats=1, seed=0))


def test_a_patient_s_own_outcome_never_reaches_their_risk():
    blocks, outcome = make_cohort(7)
    before = evaluate(LateFusion(), blocks, outcome, n_bootstrap=10)
    patient = outcome.patients[3]
    altered = outcome.time_days.copy()
    altered[patient] = altered.max() * 3
    after = evaluate(LateFusion(), blocks, Survival(altered, outcome.event), n_bootstrap=10)
    assert after.risk[patient] == before.risk[patient]
    assert after.high_risk[patient] == before.high_risk[patient]
    assert (after.risk != before.risk).any()


def test_both_modalities_beat_each_alone_where_both_matter():
    blocks, outcome = make_cohort(8, n=300, missing=0.0)
    result = evaluate(LateFusion(), blocks, outcome, n_repeats=2, n_bootstrap=200)
    assert result.c_index > result.blocks["c_index"].max() + 0.03
    assert result.c_index_low < result.c_index < result.c_index_high


def test_noise_is_at_chance():
    """The mean over cohorts of pure noise is one half: a leak would lift it."""
    estimates = [evaluate(LateFusion(), *make_cohort(seed, strength=0.0), n_bootstrap=10).c_index for seed in range(12)]
    # Standard deviation of one estimate is about 0.03 (cross-validation is slightly pessimistic on noise), of the mean of 12 about 0.01.
    assert 0.46 < np.mean(estimates) < 0.53


def test_is_deterministic_and_leaves_the_model_alone():
    blocks, outcome = make_cohort(9)
    model = LateFusion()
    first, second = (evaluate(model, blocks, outcome, seed=4, n_bootstrap=50) for _ in range(2))
    assert first.c_index_low == second.c_index_low
    assert first.c_index == second.c_index
    assert not hasattr(model, "models_")
    assert "c-index" in first._repr_html_()


@pytest.mark.real
def test_real_cohort(real_data):
    """Lung squamous cell carcinoma (Gu et al., PLoS ONE 2019;14(10):e0223298): fusion of CT and pathology against each alone."""
    raw = pd.read_csv(real_data / "cohorts/lung_scc_samsung.csv", encoding="utf-8-sig").set_index("Index")
    raw = raw[raw["OS"] > 0]
    clinical = raw[["Age", "Smoking_state", "PY", "FVCpercentPRED", "FEV1percentPRED", "FEV1_FVC"]].assign(male=raw["Sex"] == "M", log_cea=np.log(raw["CEA"]))
    ct = raw[["Location", "Obst_pn_or_plugging", "CT_value_Mean", "CT_value_Std_Dev", "CT_V_ratio", "Necrosis", "Multiplicity", "Effusion", "cT", "cN"]].assign(
        emphysema=raw["Underlying_lung"] == 1, interstitial=raw["Underlying_lung"] == 2
    )
    pathology = raw[["Differentiation", "pos_LN", "total_LN", "LN_ratio", "pT", "pN"]]
    outcome = Survival(raw["OS"] * 30.4375, raw["death"])
    result = evaluate(LateFusion(), Blocks({"clinical": clinical, "ct": ct, "pathology": pathology}), outcome, n_repeats=5)
    # A prototype with other penalties reached .587, .638, .600 alone and .669 together on these rows.
    assert result.c_index > result.blocks["c_index"].max()
    assert 0.63 < result.c_index < 0.72
    assert 0.56 < result.blocks.loc["clinical", "c_index"] < 0.66
