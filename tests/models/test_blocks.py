"""Blocks and outcomes refuse what would mislead, and name the column."""

import numpy as np
import pandas as pd
import pytest

from idx.errors import FormatError
from idx.models import Blocks, Survival

GOOD = pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=["p1", "p2", "p3"])

BAD_BLOCKS = {
    "string": (GOOD.assign(b=["x", "y", "z"]), "'b'", "Encode"),
    "inf": (GOOD.assign(b=[1.0, np.inf, 2.0]), "'b'", "Find the division"),
    "constant": (GOOD.assign(b=1.0), "'b'", "Drop"),
    "empty column": (GOOD.assign(b=np.nan), "'b'", "Drop"),
    "repeated column": (pd.concat([GOOD, GOOD], axis=1), "'a'", "Rename"),
    "several rows of a patient": (GOOD.set_axis(["p1", "p1", "p3"]), "'p1'", "Aggregate"),
}


@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_bad_block_is_refused(name):
    table, column, remedy = BAD_BLOCKS[name]
    with pytest.raises(FormatError) as caught:
        Blocks({"ct": table})
    assert column in str(caught.value)
    assert "'ct'" in str(caught.value)
    assert remedy in str(caught.value)


def test_no_block_is_refused():
    with pytest.raises(FormatError, match="at least one modality"):
        Blocks({})


def test_patients_are_the_union_and_missing_rows_are_missing_blocks():
    other = pd.DataFrame({"b": [np.nan, 1.0, 2.0]}, index=["p2", "p4", "p3"])
    blocks = Blocks({"ct": GOOD, "pathology": other})
    assert list(blocks.patients) == ["p1", "p2", "p3", "p4"]
    assert blocks.presence["pathology"].to_dict() == {"p1": False, "p2": False, "p3": True, "p4": True}
    assert list(blocks.take(["p3", "p1"])["ct"].index) == ["p3", "p1"]
    assert list(blocks.take(["p3", "p1"])["pathology"].index) == ["p3"]


BAD_OUTCOMES = {
    "zero time": ([0.0, 1.0], [True, False], "'p0'"),
    "missing time": ([np.nan, 1.0], [True, False], "'p0'"),
    "other code": ([1.0, 2.0], [2, 0], "Code the event"),
    "no event": ([1.0, 2.0], [False, False], "at least one patient"),
}


@pytest.mark.parametrize("name", BAD_OUTCOMES)
def test_bad_outcome_is_refused(name):
    time, event, words = BAD_OUTCOMES[name]
    patients = [f"p{i}" for i in range(len(time))]
    with pytest.raises(FormatError, match=words):
        Survival(pd.Series(time, index=patients), pd.Series(event, index=patients))


def test_outcome_is_aligned_by_patient_not_by_position():
    outcome = Survival(pd.Series([1.0, 2.0], index=["a", "b"]), pd.Series([True, False], index=["b", "a"]))
    assert outcome.event.to_dict() == {"a": False, "b": True}
