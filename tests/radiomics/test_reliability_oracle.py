"""Intraclass correlations and intervals of Shrout and Fleiss (1979), of pingouin and of sums written out; coverage by simulation."""

import numpy as np
import pytest
from scipy.stats import f as f_distribution

from idx.errors import FormatError
from idx.radiomics.reliability import ICC_KINDS, intraclass_correlation, verdict

# Shrout and Fleiss, Psychol Bull 1979;86:420-428, table 2: six targets, four judges.
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
# Nine subjects with a rater effect, drawn once from a normal distribution.
SUBJECTS = np.array(
    [
        [-0.65, 1.19, -0.98, -0.35, -2.83],
        [-1.01, -0.46, 1.02, -0.27, 0.24],
        [-1.29, -0.52, -2.98, -1.26, -1.8],
        [-3.18, -3.71, -2.79, -3.54, -4.41],
        [-0.92, -1.68, -1.04, -0.37, -2.88],
        [-3.71, -2.37, -2.55, -4.09, -3.83],
        [0.92, -0.88, 1.4, 0.41, -1.39],
        [5.4, 5.27, 3.18, 4.2, 3.67],
        [-2.29, -0.3, -1.19, -0.7, -0.97],
    ]
)
# pingouin 0.7.0, intraclass_corr, rounding of the interval switched off.
PINGOUIN = {
    ("judges", "ICC(1,1)"): (0.1657417684054755, -0.13293232487475096, 0.722560062328121),
    ("judges", "ICC(A,1)"): (0.28976377952755916, 0.018786513374712058, 0.7610843696489527),
    ("judges", "ICC(C,1)"): (0.7148407148407154, 0.34246476503392614, 0.9458582599553597),
    ("subjects", "ICC(1,1)"): (0.8470485761391369, 0.6703480800940674, 0.9564026311987508),
    ("subjects", "ICC(A,1)"): (0.8476252355165632, 0.668941325044309, 0.9566607468890509),
    ("subjects", "ICC(C,1)"): (0.863910873595105, 0.6968903950835883, 0.9618471606984786),
}
RATINGS = {"judges": JUDGES, "subjects": SUBJECTS}


@pytest.mark.parametrize(
    ("kind", "published", "low", "high"),
    # The estimates are those of Shrout and Fleiss, table 4; the intervals those that R's psych::ICC prints for the same ratings.
    [("ICC(1,1)", 0.17, -0.13, 0.72), ("ICC(A,1)", 0.29, 0.02, 0.76), ("ICC(C,1)", 0.71, 0.34, 0.95)],
)
def test_the_example_of_shrout_and_fleiss(kind, published, low, high):
    assert intraclass_correlation(JUDGES, kind=kind) == pytest.approx((published, low, high), abs=0.005)


@pytest.mark.parametrize(("name", "kind"), list(PINGOUIN))
def test_equals_pingouin(name, kind):
    np.testing.assert_allclose(intraclass_correlation(RATINGS[name], kind=kind), PINGOUIN[name, kind], rtol=1e-9)


def sums_written_out(x, kind, confidence):
    """McGraw and Wong (1996), tables 4 and 7, one number at a time."""
    n, k = x.shape
    grand = sum(x[i, j] for i in range(n) for j in range(k)) / (n * k)
    row = [sum(x[i]) / k for i in range(n)]
    column = [sum(x[:, j]) / n for j in range(k)]
    msr = k * sum((r - grand) ** 2 for r in row) / (n - 1)
    msw = sum((x[i, j] - row[i]) ** 2 for i in range(n) for j in range(k)) / (n * (k - 1))
    msc = n * sum((c - grand) ** 2 for c in column) / (k - 1)
    mse = sum((x[i, j] - row[i] - column[j] + grand) ** 2 for i in range(n) for j in range(k)) / ((n - 1) * (k - 1))
    half = 1 - (1 - confidence) / 2
    if kind != "ICC(A,1)":
        error, df = (msw, n * (k - 1)) if kind == "ICC(1,1)" else (mse, (n - 1) * (k - 1))
        observed = msr / error
        lower, upper = observed / f_distribution.ppf(half, n - 1, df), observed * f_distribution.ppf(half, df, n - 1)
        return (observed - 1) / (observed + k - 1), (lower - 1) / (lower + k - 1), (upper - 1) / (upper + k - 1)
    icc = (msr - mse) / (msr + (k - 1) * mse + k / n * (msc - mse))
    a, b = k * icc / (n * (1 - icc)), 1 + k * icc * (n - 1) / (n * (1 - icc))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    up, down = f_distribution.ppf(half, n - 1, v), f_distribution.ppf(half, v, n - 1)
    low = n * (msr - up * mse) / (up * (k * msc + (k * n - k - n) * mse) + n * msr)
    high = n * (down * msr - mse) / (k * msc + (k * n - k - n) * mse + n * down * msr)
    return icc, low, high


