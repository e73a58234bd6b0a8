"""Feature files in the layouts of CLAM and TRIDENT, made here as their sources write them, and idx's own folder."""

import pickle
import zipfile

import h5py
import numpy as np
import pytest
import torch
from array_slides import planned_slide

import idx
from idx.errors import FormatError, GeometryError, MissingDependency, UnitError
from idx.io import TileEmbeddings, read_embeddings, read_slide_embedding, write_embeddings
from idx.io.tables import read_table, write_table
from idx.provenance import Provenance

RNG = np.random.default_rng(3)
FEATURES = RNG.normal(size=(5, 8)).astype(np.float32)
CORNERS = np.array([[0, 0], [512, 0], [1024, 0], [0, 512], [512, 512]])
TRIDENT = {
    "patch_size": 256,
    "patch_size_level0": 512,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "name": "A12",
    "savetodir": "/job/20x_256px_0px_overlap",
    "level0_width": 2000,
    "level0_height": 1500,
}
CLAM_PATCHES = {
    "patch_size": 256,
    "patch_level": 1,
    "downsample": (4.0, 4.0),
    "downsampled_level_dim": (500, 375),
    "level_dim": (500, 375),
    "name": "A12",
    "save_path": "/job/patches",
}


def write_h5(path, *, attributes=None, **datasets):
    """Growable datasets in chunks along the first axis, attributes on ``coords``, as both tools save them."""
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            values = np.asarray(values)
            file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=(min(32, len(values) or 1), *values.shape[1:]))
        for name, value in (attributes or {}).items():
            file["coords"].attrs[name] = value
    return path


def clam(folder, **changes):
    return write_h5(folder / "A12.h5", **{"features": FEATURES, "coords": CORNERS.astype(np.int32)} | changes)


def clam_patches(folder, **changes):
    (folder / "patches").mkdir(exist_ok=True)
    return write_h5(folder / "patches" / "A12.h5", **{"coords": CORNERS, "attributes": CLAM_PATCHES} | changes)


def trident(folder, **changes):
    path = write_h5(folder / "t.h5", **{"features": FEATURES, "coords": CORNERS, "attributes": TRIDENT} | changes)
    with h5py.File(path, "a") as file:
        file["features"].attrs.update({"name": "A12", "savetodir": "/job", "encoder": "uni_v1"})
    return path


def slide_of(width=2000, height=1500, **options):
    return planned_slide(width, height, **{"mpp": 0.25, "downsamples": (1, 4)} | options)


def test_trident_says_how_large_its_tiles_are(tmp_path):
    tiles = read_embeddings(trident(tmp_path), slide=slide_of())
    np.testing.assert_array_equal(tiles.vectors, FEATURES)
    assert tiles.vectors.dtype == np.float32
    np.testing.assert_array_equal(tiles.corner_level0_px, CORNERS)
    assert tiles.size_level0_px == (512.0, 512.0)
    assert tiles.name == "A12"
    assert dict(tiles.provenance.settings) == {"layout": "trident", "encoder": "uni_v1"}
    # Tile (1024, 0) covers pixels 1024..1535: its middle lies between pixels 1279 and 1280.
    np.testing.assert_allclose(tiles.centre_um[2], [1279.5 * 0.25, 255.5 * 0.25])


def test_centres_are_those_of_the_same_tiles_in_a_plan():
    slide = slide_of(1024, 1024)
    grid = idx.tiling.plan(slide, size_px=64, mpp=1.0)
    frame = grid.to_frame()
    tiles = TileEmbeddings(np.zeros((len(grid), 1), np.float32), frame[["level0_x_px", "level0_y_px"]].to_numpy(), (256.0, 256.0), slide.mpp, "a")
    np.testing.assert_allclose(tiles.centre_um, frame[["centre_x_um", "centre_y_um"]].to_numpy())


def test_clam_without_its_patch_file_has_corners_only(tmp_path):
    tiles = read_embeddings(clam(tmp_path), slide=slide_of())
    np.testing.assert_array_equal(tiles.vectors, FEATURES)
    np.testing.assert_array_equal(tiles.corner_level0_px, CORNERS)
    assert tiles.size_level0_px is None
    assert tiles.name == "A12"
    assert dict(tiles.provenance.settings) == {"layout": "clam"}
    with pytest.raises(UnitError, match="size of the tiles must be known"):
        _ = tiles.centre_um


def test_clam_with_its_patch_file_is_placed(tmp_path):
    """Patches of 256 px read from a level 4 times coarser cover 1,024 px of level 0."""
    tiles = read_embeddings(clam(tmp_path), patches=clam_patches(tmp_path), mpp=(0.25, 0.5))
    assert tiles.size_level0_px == (1024.0, 1024.0)
    np.testing.assert_allclose(tiles.centre_um[1], [(512 + 511.5) * 0.25, 511.5 * 0.5])


