"""Settings that hold for a block of code, on context variables so that threads and tasks keep their own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from idx.errors import IdxError, MissingDependency

if TYPE_CHECKING:
    import torch


def _default_cache_dir() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("idx"))


@dataclass(frozen=True)
class Settings:
    """Defaults that functions use where an argument is None.

    Parameters
    ----------
    device : str
        Torch device name, or "auto" for the first accelerator that is there and the CPU otherwise.
    workers : int
        Decode and worker threads. The default is the number of usable cores.
    cache_dir : Path
        Where fetched and derived files may be kept.
    seed : int
        Seed of the generator that functions make when no ``rng`` is passed.
    progress : bool
        Whether work of more than about two seconds shows a progress bar.
    """

    device: str = "auto"
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    cache_dir: Path = field(default_factory=_default_cache_dir)
    seed: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise IdxError(f"workers must be at least 1; got {self.workers} (settings). Leave it out to use all cores.")
        object.__setattr__(self, "cache_dir", Path(self.cache_dir))


_current: ContextVar[Settings | None] = ContextVar("idx_settings", default=None)


def current_settings() -> Settings:
    """Return the settings in force here."""
    settings = _current.get()
    if settings is None:
        settings = Settings()
        _current.set(settings)
    return settings


@contextlib.contextmanager
def use_settings(**changes: object) -> Iterator[Settings]:
    """Change settings for a ``with`` block.

    Parameters
    ----------
    **changes
        Fields of :class:`Settings` by name; an unknown name raises TypeError.

    Examples
    --------
    >>> with use_settings(seed=7) as settings:
    ...     settings.seed
    7
    """
    with in_force(replace(current_settings(), **changes)) as settings:  # type: ignore[arg-type]
        yield settings


@contextlib.contextmanager
def in_force(settings: Settings) -> Iterator[Settings]:
    """Put whole settings in force for a ``with`` block, as a worker does with those of its caller."""
    token = _current.set(settings)
    try:
        yield settings
    finally:
        _current.reset(token)


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """Turn a device argument into a torch device, refusing one that is absent.

    Parameters
    ----------
    device : str, torch.device or None
        None means the setting; "auto" means an accelerator if there is one, else the CPU.

    Raises
    ------
    MissingDependency
        If an accelerator was asked for and is not there.
    IdxError
        If torch knows no such device.
    """
    import torch

    name = current_settings().device if device is None else str(device)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        wanted = torch.device(name)
    except RuntimeError as error:
        raise IdxError(f"device must be a torch device; got '{name}'. Pass for example 'auto', 'cpu', 'cuda' or 'cuda:1'.") from error
    present = True
    if wanted.type == "cuda":
        present = torch.cuda.is_available()
    elif wanted.type == "mps":
        present = torch.backends.mps.is_available()
    if not present or (wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count()):
        raise MissingDependency(f"device must be present on this machine; got '{name}'. Pass device='cpu' or install the torch build for your device.")
    return wanted
