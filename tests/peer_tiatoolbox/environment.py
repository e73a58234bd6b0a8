"""Builds the environment in which idx is tested beside tiatoolbox: once, keyed on what it is made of, never half. Run by make; needs no package."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
REQUIREMENTS, CONSTRAINTS = HERE / "requirements.txt", HERE / "constraints.txt"
TIATOOLBOX = "tiatoolbox==2.1.3"
NEEDED_BYTES = 9 * 10**9
"""What torch for CUDA and the packages around it take (7.5 GB), and room to unpack them."""


def ready(place: Path) -> None:
    """Make ``place`` hold the environment, with this checkout of idx in it. Quick when it already does.

    Raises
    ------
    SystemExit
        If the disk is too full or ``place`` holds something else.
    """
    built, installed = place / ".built", place / ".idx"
    if _content(built) != requirements_key():
        _clear(place)
        _check_space(place)
        print(f"Building the environment for tiatoolbox in {place}: 7.5 GB, about ten minutes.", flush=True)
        try:
            _build(place)
        except BaseException:  # Also where it is interrupted: what is half-built would pass for whole.
            shutil.rmtree(place, ignore_errors=True)
            raise
        built.write_text(requirements_key())
    if _content(installed) != checkout_key():
        _pip(place, *_constraints(), "-e", f"{CHECKOUT}[test]")
        installed.write_text(checkout_key())


def requirements_key() -> str:
    """Hash of the packages and of the interpreter; where it changes, the environment is built anew."""
    parts = [
        TIATOOLBOX.encode(),
        REQUIREMENTS.read_bytes(),
        CONSTRAINTS.read_bytes(),
        sys.version.encode(),
        sys.base_prefix.encode(),
        *map(str.encode, _machine()),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def checkout_key() -> str:
    """Hash of what idx asks for and of where it lies; where it changes, idx is installed again into the environment that is there."""
    return hashlib.sha256((CHECKOUT / "pyproject.toml").read_bytes() + str(CHECKOUT).encode()).hexdigest()


def _machine() -> tuple[str, ...]:
    return platform.python_implementation(), f"{sys.version_info[0]}.{sys.version_info[1]}", sys.platform, platform.machine()


def _constraints() -> tuple[str, ...]:
    """The tested versions fit one platform; elsewhere pip resolves by itself."""
    return ("-c", str(CONSTRAINTS)) if _machine() == ("CPython", "3.11", "linux", "x86_64") else ()


def _content(stamp: Path) -> str | None:
    return stamp.read_text() if stamp.is_file() else None


def _clear(place: Path) -> None:
    """Remove an environment of other packages or one that was left half-built, and nothing else."""
    if not place.exists() or not any(place.iterdir()):
        return
    if not (place / "pyvenv.cfg").is_file():
        raise SystemExit(f"IDX_TIATOOLBOX_VENV must be a new folder or an environment; got a folder that holds other things ({place}). Name another one.")
    shutil.rmtree(place)


def _check_space(place: Path) -> None:
    disk = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(disk).free
    if free < NEEDED_BYTES:
        raise SystemExit(
            f"the disk must have {NEEDED_BYTES / 1e9:.0f} GB free for tiatoolbox's environment; got {free / 1e9:.1f} GB ({place}). "
            "Free some, or set IDX_TIATOOLBOX_VENV to a folder on another disk."
        )


def _build(place: Path) -> None:
    venv.create(place, with_pip=True)
    _pip(place, "--upgrade", "pip")
    _pip(place, *_constraints(), "-r", str(REQUIREMENTS))
    _pip(place, "--no-deps", TIATOOLBOX)


def _pip(place: Path, *arguments: str) -> None:
    python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], check=True)


if __name__ == "__main__":
    ready(Path(sys.argv[1]).expanduser().absolute())
