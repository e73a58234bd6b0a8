"""Fixtures that every room shares."""

import os
from pathlib import Path

import matplotlib as mpl
import pytest
from hypothesis import HealthCheck, settings

# Figures are drawn without a screen; a test that opens one by accident must not hang.
mpl.use("Agg")

# Small shared machines stall for longer than hypothesis allows an example to take; the time of an example is not what is tested.
settings.register_profile("idx", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("idx")

MUST_RUN_IN_CI = {"real", "gl", "browser"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Under CI a skipped test of these kinds is a failure: there the files, the screen and the browser are present."""
    report = yield
    kinds = MUST_RUN_IN_CI & {mark.name for mark in item.iter_markers()}
    if report.skipped and kinds and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"a test marked {sorted(kinds)} must run under CI; it was skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real files."""
    folder = os.environ.get("IDX_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"IDX_REAL_DATA must name the folder of real files; got {folder!r}")
    return Path(folder)
