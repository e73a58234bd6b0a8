"""Who is compared: worker script, arguments, and where each finds its packages."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from peers.environments import PeerFailure, environment_python, python_of

HERE = Path(__file__).parent
RECIPES: dict[str, list[list[str]]] = {
    "pyvips": [["pyvips[binary]==3.2.*", "numpy"]],
    "cucim": [["cucim-cu12==26.10.*", "numpy"]],
    "fastslide": [["fastslide==0.8.*", "numpy"]],
}
"""Arguments of the pip calls that fill the environments of those that are no dependency of idx."""


@dataclass(frozen=True)
class Contender:
    """One way of getting tiles.

    Parameters
    ----------
    name : str
    script : str
        Which ``serve_<script>.py`` is run.
    arguments : tuple of str
    """

    name: str
    script: str
    arguments: tuple[str, ...] = ()


CONTENDERS = {
    each.name: each
    for each in (
        Contender("raw", "raw"),
        Contender("openslide", "openslide"),
        Contender("tifffile_zarr", "tifffile_zarr"),
        Contender("pyvips", "pyvips"),
        Contender("cucim", "cucim"),
        Contender("fastslide", "fastslide"),
        Contender("tiatoolbox", "tiatoolbox"),
        Contender("idx", "idx", ("run",)),
        Contender("idx stream", "idx", ("stream",)),
        Contender("idx read_tiles", "idx", ("read_tiles",)),
    )
}
PEERS = tuple(name for name in CONTENDERS if not name.startswith("idx"))
OWN = tuple(name for name in CONTENDERS if name.startswith("idx"))


def python_for(contender: Contender, envs: Path) -> Path:
    """Python that a contender's worker runs in; an environment that has a recipe is made where it is missing.

    Raises
    ------
    PeerFailure
        If it cannot be made, or tiatoolbox's is not there.
    """
    if contender.script in RECIPES:
        return environment_python(envs, contender.script, RECIPES[contender.script])
    if contender.script != "tiatoolbox":
        return Path(sys.executable)
    named = os.environ.get("IDX_TIATOOLBOX_VENV")
    python = python_of(Path(named) if named else HERE.parent.parent / ".venv-tiatoolbox")
    if not python.exists():
        raise PeerFailure(f"tiatoolbox's environment must be there; got none ({python}). Build it with make test-tiatoolbox, or set IDX_TIATOOLBOX_VENV.")
    return python
