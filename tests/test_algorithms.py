from importlib.metadata import EntryPoint

import numpy as np
import pytest

from idx import algorithms
from idx.algorithms import NucleusModel, find_algorithm
from idx.errors import FormatError, MissingDependency


class Blank:
    mpp = 0.5

    def __call__(self, batch):
        return np.zeros(batch.shape[:3], dtype=np.int32)


def installed(monkeypatch, value: str) -> None:
    entries = [EntryPoint("nucleus_model.blank", value, algorithms.GROUP), EntryPoint("tile_encoder.other", "math:sqrt", algorithms.GROUP)]
    monkeypatch.setattr(algorithms, "entry_points", lambda group: [entry for entry in entries if entry.group == group])


def test_an_installed_algorithm_is_found_by_kind_and_name(monkeypatch):
    installed(monkeypatch, f"{__name__}:Blank")
    model = find_algorithm("nucleus_model", "blank")
    assert isinstance(model, Blank)
    assert isinstance(model, NucleusModel)


def test_the_error_lists_what_is_installed_of_that_kind(monkeypatch):
    installed(monkeypatch, f"{__name__}:Blank")
    with pytest.raises(MissingDependency, match=r"installed \(blank\); got 'red'"):
        find_algorithm("nucleus_model", "red")
    with pytest.raises(MissingDependency, match=r"installed \(none\)"):
        find_algorithm("lesion_finder", "blank")


def test_an_unknown_kind_is_refused():
    with pytest.raises(FormatError, match="nucleus_model"):
        find_algorithm("nuclei", "blank")


def test_what_does_not_offer_the_protocol_is_refused(monkeypatch):
    installed(monkeypatch, "builtins:dict")
    with pytest.raises(FormatError, match="NucleusModel"):
        find_algorithm("nucleus_model", "blank")