def test_the_size_can_be_given(tmp_path):
    tiles = read_embeddings(clam(tmp_path), mpp=0.25, size_level0_px=512)
    np.testing.assert_allclose(tiles.centre_um[0], [255.5 * 0.25] * 2)


def test_without_an_mpp_there_are_no_um(tmp_path):
    with pytest.raises(UnitError, match=r"mpp must be known.*slide="):
        _ = read_embeddings(trident(tmp_path)).centre_um


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"patch_size": 256, "level0_magnification": 40, "target_magnification": 10}, 1024.0),
        ({"patch_size": np.array([256]), "level0_magnification": 20.0, "target_magnification": 20}, 256.0),
        ({"patch_size": 256, "patch_level": 0}, 256.0),
        ({"patch_size": 256, "patch_level": 0, "custom_downsample": 2}, 512.0),
        ({"patch_size": 256, "patch_level": 1}, 1024.0),
        ({"patch_size": 256, "patch_level": 1, "downsample": 4.0}, 1024.0),
        ({"patch_size": 256, "patch_level": 7}, None),
        ({"patch_size": 256}, None),
        ({"patch_size": "None", "level0_magnification": "None"}, None),
        ({}, None),
    ],
)
def test_the_size_comes_from_whichever_attributes_say_it(tmp_path, attributes, expected):
    size = read_embeddings(trident(tmp_path, attributes=attributes), slide=slide_of()).size_level0_px
    assert size == (None if expected is None else (expected, expected))


def test_a_leading_axis_of_one_is_dropped(tmp_path):
    tiles = read_embeddings(trident(tmp_path, features=FEATURES[None], coords=CORNERS[None]))
    np.testing.assert_array_equal(tiles.vectors, FEATURES)
    np.testing.assert_array_equal(tiles.corner_level0_px, CORNERS)


def test_half_precision_becomes_float32(tmp_path):
    tiles = read_embeddings(trident(tmp_path, features=FEATURES.astype(np.float16)))
    assert tiles.vectors.dtype == np.float32
    np.testing.assert_array_equal(tiles.vectors, FEATURES.astype(np.float16).astype(np.float32))


def test_a_slide_without_tissue_has_no_tiles(tmp_path):
    tiles = read_embeddings(trident(tmp_path, features=np.zeros((0, 8), np.float32), coords=np.zeros((0, 2), np.int64)), mpp=0.25)
    assert len(tiles) == 0
    assert tiles.centre_um.shape == (0, 2)
    assert len(tiles.to_table()) == 0


@pytest.mark.parametrize("saved", [torch.from_numpy(FEATURES), FEATURES, torch.from_numpy(FEATURES).half()], ids=["clam", "trident", "half"])
def test_a_pt_file_takes_its_positions_from_beside(tmp_path, saved):
    torch.save(saved, tmp_path / "A12.pt")
    tiles = read_embeddings(tmp_path / "A12.pt", patches=clam_patches(tmp_path), slide=slide_of(3000, 1600))
    expected = saved.float().numpy() if isinstance(saved, torch.Tensor) else saved
    np.testing.assert_array_equal(tiles.vectors, expected)
    np.testing.assert_array_equal(tiles.corner_level0_px, CORNERS)
    assert tiles.size_level0_px == (1024.0, 1024.0)
    with pytest.raises(FormatError, match="must come with the positions"):
        read_embeddings(tmp_path / "A12.pt")


