"""One virtual environment per peer, made on first use and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class PeerFailure(Exception):
    """A peer could not be installed, started or run."""


def python_of(environment: Path) -> Path:
    """Python of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def environment_python(folder: Path, peer: str, recipe: Sequence[Sequence[str]]) -> Path:
    """Python of a peer's environment; the environment is made when it is not there or its recipe has changed.

    Parameters
    ----------
    folder : Path
        Where the environments lie.
    peer : str
    recipe : sequence of sequences of str
        Arguments of the pip calls that fill it, in order.

    Raises
    ------
    PeerFailure
        If pip fails; the message ends with pip's last lines.
    """
    home = folder / peer
    python, stamp, wanted = python_of(home), home / "recipe.json", json.dumps(recipe)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"making the environment of {peer} in {home} ...", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(home)], peer)
    for arguments in recipe:
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments], peer)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _run(command: list[str], peer: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = " | ".join(done.stderr.strip().splitlines()[-5:])
        raise PeerFailure(f"environment of {peer} must install; got status {done.returncode} of '{' '.join(command[1:])}': {tail}")
