"""A path may start at the user's home in every reader and writer."""

import numpy as np

import idx
from idx.registration import Landmarks, read_landmarks, write_landmarks


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    ball = idx.testing.ball(radius_mm=4.0)
    idx.testing.write_ct_series(ball.ct, tmp_path / "ct")
    idx.testing.write_rtstruct(ball.mask, tmp_path / "ct", tmp_path / "rtstruct.dcm")
    idx.testing.he_slide(tmp_path / "A12.tif", n_nuclei=5, size_px=(512, 512))
    write_landmarks(Landmarks(np.zeros((1, 2)), np.zeros((1, 3))), tmp_path / "pairs.csv")
    ct = idx.read_ct("~/ct")
    lesion = idx.read_mask("~/rtstruct.dcm", like=ct)
    slide = idx.open_slide("~/A12.tif")
    assert len(read_landmarks("~/pairs.csv")) == 1
    case = idx.Case("P1", volumes={"ct": ct}, masks={"lesion": lesion}, slides={"A12": slide})
    case.save("~/case")
    assert (tmp_path / "case" / "case.json").is_file()
    assert idx.load_case("~/case").lesion.n_voxels == lesion.n_voxels
    idx.report.write_case_report(case, "~/report.html")
    assert (tmp_path / "report.html").is_file()
    idx.io.write_geojson(idx.histology.find_tissue(slide), "~/tissue.geojson", slide=slide)
    assert len(idx.read_contours("~/tissue.geojson", slide=slide)) >= 1
