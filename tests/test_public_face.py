"""Every public name works when used twice after all submodules were imported: a lazy import must not replace a function by a module."""

import importlib
import inspect
import pkgutil
import types

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
