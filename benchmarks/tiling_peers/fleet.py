"""The benchmark's side: workers of all contenders, and rounds in which they take turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from peers.client import Worker
from peers.environments import PeerFailure

from tiling_peers.cases import Case
from tiling_peers.recipes import CONTENDERS, HERE, OWN, python_for
from tiling_peers.summary import Series, compared

REFERENCES = ("openslide", "raw")
"""Whose pixels the others' are compared with: the first that is there."""
EXACT = ("openslide", "raw", *OWN)
"""Those whose pixels must be equal where nothing is resampled; others may decode in ways of their own, and it is said how much they differ."""


INEXACT = "pixels must be"
"""How the error begins of a series whose pixels are wrong."""


class Fleet:
    """Workers, each started when it is first needed and kept.

    Parameters
    ----------
    envs : Path
        Folder of the peers' environments.
    timeout_s : float
        Longest answer.
    """

    def __init__(self, envs: Path, *, timeout_s: float) -> None:
        self._envs, self._timeout_s = envs, timeout_s
        self._workers: dict[tuple[str, int], Worker] = {}
        self._failures: dict[str, str] = {}
        self.facts: dict[str, dict[str, object]] = {}

    def worker(self, name: str, threads: int) -> Worker:
        """Worker of a contender, started anew if it has died.

        Raises
        ------
        PeerFailure
            If its environment cannot be had, or it does not start.
        """
        worker = self._workers.get((name, threads))
        if worker is not None and worker.alive:
            return worker
        if name in self._failures:
            raise PeerFailure(self._failures[name])
        contender = CONTENDERS[name]
        try:
            python = python_for(contender, self._envs)
            script = HERE / f"serve_{contender.script}.py"
            worker = Worker(script, python, threads=threads, timeout_s=self._timeout_s, arguments=contender.arguments)
            self._workers[name, threads] = worker
            self.facts[name] = worker.ask(do="describe")
        except PeerFailure as failure:
            # What cannot be installed or imported once cannot be the next time.
            self._failures[name] = str(failure)
            self.facts[name] = {"error": str(failure)}
            raise
        return worker

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close(kill=True)


def measure(case: Case, names: Sequence[str], fleet: Fleet, folder: Path, *, rounds: int) -> list[Series]:
    """Compare the pixels of all contenders at a case, then time them in turn; the first one of each round changes."""
    chosen = [name for name in (*REFERENCES, *CONTENDERS) if name in names and name in case.contenders]
    series = [Series(name, case.name, threads, len(case.lattice) * case.passes) for threads in case.threads for name in dict.fromkeys(chosen)]
    _compare(case, series, fleet, folder)
    for number in range(rounds):
        first = number % len(series) if series else 0
        for each in (*series[first:], *series[:first]):
            if each.error is not None:
                continue
            with _noted(each):
                answer = _ask(fleet, each, case, pixels=None)
                each.cpu_s.append(answer["cpu_s"])
                each.wall_s.append(answer["wall_s"])
                each.others_s.append(answer["others_s"])
                each.peak_bytes = answer["peak_bytes"]
    return series


def _ask(fleet: Fleet, series: Series, case: Case, *, pixels: Path | None) -> dict[str, object]:
    worker = fleet.worker(series.contender, series.threads)
    return worker.ask(do="deliver", slide=str(case.slide), lattice=asdict(case.lattice), passes=case.passes, pixels=None if pixels is None else str(pixels))


@contextmanager
def _noted(series: Series) -> Iterator[None]:
    """A failure ends the series, not the benchmark."""
    try:
        yield
    except PeerFailure as failure:
        series.error = str(failure)


def _compare(case: Case, series: list[Series], fleet: Fleet, folder: Path) -> None:
    """Have everyone deliver once, which also warms them up, and hold the pixels beside the reference's."""
    reference, name = None, ""
    for each in series:
        if each.contender == "raw" and case.name.startswith("jpeg2000"):
            continue  # it decodes components, not colours
        with _noted(each):
            path = folder / "pixels.npy"
            _ask(fleet, each, case, pixels=path)
            if reference is None and each.contender in REFERENCES:
                path, name = path.replace(folder / "reference.npy"), each.contender
                reference = np.load(path, mmap_mode="r")
            if reference is not None:
                each.pixels = compared(np.load(path, mmap_mode="r"), reference, name=name)
                each.error = _inexact(each, case)


def _inexact(series: Series, case: Case) -> str | None:
    """Why a series does not count: its pixels are not what they must be."""
    difference = series.pixels["max_difference"]
    if case.tolerance is None or series.contender not in EXACT or difference <= case.tolerance:
        return None
    return f"{INEXACT} those of {series.pixels['reference']} within {case.tolerance} grey levels; got a difference of {difference}"
