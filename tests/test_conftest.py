"""The guard that a skipped real, gl or browser test fails under CI sees a planted skip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = "[pytest]\nmarkers =\n    real: x\n    gl: x\n    browser: x\n"


@pytest.mark.parametrize(("marker", "ci", "code"), [("real", "true", 1), ("gl", "true", 1), ("browser", "true", 1), ("real", "", 0)])
def test_planted_skip(tmp_path, marker, ci, code):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "pytest.ini").write_text(CONFIG)
    (tmp_path / "test_planted.py").write_text(f"import pytest\n\n@pytest.mark.{marker}\ndef test_planted():\n    pytest.skip('absent')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CI": ci, "PYTEST_ADDOPTS": ""}, capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stdout
