"""A step over many cases: resumable, and a failing case is a row with its error, never a hole."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import pickle
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

import idx
from idx._optional import require
from idx._progress import track
from idx._typing import PathLike
from idx.errors import FormatError, IdxError
from idx.settings import Settings, current_settings, in_force
from idx.table import FeatureTable

Step = Callable[[Any], "FeatureTable | pd.DataFrame | Mapping[str, object]"]


@dataclass(frozen=True)
class _Job:
    """One case on its way to a worker."""

    case_id: str
    item: Any
    fingerprint: str
    settings: Settings


def run(step: Step, cases: Mapping[str, Any] | Iterable[Any], *, engine: Any = "processes", out: PathLike | None = None) -> pd.DataFrame:
    """Run a step on every case.

    Parameters
    ----------
    step : callable
        Takes one case (whatever ``cases`` holds: a path, a case folder, a :class:`~idx.case.Case`) and returns a FeatureTable, a DataFrame or a
        mapping of plain values. With engine "processes" it must be a function of a module (a ``.py`` file), not of a notebook: a new process imports
        it. The other engines take any function.
    cases : mapping of str to case, or iterable of cases
        Keys are case ids. Without them paths are named by their last part and Cases by their ``case_id``.
    engine : {"processes", "serial", "dask"} or dask Client
        "dask" starts a local cluster. Settings in force here hold in the workers too, but for the progress bar; local workers share the threads.
    out : path, optional
        Folder for results: one Parquet file per case, and ``results.parquet``. A case whose step (its own source text), version of idx and input
        are unchanged is not run again; a case that failed is. Functions that the step calls are not looked into.

    Returns
    -------
    DataFrame
        One row per case (or per row that the step returns; a case without any keeps one of empty cells), with ``case_id``, the step's columns,
        ``error`` (None or a sentence) and ``seconds``. Rows of a FeatureTable have ``missing`` besides: "feature: reason" of their empty cells.

    Raises
    ------
    FormatError
        If two cases bear one id, the engine is unknown, or the step cannot be imported by another process.

    Examples
    --------
    >>> run(len, {"a": [1, 2, 3]}, engine="serial")["value"].item()
    3
    """
    jobs = _jobs(step, cases)
    folder = None if out is None else Path(out)
    done = {} if folder is None else _finished(jobs, folder)
    waiting = [job for job in jobs if job.case_id not in done]
    for job, frame in track(_execute(step, waiting, engine), total=len(waiting), description="cases"):
        if folder is not None:
            _write_parquet(frame.assign(fingerprint=job.fingerprint), folder / "cases" / f"{_file_name(job.case_id)}.parquet")
        done[job.case_id] = frame
    result = pd.concat([done[job.case_id] for job in jobs], ignore_index=True) if jobs else pd.DataFrame(columns=["case_id", "error", "seconds"])
    if folder is not None:
        _write_parquet(result, folder / "results.parquet")
    return result


def _jobs(step: Step, cases: Mapping[str, Any] | Iterable[Any]) -> list[_Job]:
    named = list(cases.items()) if isinstance(cases, Mapping) else [(_case_id(item), item) for item in cases]
    ids = [str(case_id) for case_id, _ in named]
    repeated = {case_id for case_id in ids if ids.count(case_id) > 1}
    if repeated:
        raise FormatError(f"case ids must be unique; got '{min(repeated)}' more than once. Pass a mapping of id to case.")
    # Bars of many workers would write over each other.
    settings = replace(current_settings(), progress=False)
    return [_Job(case_id, item, _fingerprint(step, item), settings) for case_id, (_, item) in zip(ids, named, strict=True)]


def _case_id(item: Any) -> str:
    if isinstance(item, (str, os.PathLike)):
        return Path(item).name
    return str(getattr(item, "case_id", item))


def _fingerprint(step: Step, item: Any) -> str:
    """Hash of what the result depends on: the step's name and text, the version of idx, and the input (for paths: names, sizes and times of change)."""
    if isinstance(item, (str, os.PathLike)):
        root = Path(item)
        files = sorted(root.rglob("*")) if root.is_dir() else [root]
        content: object = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    else:
        try:
            content = pickle.dumps(item)
        except (pickle.PicklingError, TypeError, AttributeError):
            # An open slide, say: no content to compare, so it is never taken from an earlier run.
            content = (id(item), time.time_ns())
    return hashlib.sha256(repr((_identity(step), idx.__version__, content)).encode()).hexdigest()


