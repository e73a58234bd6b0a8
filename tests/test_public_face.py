"""Every public name works when used twice after all submodules were imported: a lazy import must not replace a function by a module."""

import importlib
import inspect
import os
import pkgutil
import types

import numpy as np
import pytest

import idx

FUNCTIONS = [
    "read_ct",
    "read_volume",
    "read_mask",
    "open_slide",
    "load_case",
    "radiomics.extract",
    "radiomics.feature_maps",
    "histology.find_tissue",
    "histology.find_nuclei",
    "histology.extract",
    "tiling.plan",
    "tiling.run",
    "registration.register_section",
    "models.evaluate",
    "view.linked",
    "view.napari",
    "cohort.run",
    "testing.ball",
    "testing.lesion_ct",
    "testing.he_slide",
    "testing.paired_case",
    "testing.cohort",
]
CLASSES = ["Case", "models.LateFusion", "models.Blocks", "Volume", "CTVolume", "Mask", "Slide", "Contours", "FeatureTable", "FeatureSpec", "Settings"]


@pytest.fixture(scope="module", autouse=True)
def import_everything():
    for module in pkgutil.walk_packages(idx.__path__, "idx."):
        importlib.import_module(module.name)


def resolve(name):
    value = idx
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_stays_a_function(name):
    assert inspect.isfunction(resolve(name))
    assert inspect.isfunction(resolve(name))


@pytest.mark.parametrize("name", CLASSES)
def test_class_stays_a_class(name):
    assert inspect.isclass(resolve(name))


def test_no_submodule_bears_the_name_of_a_public_name():
    clashes = []
    for package in [idx, *(m for m in vars(idx).values() if isinstance(m, types.ModuleType) and hasattr(m, "__path__"))]:
        submodules = {m.name for m in pkgutil.iter_modules(package.__path__)}
        clashes += [
            f"{package.__name__}.{name}"
            for name in submodules & set(getattr(package, "__all__", ()))
            if not isinstance(getattr(package, name), types.ModuleType)
        ]
    assert clashes == []


SIGNATURES = {
    "read_mask": ["path", "like", "label"],
    "open_slide": ["path", "mpp"],
    "histology.find_nuclei": ["slide", "within", "model", "device"],
    "tiling.plan": ["slide", "size_px", "mpp", "overlap_px", "within"],
    "tiling.run": ["fn", "slide", "grid", "device"],
    "registration.register_section": ["ct", "slide", "lesion", "prior", "landmarks", "maps"],
    "models.evaluate": ["model", "blocks", "outcome"],
    "cohort.run": ["step", "cases", "engine", "out"],
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_keeps_the_contract(name):
    assert [p for p in inspect.signature(resolve(name)).parameters if p in SIGNATURES[name]] == SIGNATURES[name]


def test_at_most_three_positional_arguments():
    crowded = []
    for name in FUNCTIONS:
        positional = [p for p in inspect.signature(resolve(name)).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if len(positional) > 3:
            crowded.append(name)
    assert crowded == []


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A small patient on disk: CT, mask, slide and landmark pairs."""
    folder = tmp_path_factory.mktemp("patient")
    ball = idx.testing.ball(radius_mm=4.0)
    idx.testing.write_ct_series(ball.ct, folder / "ct")
    idx.testing.write_rtstruct(ball.mask, folder / "ct", folder / "rtstruct.dcm")
    idx.testing.he_slide(folder / "A12.tif", n_nuclei=20, size_px=(512, 512))
    slide_um = np.array([[0.0, 0.0], [200.0, 0.0], [0.0, 200.0], [200.0, 200.0]])
    ct_mm = np.array(ball.centre_mm) + np.pad(slide_um / 1000.0, ((0, 0), (0, 1)))
    return folder, idx.registration.Landmarks(slide_um, ct_mm)


def walk(folder, landmarks, out):
    """Call every name of the public face as the design writes it."""
    ct = idx.read_ct(folder / "ct")
    assert idx.read_volume(folder / "ct").values.shape == ct.values.shape
    lesion = idx.read_mask(folder / "rtstruct.dcm", like=ct, label=None)
    slide = idx.open_slide(folder / "A12.tif", mpp=None)
    table = idx.radiomics.extract(ct, lesion)
    maps = idx.radiomics.feature_maps(ct, lesion, radius_mm=2.0)
    tissue = idx.histology.find_tissue(slide)
    nuclei = idx.histology.find_nuclei(slide, within=tissue, device=None)
    histology = idx.histology.extract(slide, nuclei)
    grid = idx.tiling.plan(slide, size_px=256, mpp=0.5, overlap_px=0, within=tissue)
    result = idx.tiling.run(lambda batch: batch.float().mean(dim=(1, 2, 3)), slide, grid, device="cpu")
    placed = idx.registration.register_section(ct, slide, lesion=lesion, prior=None, landmarks=landmarks, maps=None)
    case = idx.Case("P1", volumes={"ct": ct}, masks={"lesion": lesion}, slides={"A12": slide}, tables={"radiomics": table, "histology": histology})
    case = placed.add_to(case)
    case.save(out / "case", overwrite=True)
    case = idx.load_case(out / "case")
    patients = idx.testing.cohort(60, seed=1)
    blocks, outcome = idx.models.Blocks(patients.blocks), idx.models.Survival(patients.time_days, patients.event)
    model = idx.models.LateFusion().fit(blocks, outcome)
    evaluation = idx.models.evaluate(model, blocks, outcome, n_splits=3, n_bootstrap=10)
    rows = idx.cohort.run(len, {"a": [1, 2]}, engine="serial", out=out / "cohort")
    widget = idx.view.linked(case)
    assert len(maps) > 0
    assert len(grid) == len(result.values)
    assert 0 < evaluation.c_index < 1
    assert rows["value"].tolist() == [2]
    assert widget is not None
    return table.values.iloc[0].to_numpy(), len(nuclei.contours), case


def test_every_public_name_works_when_called_twice(patient, tmp_path):
    first, n_first, _ = walk(*patient, tmp_path)
    second, n_second, _ = walk(*patient, tmp_path)
    np.testing.assert_array_equal(first, second)
    assert n_first == n_second > 0


@pytest.mark.gl
@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="needs a screen with OpenGL: run under xvfb-run")
def test_napari_works_when_called_twice(patient, tmp_path):
    *_, case = walk(*patient, tmp_path)
    for _ in range(2):
        viewer = idx.view.napari(case)
        assert len(viewer.layers) >= 3
        viewer.close()
