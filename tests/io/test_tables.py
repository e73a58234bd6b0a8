import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from shapely import Point, box

from idx.errors import FormatError
from idx.geometry import slide_frame
from idx.io.arrays import read_array, write_array
from idx.io.tables import contours_from_table, read_table, write_contours, write_table
from idx.provenance import Provenance, Source
from idx.slide import Contours
from idx.table import FeatureSpec, FeatureTable, Missing

SPECS = [FeatureSpec("area_um2", "um2", "Area."), FeatureSpec("skewness", "1", "Skewness.", "KE2A", {"bin_hu": 25, "scale": 0.1, "on": True, "x": None})]


@pytest.fixture(params=["text", "numbers"])
def table(request):
    names = ["b", "a", "c"] if request.param == "text" else [7, 3, 5]
    rows = {name: {"area_um2": 0.1 * (i + 1), "skewness": Missing("constant") if i else 1e-300} for i, name in enumerate(names)}
    return FeatureTable.from_rows(rows, SPECS, index_name="nucleus", provenance=Provenance("idx.f", {"mpp": 0.1 + 0.2}, ("a", "b"), "cuda:0", "0.0.9"))


def test_table_round_trip(table, tmp_path):
    write_table(table, tmp_path / "t.parquet")
    again = read_table(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(again.values, table.values)
    pd.testing.assert_frame_equal(again.status, table.status)
    assert (again.specs, again.provenance) == (table.specs, table.provenance)


@pytest.mark.parametrize("n_rows", [0, 2])
def test_small_tables_round_trip(tmp_path, n_rows):
    columns = {s.name: np.arange(n_rows, dtype=float) for s in SPECS}
    table = FeatureTable.from_columns(columns, SPECS, index=list(range(n_rows)), index_name="tile")
    write_table(table, tmp_path / "t.parquet")
    again = read_table(tmp_path / "t.parquet")
    assert again.values.shape == (n_rows, 2)
    assert again.values.index.name == "tile"
    assert again.provenance is None


def test_other_programs_see_an_ordinary_table(table, tmp_path):
    write_table(table, tmp_path / "t.parquet")
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert list(frame.columns) == ["area_um2", "skewness", "status:skewness"]
    assert frame["skewness"].isna().tolist() == [False, True, True]
    assert frame["status:skewness"].tolist()[1:] == ["constant", "constant"]


def test_contours_round_trip_exactly(tmp_path):
    shapes = [Point(10, 20).buffer(7).difference(box(8, 18, 12, 22)), box(0, 0, 0.1, 0.3), Point(0, 0).buffer(1 / 3)]
    contours = Contours.from_polygons(shapes, labels=["tumour", "", "é"], frame=slide_frame("A"), source=Source("x.geojson", "geojson"))
    for value in (contours, contours.select([]), contours.select([2, 0])):
        write_contours(value, tmp_path / "c.parquet")
        again = contours_from_table(tmp_path / "c.parquet")
        for name in ("vertices_um", "ring_offsets", "polygon_offsets"):
            np.testing.assert_array_equal(getattr(again, name), getattr(value, name))
        assert (again.labels, again.frame, again.source) == (value.labels, value.frame, value.source)


def test_refusals(table, tmp_path):
    path = tmp_path / "t.parquet"
    with pytest.raises(FormatError, match=r"t\.parquet"):
        read_table(path)
    write_table(table, path)
    with pytest.raises(FormatError, match="must hold Contours; got FeatureTable"):
        contours_from_table(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match=r"t\.parquet.*Restore"):
        read_table(path)
    pd.DataFrame({"a": [1.0]}).to_parquet(path)
    with pytest.raises(FormatError, match="plain Parquet"):
        read_table(path)
    write_table(table, path)
    stored = pq.read_table(path)
    record = {**json.loads(stored.schema.metadata[b"idx"]), "version": 2}
    pq.write_table(stored.replace_schema_metadata({**stored.schema.metadata, b"idx": json.dumps(record).encode()}), path)
    with pytest.raises(FormatError, match="Update idx"):
        read_table(path)


@pytest.mark.parametrize("dtype", [bool, np.int16, np.float32, np.float64])
def test_array_round_trip_and_lost_chunks(tmp_path, dtype):
    values = (np.random.default_rng(0).random((5, 900, 4000)) * 3 - 1).astype(dtype)
    values[0] = 0
    write_array(values, tmp_path / "a.zarr")
    again = read_array(tmp_path / "a.zarr")
    assert again.dtype == values.dtype
    np.testing.assert_array_equal(again, values)
    with pytest.raises(FormatError, match="new folder"):
        write_array(values, tmp_path / "a.zarr")
    next(file for file in (tmp_path / "a.zarr" / "c").rglob("*") if file.is_file()).unlink()
    with pytest.raises(FormatError, match=r"all its chunks.*a\.zarr"):
        read_array(tmp_path / "a.zarr")
    with pytest.raises(FormatError, match=r"b\.zarr"):
        read_array(tmp_path / "b.zarr")
