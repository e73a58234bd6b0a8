"""Nuclei of a real slide are the same however it is tiled."""

import numpy as np
import pytest

import idx
from idx.histology.classical import fit_classical
from idx.tiling import plan, stitch_labels, stream

pytestmark = pytest.mark.real


def test_nuclei_do_not_depend_on_the_tiles(real_data):
    with idx.open_slide(real_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        model = fit_classical(slide)
        found = []
        for size_px, overlap_px in ((512, 192), (1536, 192)):
            grid = plan(slide, size_px=size_px, overlap_px=overlap_px, mpp=model.mpp)
            found.append(stitch_labels(stream(model, slide, grid, batch_size=2), grid))
    small, large = found
    assert len(small) == len(large) > 3000
    np.testing.assert_allclose(small.centroid_um, large.centroid_um, atol=1e-6)
    np.testing.assert_allclose(small.contours.vertices_um, large.contours.vertices_um, atol=1e-6)
    assert not small.is_cut.any()
