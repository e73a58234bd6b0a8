"""A progress bar that appears only where the work turns out to be long."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from idx.settings import current_settings

PATIENCE_S = 2.0
"""Seconds of work before a bar is worth the line it takes."""
T = TypeVar("T")


def track(items: Iterable[T], *, total: int, description: str) -> Iterator[T]:
    """Pass items through, with a progress bar once they have taken more than two seconds.

    Parameters
    ----------
    items : iterable
        Passed through unchanged and in order.
    total : int
        How many there will be.
    description : str
        What is being done ("Reading CT").

    Examples
    --------
    >>> list(track("abc", total=3, description="Reading"))
    ['a', 'b', 'c']
    """
    if not current_settings().progress:
        yield from items
        return
    start, bar, task = time.monotonic(), None, None
    try:
        for done, item in enumerate(items, start=1):
            yield item
            if bar is None and time.monotonic() - start > PATIENCE_S and done < total:
                from rich.console import Console
                from rich.progress import Progress

                # On stderr, so that results on stdout stay clean; a log file gets no bar.
                console = Console(stderr=True)
                bar = Progress(console=console, transient=True, disable=not (console.is_terminal or console.is_jupyter))
                bar.start()
                task = bar.add_task(description, total=total)
            if bar is not None and task is not None:
                bar.update(task, completed=done)
    finally:
        if bar is not None:
            bar.stop()
