import copy
import json
import os
import pickle
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses
from PIL import Image
from shapely import Point, box

import idx
from idx.case import MANIFEST, Case, load_case
from idx.errors import FormatError, GeometryError
from idx.geometry import PATIENT, SLIDE, AffineTransform, DisplacementTransform, Frame, Grid, SectionTransform, TransformGraph, compose, slide_frame
from idx.io import folders
from idx.provenance import Provenance, Source
from idx.slide import Contours
from idx.table import FeatureSpec, FeatureTable, Missing
from idx.volume import CTVolume, Mask, Volume

WARPED = Frame("warped", "um", ("x", "y"))
SCAN = Frame("scan", "mm", ("x", "y", "z"))


@pytest.fixture
def inputs(tmp_path):
    return _write_inputs(tmp_path / "inputs")


@pytest.fixture
def case(inputs):
    return _build_case(inputs)


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    """A saved case to copy; its inputs stay where they are."""
    folder = tmp_path_factory.mktemp("case")
    _build_case(_write_inputs(folder / "inputs")).save(folder / "saved")
    return folder / "saved"


def _write_inputs(folder):
    """A CT and a slide on disk."""
    folder.mkdir()
    values = np.random.default_rng(0).integers(-1000, 1000, size=(6, 20, 24)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10.0, 20.0, 300.0))
    sitk.WriteImage(image, str(folder / "ct.nrrd"))
    picture = np.full((60, 80, 3), 240, np.uint8)
    picture[20:40, 30:60] = (180, 80, 160)
    Image.fromarray(picture).save(folder / "slide.png")
    return folder


def _build_case(inputs):
    ct = idx.read_ct(inputs / "ct.nrrd")
    inside = np.zeros(ct.grid.shape, bool)
    inside[2:4, 5:12, 6:15] = True
    lesion = Mask(inside, ct.grid, "GTV-1", Source(str(inputs / "rt.dcm"), "rtstruct", ids={"label": "GTV-1"}))
    field = np.random.default_rng(1).normal(scale=2.0, size=(5, 6, 2))
    warp = DisplacementTransform(field, np.diag([10.0, 8.0, 1.0]), SLIDE, WARPED)
    section = SectionTransform(np.array([[1e-3, 0], [0, 1e-3], [0.1e-3, 0]]), np.array([0.1, 0.2, 300.0]), WARPED, PATIENT)
    graph = TransformGraph().with_edge(compose(warp, section), error_mm=0.75, evidence={"verdict": "placed", "score": 0.9, "checked": True})
    graph = graph.with_edge(AffineTransform(np.diag([1.0, 1, 2, 1]), SCAN, PATIENT)).with_edge(warp.inverse())
    specs = [FeatureSpec("volume_mm3", "mm3", "Voxel volume.", "YEKZ"), FeatureSpec("skewness", "1", "Skewness.", params={"bin_hu": 25, "fixed": True})]
    rows = {"GTV-1": {"volume_mm3": 1 / 3, "skewness": Missing("constant")}, "GTV-2": {"volume_mm3": 2.0, "skewness": -0.25}}
    table = FeatureTable.from_rows(rows, specs, index_name="lesion", provenance=Provenance("idx.radiomics.extract", {"bin_hu": 25.0}, ("ct.nrrd",)))
    return Case(
        "P001",
        volumes={"ct": ct, "habitat / 1": Volume(np.random.default_rng(2).normal(size=(2, 3, 4)), Grid.from_spacing((2, 3, 4), (1.0, 2.0, 3.0)), "suv")},
        masks={"lesion": lesion},
        slides={"A12": idx.open_slide(inputs / "slide.png", mpp=(0.5, 0.25))},
        contours={"tissue": Contours.from_polygons([Point(10, 10).buffer(5).difference(box(9, 9, 11, 11)), box(0, 0, 1, 3)], labels=("a", ""))},
        transforms=graph,
        tables={"radiomics": table},
        outcome={"os_months": np.float64(20.5), "death": True, "stage": "IIA", "n_visits": 3},
        notes=("no registration was asked for",),
    )