def _identity(step: Any) -> object:
    """Name and source text of a step; of a partial also its arguments."""
    if isinstance(step, functools.partial):
        return _identity(step.func), step.args, sorted(step.keywords.items())
    try:
        text = inspect.getsource(step)
    except (OSError, TypeError):
        # A builtin, a callable object, or a function typed into an interpreter: its name must do.
        text = ""
    return f"{getattr(step, '__module__', '')}.{getattr(step, '__qualname__', repr(step))}", text


def _finished(jobs: list[_Job], folder: Path) -> dict[str, pd.DataFrame]:
    """Results of an earlier run that are still true."""
    done = {}
    for job in jobs:
        file = folder / "cases" / f"{_file_name(job.case_id)}.parquet"
        if file.is_file():
            frame = pd.read_parquet(file)
            if (frame["fingerprint"] == job.fingerprint).all() and frame["error"].isna().all():
                done[job.case_id] = frame.drop(columns="fingerprint")
    return done


def _file_name(case_id: str) -> str:
    """Readable and safe, with a hash so that two ids never share a file."""
    readable = "".join(c if c.isalnum() or c in "-_." else "_" for c in case_id)[:60]
    return f"{readable}-{hashlib.sha256(case_id.encode()).hexdigest()[:8]}"


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write beside the place and rename, so that an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp, whose files only their owner can read: results are shared.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        frame.to_parquet(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _as_frame(value: Any) -> pd.DataFrame:
    if isinstance(value, FeatureTable):
        gaps = value.status.assign(text=value.status["feature"] + ": " + value.status["reason"]).groupby("row")["text"].agg("; ".join)
        return value.values.assign(missing=gaps.reindex(value.values.index).astype(object)).reset_index()
    if isinstance(value, pd.DataFrame):
        return value.reset_index(drop=value.index.name is None)
    if isinstance(value, Mapping):
        return pd.DataFrame([dict(value)])
    return pd.DataFrame([{"value": value}])


def _attempt(step: Step, job: _Job) -> pd.DataFrame:
    """Run one case in a worker; any failure becomes its row."""
    started = time.perf_counter()
    try:
        with in_force(job.settings):
            frame, error = _as_frame(step(job.item)), None
        if taken := {"error", "seconds"} & set(frame.columns):
            raise IdxError(f"a step's columns must not be named 'error' or 'seconds', which run adds; got {sorted(taken)}. Rename them.")
        if len(frame) == 0:
            # Nothing found is a finding: without a row the case would be missing from the results.
            frame = pd.DataFrame(index=[0])
    # A step is the user's code: whatever it raises must not cost the other cases.
    except Exception as caught:
        frame, error = pd.DataFrame(index=[0]), f"{type(caught).__name__}: {caught}"
    frame = frame.drop(columns="case_id", errors="ignore")
    frame.insert(0, "case_id", job.case_id)
    return frame.assign(error=pd.Series(error, index=frame.index, dtype=object), seconds=time.perf_counter() - started)


def _execute(step: Step, jobs: list[_Job], engine: Any) -> Iterator[tuple[_Job, pd.DataFrame]]:
    if engine == "serial":
        for job in jobs:
            yield job, _attempt(step, job)
    elif engine == "processes":
        _require_importable(step)
        yield from _in_processes(step, jobs)
    elif engine == "dask" or hasattr(engine, "submit"):
        yield from _on_dask(step, jobs, engine)
    else:
        raise FormatError(f"engine must be 'processes', 'serial', 'dask' or a dask Client; got {engine!r}. Pass engine='processes'.")


def _require_importable(step: Any) -> None:
    """Refuse a step that a new process cannot import: it would look like a worker that dies, once for every case."""
    function = step.func if isinstance(step, functools.partial) else step
    try:
        pickle.dumps(step)
        is_importable = True
    except (pickle.PicklingError, TypeError, AttributeError):
        is_importable = False
    # A script is imported again by each worker; what was typed into a notebook or an interpreter is in no file.
    in_notebook = getattr(function, "__module__", None) == "__main__" and not hasattr(sys.modules["__main__"], "__file__")
    if not is_importable or in_notebook:
        raise FormatError(
            f"step must be a function that another process can import; got '{getattr(function, '__qualname__', function)}' "
            f"of {'a notebook' if in_notebook else getattr(function, '__module__', 'no module')}. "
            "Move it to the top level of a .py file and import it from there, or pass engine='serial' or 'dask'."
        )


def _shared_threads(jobs: list[_Job], workers: int) -> list[_Job]:
    """Jobs whose settings divide the threads among workers of one machine: each taking all cores would slow all of them."""
    return [replace(job, settings=replace(job.settings, workers=max(1, job.settings.workers // workers))) for job in jobs]


def _in_processes(step: Step, jobs: list[_Job]) -> Iterator[tuple[_Job, pd.DataFrame]]:
    """Spawned workers (threads of torch and decoders do not survive a fork)."""
    workers = min(current_settings().workers, len(jobs)) or 1
    jobs = _shared_threads(jobs, workers)
    unfinished = {job.case_id: job for job in jobs}
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        futures: dict[Future[pd.DataFrame], _Job] = {pool.submit(_attempt, step, job): job for job in jobs}
        for future in as_completed(futures):
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                break
            job = futures[future]
            del unfinished[job.case_id]
            yield job, future.result() if error is None else _lost(error, job)
    finally:
        # Without this an interruption, or a full disk, would wait for all cases that have not begun.
        pool.shutdown(wait=True, cancel_futures=True)
    # A worker that dies (memory, a crash in native code) breaks the pool for all: the rest run one at a time, so that only the culprit fails.
    for job in unfinished.values():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as single:
            future = single.submit(_attempt, step, job)
            error = future.exception()
        yield job, future.result() if error is None else _lost(error, job)


def _lost(error: BaseException, job: _Job) -> pd.DataFrame:
    """Row of a case that brought none back: its worker died, or it could not travel."""
    return _attempt(_died if isinstance(error, BrokenProcessPool) else functools.partial(_untravelled, error), job)


def _died(_: Any) -> FeatureTable:
    raise IdxError("the worker process died (out of memory, or a crash in native code). Run this case alone with engine='serial' to see why.")


def _untravelled(error: BaseException, _: Any) -> FeatureTable:
    raise IdxError(
        f"a case and its result must be picklable to travel between processes; got {type(error).__name__}: {error}. "
        "Pass the path of a saved case instead of the Case, or engine='serial'."
    ) from error


def _on_dask(step: Step, jobs: list[_Job], engine: Any) -> Iterator[tuple[_Job, pd.DataFrame]]:
    distributed = require("distributed", extra="dask", purpose="the dask engine")
    if engine == "dask":
        with (
            distributed.LocalCluster(n_workers=current_settings().workers, threads_per_worker=1, dashboard_address=None) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield from _on_dask(step, _shared_threads(jobs, current_settings().workers), client)
        return
    futures = {engine.submit(_attempt, step, job, pure=False): job for job in jobs}
    for future in distributed.as_completed(list(futures)):
        # A future that dask itself lost (killed worker) carries its exception instead of a row.
        yield futures[future], future.result() if future.status == "finished" else _attempt(_died, futures[future])
