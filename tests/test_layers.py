"""The import layers hold, and the guard that says so sees a planted breach."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BREACHES = {
    "upwards": ("geometry/frames.py", "import idx.volume", "layers of docs/architecture.md"),
    "between siblings": ("radiomics/intensity.py", "import idx.histology.tissue", "layers of docs/architecture.md"),
    "models see pixels": ("models/blocks.py", "import idx.volume", "models see only tables"),
    "testing uses what it tests": ("testing/balls.py", "import idx.kernels.mesh", "testing does not use the code it tests"),
    "geometry knows a format": ("geometry/grids.py", "import pydicom", "geometry and kernels know no file format and no GUI"),
}


def lint(folder):
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", str(folder / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "idx", tmp_path / "idx", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_layers_hold(copy):
    result = lint(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("breach", BREACHES)
def test_planted_forbidden_import_is_caught(copy, breach):
    file, line, contract = BREACHES[breach]
    path = copy / "idx" / file
    path.write_text(path.read_text().replace("from __future__ import annotations\n", f"from __future__ import annotations\n\n{line}\n", 1))
    assert line in path.read_text()
    result = lint(copy)
    assert result.returncode == 1
    assert f"{contract} BROKEN" in result.stdout


def test_new_module_without_a_layer_is_caught(copy):
    (copy / "idx" / "corridor.py").write_text('"""A room that nobody gave a layer."""\n')
    assert lint(copy).returncode == 1
