"""PyRadiomics parameter files become settings, or are refused with a remedy.

Expected values of the mapping come from PyRadiomics 3.0.1: its schema (radiomics/schemas/paramSchema.yaml), its feature classes and its source.
"""

import json
import math

import numpy as np
import pytest
import pywt

from idx.errors import FormatError
from idx.geometry import Grid
from idx.radiomics.catalog import CATALOG
from idx.radiomics.extraction import extract
from idx.radiomics.pyradiomics import PYRADIOMICS_DEVIATIONS, settings_from_parameters
from idx.radiomics.settings import RadiomicsSettings
from idx.volume import CTVolume, Mask

# Every setting of the schema of PyRadiomics 3.0.1 with a value that changes no number there.
SCHEMA_SETTINGS = {
    "minimumROIDimensions": 2, "minimumROISize": None, "geometryTolerance": 1e-3, "correctMask": True, "additionalInfo": False, "label": 2, "label_channel": 0,
    "binWidth": 25, "binCount": None, "normalize": False, "normalizeScale": 100, "removeOutliers": 3, "resampledPixelSpacing": None,
    "interpolator": "sitkBSpline",
    "padDistance": 10, "distances": [1], "force2D": False, "force2Ddimension": 0, "resegmentRange": None, "resegmentMode": "absolute", "resegmentShape": False,
    "preCrop": True, "sigma": [1.0], "start_level": 0, "level": 1, "wavelet": "coif1", "gradientUseSpacing": True, "lbp2DRadius": 1.0, "lbp2DSamples": 9,
    "lbp2DMethod": "uniform", "lbp3DLevels": 2, "lbp3DIcosphereRadius": 1.0, "lbp3DIcosphereSubdivision": 1, "voxelArrayShift": 0, "symmetricalGLCM": True,
    "weightingNorm": None, "gldm_a": 0,
}  # fmt: skip
# Features that RadiomicsFeatureExtractor enables by class and IBSI defines: 107 less TotalEnergy, MCC and three 2-D diameters.
N_SHARED = 102


def of_setting(**setting):
    return settings_from_parameters({"setting": setting})


def test_defaults_are_those_of_pyradiomics():
    arguments = settings_from_parameters({})
    assert arguments["bin_size"] == 25.0
    assert arguments["bin_origin"] == "multiple"
    assert arguments["aggregations"] == ("3d_averaged",)
    assert arguments["round_intensities"] is False
    assert arguments["filters"] == (None,)
    assert "spacing_mm" not in arguments
    assert len(arguments["features"]) == N_SHARED
    assert arguments["families"] == ("shape", "intensity", "histogram", "glcm", "glrlm", "glszm", "ngtdm", "ngldm")
    assert RadiomicsSettings.from_pyradiomics({}) == RadiomicsSettings(**arguments)


def test_every_setting_of_the_schema_is_known_and_none_is_silently_ignored():
    assert settings_from_parameters({"setting": SCHEMA_SETTINGS}) == settings_from_parameters({})
    accepted = {row.what for row in PYRADIOMICS_DEVIATIONS if row.kind == "accepted"}
    voxel = {"kernelRadius": 1, "maskedKernel": True, "initValue": 0, "voxelBatch": -1}
    assert settings_from_parameters({"voxelSetting": voxel}) == settings_from_parameters({})
    assert accepted < set(SCHEMA_SETTINGS) | set(voxel)


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ({"binWidth": 10}, {"bin_size": 10.0}),
        ({"resampledPixelSpacing": [1, 2.5, 3]}, {"spacing_mm": (1.0, 2.5, 3.0), "interpolation": "cubic"}),
        ({"resampledPixelSpacing": [1, 1, 0], "interpolator": "sitkLinear"}, {"spacing_mm": (1.0, 1.0, None), "interpolation": "linear"}),
        ({"resampledPixelSpacing": [2, 2], "interpolator": "sitkNearestNeighbor"}, {"spacing_mm": (2.0, 2.0, None), "interpolation": "nearest"}),
        ({"resampledPixelSpacing": [1, 1, 1], "interpolator": None}, {}),  # loadImage resamples only with both
        ({"resampledPixelSpacing": [0, 0, 0]}, {}),
        ({"interpolator": "sitkGaussian"}, {}),
        ({"resegmentRange": [400, -1000]}, {"resegment_range": (-1000.0, 400.0)}),  # resegmentMask sorts
        ({"resegmentRange": [-500]}, {"resegment_range": (-500.0, math.inf)}),
        ({"resegmentRange": [-3, 3], "resegmentMode": "sigma"}, {"outlier_sigma": 3.0}),
        ({"force2D": True}, {"aggregations": ("2.5d_direction_merged",)}),
        ({"weightingNorm": "no_weighting"}, {"aggregations": ("3d_merged",)}),
        ({"weightingNorm": "no_weighting", "force2D": True}, {"aggregations": ("2.5d_merged",)}),
    ],
)
def test_setting_becomes_argument(setting, changed):
    assert of_setting(**setting) == settings_from_parameters({}) | changed
    RadiomicsSettings.from_pyradiomics({"setting": setting})


