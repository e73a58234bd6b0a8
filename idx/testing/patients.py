"""Tables of patients whose survival depends on both modalities in a stated way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from idx._typing import BoolArray, FloatArray
from idx.errors import UnitError

if TYPE_CHECKING:
    from numpy.random import Generator

BASELINE_MEDIAN_DAYS = 900.0
WEIBULL_SHAPE = 1.2
LOG_HAZARD_RATIOS: Mapping[str, float] = {
    "age_decades": 0.25,
    "stage": 0.35,
    "ct_heterogeneity": 0.65,
    "ct_volume": 0.35,
    "path_grade": 0.7,
    "path_immune": -0.5,
}
"""Coefficient of each latent factor (unit variance, but for stage) in the log hazard."""
CENSORED_FRACTION = 0.4
MEASURES: Mapping[str, tuple[tuple[str, str, float], ...]] = {
    "ct": (
        ("volume_log_mm3", "ct_volume", 0.9),
        ("surface_to_volume", "ct_volume", -0.7),
        ("entropy", "ct_heterogeneity", 0.85),
        ("joint_energy", "ct_heterogeneity", -0.75),
    ),
    "pathology": (
        ("nuclear_area_mean", "path_grade", 0.85),
        ("nuclear_area_sd", "path_grade", 0.75),
        ("mitoses_per_mm2", "path_grade", 0.6),
        ("lymphocyte_fraction", "path_immune", 0.85),
        ("lymphocyte_distance", "path_immune", -0.65),
    ),
}
"""Per block: feature, the latent factor it measures, and its correlation with it."""
N_NOISE_FEATURES: Mapping[str, int] = {"ct": 12, "pathology": 9}


@dataclass(frozen=True, eq=False)
class CohortPhantom:
    """Patients with clinical, CT and pathology blocks and a survival outcome.

    Parameters
    ----------
    blocks : dict of DataFrame
        "clinical", "ct", "pathology"; each has one row per patient that has the block, indexed by ``patient_id``.
    time_days : Series
        Time to death or censoring, of all patients.
    event : Series
        bool: whether the patient died at ``time_days``.
    site : Series
        Hospital; it shifts the CT features a little and has no effect on survival.
    log_hazard : Series
        The true linear predictor.
    latent : DataFrame
        The true factors.
    coefficients : mapping
        Log hazard ratio of each factor.
    oracle_c_index : float
        Harrell's c of ``log_hazard`` on this cohort: no model can be expected to exceed it.
    description : str
        How the outcome was made.
    """

    blocks: dict[str, pd.DataFrame]
    time_days: pd.Series
    event: pd.Series
    site: pd.Series
    log_hazard: pd.Series
    latent: pd.DataFrame
    coefficients: Mapping[str, float]
    oracle_c_index: float
    description: str

    @property
    def truth(self) -> dict[str, object]:
        """Coefficients, oracle c-index and description in one mapping."""
        return {"coefficients": dict(self.coefficients), "oracle_c_index": self.oracle_c_index, "description": self.description}


def _harrell_c(time: FloatArray, event: BoolArray, risk: FloatArray) -> float:
    """Harrell's c by pairs; a pair counts where the earlier time is a death; ties in risk count one half."""
    earlier = (time[:, None] < time[None, :]) & event[:, None]
    higher = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return float(higher[earlier].mean())


def _latent(rng: Generator, n: int) -> pd.DataFrame:
    """Draw factors; a tumour of high grade tends to be heterogeneous on CT (correlation 0.3), as in patients."""
    grade = rng.standard_normal(n)
    heterogeneity = 0.3 * grade + np.sqrt(1 - 0.3**2) * rng.standard_normal(n)
    return pd.DataFrame(
        {
            "age_decades": rng.standard_normal(n),
            "stage": rng.choice(4, size=n, p=(0.4, 0.25, 0.25, 0.1)).astype(np.float64),
            "ct_heterogeneity": heterogeneity,
            "ct_volume": rng.standard_normal(n),
            "path_grade": grade,
            "path_immune": rng.standard_normal(n),
        }
    )


