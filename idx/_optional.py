"""Imports of packages that only some users install."""

from __future__ import annotations

import importlib
from types import ModuleType

from idx.errors import MissingDependency


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module or say which extra brings it.

    Parameters
    ----------
    module : str
        Dotted name to import.
    extra : str
        Extra of the idx distribution that installs it.
    purpose : str
        What the caller wants it for, as a noun phrase ("Cox models").

    Raises
    ------
    MissingDependency
        If the module is not installed.

    Examples
    --------
    >>> require("math", extra="models", purpose="sums").sqrt(4.0)
    2.0
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency(f"{module} must be installed for {purpose}; importing it gave: {error}. Run: pip install 'idx[{extra}]'") from error
