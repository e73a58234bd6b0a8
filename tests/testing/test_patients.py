"""The cohort phantom: both blocks carry part of the truth, and censoring and missing blocks are as stated."""

import numpy as np
import pytest

from idx.errors import UnitError
from idx.testing import cohort


def harrell_c(time, event, risk):
    concordant = comparable = 0.0
    for i in range(len(time)):
        if not event[i]:
            continue
        for j in range(len(time)):
            if time[i] < time[j]:
                comparable += 1
                concordant += (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
    return concordant / comparable


@pytest.fixture(scope="module")
def phantom():
    return cohort(300, seed=2)


def test_both_blocks_are_needed(phantom):
    time, event = phantom.time_days.to_numpy(), phantom.event.to_numpy()
    oracle = harrell_c(time, event, phantom.log_hazard.to_numpy())
    assert oracle == pytest.approx(phantom.oracle_c_index, abs=1e-12)
    alone = {}
    for prefix in ("ct_", "path_"):
        names = [name for name in phantom.coefficients if name.startswith(prefix)]
        alone[prefix] = harrell_c(time, event, (phantom.latent[names] @ [phantom.coefficients[n] for n in names]).to_numpy())
    assert min(alone.values()) > 0.6
    assert oracle > max(alone.values()) + 0.04


def test_censoring_and_blocks(phantom):
    assert 1 - phantom.event.mean() == pytest.approx(0.4, abs=0.02)
    assert (phantom.time_days > 0).all()
    ct, pathology = (set(phantom.blocks[name].index) for name in ("ct", "pathology"))
    everyone = set(phantom.blocks["clinical"].index)
    assert len(everyone - ct) == len(everyone - pathology) == 30
    assert ct | pathology == everyone
    assert not any(block.isna().any(axis=None) for block in phantom.blocks.values())
    assert all("site" not in block.columns for block in phantom.blocks.values())


def test_coefficients_are_those_of_the_hazard():
    """Without censoring, log(-log S) of a Weibull is linear in the predictor: the planted slope comes back from the times."""
    phantom = cohort(4000, seed=9)
    died = phantom.event.to_numpy()
    risk = phantom.log_hazard.to_numpy()
    thirds = np.digitize(risk, np.quantile(risk, (1 / 3, 2 / 3)))
    medians = [np.median(phantom.time_days[(thirds == k)]) for k in (1, 2)]
    means = [risk[thirds == k].mean() for k in (1, 2)]
    assert died[thirds == 2].mean() > 0.7
    assert np.log(medians[0] / medians[1]) == pytest.approx((means[1] - means[0]) / 1.2, rel=0.15)


def test_one_seed_gives_one_cohort():
    first, second, other = cohort(60, seed=1), cohort(60, seed=1), cohort(60, seed=2)
    assert first.time_days.equals(second.time_days)
    assert all(first.blocks[k].equals(second.blocks[k]) for k in first.blocks)
    assert not first.time_days.equals(other.time_days)


@pytest.mark.parametrize("options", [{"n": 5}, {"missing_fraction": 0.6}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(UnitError):
        cohort(**options)
