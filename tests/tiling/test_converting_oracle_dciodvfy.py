"""Converted slides against dicom3tools, which knows each attribute that a class demands."""

import shutil
import subprocess

import pytest

from idx.io.slides import open_slide
from idx.tiling import convert


@pytest.mark.real
@pytest.mark.parametrize("options", [{}, {"compression": "jpeg2000", "quality": 100}, {"compression": "jpeg2000"}, {"compression": "none"}])
def test_the_standards_checker_finds_nothing_but_what_names_a_patient(real_data, tmp_path, options):
    """What it misses are names and dates for the directory of a disc."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy must be installed (apt-get install dicom3tools)")
    with open_slide(real_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        convert(slide, tmp_path / "a", mpp=1.0, **options)
    files = sorted((tmp_path / "a").iterdir())
    for file in files:
        checked = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True)
        lines = [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith(("Error", "Warning"))]
        known = ("needed to build DICOMDIR", "method inconsistent with Transfer Syntax = <ISO_10918_1>")  # the second is the source's compression
        assert [line for line in lines if not line.endswith(known)] == []
        assert checked.returncode == 0
        assert "VLWholeSlideMicroscopyImage" in checked.stdout + checked.stderr
    entities = subprocess.run(["dcentvfy", *map(str, files)], capture_output=True, text=True)
    assert (entities.returncode, entities.stdout + entities.stderr) == (0, "")