def test_a_pt_file_pickled_by_numpy_1_is_read(tmp_path):
    """numpy 1 names the module of its arrays ``numpy.core``."""
    torch.save(FEATURES, tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "old.pt", "w") as old:
        for item in new.namelist():
            # A pickled global is two lines of text.
            old.writestr(item.replace("new/", "old/"), new.read(item).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert b"cnumpy.core.multiarray\n" in (tmp_path / "old.pt").read_bytes()
    np.testing.assert_array_equal(read_embeddings(tmp_path / "old.pt", patches=clam_patches(tmp_path)).vectors, FEATURES)


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of a feature file ran')",)


def test_code_in_a_pt_file_does_not_run(tmp_path):
    torch.save(Bomb(), tmp_path / "bomb.pt")
    (tmp_path / "bomb.pickle").write_bytes(pickle.dumps(Bomb(), protocol=2))
    for name in ("bomb.pt", "bomb.pickle"):
        with pytest.raises(FormatError, match="neither"):
            read_embeddings(tmp_path / name, patches=clam_patches(tmp_path))


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"coords": CORNERS}, r"dataset 'features'; got coords \(5, 2\).*patches="),
        ({"features": FEATURES}, r"dataset 'coords'; got features \(5, 8\)"),
        ({"feats": FEATURES, "coords": CORNERS}, "dataset 'features'; got coords .*feats"),
        ({"features": FEATURES[:4], "coords": CORNERS}, "one row per tile; got 4 and 5"),
        ({"features": FEATURES[None, None], "coords": CORNERS}, "floating point"),
        ({"features": np.zeros(5, np.int64), "coords": CORNERS}, "one vector per tile"),
        ({"features": FEATURES.astype(np.int32), "coords": CORNERS}, "floating point .*got int32"),
        ({"features": FEATURES[0], "coords": CORNERS}, "read_slide_embedding"),
        ({"features": np.where(np.eye(5, 8) > 0, np.nan, FEATURES), "coords": CORNERS}, "finite; got NaN or infinity in 5 tiles"),
        ({"features": FEATURES.astype(np.float64) * 1e300, "coords": CORNERS}, "finite"),
        ({"features": FEATURES, "coords": CORNERS[:, :1]}, r"coords must be .*\(n, 2\)"),
        ({"features": FEATURES, "coords": np.full((5, 2), np.nan)}, "coords must be finite"),
        ({"features": FEATURES, "coords": np.array([[b"1", b"2"]] * 5)}, "coords must be"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, datasets, message):
    path = write_h5(tmp_path / "bad.h5", **datasets)
    with pytest.raises(FormatError, match=message) as error:
        read_embeddings(path)
    assert "bad.h5" in str(error.value)


def test_a_group_in_place_of_a_dataset_is_refused(tmp_path):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file.create_group("features")
        file["coords"] = CORNERS
    with pytest.raises(FormatError, match="dataset 'features'"):
        read_embeddings(tmp_path / "bad.h5")


