"""Level-0 pixels against tiatoolbox's reader; run by `make test-tiatoolbox`, in its own environment."""

import numpy as np
import pytest

import idx

pytest.importorskip("tiatoolbox", reason="tiatoolbox lives in an environment of its own: make test-tiatoolbox")

# tiatoolbox leaves the files of its readers to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture
def phantom(tmp_path):
    return idx.testing.he_slide(tmp_path / "slide.tif", n_nuclei=50, size_px=(1024, 1024))


def test_same_pixels(phantom):
    from tiatoolbox.wsicore.wsireader import WSIReader

    reader = WSIReader.open(phantom.path)
    slide = idx.open_slide(phantom.path)
    theirs = reader.read_rect((100, 200), (300, 150), resolution=0, units="level")
    ours = slide.read_region(100, 200, width_px=300, height_px=150)
    np.testing.assert_array_equal(ours, theirs)
