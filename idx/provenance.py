"""Where things came from: source files with their hashes, and how a table was made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import idx
from idx._typing import FrozenMapping
from idx.errors import FormatError

Setting = str | int | float | bool | None
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class Source:
    """The files an image was read from.

    Parameters
    ----------
    path : str
        The file or folder that was given, absolute.
    files : tuple of str
        Files that were read, relative to ``path`` when it is a folder; empty when ``path`` is the file itself.
    kind : str
        Format that was recognised, such as "dicom", "nifti", "rtstruct", "svs".
    ids : mapping
        Identifiers needed to find the image again, such as ``series_uid`` or ``label``.
    """

    path: str
    kind: str
    files: tuple[str, ...] = ()
    ids: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(Path(self.path).absolute()))
        object.__setattr__(self, "files", tuple(sorted(self.files)))
        object.__setattr__(self, "ids", FrozenMapping(dict(self.ids)))

    def sha256(self) -> str:
        """Hash of the content of all files, independent of where they lie.

        Raises
        ------
        FormatError
            If a file is gone.
        """
        total = hashlib.sha256()
        root = Path(self.path)
        for file in [root / name for name in self.files] or [root]:
            if not file.is_file():
                raise FormatError(f"source file must exist to be hashed; got nothing at '{file}'. Put the file back or read the image from its new place.")
            total.update(_hash_file(file))
        return total.hexdigest()

    @property
    def name(self) -> str:
        """Last part of the path."""
        return Path(self.path).name


def _hash_file(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


@dataclass(frozen=True)
class Provenance:
    """How a result was made.

    Parameters
    ----------
    function : str
        Dotted name of the function, such as "idx.radiomics.extract".
    settings : mapping
        Arguments that change the result, with units in their names.
    inputs : tuple of str
        What went in: paths, or names of objects in memory.
    device : str
        Where it was computed.
    """

    function: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    device: str = "cpu"
    version: str = field(default_factory=lambda: idx.__version__)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", FrozenMapping(dict(self.settings)))