def test_what_is_no_feature_file_is_refused(tmp_path):
    for name, content in {"empty.h5": b"", "text.h5": b"features\n", "signature.h5": b"\x89HDF\r\n\x1a\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError, match=name):
            read_embeddings(tmp_path / name, patches=clam_patches(tmp_path))
    torch.save({"features": torch.zeros(5, 8)}, tmp_path / "dict.pt")
    with pytest.raises(FormatError, match=r"one tensor.*got dict"):
        read_embeddings(tmp_path / "dict.pt", patches=clam_patches(tmp_path))
    with pytest.raises(FormatError, match="got nothing at"):
        read_embeddings(tmp_path / "absent.h5")
    with pytest.raises(FormatError, match="no file at"):
        read_embeddings(clam(tmp_path), patches=tmp_path / "absent.h5")


@pytest.mark.parametrize("make", [trident, lambda folder: torch.save(torch.from_numpy(FEATURES), folder / "t.pt") or folder / "t.pt"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, make):
    whole = make(tmp_path).read_bytes()
    for kept in [*range(0, 64), *range(64, len(whole) - 1, 97)]:
        (tmp_path / "cut.h5").write_bytes(whole[:kept])
        with pytest.raises(FormatError, match=r"cut\.h5"):
            read_embeddings(tmp_path / "cut.h5", patches=clam_patches(tmp_path))


@pytest.mark.parametrize("chunks", [(2, 8), None])
def test_vectors_that_were_never_written_are_refused(tmp_path, chunks):
    """HDF5 gives zeros for what an interrupted extraction left out."""
    with h5py.File(tmp_path / "part.h5", "w") as file:
        features = file.create_dataset("features", (5, 8), "f4", chunks=chunks)
        file["coords"] = CORNERS
        if chunks:
            features[:4] = FEATURES[:4]
    with pytest.raises(FormatError, match=r"'/features' must be complete; got (2 of 3 chunks|0 of 160 bytes)"):
        read_embeddings(tmp_path / "part.h5")


def test_other_positions_beside_are_refused(tmp_path):
    with pytest.raises(FormatError, match="tiles of the features; got other positions"):
        read_embeddings(clam(tmp_path), patches=clam_patches(tmp_path, coords=CORNERS + 1))


def test_an_old_bag_of_images_of_a_coarser_level_is_refused(tmp_path):
    """CLAM's create_patches.py divides positions by the downsample of the patch level."""
    bag = write_h5(tmp_path / "bag.h5", imgs=np.zeros((5, 4, 4, 3), np.uint8), coords=CORNERS // 4)
    with h5py.File(bag, "a") as file:
        file["imgs"].attrs.update({"downsample": (4.0, 4.0), "level_dim": (500, 375), "downsampled_level_dim": (500, 375), "patch_level": 1})
    torch.save(torch.from_numpy(FEATURES), tmp_path / "A12.pt")
    with pytest.raises(FormatError, match="1/4 of level 0"):
        read_embeddings(tmp_path / "A12.pt", patches=bag)
    with h5py.File(bag, "a") as file:
        file["imgs"].attrs.update({"downsample": (1.0, 1.0), "level_dim": (500, 375), "downsampled_level_dim": (250, 187)})
    with pytest.raises(FormatError, match="count pixels"):
        read_embeddings(tmp_path / "A12.pt", patches=bag)
    with h5py.File(bag, "a") as file:
        file["imgs"].attrs.update({"downsampled_level_dim": (500, 375)})
    np.testing.assert_array_equal(read_embeddings(tmp_path / "A12.pt", patches=bag).corner_level0_px, CORNERS // 4)


def test_tiles_of_another_slide_are_refused(tmp_path):
    path = trident(tmp_path)
    with pytest.raises(GeometryError, match=r"\(2000\.0, 1500\.0\) px"):
        read_embeddings(path, slide=slide_of(2000, 1501))
    with pytest.raises(GeometryError, match="3 of 5 off it, the first at level-0 px x=1024"):
        read_embeddings(clam(tmp_path, coords=CORNERS * [1, 4]), slide=slide_of(1000, 1500))
    with pytest.raises(UnitError, match="both slide= and mpp="):
        read_embeddings(path, slide=slide_of(), mpp=0.25)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(UnitError, match="size_level0_px must be positive"):
            read_embeddings(path, size_level0_px=bad)
        with pytest.raises(UnitError, match="mpp must be positive"):
            read_embeddings(path, mpp=bad)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = clam(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingDependency, match=r"pip install 'idx\[hdf5\]'"):
        read_embeddings(path)


@pytest.mark.parametrize("vector", [FEATURES[0], FEATURES[:1], FEATURES[0].astype(np.float16)])
def test_a_slides_vector_is_one_row(tmp_path, vector):
    """TRIDENT squeezes the slide's vector and leaves the positions of its tiles beside it."""
    path = trident(tmp_path, features=vector)
    table = read_slide_embedding(path)
    assert table.values.index.tolist() == ["A12"]
    assert table.values.index.name == "slide"
    np.testing.assert_array_equal(table.values.to_numpy()[0], vector.reshape(-1).astype(np.float64))
    stacked = idx.table.concat_rows([table, idx.table.FeatureTable(table.values.rename({"A12": "B7"}), table.specs, table.status)])
    assert stacked.values.shape == (2, 8)


def test_vectors_of_tiles_are_not_a_slides(tmp_path):
    with pytest.raises(FormatError, match="read_embeddings"):
        read_slide_embedding(trident(tmp_path))
    with pytest.raises(FormatError, match="one vector"):
        read_slide_embedding(trident(tmp_path, features=np.zeros(0, np.float32)))


def embeddings(n=5, d=8):
    made = Provenance("idx.tiling.embed", {"encoder": "mean", "mpp": 0.5}, ("/slides/A12.svs",), "cpu")
    return TileEmbeddings(FEATURES[:n, :d], CORNERS[:n] + 0.25, (512.5, 512.5), (0.25, 0.25), "A12", made)


def test_a_folder_comes_back_and_stays_on_the_disk(tmp_path):
    tiles = embeddings()
    write_embeddings(tiles, tmp_path / "out" / "A12.zarr")
    back = read_embeddings(tmp_path / "out" / "A12.zarr")
    assert not isinstance(back.vectors, np.ndarray)
    np.testing.assert_array_equal(back.vectors[1:3], FEATURES[1:3])
    np.testing.assert_array_equal(np.asarray(back.vectors), FEATURES)
    np.testing.assert_array_equal(back.corner_level0_px, tiles.corner_level0_px)
    np.testing.assert_array_equal(back.centre_um, tiles.centre_um)
    assert (back.size_level0_px, back.mpp, back.name, back.provenance) == (tiles.size_level0_px, tiles.mpp, tiles.name, tiles.provenance)


def test_an_unfinished_or_damaged_folder_is_refused(tmp_path):
    write_embeddings(embeddings(), tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "vectors" / "c" / "0" / "0").rename(tmp_path / "chunk")
    with pytest.raises(FormatError, match="all its chunks; got 0 of 1"):
        read_embeddings(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "zarr.json").unlink()
    with pytest.raises(FormatError, match="Zarr group of embeddings"):
        read_embeddings(tmp_path / "a.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="Zarr group of embeddings"):
        read_embeddings(tmp_path / "empty")


def test_another_group_a_newer_version_and_another_slide_are_refused(tmp_path):
    import zarr

    write_embeddings(embeddings(), tmp_path / "a.zarr")
    with pytest.raises(UnitError, match="of the slide the tiles were made from"):
        read_embeddings(tmp_path / "a.zarr", mpp=0.5)
    assert read_embeddings(tmp_path / "a.zarr", mpp=0.251).mpp == (0.251, 0.251)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
    record = group.attrs["idx"]
    group.attrs["idx"] = record | {"version": 2}
    with pytest.raises(FormatError, match="Update idx"):
        read_embeddings(tmp_path / "a.zarr")
    group.attrs["idx"] = record | {"kind": "Volume"}
    with pytest.raises(FormatError, match="another Zarr group"):
        read_embeddings(tmp_path / "a.zarr")


def test_clam_and_trident_files_come_back(tmp_path):
    tiles = embeddings()
    for layout, dtype in {"clam": np.int32, "trident": np.int64}.items():
        write_embeddings(tiles, tmp_path / f"{layout}.h5", layout=layout)
        with h5py.File(tmp_path / f"{layout}.h5") as file:
            assert file["coords"].dtype == dtype
            assert file["features"].dtype == np.float32
            assert file["features"].maxshape == (None, 8)
        back = read_embeddings(tmp_path / f"{layout}.h5")
        np.testing.assert_array_equal(back.vectors, FEATURES)
        np.testing.assert_array_equal(back.corner_level0_px, CORNERS)
        assert dict(back.provenance.settings) == {"layout": layout}
    assert back.name == "A12"
    assert back.size_level0_px == (512.0, 512.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clam.h5", "trident.h5"]


def test_a_folder_is_written_on_as_hdf5_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("idx.io.embeddings_hdf5._ROWS_PER_WRITE", 2)
    write_embeddings(embeddings(), tmp_path / "a.zarr")
    write_embeddings(read_embeddings(tmp_path / "a.zarr"), tmp_path / "a.h5", layout="clam")
    np.testing.assert_array_equal(read_embeddings(tmp_path / "a.h5").vectors, FEATURES)


def test_writing_refuses_what_is_there_and_what_is_empty(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(FormatError, match="exists"):
        write_embeddings(embeddings(), tmp_path / "there")
    with pytest.raises(FormatError, match="at least one tile"):
        write_embeddings(embeddings(0), tmp_path / "new")
    with pytest.raises(FormatError, match="layout must be one of"):
        write_embeddings(embeddings(), tmp_path / "new", layout="parquet")


def test_the_table_has_places_then_components(tmp_path):
    table = embeddings().to_table()
    names = ["level0_x_px", "level0_y_px", "centre_x_um", "centre_y_um", *(f"embedding_{k:04d}" for k in range(8))]
    assert table.values.columns.tolist() == names
    assert table.values.index.name == "tile"
    np.testing.assert_array_equal(table.values[names[4:]].to_numpy(), FEATURES.astype(np.float64))
    assert table.spec("centre_x_um").unit == "um"
    write_table(table, tmp_path / "a.parquet")
    np.testing.assert_array_equal(read_table(tmp_path / "a.parquet").values, table.values)
    unplaced = TileEmbeddings(FEATURES, CORNERS, None, None, "A12").to_table()
    assert unplaced.values.columns.tolist()[:3] == ["level0_x_px", "level0_y_px", "embedding_0000"]


def test_a_table_that_would_fill_the_memory_is_refused():
    class OnDisk:
        shape = (200_000, 1536)
        dtype = np.dtype(np.float32)

    tiles = TileEmbeddings(OnDisk(), np.zeros((200_000, 2)), None, None, "A12")
    with pytest.raises(FormatError, match=r"at most 2\.1 GB.*got 2\.5 GB \(200,000 tiles x 1,536"):
        tiles.to_table()
    assert "on the disk" in tiles._repr_html_()


def test_rows_must_belong_together():
    for vectors, corners in ((FEATURES, CORNERS[:4]), (FEATURES[0], CORNERS), (FEATURES, CORNERS + np.inf)):
        with pytest.raises(FormatError, match="one row per tile"):
            TileEmbeddings(vectors, corners, None, None, "A12")


def test_a_person_sees_what_it_is(tmp_path):
    assert repr(embeddings()) == "TileEmbeddings(5 tiles x 8 components of 'A12')"
    html = embeddings()._repr_html_()
    assert "512.5 x 512.5 px of level 0, 128.1 x 128.1 um" in html
    assert "idx.tiling.embed" in html