def test_bin_count_replaces_bin_width():
    arguments = of_setting(binCount=32, binWidth=10)
    assert arguments["n_bins"] == 32
    assert "bin_size" not in arguments
    assert "bin_origin" not in arguments


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ({"normalize": True}, "Scale the image first"),
        ({"distances": [1, 2]}, r"distances: \[1\]"),
        ({"symmetricalGLCM": False}, "symmetricalGLCM: true"),
        ({"gldm_a": 1}, "gldm_a: 0"),
        ({"voxelArrayShift": 1000}, "the only features that it changes"),
        ({"resegmentShape": True}, "Re-segment the mask itself"),
        ({"minimumROISize": 50}, "n_voxels"),
        ({"minimumROIDimensions": 3}, "flat lesions"),
        ({"weightingNorm": "euclidean"}, "Remove the entry"),
        ({"force2D": True, "force2Ddimension": 1}, "slices lie along z"),
        ({"force2D": "yes"}, "force2D: true"),
        ({"interpolator": "sitkLanczosWindowedSinc", "resampledPixelSpacing": [1, 1, 1]}, "sitkBSpline"),
        ({"resampledPixelSpacing": [1]}, r"\[1, 1, 1\]"),
        ({"resampledPixelSpacing": [1, 1, -1]}, r"\[1, 1, 1\]"),
        ({"resampledPixelSpacing": [1, 1, "1e-3"]}, "YAML reads 1e-3 as text"),
        ({"resegmentRange": [0.4, 1.0], "resegmentMode": "relative"}, "resegmentMode: absolute"),
        ({"resegmentRange": [-2, 3], "resegmentMode": "sigma"}, r"\[-3, 3\]"),
        ({"resegmentRange": [1, 2, 3]}, r"\[1, 1, 1\]"),
        ({"binWidth": 0}, "for example 25"),
        ({"binWidth": True}, "for example 1.0"),
        ({"binCount": 1}, "for example 32"),
        ({"binCount": 4096}, "for example 32"),
        ({"binwidth": 25}, "Correct its name"),
        ({"kernelRadius": 2}, "Correct its name"),  # the schema knows it in voxelSetting only
    ],
)
def test_what_changes_numbers_is_refused_with_entry_value_and_remedy(setting, remedy):
    with pytest.raises(FormatError, match=remedy) as caught:
        of_setting(**setting)
    assert any(name in str(caught.value) for name in setting)


@pytest.mark.parametrize(
    ("setting", "classes"),
    [
        ({"voxelArrayShift": 1000}, {"firstorder": ["Mean"], "glcm": None}),
        ({"distances": [1, 2]}, {"firstorder": None, "glszm": None, "glrlm": None}),
        ({"symmetricalGLCM": False}, {"gldm": None}),
        ({"gldm_a": 2}, {"glcm": None}),
        ({"resegmentShape": True}, {"firstorder": None}),
    ],
)
def test_a_setting_is_accepted_where_no_asked_feature_depends_on_it(setting, classes):
    assert settings_from_parameters({"setting": setting, "featureClass": classes}) == settings_from_parameters({"featureClass": classes})