@pytest.mark.parametrize("kind", ICC_KINDS)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_many_features_equal_sums_written_out(kind, confidence):
    rng = np.random.default_rng(5)
    cube = rng.normal(size=(7, 1, 30)) * rng.uniform(0.5, 5.0, 30) + rng.normal(size=(7, 4, 30)) + rng.normal(size=(1, 4, 30))
    cube = cube * 10.0 ** rng.integers(-6, 7, 30) + 1e3
    found = np.array(intraclass_correlation(cube, kind=kind, confidence=confidence))
    for feature in range(30):
        expected = sums_written_out(cube[..., feature], kind, confidence)
        # Satterthwaite's degrees of freedom of a negative estimate are idx's own choice.
        if kind != "ICC(A,1)" or expected[0] > 0:
            np.testing.assert_allclose(found[:, feature], expected, rtol=1e-6, atol=1e-9)
        assert found[1, feature] <= found[0, feature] <= found[2, feature]


# 95 % of 6,000 intervals, within 3.5 standard errors. The interval of ICC(A,1) is Satterthwaite's approximation, held to 2 %.
@pytest.mark.parametrize(
    ("kind", "slack"), [("ICC(1,1)", 3.5 * np.sqrt(0.95 * 0.05 / 6000)), ("ICC(C,1)", 3.5 * np.sqrt(0.95 * 0.05 / 6000)), ("ICC(A,1)", 0.02)]
)
@pytest.mark.parametrize("truth", [0.3, 0.9])
def test_the_interval_covers_the_truth(kind, slack, truth):
    rng = np.random.default_rng(11)
    n, k, m = 15, 6, 6000
    subject, error = rng.normal(size=(n, 1, m)) * np.sqrt(truth), rng.normal(size=(n, k, m)) * np.sqrt(1 - truth)
    if kind == "ICC(A,1)":
        # Half of what is not the subject's is the rater's.
        ratings = subject + error * np.sqrt(0.5) + rng.normal(size=(1, k, m)) * np.sqrt((1 - truth) / 2)
    else:
        ratings = subject + error + (5.0 * rng.normal(size=(1, k, m)) if kind == "ICC(C,1)" else 0.0)
    _, low, high = intraclass_correlation(ratings, kind=kind)
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.95, abs=slack)


@pytest.mark.parametrize("kind", ICC_KINDS)
def test_raters_that_agree_exactly_are_perfect(kind):
    ratings = np.repeat([[1.0], [4.0], [7.0]], 3, axis=1)
    np.testing.assert_allclose(intraclass_correlation(ratings, kind=kind), 1.0)


@pytest.mark.parametrize("kind", ICC_KINDS)
def test_equal_ratings_have_none(kind):
    ratings = np.stack([np.full((4, 3), 0.1), np.arange(12.0).reshape(4, 3), np.full((4, 3), 0.1) + 1e-17], axis=-1)
    for part in intraclass_correlation(ratings, kind=kind):
        np.testing.assert_array_equal(np.isnan(part), [True, False, True])


def test_the_three_kinds_see_a_common_effect_differently():
    ratings = SUBJECTS + np.array([0.0, 3.0, 6.0, 9.0, 12.0])
    one_way, agreement, consistency = (float(intraclass_correlation(ratings, kind=kind)[0]) for kind in ICC_KINDS)
    assert consistency == pytest.approx(PINGOUIN["subjects", "ICC(C,1)"][0])
    assert max(one_way, agreement) < 0.5 * consistency


@pytest.mark.parametrize(("low", "name"), [(-0.2, "poor"), (0.499, "poor"), (0.6, "moderate"), (0.8, "good"), (0.95, "excellent"), (1.0, "excellent")])
def test_verdicts_of_koo_and_li(low, name):
    assert verdict(low) == name


@pytest.mark.parametrize(
    ("ratings", "options", "words"),
    [
        (np.ones((1, 5)), {}, "at least 2 subjects and 2 raters"),
        (np.ones((5, 1)), {}, "at least 2 subjects and 2 raters"),
        (np.ones(5), {}, "at least 2 subjects"),
        (np.array([[1.0, np.nan], [2.0, 3.0]]), {}, "finite; got 1"),
        (JUDGES, {"kind": "ICC(2,1)"}, r"ICC\(A,1\).*got 'ICC\(2,1\)'"),
        (JUDGES, {"confidence": 95}, "between 0 and 1; got 95"),
    ],
)
def test_refuses(ratings, options, words):
    with pytest.raises(FormatError, match=words):
        intraclass_correlation(ratings, **options)
