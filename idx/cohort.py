"""A step over many cases: resumable, and a failing case is a row with its error, never a hole."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

import idx
from idx._optional import require
from idx._progress import track
from idx._typing import PathLike
from idx.errors import FormatError, IdxError
from idx.settings import current_settings
from idx.table import FeatureTable

Step = Callable[[Any], "FeatureTable | pd.DataFrame | Mapping[str, object]"]


@dataclass(frozen=True)
class _Job:
    """One case on its way to a worker."""

    case_id: str
    item: Any
    fingerprint: str


def run(step: Step, cases: Mapping[str, Any] | Iterable[Any], *, engine: Any = "processes", out: PathLike | None = None) -> pd.DataFrame:
    """Run a step on every case.

    Parameters
    ----------
    step : callable
        Takes one case (whatever ``cases`` holds: a path, a case folder, a :class:`~idx.case.Case`) and returns a FeatureTable, a DataFrame or a
        mapping of plain values. With engines other than "serial" it must be a module-level function.
    cases : mapping of str to case, or iterable of cases
        Keys are case ids. Without them paths are named by their last part and Cases by their ``case_id``.
    engine : {"processes", "serial", "dask"} or dask Client
        "dask" starts a local cluster.
    out : path, optional
        Folder for results: one Parquet file per case, and ``results.parquet``. A case whose step, version and input are unchanged is not run again;
        a case that failed is.

    Returns
    -------
    DataFrame
        One row per case (or per row that the step returns), with ``case_id``, the step's columns, ``error`` (None or a sentence) and ``seconds``.

    Raises
    ------
    FormatError
        If two cases bear one id or the engine is unknown.

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
    return [_Job(case_id, item, _fingerprint(step, item)) for case_id, (_, item) in zip(ids, named, strict=True)]


def _case_id(item: Any) -> str:
    if isinstance(item, (str, os.PathLike)):
        return Path(item).name
    return str(getattr(item, "case_id", item))


def _fingerprint(step: Step, item: Any) -> str:
    """Hash of what the result depends on: the step's name, the version of idx, and the input (for paths: names, sizes and times of change)."""
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
    name = f"{getattr(step, '__module__', '')}.{getattr(step, '__qualname__', repr(step))}"
    return hashlib.sha256(repr((name, idx.__version__, content)).encode()).hexdigest()


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
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    frame.to_parquet(temporary)
    os.replace(temporary, path)


def _as_frame(value: Any) -> pd.DataFrame:
    if isinstance(value, FeatureTable):
        return value.values.reset_index()
    if isinstance(value, pd.DataFrame):
        return value.reset_index(drop=value.index.name is None)
    if isinstance(value, Mapping):
        return pd.DataFrame([dict(value)])
    return pd.DataFrame([{"value": value}])


def _attempt(step: Step, job: _Job) -> pd.DataFrame:
    """Run one case in a worker; any failure becomes its row."""
    started = time.perf_counter()
    try:
        frame, error = _as_frame(step(job.item)), None
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
        yield from _in_processes(step, jobs)
    elif engine == "dask" or hasattr(engine, "submit"):
        yield from _on_dask(step, jobs, engine)
    else:
        raise FormatError(f"engine must be 'processes', 'serial', 'dask' or a dask Client; got {engine!r}. Pass engine='processes'.")


def _in_processes(step: Step, jobs: list[_Job]) -> Iterator[tuple[_Job, pd.DataFrame]]:
    """Spawned workers (threads of torch and decoders do not survive a fork)."""
    workers = min(current_settings().workers, len(jobs)) or 1
    unfinished = {job.case_id: job for job in jobs}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures: dict[Future[pd.DataFrame], _Job] = {pool.submit(_attempt, step, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
                del unfinished[futures[future].case_id]
        except BrokenProcessPool:
            pass
    # A worker that dies (memory, a crash in native code) breaks the pool for all: the rest run one at a time, so that only the culprit fails.
    for job in unfinished.values():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                yield job, pool.submit(_attempt, step, job).result()
            except BrokenProcessPool:
                yield job, _attempt(_died, job)


def _died(_: Any) -> FeatureTable:
    raise IdxError("the worker process died (out of memory, or a crash in native code). Run this case alone with engine='serial' to see why.")


def _on_dask(step: Step, jobs: list[_Job], engine: Any) -> Iterator[tuple[_Job, pd.DataFrame]]:
    distributed = require("distributed", extra="dask", purpose="the dask engine")
    if engine == "dask":
        with (
            distributed.LocalCluster(n_workers=current_settings().workers, threads_per_worker=1, dashboard_address=None) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield from _on_dask(step, jobs, client)
        return
    futures = {engine.submit(_attempt, step, job, pure=False): job for job in jobs}
    for future in distributed.as_completed(list(futures)):
        # A future that dask itself lost (killed worker) carries its exception instead of a row.
        yield futures[future], future.result() if future.status == "finished" else _attempt(_died, futures[future])
