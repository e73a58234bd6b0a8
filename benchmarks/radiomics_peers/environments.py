"""One virtual environment per peer, made on first use and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

_SIMPLEITK = "SimpleITK>=2.3"
RECIPES: dict[str, list[list[str]]] = {
    # 3.0.1 is the newest release that builds; its setup.py needs what it imports beforehand and an old setuptools.
    "pyradiomics": [["setuptools<70", "wheel", "numpy<2", "versioneer", "cython"], ["--no-build-isolation", "pyradiomics==3.0.1"]],
    # It does not declare its dependencies.
    "flash": [["flash-radiomics==1.0.0", "numpy", "h5py", _SIMPLEITK, "pykwalify", "PyWavelets", "scipy", "scikit-image", "scikit-learn", "trimesh"]],
    # torch first, so that fastrad does not choose another build; SimpleITK reads the files, for fastrad reads DICOM only.
    "fastrad": [["torch==2.13.0"], ["torch==2.13.0", "fastrad==1.0.0", _SIMPLEITK]],
    "nyxus": [["nyxus==0.11.*"]],
}
"""Arguments of the pip calls that fill each environment, in order."""


class PeerFailure(Exception):
    """A peer could not be installed, started or run."""


def environment_python(folder: Path, peer: str) -> Path:
    """Python of a peer's environment; the environment is made when it is not there or its recipe has changed.

    Raises
    ------
    PeerFailure
        If pip fails; the message ends with pip's last lines.
    """
    home = folder / peer
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = home / "recipe.json"
    recipe = json.dumps(RECIPES[peer])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == recipe:
        return python
    print(f"making the environment of {peer} in {home} ...", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(home)], peer)
    for arguments in RECIPES[peer]:
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments], peer)
    stamp.write_text(recipe, encoding="utf-8")
    return python


def _run(command: list[str], peer: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = " | ".join(done.stderr.strip().splitlines()[-5:])
        raise PeerFailure(f"environment of {peer} must install; got status {done.returncode} of '{' '.join(command[1:])}': {tail}")