def test_classes_and_features_by_name():
    arguments = settings_from_parameters({"featureClass": {"gldm": [], "firstorder": ["Entropy", "10Percentile"], "shape": ["Compactness2"]}})
    named = {CATALOG[key].pyradiomics for key in arguments["features"]}
    assert {"firstorder_Entropy", "firstorder_10Percentile", "shape_Compactness2"} < named
    assert sum(name.startswith("gldm_") for name in named) == 14  # all that PyRadiomics enables by class
    assert len(named) == 17
    assert arguments["families"] == ("shape", "intensity", "histogram", "ngldm")


def test_a_class_has_what_pyradiomics_enables_less_what_ibsi_lacks():
    shape = settings_from_parameters({"featureClass": {"shape": None}})["features"]
    sizes = ["MeshVolume", "VoxelVolume", "SurfaceArea", "SurfaceVolumeRatio", "Sphericity", "Maximum3DDiameter"]
    axes = ["MajorAxisLength", "MinorAxisLength", "LeastAxisLength", "Elongation", "Flatness"]
    assert {CATALOG[key].pyradiomics for key in shape} == {f"shape_{name}" for name in sizes + axes}


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"firstorder": ["TotalEnergy"]}, "Multiply intensity_energy"),
        ({"firstorder": ["StandardDeviation"]}, "root of intensity_variance"),
        ({"glcm": ["MCC"]}, "leave it out"),
        ({"glcm": ["Dissimilarity"]}, "DifferenceAverage"),
        ({"shape": ["Maximum2DDiameterRow"]}, "Maximum3DDiameter"),
        ({"shape2D": None}, "ask for the class 'shape'"),
        ({"shape": ["Volume"]}, "a feature of PyRadiomics 3"),
        ({"gldzm": None}, "one of shape"),
        ({"glcm": "Contrast"}, r"glcm: \[Contrast\]"),
    ],
)
def test_features_without_counterpart_are_refused_by_name(classes, message):
    with pytest.raises(FormatError, match=message):
        settings_from_parameters({"featureClass": classes})


def test_images_in_pyradiomics_order():
    arguments = settings_from_parameters({"imageType": {"Original": {}, "LoG": {"sigma": [2, 3.5]}, "Wavelet": None}})
    original, *filters = arguments["filters"]
    assert original is None
    assert [(image.sigma_mm, image.scale_normalised) for image in filters[:2]] == [(2.0, True), (3.5, True)]
    assert [image.band for image in filters[2:]] == ["LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH", "LLL"]
    assert {image.wavelet for image in filters[2:]} == {"coif1"}
    RadiomicsSettings(**arguments)


def test_filter_settings_may_stand_in_the_general_section():
    arguments = settings_from_parameters(
        {"setting": {"sigma": [1.0], "wavelet": "haar", "force2D": True}, "imageType": {"LoG": {}, "Wavelet": {}}, "featureClass": {"glcm": None}}
    )
    assert [image.name for image in arguments["filters"]] == [
        "log_1mm_normalised_nearest",
        *(f"wavelet_haar_{band}_1_2d_periodic" for band in ("lh", "hl", "hh", "ll")),
    ]


@pytest.mark.parametrize(
    ("image_types", "message"),
    [
        ({"LoG": {}}, "sigma: "),
        ({"LoG": {"sigma": [-1.0]}}, "positive mm"),
        ({"Wavelet": {"level": 2}}, "no level of the undecimated transform"),
        ({"Wavelet": {"start_level": 1}}, "no level of the undecimated transform"),
        ({"Square": {}}, "IBSI 2 does not define"),
        ({"LBP2D": {}}, "IBSI 2 does not define"),
        ({"Original": {"binWidth": 25}, "LoG": {"sigma": [1.0], "binWidth": 5}}, "a parameter file for each image type"),
        ({"Original": {"resampledPixelSpacing": [1, 1, 1]}}, "PyRadiomics ignores it here"),
        ({"Original": {"distances": [2]}}, r"distances: \[1\]"),
        ({"Original": 3}, "settings with a name"),
    ],
)
def test_image_types_that_are_not_measured_alike_are_refused(image_types, message):
    with pytest.raises(FormatError, match=message):
        settings_from_parameters({"imageType": image_types})


def test_settings_of_the_only_image_type_count():
    assert settings_from_parameters({"setting": {"binWidth": 25}, "imageType": {"LoG": {"sigma": [1.0], "binWidth": 5}}})["bin_size"] == 5.0


