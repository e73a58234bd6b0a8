import copy

import numpy as np
import pytest

from idx.errors import FormatError
from idx.provenance import Provenance
from idx.table import FeatureSpec, FeatureTable, Missing, concat_rows

SPECS = (FeatureSpec("area_um2", "um2", "Area."), FeatureSpec("skewness", "1", "Skewness."))


def _table(name="a", *, skewness=0.5, inputs=("a.nii",)):
    rows = {name: {"area_um2": 4.0, "skewness": skewness}}
    return FeatureTable.from_rows(rows, SPECS, index_name="lesion", provenance=Provenance("f", inputs=inputs))


def test_missing_cells_have_reasons():
    table = _table(skewness=Missing("constant"))
    assert np.isnan(table["skewness"]["a"])
    assert table.status.to_dict("records") == [{"row": "a", "feature": "skewness", "reason": "constant"}]
    with pytest.raises(FormatError, match="reason must be one of"):
        Missing("because")
    with pytest.raises(FormatError, match="exactly one reason"):
        FeatureTable(table.values, SPECS, table.status.iloc[:0])
    with pytest.raises(FormatError, match="reason must be one of"):
        FeatureTable(table.values, SPECS, table.status.assign(reason="because"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_finite(value):
    with pytest.raises(FormatError, match="finite"):
        _table(skewness=value)


def test_columns_must_be_the_specs():
    """A column without a spec was dropped silently."""
    columns = {"area_um2": np.ones(2), "skewness": np.ones(2), "roundness": np.ones(2)}
    with pytest.raises(FormatError, match="roundness"):
        FeatureTable.from_columns(columns, SPECS, index=["a", "b"], index_name="nucleus")
    with pytest.raises(FormatError, match="skewness"):
        FeatureTable.from_columns({"area_um2": np.ones(2)}, SPECS, index=["a", "b"], index_name="nucleus")
    with pytest.raises(FormatError, match="reason"):
        FeatureTable.from_columns({"area_um2": np.ones(2), "skewness": np.array([1, np.nan])}, SPECS, index=["a", "b"], index_name="nucleus")


def test_rows_are_stacked_with_all_their_inputs():
    """Only the first table's inputs were kept."""
    stacked = concat_rows([_table("a", inputs=("a.nii",)), _table("b", skewness=Missing("constant"), inputs=("b.nii",))])
    assert stacked.values.index.tolist() == ["a", "b"]
    assert stacked.values.index.name == "lesion"
    assert stacked.provenance.inputs == ("a.nii", "b.nii")
    assert stacked.status["row"].tolist() == ["b"]
    with pytest.raises(FormatError, match="repeated 'a'"):
        concat_rows([_table("a"), _table("a")])
    with pytest.raises(FormatError, match="share their features"):
        concat_rows([])


def test_select_keeps_reasons_of_what_is_kept():
    table = _table(skewness=Missing("constant"))
    assert list(table.select(["skewness"]).status["feature"]) == ["skewness"]
    assert len(table.select(["area_um2"]).status) == 0


def test_specs_can_be_copied_but_not_changed():
    spec = FeatureSpec("energy", "hu2", "Energy.", "N8CA", {"bin_hu": 25})
    assert copy.deepcopy(spec) == spec
    with pytest.raises(TypeError):
        spec.params["bin_hu"] = 10


def test_html_escapes_names_and_shows_units():
    specs = [FeatureSpec("<b>", "um", "x")]
    html = FeatureTable.from_rows({"<i>": {"<b>": 1.0}}, specs, index_name="lesion")._repr_html_()
    assert "<b>" not in html.replace("<b>FeatureTable</b>", "")
    assert "&lt;b&gt; [um]" in html
