"""`import idx` is light, and lazy names survive being used."""

import statistics
import subprocess
import sys
from importlib.metadata import version

import pytest

import idx

HEAVY = ("torch", "napari", "dask", "pydicom", "pandas")


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_import_brings_no_heavy_package():
    loaded = run_python(f"import sys, idx; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded == "[]"


def test_import_is_fast():
    """Under 0.3 s: the median of seven starts, less the start of Python itself."""
    code = "import time; t = time.perf_counter(); import idx; print(time.perf_counter() - t)"
    seconds = [float(run_python(code)) for _ in range(7)]
    assert statistics.median(seconds) < 0.3


def test_version_is_the_distribution_s():
    assert idx.__version__ == version("idx")


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        idx.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", ["cohort", "geometry", "histology", "io", "models", "radiomics", "registration", "report", "testing", "tiling", "view"])
def test_rooms_are_there_without_an_import_of_their_own(name):
    """Not only after another function has happened to import them."""
    assert run_python(f"import idx; print(idx.{name}.__name__)") == f"idx.{name}"
