"""A progress bar that appears only where the work turns out to be long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from idx.settings import current_settings

PATIENCE_S = 2.0
"""Seconds of work before a bar is worth the line it takes."""
T = TypeVar("T")


@contextmanager
def progress_bar(total: int, description: str, *, shown: bool | None = None) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts finished items; a bar shows them once the work has taken more than two seconds.

    Parameters
    ----------
    total : int
        How many items there will be.
    description : str
        What is being done ("reading slices").
    shown : bool, optional
        Whether a bar may appear; None means the setting.
    """
    if not (current_settings().progress if shown is None else shown):
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # On stderr, so that results on stdout stay clean; a log file gets no bar.
    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not (console.is_terminal or console.is_jupyter))
    task, began, done = bar.add_task(description, total=total), time.monotonic(), 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        bar.update(task, completed=done)
        if not bar.live.is_started and done < total and time.monotonic() - began > PATIENCE_S:
            bar.start()

    try:
        yield advance
    finally:
        # A bar that was never started must not be stopped: stopping prints an empty line.
        if bar.live.is_started:
            bar.stop()


def track(items: Iterable[T], *, total: int, description: str) -> Iterator[T]:
    """Pass items through, unchanged and in order, with a progress bar.

    Examples
    --------
    >>> list(track("abc", total=3, description="reading"))
    ['a', 'b', 'c']
    """
    with progress_bar(total, description) as advance:
        for item in items:
            yield item
            advance(1)