def test_wavelet_is_the_transform_of_pyradiomics():
    # radiomics/imageoperations.py, _swt3: pywt.swtn of one level with the axes in the order x, y, z.
    values = np.random.default_rng(3).normal(size=(6, 8, 10))
    bands = pywt.swtn(values, pywt.Wavelet("coif1"), level=1, start_level=0, axes=(2, 1, 0))[0]
    for image in settings_from_parameters({"imageType": {"Wavelet": {}}, "featureClass": {"glcm": None}})["filters"]:
        expected = bands[image.band.replace("L", "a").replace("H", "d")]
        np.testing.assert_allclose(image.apply(values, (1.0, 1.0, 1.0)), expected, atol=1e-12)


def test_laplacian_is_that_of_pyradiomics_to_one_percent():
    sitk = pytest.importorskip("SimpleITK")
    values = np.random.default_rng(4).normal(size=(20, 24, 28)).cumsum(axis=2)
    for sigma in (2.0, 3.0):
        itk = sitk.LaplacianRecursiveGaussianImageFilter()  # as radiomics/imageoperations.py, getLoGImage
        itk.SetNormalizeAcrossScale(True)
        itk.SetSigma(sigma)
        picture = sitk.GetImageFromArray(values)
        picture.SetSpacing((0.9, 0.9, 1.5))
        expected = sitk.GetArrayFromImage(itk.Execute(picture))
        (image,) = settings_from_parameters({"imageType": {"LoG": {"sigma": [sigma]}}, "featureClass": {"glcm": None}})["filters"]
        difference = image.apply(values, (0.9, 0.9, 1.5)) - expected
        assert np.sqrt(np.mean(difference**2)) < 0.015 * expected.std()


