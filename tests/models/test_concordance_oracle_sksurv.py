"""Our concordance against scikit-survival and lifelines, and against a loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from sksurv.metrics import concordance_index_censored

from idx.errors import FormatError
from idx.models.concordance import bootstrap_interval, pair_counts


@given(st.integers(0, 10_000))
def test_equals_scikit_survival(seed):
    rng = np.random.default_rng(seed)
    time = rng.exponential(1.0, 40)
    event = rng.random(40) < 0.6
    event[np.argmin(time)] = True
    risk = rng.normal(size=40).round(1)
    ours = pair_counts(time, event, risk).c_index()
    assert ours == pytest.approx(concordance_index_censored(event, time, risk)[0], abs=1e-12)


def test_tied_times_equal_lifelines():
    rng = np.random.default_rng(5)
    time = rng.integers(1, 8, 60).astype(float)
    event = rng.random(60) < 0.5
    risk = rng.normal(size=60)
    # lifelines counts a pair of two events at one time as comparable and half concordant unless risks tie; compare without such pairs.
    keep = ~pd_duplicated_events(time, event)
    ours = pair_counts(time[keep], event[keep], risk[keep]).c_index()
    assert ours == pytest.approx(concordance_index(time[keep], -risk[keep], event[keep]), abs=1e-12)


def pd_duplicated_events(time, event):
    seen, duplicated = set(), np.zeros(len(time), dtype=bool)
    for i in np.flatnonzero(event):
        duplicated[i] = time[i] in seen
        seen.add(time[i])
    return duplicated


def test_sign_is_never_chosen_from_the_data():
    time, event = np.array([1.0, 2.0, 3.0]), np.array([True, True, True])
    assert pair_counts(time, event, [3.0, 2.0, 1.0]).c_index() == 1.0
    assert pair_counts(time, event, [1.0, 2.0, 3.0]).c_index() == 0.0


def test_groups_restrict_pairs():
    time, event = np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4, dtype=bool)
    pairs = pair_counts(time, event, [4.0, 3.0, 1.0, 2.0], groups=np.array([0, 1, 0, 1]))
    assert pairs.comparable.sum() == 2
    assert pairs.c_index() == 1.0


def test_patient_without_risk_is_in_no_pair():
    pairs = pair_counts([1.0, 2.0, 3.0], [True, True, True], [np.nan, 2.0, 1.0])
    assert pairs.comparable.sum() == 1


def test_no_pair_is_refused():
    with pytest.raises(FormatError, match="comparable pair"):
        pair_counts([1.0, 2.0], [False, False], [1.0, 2.0]).c_index()


def test_weights_equal_repeated_patients():
    rng = np.random.default_rng(3)
    time, event, risk = rng.exponential(1.0, 20), rng.random(20) < 0.7, rng.normal(size=20)
    draw = rng.integers(0, 20, 20)
    weights = np.bincount(draw, minlength=20).astype(float)
    by_weights = pair_counts(time, event, risk).c_index(weights)
    repeated = pair_counts(time[draw], event[draw], risk[draw])
    # Copies of one patient are no pair: with equal times and both an event or both censored they are not comparable.
    assert by_weights == pytest.approx(float(repeated.c_index()), abs=1e-12)


def test_interval_covers_its_nominal_share():
    """The bootstrap interval holds the long-run c-index in about 95 % of samples."""
    beta, covered, n_samples = 0.8, 0, 120
    rng = np.random.default_rng(11)
    x = rng.normal(size=3000)
    t = rng.exponential(np.exp(-beta * x))
    truth = float(pair_counts(t, np.ones(3000, dtype=bool), x).c_index())
    for _ in range(n_samples):
        x = rng.normal(size=120)
        t = rng.exponential(np.exp(-beta * x))
        pairs = pair_counts(t, np.ones(120, dtype=bool), x)
        low, high = bootstrap_interval(pairs, n_resamples=300, confidence=0.95, rng=rng)
        covered += low <= truth <= high
    # 95 % of 120 is 114, binomial sd 2.4; percentile intervals of c are known to cover a little less.
    assert 104 <= covered <= 120
