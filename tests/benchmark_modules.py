"""Modules of benchmarks/, imported as the benchmark and as its workers import them; nothing stays on the path."""

import ast
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@contextmanager
def _on_path(*folders: Path) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before


def load(name: str) -> ModuleType:
    """A module of the benchmark's side, such as "radiomics_peers.summary"."""
    with _on_path(BENCHMARKS):
        return importlib.import_module(name)


def load_as_worker(package: str, name: str) -> ModuleType:
    """A module of the worker's side, where its folder and that of ``serving`` are all there is of the benchmark."""
    before = set(sys.modules)
    with _on_path(BENCHMARKS / package, BENCHMARKS / "peers"):
        module = importlib.import_module(name)
    for each in set(sys.modules) - before:
        # Their names are short, and those of another benchmark's worker are the same.
        if BENCHMARKS in Path(getattr(sys.modules[each], "__file__", None) or "/").parents:
            del sys.modules[each]
    return module


def imported(path: Path) -> set[str]:
    """Top-level names of what a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}
