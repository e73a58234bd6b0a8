"""Running a step over cases."""

import functools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from idx import cohort
from idx.errors import FormatError
from idx.settings import current_settings, use_settings
from idx.table import FeatureSpec, FeatureTable, Missing


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


def test_empty_cells_of_a_feature_table_keep_their_reason():
    specs = [FeatureSpec("a_mm", "mm", "One."), FeatureSpec("b", "1", "Two.")]

    def step(value):
        row = {"a_mm": Missing("constant") if value < 0 else value, "b": 1.0}
        return FeatureTable.from_rows({"lesion": row}, specs, index_name="lesion")

    result = cohort.run(step, {"p1": 2.0, "p2": -1.0}, engine="serial").set_index("case_id")
    assert result["missing"].isna().tolist() == [True, False]
    assert result.loc["p2", "missing"] == "a_mm: constant"
    assert result["a_mm"].isna().tolist() == [False, True]


def test_repeated_ids_and_unknown_engines_are_refused(cases):
    with pytest.raises(FormatError, match="'p1' more than once"):
        cohort.run(measure, [cases[0], cases[0]], engine="serial")
    with pytest.raises(FormatError, match="engine must be"):
        cohort.run(measure, cases, engine="threads")


def test_no_cases_give_an_empty_frame():
    assert cohort.run(measure, [], engine="serial").empty


def seed_and_threads(_):
    settings = current_settings()
    return {"seed": settings.seed, "workers": settings.workers, "progress": settings.progress}


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_settings_hold_in_the_workers(cases, engine):
    with use_settings(seed=7, workers=6):
        result = cohort.run(seed_and_threads, cases, engine=engine)
    assert result["seed"].tolist() == [7, 7, 7]
    assert result["workers"].tolist() == ([6] * 3 if engine == "serial" else [2] * 3)
    assert not result["progress"].any()


def test_a_function_that_no_process_can_import_is_refused_before_any_case_runs(cases, tmp_path):
    with pytest.raises(FormatError, match=r"import; got '.*<lambda>'.*\.py file"):
        cohort.run(lambda path: {"x": 1}, cases, engine="processes", out=tmp_path / "out")


def test_a_function_of_a_notebook_is_refused_at_once():
    """As in a notebook, there is no file that a new process could import."""
    code = "from idx import cohort\ndef step(item):\n    return {'n': item}\ncohort.run(step, {'a': 1, 'b': 2})\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "FormatError: step must be a function that another process can import; got 'step' of a notebook" in done.stderr


def keep(item):
    return {"kind": type(item).__name__}


def test_a_case_that_cannot_travel_is_a_row(cases):
    result = cohort.run(keep, {"open": threading.Lock(), "path": "p1"}, engine="processes").set_index("case_id")
    assert "picklable" in result.loc["open", "error"]
    assert result.loc["path", "kind"] == "str"


def nothing_in_p1(path):
    return pd.DataFrame({"area": [] if Path(path).name == "p1" else [1.0, 2.0]})


def test_a_case_without_findings_keeps_a_row(cases, tmp_path):
    for _ in range(2):  # the second time from the files
        result = cohort.run(nothing_in_p1, cases, engine="serial", out=tmp_path / "out")
        assert result["case_id"].tolist() == ["p1", "p2", "p2", "p3", "p3"]
        assert result["area"].isna().tolist() == [True, False, False, False, False]
        assert result["error"].isna().all()


def test_columns_that_run_adds_are_not_overwritten_silently(cases):
    result = cohort.run(lambda path: {"seconds": 3.0}, cases[:1], engine="serial")
    assert "'seconds'" in result["error"].item()


def test_an_edited_step_and_other_arguments_run_again(cases, tmp_path):
    def scaled(path, by=1):
        return {"value": by}

    first = scaled

    def scaled(path, by=1):
        return {"value": 10 * by}

    out = tmp_path / "out"
    steps = (first, scaled, functools.partial(scaled, by=2), functools.partial(scaled, by=3))
    assert [cohort.run(step, cases[:1], engine="serial", out=out)["value"].item() for step in steps] == [1, 10, 20, 30]


def test_the_same_partial_is_not_run_again(cases, tmp_path):
    ran = []

    def new_function():
        """Defined anew, as when a program is started again."""

        def step(path, *, by):
            ran.append(by)
            return {"value": by}

        return step

    steps = [new_function(), new_function()]
    for step in steps:
        cohort.run(functools.partial(step, by=3), cases[:1], engine="serial", out=tmp_path / "out")
    assert ran == [3]


def slow(path):
    time.sleep(0.5)
    return {"n": 1}


def test_an_interrupted_run_drops_the_cases_that_wait(tmp_path, monkeypatch):
    def full_disk(frame, path):
        raise OSError("no space left on device")

    monkeypatch.setattr(cohort, "_write_parquet", full_disk)
    started = time.monotonic()
    with use_settings(workers=1), pytest.raises(OSError, match="no space"):
        cohort.run(slow, {str(i): i for i in range(60)}, out=tmp_path)
    assert time.monotonic() - started < 20


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_results_can_be_read_by_others(cases, tmp_path):
    mask = os.umask(0o022)
    try:
        cohort.run(measure, cases, engine="serial", out=tmp_path / "out")
    finally:
        os.umask(mask)
    assert (tmp_path / "out" / "results.parquet").stat().st_mode & 0o777 == 0o644