def _assert_equal_cases(a, b):
    assert (a.case_id, dict(a.outcome), a.notes) == (b.case_id, dict(b.outcome), b.notes)
    for name in ("volumes", "masks", "slides", "contours", "tables"):
        assert list(getattr(a, name)) == list(getattr(b, name))
    for role, volume in a.volumes.items():
        other = b.volumes[role]
        assert type(other) is type(volume)
        assert other.values.dtype == volume.values.dtype
        assert (other.quantity, other.source, dict(other.header)) == (volume.quantity, volume.source, dict(volume.header))
        np.testing.assert_array_equal(other.values, volume.values)
        np.testing.assert_array_equal(other.grid.affine, volume.grid.affine)
    for name, mask in a.masks.items():
        other = b.masks[name]
        assert (other.label, other.source, other.grid.frame) == (mask.label, mask.source, mask.grid.frame)
        np.testing.assert_array_equal(other.values, mask.values)
        np.testing.assert_array_equal(other.grid.affine, mask.grid.affine)
    for name, slide in a.slides.items():
        other = b.slides[name]
        assert (other.mpp, other.name, other.frame, other.magnification, other.source) == (
            slide.mpp,
            slide.name,
            slide.frame,
            slide.magnification,
            slide.source,
        )
        np.testing.assert_array_equal(other.thumbnail(), slide.thumbnail())
    for name, contours in a.contours.items():
        other = b.contours[name]
        assert (other.labels, other.frame, other.source) == (contours.labels, contours.frame, contours.source)
        for array in ("vertices_um", "ring_offsets", "polygon_offsets"):
            np.testing.assert_array_equal(getattr(other, array), getattr(contours, array))
    for name, table in a.tables.items():
        other = b.tables[name]
        assert (other.specs, other.provenance) == (table.specs, table.provenance)
        pd.testing.assert_frame_equal(other.values, table.values)
        pd.testing.assert_frame_equal(other.status, table.status)
    assert len(a.transforms.edges) == len(b.transforms.edges)
    points = np.random.default_rng(5).uniform(0, 30, size=(20, 3))
    for edge, other in zip(a.transforms.edges, b.transforms.edges, strict=True):
        assert (other.error_mm, dict(other.evidence)) == (edge.error_mm, dict(edge.evidence))
        assert type(other.transform) is type(edge.transform)
        assert (other.transform.source, other.transform.target) == (edge.transform.source, edge.transform.target)
        given = points[:, : edge.transform.source.ndim]
        np.testing.assert_array_equal(other.transform.apply(given), edge.transform.apply(given))


def test_round_trip_keeps_everything(case, tmp_path):
    case.save(tmp_path / "saved")
    _assert_equal_cases(case, load_case(tmp_path / "saved"))
    # A second generation is the same again.
    load_case(tmp_path / "saved").save(tmp_path / "again")
    _assert_equal_cases(case, load_case(tmp_path / "again"))


def test_empty_case_round_trip(tmp_path):
    Case("P002").save(tmp_path / "saved")
    _assert_equal_cases(Case("P002"), load_case(tmp_path / "saved"))


def test_source_images_are_not_copied(case, inputs, tmp_path):
    case.save(tmp_path / "saved")
    kinds = {file.relative_to(tmp_path / "saved").parts[1] for file in (tmp_path / "saved").rglob("*") if file.is_file() and file.name != MANIFEST}
    assert kinds == {"volumes", "masks", "fields", "contours", "tables"}
    manifest = json.loads((tmp_path / "saved" / MANIFEST).read_text())
    reference = manifest["volumes"]["ct"]["reference"]
    assert "array" not in manifest["volumes"]["ct"]
    assert reference["sha256"] == Source(str(inputs / "ct.nrrd"), "nrrd").sha256()
    assert reference["path"] == str(inputs / "ct.nrrd")


def test_existing_case_is_replaced_only_when_asked(case, tmp_path):
    case.save(tmp_path / "saved")
    with pytest.raises(FormatError, match="overwrite=True"):
        Case("P002").save(tmp_path / "saved")
    assert load_case(tmp_path / "saved").case_id == "P001"
    Case("P002").save(tmp_path / "saved", overwrite=True)
    assert load_case(tmp_path / "saved").case_id == "P002"
    assert len(list((tmp_path / "saved").glob("parts-*"))) == 1