def test_files(tmp_path):
    given = {"setting": {"binWidth": 10}, "imageType": {"Original": {}}, "featureClass": {"glcm": ["Contrast"]}}
    text = "setting:\n  binWidth: 10\nimageType:\n  Original: {}\nfeatureClass:\n  glcm:\n  - Contrast\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "a.json").write_text(json.dumps(given))
    for path in (tmp_path / "a.yaml", str(tmp_path / "a.json")):
        assert settings_from_parameters(path) == settings_from_parameters(given) | {
            "name": f"PyRadiomics parameters {path[-6:] if isinstance(path, str) else path.name}"
        }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("setting: [", "YAML or JSON"),
        ("- 1", "sections setting"),
        ("inputImage: {}", "imageType in PyRadiomics 2"),
        ("setting: 5", "entries with a name"),
        ("voxelSetting:\n  binWidth: 5", "one of initValue"),
    ],
)
def test_files_that_are_no_parameter_files(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        settings_from_parameters(path)
    with pytest.raises(FormatError, match="existing YAML or JSON"):
        settings_from_parameters(tmp_path / "absent.yaml")


# PyRadiomics 3.0.1 (NumPy 1.26.4, SimpleITK 2.5.7, Python 3.11) on the lesion of `smooth_lesion`, 232 voxels of 0.9 x 0.9 x 1.5 mm; "original_" is left out.
THEIR_NUMBERS = [
    (
        {"setting": {"binWidth": 10}},
        {
            "shape_Sphericity": 0.8886310172106301,
            "firstorder_Kurtosis": 2.602571493431078,
            "firstorder_Entropy": 3.1007143558243246,
            "glcm_Contrast": 4.8184147242204975,
            "glcm_Autocorrelation": 64.15288896634348,
            "glcm_Imc1": -0.13772153854081703,
            "glrlm_RunEntropy": 3.7063393842499397,
            "glszm_ZonePercentage": 0.15086206896551724,
            "gldm_DependenceEntropy": 5.635204919157881,
            "ngtdm_Strength": 1.5542322134676239,
        },
    ),
    (
        {"setting": {"binCount": 16}},
        {
            "shape_Sphericity": 0.8886310172106301,
            "firstorder_Kurtosis": 2.602571493431078,
            "firstorder_Entropy": 3.50027680691833,
            "glcm_Contrast": 8.534818220316193,
            "glcm_Autocorrelation": 100.04513751428769,
            "glcm_Imc1": -0.15128266046235195,
            "glrlm_RunEntropy": 3.9385689585559094,
            "glszm_ZonePercentage": 0.2543103448275862,
            "gldm_DependenceEntropy": 5.745422054407688,
            "ngtdm_Strength": 2.082376690092707,
        },
    ),
    (
        {"setting": {"binWidth": 10, "force2D": True}},
        {
            "shape_Sphericity": 0.8886310172106301,
            "firstorder_Kurtosis": 2.602571493431078,
            "firstorder_Entropy": 3.1007143558243246,
            "glcm_Contrast": 4.40900245030546,
            "glcm_Autocorrelation": 64.53007329243542,
            "glcm_Imc1": -0.14829073457301184,
            "glrlm_RunEntropy": 3.7939137886704364,
            "glszm_ZonePercentage": 0.521551724137931,
            "gldm_DependenceEntropy": 4.962284074481434,
            "ngtdm_Strength": 1.6308732705640159,
        },
    ),
    (
        {"setting": {"binWidth": 10, "weightingNorm": "no_weighting"}},
        {
            "shape_Sphericity": 0.8886310172106301,
            "firstorder_Kurtosis": 2.602571493431078,
            "firstorder_Entropy": 3.1007143558243246,
            "glcm_Contrast": 4.749539594843462,
            "glcm_Autocorrelation": 64.19705340699817,
            "glcm_Imc1": -0.07119641837712412,
            "glrlm_RunEntropy": 3.7628565068453494,
            "glszm_ZonePercentage": 0.15086206896551724,
            "gldm_DependenceEntropy": 5.635204919157881,
            "ngtdm_Strength": 1.5542322134676239,
        },
    ),
    (
        {"setting": {"binWidth": 10, "weightingNorm": "no_weighting", "force2D": True}},
        {
            "shape_Sphericity": 0.8886310172106301,
            "firstorder_Kurtosis": 2.602571493431078,
            "firstorder_Entropy": 3.1007143558243246,
            "glcm_Contrast": 4.350274725274725,
            "glcm_Autocorrelation": 64.56456043956044,
            "glcm_Imc1": -0.09756372260135222,
            "glrlm_RunEntropy": 3.837605296858291,
            "glszm_ZonePercentage": 0.521551724137931,
            "gldm_DependenceEntropy": 4.962284074481434,
            "ngtdm_Strength": 1.6308732705640159,
        },
    ),
    (
        {"setting": {"binWidth": 10, "resegmentRange": [20, 90]}},
        {
            "shape_Sphericity": 0.8886310172106301,
            "firstorder_Kurtosis": 2.177383004875552,
            "firstorder_Entropy": 2.738745349306306,
            "glcm_Contrast": 3.709772643144061,
            "glcm_Autocorrelation": 20.1325637370964,
            "glcm_Imc1": -0.09451131186172852,
            "glrlm_RunEntropy": 3.3680051998517344,
            "glszm_ZonePercentage": 0.12807881773399016,
            "gldm_DependenceEntropy": 5.344376682643373,
            "ngtdm_Strength": 0.6251299437115908,
        },
    ),
    (
        {"setting": {"binWidth": 10, "resegmentRange": [50]}},
        {
            "shape_Sphericity": 0.8886310172106301,
            "firstorder_Kurtosis": 2.218355342391614,
            "firstorder_Entropy": 2.490709342066771,
            "glcm_Contrast": 3.0619888582127994,
            "glcm_Autocorrelation": 10.086147632594578,
            "glcm_Imc1": -0.10539604221849697,
            "glrlm_RunEntropy": 3.1042602443892595,
            "glszm_ZonePercentage": 0.12941176470588237,
            "gldm_DependenceEntropy": 5.092217811242949,
            "ngtdm_Strength": 0.6643252296873059,
        },
    ),
    (
        {"setting": {"binWidth": 10, "resegmentRange": [-1.5, 1.5], "resegmentMode": "sigma"}},
        {
            "shape_Sphericity": 0.8886310172106301,
            "firstorder_Kurtosis": 1.9919182261804216,
            "firstorder_Entropy": 2.7049017371852715,
            "glcm_Contrast": 3.390253717794874,
            "glcm_Autocorrelation": 16.13807566573931,
            "glcm_Imc1": -0.09825810862505596,
            "glrlm_RunEntropy": 3.3248042304527186,
            "glszm_ZonePercentage": 0.135,
            "gldm_DependenceEntropy": 5.344018021753261,
            "ngtdm_Strength": 0.47359626557177487,
        },
    ),
    (
        {"setting": {"binWidth": 10}, "imageType": {"Wavelet": {}}},
        {
            "wavelet-LLL_firstorder_Mean": 180.55803858098906,
            "wavelet-LLH_glcm_Contrast": 3.6857879810559497,
            "wavelet-LHL_firstorder_Variance": 240.58044913623908,
            "wavelet-HLL_gldm_DependenceEntropy": 5.452722117552334,
            "wavelet-LHH_ngtdm_Strength": 0.10015875228525437,
            "wavelet-HHH_glrlm_RunEntropy": 2.3789220339539376,
            "wavelet-HLH_firstorder_Kurtosis": 2.698753624381385,
        },
    ),
    (
        {"setting": {"binWidth": 10, "force2D": True}, "imageType": {"Wavelet": {}}},
        {
            "wavelet-LL_firstorder_Mean": 127.45176867509633,
            "wavelet-LH_glcm_Contrast": 2.542198607328989,
            "wavelet-HL_firstorder_Variance": 277.5178735867334,
            "wavelet-HH_glszm_ZonePercentage": 0.13793103448275862,
        },
    ),
]


@pytest.fixture(scope="module")
def smooth_lesion():
    """Smoothed noise, int16, with an ellipsoidal lesion."""
    values = np.random.default_rng(20).integers(-120, 240, (10, 14, 12)).astype(np.float64)
    for axis in range(3):
        values = (values + np.roll(values, 1, axis) + np.roll(values, -1, axis)) / 3
    z, y, x = np.indices(values.shape)
    inside = ((z - 4.5) / 3.2) ** 2 + ((y - 6.5) / 4.6) ** 2 + ((x - 5.5) / 3.7) ** 2 <= 1
    grid = Grid.from_spacing(values.shape, (0.9, 0.9, 1.5))
    return CTVolume(np.round(values).astype(np.int16), grid), Mask(inside, grid, "GTV")


@pytest.mark.parametrize(("parameters", "expected"), THEIR_NUMBERS)
def test_a_parameter_file_gives_the_numbers_of_pyradiomics(smooth_lesion, parameters, expected):
    table = extract(*smooth_lesion, RadiomicsSettings.from_pyradiomics(parameters), columns="pyradiomics")
    for name, value in expected.items():
        column = name if name.startswith("wavelet") else f"original_{name}"
        # The mesh of this lesion has no ambiguous cube, so that shape agrees as closely as the rest.
        assert table[column]["GTV"] == pytest.approx(value, rel=1e-9), name


def test_axis_lengths_differ_by_the_documented_factor(smooth_lesion):
    # Same run: original_shape_MajorAxisLength. 232 voxels.
    table = extract(*smooth_lesion, RadiomicsSettings.from_pyradiomics({"featureClass": {"shape": ["MajorAxisLength"]}}), columns="pyradiomics")
    assert table["original_shape_MajorAxisLength"]["GTV"] == pytest.approx(8.57623018219143 * np.sqrt(232 / 231), rel=1e-9)


def test_shape_is_measured_without_the_original_image_type():
    arguments = settings_from_parameters({"imageType": {"LoG": {"sigma": [1.0]}}})
    assert [image and image.name for image in arguments["filters"]] == [None, "log_1mm_normalised_nearest"]
    only = settings_from_parameters({"imageType": {"LoG": {"sigma": [1.0]}}, "featureClass": {"glcm": None}})
    assert len(only["filters"]) == 1


def test_deviations_name_each_thing_once():
    rows = [(row.kind, row.what) for row in PYRADIOMICS_DEVIATIONS]
    assert len(set(rows)) == len(rows)
    assert {kind for kind, _ in rows} == {"setting", "image type", "feature", "left out", "not by default", "accepted"}
    assert all(row.pyradiomics and row.idx and row.source for row in PYRADIOMICS_DEVIATIONS)


def test_a_refusal_names_the_file(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("setting:\n  normalize: true\n")
    with pytest.raises(FormatError, match=r"normalize must be False.*params\.yaml.*Scale the image first"):
        RadiomicsSettings.from_pyradiomics(path)
