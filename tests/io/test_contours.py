"""Contours in (GeoJSON, ImageScope, ASAP, DICOM ANN) and out (GeoJSON)."""

import json
import re

import highdicom as hd
import numpy as np
import pydicom
import pytest
import slide_files as make
from pydicom.sr.codedict import codes

from idx.errors import FormatError, UnitError
from idx.geometry.frames import slide_frame
from idx.io.contours import read_contours, write_geojson
from idx.io.slides import open_slide
from idx.slide import Contours, Level, Slide

SQUARE = [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]]
HOLE = [[2.0, 2.0], [4.0, 2.0], [4.0, 4.0], [2.0, 4.0]]


class NoPixels:
    """A source of a size only."""

    name = "none"
    levels = (Level(50_000, 40_000, 1.0),)

    def read_tiles_into(self, batch, tiles):
        raise AssertionError("contours need no pixels")

    def close(self):
        pass


@pytest.fixture
def slide():
    return Slide(NoPixels(), (0.25, 0.26), "A12.svs")


def _closed(ring):
    return [*ring, ring[0]]


def _write(folder, content, name="a.json"):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / name


def _feature(geometry_type, coordinates, classification=None):
    return {"type": "Feature", "geometry": {"type": geometry_type, "coordinates": coordinates}, "properties": {"classification": classification}}