def test_a_folder_of_other_things_is_never_replaced(case, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(FormatError, match="other files"):
        case.save(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


@pytest.mark.parametrize("call", ["_sync_tree", "_to_json", "sha256_of", "_sync", "os.replace"])
@pytest.mark.parametrize("exists", [True, False])
def test_an_interrupted_save_loses_nothing(case, tmp_path, monkeypatch, call, exists):
    target = tmp_path / "cases" / "saved"
    if exists:
        case.save(target)

    replace_file = os.replace

    def crash(*args, **_kwargs):
        # Zarr renames its chunks, too: those must go through.
        if call == "os.replace" and args[1].name != MANIFEST:
            return replace_file(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os if call == "os.replace" else folders, call.removeprefix("os."), crash)
        with pytest.raises(KeyboardInterrupt):
            case.with_(outcome={"os_months": 1.0}).save(target, overwrite=True)
    if exists:
        _assert_equal_cases(case, load_case(target))
        assert len(list(target.iterdir())) == 2
    else:
        assert list((tmp_path / "cases").iterdir()) == []
    case.with_(outcome={"os_months": 1.0}).save(target, overwrite=True)
    assert load_case(target).outcome["os_months"] == 1.0


def test_a_killed_save_leaves_the_old_case(case, tmp_path):
    """What a power cut leaves behind: new parts and an unfinished manifest beside the old ones."""
    case.save(tmp_path / "saved")
    (tmp_path / "saved" / "parts-dead").mkdir()
    (tmp_path / "saved" / "parts-dead" / "half.parquet").write_bytes(b"PAR1")
    (tmp_path / "saved" / ".case.json.dead.tmp").write_text("{")
    _assert_equal_cases(case, load_case(tmp_path / "saved"))


def _damage_json(folder):
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:-40])
    return MANIFEST


def _damage_key(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["masks"]["lesion"]["grid"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return MANIFEST


def _newer_schema(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "schema_version": 2}))
    return MANIFEST


def _other_json(folder):
    (folder / MANIFEST).write_text("[]")
    return MANIFEST


def _no_manifest(folder):
    (folder / MANIFEST).unlink()
    return folder.name


def _part(folder, pattern):
    return next(file for file in sorted(folder.rglob("*")) if file.is_file() and re.search(pattern, file.as_posix()))


def _missing_chunk(folder):
    file = _part(folder, r"masks/.*/c/")
    file.unlink()
    return file.name


def _missing_table(folder):
    file = _part(folder, r"\.parquet$")
    file.unlink()
    return file.name


def _truncated(pattern):
    def damage(folder):
        file = _part(folder, pattern)
        file.write_bytes(file.read_bytes()[:-7])
        return file.name

    return damage


def _flipped_bit(folder):
    file = _part(folder, r"fields/.*/c/")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return file.name


