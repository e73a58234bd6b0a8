"""Cox coefficients against scikit-survival's independent solver, and published hazard ratios on a real cohort."""

import numpy as np
import pandas as pd
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from idx.errors import FormatError
from idx.models import CoxModel, Survival


def make(seed, n=150):
    rng = np.random.default_rng(seed)
    patients = [f"p{i}" for i in range(n)]
    table = pd.DataFrame(rng.normal(size=(n, 4)) * [1, 10, 0.1, 1] + [0, 50, 0, 3], index=patients, columns=list("abcd"))
    time = pd.Series(rng.exponential(np.exp(-0.7 * table["a"])).round(2) + 0.01, index=patients)
    event = pd.Series(rng.random(n) < 0.7, index=patients)
    return table, Survival(time * 365, event)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_coefficients_equal_scikit_survival_with_efron_ties(seed):
    table, outcome = make(seed)
    ours = CoxModel(penalizer=0.05).fit(table, outcome)
    standardised = (table - table.mean()) / table.std()
    # lifelines penalises the mean log-likelihood by penalizer/2 |beta|^2, scikit-survival the same mean by alpha/2 |beta|^2 (per patient).
    reference = CoxPHSurvivalAnalysis(alpha=0.05 * len(table), ties="efron", tol=1e-12).fit(standardised, Surv.from_arrays(outcome.event, outcome.time_days))
    np.testing.assert_allclose(ours.coefficients_, reference.coef_, atol=2e-6)


def test_standardisation_makes_units_irrelevant():
    table, outcome = make(3)
    in_mm = CoxModel().fit(table, outcome).predict(table)
    in_um = CoxModel().fit(table * 1000.0, outcome).predict(table * 1000.0)
    np.testing.assert_allclose(in_mm, in_um, atol=1e-9)


def test_preparation_learns_from_training_patients_only():
    table, outcome = make(4)
    table.iloc[:20, 1] = np.nan
    train, test = table.iloc[:100], table.iloc[100:]
    model = CoxModel().fit(train, outcome)
    before = model.predict(test)
    shifted = test.copy()
    shifted.iloc[1:] = shifted.iloc[1:] + 100.0
    # A test patient's risk must not depend on the other test patients.
    assert model.predict(shifted).iloc[0] == before.iloc[0]
    assert model.medians_["b"] == train["b"].median()


def test_features_that_are_constant_in_training_are_left_out():
    table, outcome = make(5)
    table["e"] = 1.0
    model = CoxModel().fit(table, outcome)
    assert list(model.coefficients_.index) == list("abcd")


def test_errors_name_the_patient_and_the_feature():
    table, outcome = make(6)
    with pytest.raises(FormatError, match="'stranger'"):
        CoxModel().fit(table.rename(index={"p0": "stranger"}), outcome)
    with pytest.raises(FormatError, match="'d'"):
        CoxModel().fit(table, outcome).predict(table.drop(columns="d"))


@pytest.mark.real
@pytest.mark.parametrize(
    ("column", "low", "high"),
    [("Age", 1.020, 1.063), ("CT_V_ratio", 0.599, 1.414), ("CT_value_Std_Dev", 1.007, 1.025)],
)
def test_univariate_hazard_ratio_lies_in_the_published_interval(real_data, column, low, high):
    """Gu et al., PLoS ONE 2019;14(10):e0223298, Table 2 (overall survival; 382 of these 398 rows)."""
    cohort = pd.read_csv(real_data / "cohorts/lung_scc_samsung.csv", encoding="utf-8-sig").set_index("Index")
    cohort = cohort[cohort["OS"] > 0]
    table = cohort[[column]].astype(float)
    model = CoxModel(penalizer=0.0).fit(table, Survival(cohort["OS"] * 30.4375, cohort["death"]))
    hazard_ratio = float(np.exp(model.coefficients_[column] / model.scales_[column]))
    assert low <= hazard_ratio <= high
