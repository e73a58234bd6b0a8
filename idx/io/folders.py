"""Folders that are written all at once: a manifest (JSON) and its parts, each with its sha256.

The parts lie in a sub-folder with a name of its own. A new folder is prepared beside its place and renamed into it. In an existing folder new
parts are written beside the old ones, and the one rename of the manifest is the moment at which the new content counts; only then are the old
parts removed. A crash at any moment leaves the old content or the new, never a mixture and never nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from idx._typing import PathLike
from idx.errors import FormatError

PARTS_PREFIX = "parts-"
Manifest = dict[str, Any]


def part_name(number: int, name: str) -> str:
    """File name that keeps what is readable of a name and is unique by its number.

    Examples
    --------
    >>> part_name(3, "lesion / left")
    '003-lesion-left'
    """
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9_]+', '-', name).strip('-')}"


def write_folder(path: PathLike, fill: Callable[[Path], Manifest], *, manifest_name: str, overwrite: bool) -> None:
    """Write a folder atomically.

    Parameters
    ----------
    path : path
        Folder to make or, with ``overwrite``, to replace. A folder that holds something else is never touched.
    fill : callable
        Writes all parts below the folder it is given and returns the manifest.
    manifest_name : str
        File of the manifest; its entry ``parts`` is added here: the sha256 of each file by its path below the folder.
    overwrite : bool

    Raises
    ------
    FormatError
        If something is there that may not be replaced, or the manifest holds a value that JSON does not know.
    """
    folder = Path(path).expanduser().absolute()
    replaces = (folder / manifest_name).is_file()
    if replaces and not overwrite:
        raise FormatError(f"folder must be new; got '{folder}', which holds a {manifest_name}. Pass overwrite=True to replace it, or choose another path.")
    if not replaces and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FormatError(f"folder must be new or empty; got '{folder}', which holds other files. Choose another path.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    stage = folder if replaces else folder.parent / f".{folder.name}.{token}.tmp"
    parts = stage / f"{PARTS_PREFIX}{token}"
    rubbish = parts if replaces else stage
    try:
        parts.mkdir(parents=True)
        manifest = fill(parts)
        manifest["parts"] = {file.relative_to(stage).as_posix(): sha256_of(file) for file in sorted(parts.rglob("*")) if file.is_file()}
        pending = stage / f".{manifest_name}.{token}.tmp"
        pending.write_text(_to_json(manifest, folder / manifest_name), encoding="utf-8")
        _sync_tree(parts)
        _sync(pending)
        os.replace(pending, stage / manifest_name)
        _sync(stage)
        if not replaces:
            os.rename(stage, folder)
            _sync(folder.parent)
    except BaseException:
        # After the manifest was renamed nothing above can fail but the sync; what it names must not be removed then.
        if not _names_parts(folder / manifest_name, parts.name):
            shutil.rmtree(rubbish, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                (folder / f".{manifest_name}.{token}.tmp").unlink()
        raise
    for old in folder.glob(f"{PARTS_PREFIX}*"):
        if old.name != parts.name:
            shutil.rmtree(old, ignore_errors=True)


def read_manifest(path: PathLike, *, manifest_name: str, kind: str, version: int, verify: bool) -> Manifest:
    """Read a folder's manifest and check that its parts are there and, with ``verify``, unchanged.

    Raises
    ------
    FormatError
        If the manifest is absent, damaged, of another kind or of a newer version, or a part is missing or changed.
    """
    folder = Path(path).expanduser().absolute()
    file = folder / manifest_name
    if not file.is_file():
        raise FormatError(f"a {kind} must be a folder with a {manifest_name}; got none at '{folder}'. Check the path.")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(f"{manifest_name} must be JSON; got: {error} ('{file}'). Restore the file from a copy, or save the {kind} again.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != kind:
        raise FormatError(f"{manifest_name} must describe a {kind}; got another file ('{file}'). Pass the folder that idx wrote.")
    found = manifest.get("schema_version")
    if not isinstance(found, int) or found < 1:
        raise FormatError(f"schema_version must be a positive whole number; got {found!r} ('{file}'). Restore the file from a copy, or save the {kind} again.")
    if found > version:
        raise FormatError(f"schema_version must be {version} or lower; got {found} ('{file}'). It was written by a newer idx: update idx to read it.")
    parts = manifest.get("parts")
    if not isinstance(parts, dict):
        raise FormatError(f"{manifest_name} must list its parts; got none ('{file}'). Restore the file from a copy, or save the {kind} again.")
    for name, digest in parts.items():
        part = folder / name
        if not part.is_file() or not part.resolve().is_relative_to(folder.resolve()):
            raise FormatError(f"every part of a {kind} must be there; got nothing at '{part}'. Restore the file from a copy, or save the {kind} again.")
        if verify and sha256_of(part) != digest:
            raise FormatError(f"every part of a {kind} must be as it was written; got other bytes in '{part}'. Restore the file, or save the {kind} again.")
    return manifest


def sha256_of(file: Path) -> str:
    """Hash of a file's bytes, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_json(manifest: Manifest, file: Path) -> str:
    try:
        return json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FormatError(f"values must be finite numbers, strings and flags to be saved; got: {error} ('{file}'). Replace or drop them.") from error


def _names_parts(manifest: Path, parts: str) -> bool:
    try:
        return parts in manifest.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def _sync_tree(folder: Path) -> None:
    for place in (folder, *folder.rglob("*")):
        _sync(place)


def _sync(place: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if place.is_dir() and os.name == "nt":
        return  # Windows has no handle on folders to sync; its renames are journaled.
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