def _block(rng: Generator, latent: pd.DataFrame, name: str) -> pd.DataFrame:
    """Measure the latent factors with error and add correlated noise features that know nothing of them."""
    n, columns = len(latent), {}
    for feature, factor, correlation in MEASURES[name]:
        columns[feature] = correlation * latent[factor].to_numpy() + np.sqrt(1 - correlation**2) * rng.standard_normal(n)
    shared = rng.standard_normal((n, 3))
    for k in range(N_NOISE_FEATURES[name]):
        columns[f"noise_{k:02d}"] = 0.8 * shared[:, k % 3] + 0.6 * rng.standard_normal(n)
    return pd.DataFrame(columns, index=latent.index)


def _outcome(rng: Generator, log_hazard: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Weibull times to death and one administrative end of follow-up: patients enter over two years, and the study closes on one day."""
    n = len(log_hazard)
    scale = BASELINE_MEDIAN_DAYS / np.log(2.0) ** (1 / WEIBULL_SHAPE)
    death = scale * (-np.log(rng.uniform(size=n)) * np.exp(-(log_hazard - log_hazard.mean()))) ** (1 / WEIBULL_SHAPE)
    entry = rng.uniform(0.0, 730.0, n)
    # The closing day at which the wanted fraction of patients is still alive.
    closing = np.quantile(death + entry, 1.0 - CENSORED_FRACTION)
    closing = max(float(closing), 731.0)
    follow_up = closing - entry
    return np.maximum(np.minimum(death, follow_up), 1.0), death <= follow_up


def cohort(n: int = 200, *, seed: int = 0, missing_fraction: float = 0.1) -> CohortPhantom:
    """Make a cohort whose survival depends on CT and pathology in a stated way.

    Parameters
    ----------
    n : int
        Number of patients, at least 20.
    seed : int
        The same seed gives the same tables.
    missing_fraction : float
        Fraction of patients without the CT block, and of others without the pathology block; at most 0.45. No patient lacks both.

    Returns
    -------
    CohortPhantom

    Raises
    ------
    UnitError
        If ``n`` or ``missing_fraction`` cannot be.

    Notes
    -----
    Hazard ``h(t) = h0(t) exp(b . z)``, Weibull with shape 1.2 and a median of 900 days at the mean predictor; b are ``LOG_HAZARD_RATIOS`` and z the
    latent factors, which the blocks measure with error. About 40 % are censored by the closing of the study. Missing blocks and the site are
    independent of the outcome.

    Examples
    --------
    >>> phantom = cohort(50)
    >>> sorted(phantom.blocks)
    ['clinical', 'ct', 'pathology']
    """
    if n < 20 or not 0 <= missing_fraction <= 0.45:
        raise UnitError(f"n must be at least 20 and missing_fraction in 0..0.45; got {n} and {missing_fraction} (cohort phantom). Pass counts and fractions.")
    rng = np.random.default_rng(seed)
    index = pd.Index([f"P{i:04d}" for i in range(n)], name="patient_id")
    latent = _latent(rng, n).set_index(index)
    log_hazard = latent.to_numpy() @ np.array([LOG_HAZARD_RATIOS[c] for c in latent.columns])
    time, event = _outcome(rng, log_hazard)
    site = pd.Series(rng.choice(["A", "B", "C"], size=n), index=index, name="site")
    clinical = pd.DataFrame(
        {
            "age_years": 66 + 9 * latent["age_decades"],
            "stage": latent["stage"],
            "is_male": rng.integers(0, 2, n).astype(np.float64),
            "pack_years": rng.gamma(2.0, 15.0, n),
        }
    )
    blocks = {"clinical": clinical, **{name: _block(rng, latent, name) for name in MEASURES}}
    blocks["ct"] = blocks["ct"].add(site.map({"A": 0.0, "B": 0.25, "C": -0.25}), axis=0)
    lacking = rng.permutation(n)[: 2 * round(missing_fraction * n)]
    half = len(lacking) // 2
    blocks["ct"] = blocks["ct"].drop(index[lacking[:half]])
    blocks["pathology"] = blocks["pathology"].drop(index[lacking[half:]])
    return CohortPhantom(
        blocks,
        pd.Series(time, index=index, name="time_days"),
        pd.Series(event, index=index, name="event"),
        site,
        pd.Series(log_hazard, index=index, name="log_hazard"),
        latent,
        dict(LOG_HAZARD_RATIOS),
        _harrell_c(time, event, log_hazard),
        f"Weibull (shape {WEIBULL_SHAPE}), proportional hazards in six latent factors that the blocks measure with error; "
        f"{CENSORED_FRACTION:.0%} censored when the study closes; site and missing blocks are independent of the outcome.",
    )
