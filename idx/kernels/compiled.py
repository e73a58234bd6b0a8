"""Compiling of loops by numba, with a cache on disk wherever one can be kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(*, reorder_sums: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for the CPU; it releases the interpreter's lock while it runs.

    Parameters
    ----------
    reorder_sums : bool
        Whether sums may be taken in any order, so that the processor adds several at a time; that changes the last digits only.

    Notes
    -----
    Compiled code is kept beside the package, in ``NUMBA_CACHE_DIR``, or in the user's cache folder. Where none of them can be written (a container
    that is read-only) numba refuses to cache, and the function is compiled anew in each process.
    """
    fast: bool | set[str] = {"reassoc", "contract"} if reorder_sums else False

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(cache=True, nogil=True, fastmath=fast)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # "no locator available"
            return njit(nogil=True, fastmath=fast)(function)  # type: ignore[no-any-return]

    return decorate