def test_qupath_counts_from_the_corner_and_idx_from_the_centre(tmp_path, slide):
    """A square around the first pixel has its middle at the origin."""
    unit = [[0, 0], [1, 0], [1, 1], [0, 1]]
    contours = read_contours(_write(tmp_path, _feature("Polygon", [_closed(unit)])), slide=slide)
    np.testing.assert_allclose(contours.centroids_um, [[0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(contours.areas_um2, [0.25 * 0.26])
    np.testing.assert_allclose(contours.rings(0)[0][0], [-0.125, -0.13])


@pytest.mark.parametrize("form", ["collection", "list", "feature"])
def test_forms_of_geojson(form, tmp_path, slide):
    feature = _feature("Polygon", [_closed(SQUARE), _closed(HOLE)], {"name": "Tumor", "color": [200, 0, 0]})
    content = {"collection": {"type": "FeatureCollection", "features": [feature]}, "list": [feature], "feature": feature}[form]
    contours = read_contours(_write(tmp_path, content), slide=slide)
    assert contours.labels == ("Tumor",)
    assert [len(ring) for ring in contours.rings(0)] == [4, 4]
    np.testing.assert_allclose(contours.areas_um2, [(100 - 4) * 0.25 * 0.26])
    assert contours.source.kind == "geojson"
    assert contours.frame == slide.frame


def test_multipolygons_become_polygons_of_one_class(tmp_path):
    far = (np.array(SQUARE) + 100).tolist()
    content = _feature("MultiPolygon", [[_closed(SQUARE), _closed(HOLE)], [_closed(far)]], {"names": ["Tumor", "Positive"]})
    contours = read_contours(_write(tmp_path, content), mpp=1.0)
    assert contours.labels == ("Tumor: Positive",) * 2
    np.testing.assert_allclose(contours.areas_um2, [96, 100])


def test_what_is_no_polygon_is_left_out_and_counted(tmp_path):
    features = [
        _feature("Point", [1, 1]),
        _feature("LineString", [[0, 0], [1, 1]]),
        _feature("LineString", [[0, 0], [2, 1]]),
        _feature("Polygon", [_closed(SQUARE[:2])]),
        _feature("Polygon", [_closed(SQUARE), _closed(HOLE[:2])]),
        _feature("Polygon", [SQUARE]),
    ]
    with pytest.warns(UserWarning, match="1 Point geometries, 1 holes of fewer than 3 vertices, 1 outlines of fewer than 3 vertices") as caught:
        contours = read_contours(_write(tmp_path, features), mpp=1.0)
    assert "2 LineString geometries" in str(caught[0].message)
    assert str(tmp_path) in str(caught[0].message)
    assert len(contours) == 2
    assert [len(contours.rings(i)[0]) for i in range(2)] == [4, 4], "closed and unclosed rings are one"


def test_self_crossing_outlines_are_kept(tmp_path):
    bow = [[0, 0], [2, 2], [2, 0], [0, 2]]
    contours = read_contours(_write(tmp_path, _feature("Polygon", [_closed(bow)])), mpp=1.0)
    np.testing.assert_allclose(contours.rings(0)[0], np.array(bow) - 0.5)


def test_no_polygons_is_no_error(tmp_path):
    assert len(read_contours(_write(tmp_path, []), mpp=1.0)) == 0


@pytest.mark.parametrize("object_type", ["annotation", "detection"])
def test_geojson_round_trip_is_exact(object_type, tmp_path, slide):
    rng = np.random.default_rng(3)
    vertices = rng.uniform(0, 10_000, (23, 2))
    contours = Contours(vertices, [0, 5, 9, 12, 23], [0, 2, 3, 4], ("Tumor", "", "Lymphocyte"))
    write_geojson(contours, tmp_path / "out.geojson", slide=slide, object_type=object_type)
    again = read_contours(tmp_path / "out.geojson", slide=slide)
    assert np.abs((again.vertices_um - vertices) / slide.mpp).max() < 1e-6
    np.testing.assert_array_equal(again.ring_offsets, contours.ring_offsets)
    np.testing.assert_array_equal(again.polygon_offsets, contours.polygon_offsets)
    assert again.labels == contours.labels
    assert [path.name for path in tmp_path.iterdir()] == ["out.geojson"], "no partial file is left"


def test_geojson_is_what_qupath_expects(tmp_path, slide):
    contours = Contours(np.array(SQUARE) * 0.25, [0, 4], [0, 1], ("Tumor",))
    write_geojson(contours, tmp_path / "a.geojson", slide=slide)
    written = json.loads((tmp_path / "a.geojson").read_text())
    assert written["type"] == "FeatureCollection"
    (feature,) = written["features"]
    assert feature["type"] == "Feature"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", feature["id"])
    assert feature["properties"]["objectType"] == "annotation"
    classification = feature["properties"]["classification"]
    assert classification["name"] == "Tumor"
    assert len(classification["color"]) == 3
    assert all(isinstance(c, int) and 0 <= c <= 255 for c in classification["color"])
    (ring,) = feature["geometry"]["coordinates"]
    assert ring[0] == ring[-1] == [0.5, 0.5]
    assert len(ring) == 5


def test_geojson_refuses_contours_of_another_slide(tmp_path, slide):
    contours = Contours(np.array(SQUARE), [0, 4], [0, 1], frame=slide_frame("B7"))
    with pytest.raises(FormatError, match=r"slide's frame slide .*got slide:B7"):
        write_geojson(contours, tmp_path / "a.geojson", slide=slide)
    with pytest.raises(FormatError, match="object_type must be"):
        write_geojson(contours, tmp_path / "a.geojson", slide=slide, object_type="cell")
    assert not list(tmp_path.iterdir())


def _imagescope(*regions, name="Tumor"):
    def region(points, attributes):
        vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
        return f"<Region {attributes}><Vertices>{vertices}</Vertices></Region>"

    body = "".join(region(*r) for r in regions)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="{name}">'
        f"<Regions><RegionAttributeHeaders/>{body}</Regions>"
        "</Annotation></Annotations>"
    )


def test_imagescope_negative_regions_are_holes_of_the_region_around_them(tmp_path):
    far = (np.array(SQUARE) + 50).tolist()
    text = _imagescope((HOLE, 'Type="0" NegativeROA="1"'), (far, 'Type="1"'), (SQUARE, 'Type="0" NegativeROA="0"'), (SQUARE, 'Type="4"'))
    with pytest.warns(UserWarning, match="1 ImageScope regions that are no polygon"):
        contours = read_contours(_write(tmp_path, text, "a.xml"), mpp=0.5)
    assert contours.labels == ("Tumor", "Tumor")
    np.testing.assert_allclose(contours.areas_um2, [100 * 0.25, 96 * 0.25])
    np.testing.assert_allclose(contours.rings(1)[1], (np.array(HOLE) - 0.5) * 0.5)
    assert contours.source.kind == "imagescope-xml"


def test_imagescope_hole_outside_everything_is_counted(tmp_path):
    text = _imagescope(((np.array(HOLE) + 500).tolist(), 'NegativeROA="1"'), (SQUARE, ""))
    with pytest.warns(UserWarning, match="1 holes outside every region"):
        assert len(read_contours(_write(tmp_path, text, "a.xml"), mpp=0.5)) == 1


def _asap(kind="Polygon", group="Tumor", value="4.5"):
    points = [(4, value), (14.5, 4.5), (14.5, 14.5), (4, 14.5)]
    coordinates = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in reversed(list(enumerate(points))))
    return (
        f'<?xml version="1.0"?><ASAP_Annotations><Annotations><Annotation Name="Annotation 0" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f'<Coordinates>{coordinates}</Coordinates></Annotation></Annotations><AnnotationGroups><Group Name="Tumor"/></AnnotationGroups></ASAP_Annotations>'
    )


def test_asap_order_and_group(tmp_path):
    contours = read_contours(_write(tmp_path, _asap(), "a.xml"), mpp=2.0)
    assert contours.labels == ("Tumor",)
    np.testing.assert_allclose(contours.rings(0)[0], [[7, 8], [28, 8], [28, 28], [7, 28]])
    assert read_contours(_write(tmp_path, _asap(group="None"), "a.xml"), mpp=2.0).labels == ("",)
    with pytest.warns(UserWarning, match="1 ASAP annotations of type Dot"):
        assert len(read_contours(_write(tmp_path, _asap(kind="Dot"), "a.xml"), mpp=2.0)) == 0


def _write_ann(folder, *, graphic="POLYGON", coordinates="2D", double=True):
    """Annotations written by highdicom on a small whole-slide image."""
    image = make.dicom_level(make.picture(), mpp=0.25, series="1.2.3")
    for name in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
    ):
        setattr(image, name, "")
    image.StudyInstanceUID, image.FrameOfReferenceUID, image.ContainerIdentifier = "1.2.9", "1.2.10", "A12"
    dtype = np.float64 if double else np.float32
    shapes = [np.array(SQUARE, dtype=dtype), np.array([[30.5, 30.25], [40, 30], [35, 44]], dtype=dtype)]
    if graphic == "RECTANGLE":
        shapes = [np.array(SQUARE, dtype=dtype), np.array(SQUARE, dtype=dtype) + 20]
    if graphic == "POINT":
        shapes = [shape[:1] for shape in shapes]
    if coordinates == "3D":
        shapes = [np.column_stack([shape, np.zeros(len(shape))]).astype(dtype) for shape in shapes]
    group = hd.ann.AnnotationGroup(
        number=1,
        uid=hd.UID(),
        label="nuclei",
        annotated_property_category=codes.SCT.AnatomicalStructure,
        annotated_property_type=codes.SCT.Nucleus if hasattr(codes.SCT, "Nucleus") else codes.SCT.Cell,
        graphic_type=graphic,
        graphic_data=shapes,
        algorithm_type="MANUAL",
    )
    annotations = hd.ann.MicroscopyBulkSimpleAnnotations(
        source_images=[image],
        annotation_coordinate_type=coordinates,
        annotation_groups=[group],
        series_instance_uid=hd.UID(),
        series_number=2,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="idx",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
    )
    annotations.save_as(folder / "ann.dcm")
    make.save_dicom(image, folder / "slide.dcm")
    return folder / "ann.dcm", shapes


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("graphic", ["POLYGON", "RECTANGLE"])
def test_dicom_annotations_of_highdicom(graphic, double, tmp_path):
    path, shapes = _write_ann(tmp_path, graphic=graphic, double=double)
    with open_slide(tmp_path / "slide.dcm") as slide:
        contours = read_contours(path, slide=slide)
    assert contours.labels == ("nuclei", "nuclei")
    for index, shape in enumerate(shapes):
        np.testing.assert_allclose(contours.rings(index)[0], (shape - 0.5) * 0.25, rtol=0, atol=1e-12)
    assert contours.source.kind == "dicom-ann"


