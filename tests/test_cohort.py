"""Running a step over cases."""

import os
from pathlib import Path

import pandas as pd
import pytest

from idx import cohort
from idx.errors import FormatError


def measure(path):
    text = Path(path).read_text()
    if text == "bad":
        raise ValueError("the mask is empty")
    return {"length": len(text)}


def die(path):
    if Path(path).read_text() == "bad":
        os._exit(3)
    return {"length": 1}


@pytest.fixture
def cases(tmp_path):
    for name, text in {"p1": "abc", "p2": "bad", "p3": "hello"}.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in ("p1", "p2", "p3")]


@pytest.mark.parametrize("engine", ["serial", "processes", pytest.param("dask", marks=pytest.mark.slow)])
def test_a_failure_is_a_row_and_costs_nobody_else(cases, engine):
    result = cohort.run(measure, cases, engine=engine).set_index("case_id")
    assert list(result.index) == ["p1", "p2", "p3"]
    assert result.loc["p1", "length"] == 3
    assert result.loc["p3", "length"] == 5
    assert result.loc["p2", "error"] == "ValueError: the mask is empty"
    assert result["error"].isna().tolist() == [True, False, True]
    assert (result["seconds"] >= 0).all()


def test_a_dying_worker_costs_only_its_case(cases):
    result = cohort.run(die, cases, engine="processes").set_index("case_id")
    assert result["error"].isna().tolist() == [True, False, True]
    assert "died" in result.loc["p2", "error"]


def test_finished_cases_are_not_run_again_but_changed_and_failed_ones_are(cases, tmp_path):
    ran = []

    def step(path):
        ran.append(Path(path).name)
        return measure(path)

    out = tmp_path / "out"
    first = cohort.run(step, cases, engine="serial", out=out)
    assert ran == ["p1", "p2", "p3"]
    ran.clear()
    (cases[2]).write_text("other text")
    second = cohort.run(step, cases, engine="serial", out=out)
    assert ran == ["p2", "p3"]
    assert second.set_index("case_id").loc["p3", "length"] == 10
    pd.testing.assert_series_equal(first.loc[first.case_id == "p1", "length"], second.loc[second.case_id == "p1", "length"])
    assert list(pd.read_parquet(out / "results.parquet")["case_id"]) == ["p1", "p2", "p3"]
    assert not list(out.rglob("*.part"))


def test_repeated_ids_and_unknown_engines_are_refused(cases):
    with pytest.raises(FormatError, match="'p1' more than once"):
        cohort.run(measure, [cases[0], cases[0]], engine="serial")
    with pytest.raises(FormatError, match="engine must be"):
        cohort.run(measure, cases, engine="threads")


def test_no_cases_give_an_empty_frame():
    assert cohort.run(measure, [], engine="serial").empty
