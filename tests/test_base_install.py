"""Without any extra idx still reads, measures, places and reports; what needs an extra says which."""

import subprocess
import sys
import textwrap

BLOCKER = """
import sys

class Blocker:
    NAMES = {names!r}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.NAMES:
            raise ModuleNotFoundError(f"No module named '{{name}}'")

sys.meta_path.insert(0, Blocker())
"""
EXTRAS = [
    "lifelines",
    "sklearn",
    "sksurv",
    "anywidget",
    "ipywidgets",
    "IPython",
    "jupyterlab",
    "napari",
    "PySide6",
    "qtpy",
    "dask",
    "distributed",
    "pynetdicom",
    "h5py",
]


def run_without_extras(code):
    program = BLOCKER.format(names=EXTRAS) + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_one_patient_walks_through_a_base_install(tmp_path):
    result = run_without_extras(f"""
        from pathlib import Path
        import numpy as np
        import idx
        from idx import workflow
        folder = Path({str(tmp_path)!r})
        with idx.use_settings(progress=False):
            ball = idx.testing.ball(radius_mm=6.0)
            idx.testing.write_ct_series(ball.ct, folder / "ct")
            idx.testing.write_rtstruct(ball.mask, folder / "ct", folder / "rtstruct.dcm")
            idx.testing.he_slide(folder / "slide.tif", n_nuclei=60, size_px=(1024, 1024))
            centre = np.array(ball.centre_mm)
            slide_um = np.array([[0.0, 0.0], [500.0, 0.0], [0.0, 500.0], [500.0, 500.0]])
            ct_mm = centre + np.pad(slide_um / 1000.0, ((0, 0), (0, 1)))
            rows = np.hstack([slide_um, ct_mm])
            header = "slide_x_um,slide_y_um,ct_x_mm,ct_y_mm,ct_z_mm"
            np.savetxt(folder / "pairs.csv", rows, delimiter=",", header=header, comments="")
            journey = workflow.run_patient(folder / "ct", folder / "rtstruct.dcm", folder / "slide.tif", landmarks=folder / "pairs.csv")
            report = workflow.write_journey(journey, folder / "out")
        assert journey.placement.is_placed
        assert report.stat().st_size > 50_000
        print("walked")
    """)
    assert result.stdout.strip() == "walked", result.stderr[-2000:]


def test_a_model_without_its_extra_says_which(tmp_path):
    result = run_without_extras("""
        import idx
        try:
            idx.models.LateFusion
        except idx.errors.MissingDependency as error:
            print(error)
    """)
    assert "pip install 'idx[models]'" in result.stdout, result.stderr[-2000:]
