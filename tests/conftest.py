"""Fixtures that every room shares."""

import os
from pathlib import Path

import matplotlib as mpl
import pytest

# Figures are drawn without a screen; a test that opens one by accident must not hang.
mpl.use("Agg")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real files; under CI a missing folder is a failure, not a skip."""
    folder = os.environ.get("IDX_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        reason = f"IDX_REAL_DATA must name the folder of real files; got {folder!r}. See tests/README.md."
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(folder)
