"""Examples in docstrings run, and every public name has a docstring."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import idx

MODULES = sorted(m.name for m in pkgutil.walk_packages(idx.__path__, "idx."))


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"np": np, "idx": idx}, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def public_objects():
    for package in ("idx", *(f"idx.{p}" for p in ("geometry", "histology", "io", "models", "radiomics", "registration", "testing", "tiling", "view"))):
        module = importlib.import_module(package)
        for name in module.__all__:
            yield f"{package}.{name}", getattr(module, name)


def test_public_names_are_documented():
    bare = [name for name, value in public_objects() if (inspect.isroutine(value) or inspect.isclass(value)) and not inspect.getdoc(value)]
    assert bare == []