def test_dicom_annotations_that_cannot_be_placed_are_refused(tmp_path):
    path, _ = _write_ann(tmp_path, coordinates="3D")
    with pytest.raises(FormatError, match=r"must be pixels of the image \(2D\); got 3D.*ann\.dcm.*Export them as 2D"):
        read_contours(path, mpp=0.25)
    path, _ = _write_ann(tmp_path)
    make.write_dicom(tmp_path / "other", series="1.2.7")
    with open_slide(tmp_path / "other") as other, pytest.raises(FormatError, match=r"refer to level 0 of the slide.*Open the slide they were drawn on"):
        read_contours(path, slide=other)
    path, _ = _write_ann(tmp_path, graphic="POINT")
    with pytest.warns(UserWarning, match="2 DICOM annotations of type POINT"):
        assert len(read_contours(path, mpp=0.25)) == 0


def _broken_ann(folder):
    path, _ = _write_ann(folder)
    header = pydicom.dcmread(path)
    header.AnnotationGroupSequence[0].NumberOfAnnotations = 5
    header.save_as(path)
    return path


BILLION_LAUGHS = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "lol">]><Annotations>&b;</Annotations>'
BROKEN = {
    "missing": (lambda f: f / "gone.json", "contours must be in a file", "Check the path"),
    "cut JSON": (lambda f: _write(f, '{"type": "FeatureCollection", "features": [{'), "GeoJSON must be complete", "Export the annotations again"),
    "another JSON": (lambda f: _write(f, {"shapes": []}), "must be a FeatureCollection", "Export the annotations again"),
    "no geometry": (lambda f: _write(f, [{"type": "Feature"}]), "features with a geometry", "Export the annotations again"),
    "list of numbers": (lambda f: _write(f, [1, 2]), "features with a geometry", "Export the annotations again"),
    "text for numbers": (lambda f: _write(f, _feature("Polygon", [[["a", 1], [1, 2], [3, 4]]])), "pairs of numbers", "Export the annotations again"),
    "ragged": (lambda f: _write(f, _feature("Polygon", [[[1], [1, 2], [3, 4]]])), "pairs of numbers", "Export the annotations again"),
    "not finite": (lambda f: _write(f, '{"type": "Polygon", "coordinates": [[[0, 0], [NaN, 1], [1, 1]]]}'), "finite pairs", "Export the annotations again"),
    "cut XML": (lambda f: _write(f, _asap()[:200], "a.xml"), "XML must be complete", "Export the annotations again"),
    "XML with entities": (lambda f: _write(f, BILLION_LAUGHS, "a.xml"), "free of entities", "Export the annotations again"),
    "another XML": (lambda f: _write(f, "<svg/>", "a.xml"), "ImageScope or ASAP; got <svg>", "GeoJSON from QuPath"),
    "text in ASAP": (lambda f: _write(f, _asap(value="x"), "a.xml"), "numeric X and Y", "Export the annotations again"),
    "ASAP without X": (lambda f: _write(f, _asap().replace("X=", "U="), "a.xml"), "numeric X and Y", "Export the annotations again"),
    "ImageScope not finite": (lambda f: _write(f, _imagescope(([(0, 0), ("nan", 1), (1, 1)], "")), "a.xml"), "finite pairs", "Export the annotations again"),
    "another kind": (lambda f: _write(f, "x,y\n1,2\n", "a.csv"), "got another kind", "GeoJSON from QuPath"),
    "DICOM slide": (lambda f: _write_ann(f)[0].with_name("slide.dcm"), "bulk simple annotations", "Pass the ANN file"),
    "wrong ANN indices": (_broken_ann, "must list 5 annotations", "Export them again"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_malformed_files_say_what_is_wrong_and_what_to_do(case, tmp_path):
    build, problem, remedy = BROKEN[case]
    path = build(tmp_path)
    with pytest.raises(FormatError) as caught:
        read_contours(path, mpp=0.25)
    message = str(caught.value)
    assert problem in message
    assert remedy in message
    assert str(path) in message


def test_um_per_pixel_must_come_from_one_place(tmp_path, slide):
    path = _write(tmp_path, [])
    for options, got in (({}, "neither"), ({"slide": slide, "mpp": 0.25}, "both")):
        with pytest.raises(UnitError, match=f"either slide= or mpp=; got {got}"):
            read_contours(path, **options)
    with pytest.raises(UnitError, match="positive um per pixel; got 0"):
        read_contours(path, mpp=0)