DAMAGES = {
    "no manifest": (_no_manifest, "case.json"),
    "truncated json": (_damage_json, "JSON"),
    "other json": (_other_json, "must describe"),
    "missing key": (_damage_key, "Restore"),
    "newer schema": (_newer_schema, "update idx"),
    "missing chunk": (_missing_chunk, "Restore"),
    "missing table": (_missing_table, "Restore"),
    "truncated table": (_truncated(r"\.parquet$"), "Restore"),
    "truncated chunk": (_truncated(r"masks/.*/c/"), "Restore"),
    "truncated metadata": (_truncated(r"zarr\.json$"), "Restore"),
    "flipped bit": (_flipped_bit, "Restore"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("verify", [True, False])
def test_damaged_folders_are_refused_by_name_and_remedy(saved_once, tmp_path, damage, verify):
    shutil.copytree(saved_once, tmp_path / "saved")
    spoil, remedy = DAMAGES[damage]
    named = spoil(tmp_path / "saved")
    with pytest.raises(FormatError, match=remedy) as caught:
        load_case(tmp_path / "saved", verify=verify)
    # Without the checksums the array is named, not its chunk.
    assert named in str(caught.value) or (not verify and ".zarr" in str(caught.value))


def test_moved_sources_are_found(case, inputs, tmp_path):
    case.save(tmp_path / "saved")
    shutil.move(inputs, tmp_path / "elsewhere")
    with pytest.raises(FormatError, match=r"ct\.nrrd.*sources="):
        load_case(tmp_path / "saved")
    moved = load_case(tmp_path / "saved", sources=tmp_path / "elsewhere")
    assert moved.ct.source.path == str(tmp_path / "elsewhere" / "ct.nrrd")
    np.testing.assert_array_equal(moved.ct.values, case.ct.values)
    # The tree above the files may be kept, too.
    (tmp_path / "archive" / "inputs").mkdir(parents=True)
    for name in ("ct.nrrd", "slide.png"):
        shutil.move(tmp_path / "elsewhere" / name, tmp_path / "archive" / "inputs" / name)
    assert load_case(tmp_path / "saved", sources=tmp_path / "archive").slide.source.path == str(tmp_path / "archive" / "inputs" / "slide.png")


def test_case_and_sources_may_move_together(case, inputs, tmp_path):
    case.save(tmp_path / "saved")
    (tmp_path / "usb").mkdir()
    shutil.move(inputs, tmp_path / "usb" / "inputs")
    shutil.move(tmp_path / "saved", tmp_path / "usb" / "saved")
    again = load_case(tmp_path / "usb" / "saved")
    assert again.ct.source.path == str((tmp_path / "usb" / "inputs" / "ct.nrrd").resolve())


def test_changed_source_is_refused(case, inputs, tmp_path):
    case.save(tmp_path / "saved")
    image = sitk.GetImageFromArray(case.ct.values + np.int16(1))
    image.SetSpacing(case.ct.spacing_mm)
    image.SetOrigin(case.ct.grid.origin_mm)
    sitk.WriteImage(image, str(inputs / "ct.nrrd"))
    with pytest.raises(FormatError, match=r"other content at .*ct\.nrrd"):
        load_case(tmp_path / "saved")
    assert (load_case(tmp_path / "saved", verify=False).ct.values == case.ct.values + 1).all()


def test_a_volume_that_is_not_what_its_source_says_is_not_referenced(case, tmp_path):
    changed = replace(case.ct, values=case.ct.values // 2)
    with pytest.raises(FormatError, match="with_values"):
        case.with_(volumes={"ct": changed}).save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    case.with_(volumes={"ct": case.ct.with_values(case.ct.values // 2)}).save(tmp_path / "saved")
    again = load_case(tmp_path / "saved").ct
    assert isinstance(again, CTVolume)
    assert (again.values == case.ct.values // 2).all()


def test_dicom_series_is_reopened(case, tmp_path):
    ball = idx.testing.ball(radius_mm=5.0, spacing_mm=2.0)
    idx.testing.write_ct_series(ball.ct, tmp_path / "series")
    ct = idx.read_ct(tmp_path / "series")
    Case("P003", volumes={"ct": ct}).save(tmp_path / "saved")
    _assert_equal_cases(Case("P003", volumes={"ct": ct}), load_case(tmp_path / "saved"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_outcomes_must_be_plain(tmp_path, value):
    with pytest.raises(FormatError, match="finite numbers, strings and flags"):
        Case("P001", outcome={"os_months": value}).save(tmp_path / "saved")


def test_slides_need_frames_of_their_own(case, inputs):
    second = idx.open_slide(inputs / "slide.png", mpp=1.0)
    with pytest.raises(GeometryError, match="own frame"):
        case.with_(slides={"B1": second})
    assert list(case.with_(slides={"B1": replace(second, frame=slide_frame("B1"))}).slides) == ["A12", "B1"]


def test_case_travels_to_a_worker(case):
    # A slide opens its file again; see the tests of each pixel source.
    light = replace(case, slides={})
    _assert_equal_cases(light, pickle.loads(pickle.dumps(light)))
    _assert_equal_cases(light, copy.deepcopy(light))


def test_parts_cannot_be_changed(case):
    with pytest.raises(TypeError):
        case.outcome["death"] = False
    with pytest.raises(TypeError):
        case.ct.header["kvp"] = "120"


def test_with_merges_mappings_and_replaces_the_rest(case):
    more = case.with_(outcome={"death": False}, notes=("other",))
    assert more.outcome == {"os_months": 20.5, "death": False, "stage": "IIA", "n_visits": 3}
    assert more.notes == ("other",)
    assert case.outcome["death"] is True


def test_a_case_needs_a_name():
    with pytest.raises(FormatError, match="case_id"):
        Case("  ")


def test_html_shows_what_a_person_wants_to_see(case):
    html = case._repr_html_()
    assert html.count("<img") == 2
    for text in (
        "Case P001",
        "CT, axial slice 2, lesion outlined",
        "0.7 x 0.8 x 2.5 mm",
        "GTV-1: 176 mm3, 126 voxels",
        "slide A12",
        "slide -&gt; patient (0.75 mm)",
    ):
        assert text in html
    for text in ("scan -&gt; patient (unknown error)", "2 x 2 features, 1 missing", "os_months", "no registration was asked for", "2 polygons"):
        assert text in html
    assert "P001" in repr(case)
    assert Case("empty")._repr_html_().count("<img") == 0
