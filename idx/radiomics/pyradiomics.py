"""For people who move over from PyRadiomics: its parameter files as settings, and where its numbers differ from IBSI's.

What PyRadiomics does was read in the source of release 3.0.1; paths in the table below are those of its repository.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from idx._typing import PathLike
from idx.errors import FormatError
from idx.radiomics.catalog import CATALOG, FAMILIES
from idx.radiomics.settings import MAX_LEVELS, MULTIPLE

if TYPE_CHECKING:
    from idx.radiomics.filters import ImageFilter

DEFAULT_BIN_WIDTH = 25.0
"""Width of a bin where a parameter file names none, in the image's unit (radiomics/imageoperations.py, getBinEdges)."""
DEFAULT_WAVELET = "coif1"
_CLASSES = ("shape", "shape2D", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
_SECTIONS = ("setting", "imageType", "featureClass", "voxelSetting")
_INTERPOLATORS = {"sitkNearestNeighbor": "nearest", "sitkLinear": "linear", "sitkBSpline": "cubic"}
_BANDS = ("LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH", "LLL")
_BANDS_2D = ("LH", "HL", "HH", "LL")


@dataclass(frozen=True)
class Deviation:
    """Something that a parameter file can ask for, and what becomes of it.

    Parameters
    ----------
    kind : str
        "setting", "image type" or "feature" for what both measure; "left out" for features without an IBSI counterpart; "not by default" for
        features that PyRadiomics measures only when they are asked for by name; "accepted" for settings that leave idx's numbers alone.
    what : str
        Its name in PyRadiomics.
    pyradiomics : str
        What PyRadiomics does.
    idx : str
        What IBSI says and idx does.
    source : str
        File and function of PyRadiomics 3.0.1.
    """

    kind: str
    what: str
    pyradiomics: str
    idx: str
    source: str


_OPERATIONS = "radiomics/imageoperations.py"
_EXTRACTOR = "radiomics/featureextractor.py"
_READING = "Belongs to reading: idx.read_mask("

PYRADIOMICS_DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        "setting",
        "binWidth",
        "Bins start at the largest multiple of the width not above the lesion's smallest intensity, so that this is always in level 1.",
        "bin_origin='multiple' gives these levels. By default bins start at the low end of resegment_range (IBSI Q3RU) or at -1000 HU: a level means "
        "the same in every lesion.",
        f"{_OPERATIONS}, getBinEdges",
    ),
    Deviation(
        "setting",
        "binCount",
        "Edges of numpy.histogram between the smallest and the largest intensity.",
        "n_bins (IBSI K15C): the same formula; an intensity that lies on an edge may round to the other side.",
        f"{_OPERATIONS}, getBinEdges",
    ),
    Deviation(
        "setting",
        "resampledPixelSpacing",
        "The new grid keeps the outer corner of the first voxel of the mask.",
        "The new grid keeps the middle of the image (IBSI 3WE3). Resampled values differ wherever the spacing does not divide the image evenly.",
        f"{_OPERATIONS}, resampleImage",
    ),
    Deviation(
        "setting",
        "resampledPixelSpacing, an axis along which the lesion is one voxel thick",
        "Is not resampled.",
        "Is resampled like the others; write 0 (None in spacing_mm) for that axis to keep it.",
        f"{_OPERATIONS}, resampleImage",
    ),
    Deviation(
        "setting",
        "resampledPixelSpacing, mask",
        "The mask is resampled to the nearest neighbour.",
        "The mask is interpolated linearly and counts from one half on (IBSI E8H9).",
        f"{_OPERATIONS}, resampleImage",
    ),
    Deviation(
        "setting",
        "resampledPixelSpacing, image of whole numbers",
        "Resampled values get the type of the image: those of an int16 CT lose their fraction towards zero.",
        "Fractions are kept (round_intensities=False). IBSI (68QD) rounds CT numbers to the nearest whole number: round_intensities=True.",
        f"{_OPERATIONS}, resampleImage (SetOutputPixelType)",
    ),
    Deviation(
        "setting",
        "interpolator",
        "sitkBSpline, sitkLinear and sitkNearestNeighbor of SimpleITK.",
        "interpolation 'cubic', 'linear' and 'nearest'; the grid, mask and rounding differ as above. Others are refused.",
        f"{_OPERATIONS}, resampleImage",
    ),
    Deviation(
        "setting",
        "resegmentRange, shape",
        "Shape is measured on the mask cut to the box of the re-segmented mask, so that outlying voxels are lost.",
        "Shape is measured on the whole mask (IBSI: the morphological mask is not re-segmented).",
        f"{_EXTRACTOR}, execute (boundingBox)",
    ),
    Deviation(
        "setting",
        "force2D",
        "Neighbours in slices only; one matrix per direction over all slices, features averaged over directions.",
        "aggregations=('2.5d_direction_merged',) (IBSI JJUI; 2.5d, 62GR, for zones, tones and dependences). Slices along z only.",
        "radiomics/src/cmatrices.c, build_angles; radiomics/glcm.py",
    ),
    Deviation(
        "setting",
        "weightingNorm",
        "None averages features over directions; 'no_weighting' adds the matrices of all directions up.",
        "aggregations '3d_averaged' (IBSI ITBB) and '3d_merged' (IAZD); in slices '2.5d_direction_merged' and '2.5d_merged' (ZW7Z). "
        "idx's own default is '3d_merged'.",
        "radiomics/glcm.py, radiomics/glrlm.py, _calculateMatrix",
    ),
    Deviation(
        "setting",
        "padDistance, preCrop, with a filter",
        "A filter sees a crop of the image, so that its response near the lesion depends on the padding.",
        "A filter sees the whole image.",
        f"{_EXTRACTOR}, loadImage; {_OPERATIONS}, resampleImage",
    ),
    Deviation(
        "image type",
        "shape without Original",
        "Shape is measured whatever the image types are.",
        "Shape is measured with the original image, which is added: its other features appear as well.",
        f"{_EXTRACTOR}, execute",
    ),
    Deviation(
        "image type",
        "LoG",
        "ITK's recursive approximation of the Gaussian, times sigma squared, border voxels repeated.",
        "LaplacianOfGaussian(sigma_mm, scale_normalised=True, boundary='nearest'): the kernel itself, to 4 sigma. On noise the responses differ by "
        "1 % of their standard deviation. IBSI 2 (L6PA) does not multiply by sigma squared.",
        f"{_OPERATIONS}, getLoGImage",
    ),
    Deviation(
        "image type",
        "Wavelet",
        "pywt.swtn of one level, periodic; an axis with an odd number of voxels gets its first plane once more at its end.",
        "SeparableWavelet(boundary='periodic'): the same numbers, but within half a kernel of the border along axes with an odd number of voxels.",
        f"{_OPERATIONS}, _swt3",
    ),
    Deviation(
        "feature",
        "firstorder_Kurtosis",
        "Fourth standardised moment.",
        "Minus 3 (IBSI IPH6). Columns under PyRadiomics' names hold PyRadiomics' number.",
        "radiomics/firstorder.py, getKurtosisFeatureValue",
    ),
    Deviation(
        "feature",
        "firstorder_Entropy, firstorder_Uniformity",
        "Of the grey levels, in the class of the intensities.",
        "histogram_entropy (IBSI TLU2) and histogram_uniformity (BJ5W): the same numbers, in the family of the intensity histogram.",
        "radiomics/firstorder.py, _initCalculation",
    ),
    Deviation(
        "feature",
        "shape_MajorAxisLength, shape_MinorAxisLength, shape_LeastAxisLength",
        "Covariance of the voxel centres over their number n.",
        "Over n - 1, as the IBSI reference values have it: longer by the square root of n / (n - 1).",
        "radiomics/shape.py, _initSegmentBasedCalculation",
    ),
    Deviation(
        "feature",
        "shape_MeshVolume, shape_SurfaceArea and what follows from them",
        "Marching cubes with a table of its own.",
        "Marching cubes at 0.5; triangulations of the same surface differ by less than 0.1 %.",
        "radiomics/src/cshape.c",
    ),
    Deviation(
        "feature",
        "features of a lesion of one intensity or one grey level",
        "Skewness and kurtosis are 0, glcm_Correlation 1, glcm_Imc1 and glcm_Imc2 0; any failure is NaN.",
        "An undefined feature is a missing cell with its reason in table.status.",
        "radiomics/firstorder.py, radiomics/glcm.py, radiomics/base.py (_calculateFeatures)",
    ),
    Deviation(
        "feature",
        "entropies",
        "2.2e-16 is added inside each logarithm.",
        "Nothing is added; the difference is below 1e-12.",
        "radiomics/firstorder.py, radiomics/glcm.py",
    ),
    *(
        Deviation("left out", what, pyradiomics, remedy, source)
        for what, pyradiomics, remedy, source in (
            ("firstorder_TotalEnergy", "Energy times the voxel volume.", "Multiply intensity_energy by the voxel volume.", "radiomics/firstorder.py"),
            ("firstorder_StandardDeviation", "Root of the variance.", "Take the root of intensity_variance.", "radiomics/firstorder.py"),
            ("glcm_MCC", "Maximal correlation coefficient.", "It has no IBSI definition: leave it out.", "radiomics/glcm.py"),
            ("shape_Maximum2DDiameterSlice", "Largest diameter in an axial plane.", "Use Maximum3DDiameter.", "radiomics/shape.py"),
            ("shape_Maximum2DDiameterColumn", "Largest diameter in a coronal plane.", "Use Maximum3DDiameter.", "radiomics/shape.py"),
            ("shape_Maximum2DDiameterRow", "Largest diameter in a sagittal plane.", "Use Maximum3DDiameter.", "radiomics/shape.py"),
            ("glcm_Dissimilarity", "No value: it equals DifferenceAverage.", "Ask for DifferenceAverage.", "radiomics/glcm.py"),
            ("glcm_SumVariance", "No value: it equals ClusterTendency.", "Ask for ClusterTendency.", "radiomics/glcm.py"),
            ("glcm_Homogeneity1", "No value: it equals Id.", "Ask for Id.", "radiomics/glcm.py"),
            ("glcm_Homogeneity2", "No value: it equals Idm.", "Ask for Idm.", "radiomics/glcm.py"),
            ("gldm_GrayLevelNonUniformityNormalized", "No value: it equals firstorder_Uniformity.", "Ask for firstorder Uniformity.", "radiomics/gldm.py"),
            ("gldm_DependencePercentage", "No value: it is always 1.", "Leave it out.", "radiomics/gldm.py"),
        )
    ),
    Deviation("left out", "shape2D", "Shape in one slice.", "idx measures shape in space: ask for the class 'shape'.", "radiomics/shape2D.py"),
    *(
        Deviation("not by default", f"shape_{name}", "Measured when asked for by name only.", "The same.", "radiomics/shape.py")
        for name in ("Compactness1", "Compactness2", "SphericalDisproportion")
    ),
    *(
        Deviation("accepted", what, pyradiomics, remedy, source)
        for what, pyradiomics, remedy, source in (
            ("label", "Value of the lesion in the mask.", f"{_READING}..., label=).", f"{_OPERATIONS}, getMask"),
            ("label_channel", "Channel of a mask with several.", f"{_READING}...) takes one mask at a time.", f"{_OPERATIONS}, getMask"),
            ("correctMask", "A mask on another grid is resampled.", f"{_READING}..., resample=True).", f"{_OPERATIONS}, checkMask"),
            ("geometryTolerance", "How far grids may differ.", f"{_READING}...) has its own tolerance.", f"{_EXTRACTOR}, _setTolerance"),
            ("additionalInfo", "Adds columns of diagnostics.", "table.provenance holds them.", f"{_EXTRACTOR}, execute"),
            ("preCrop", "Crops before filtering.", "idx crops as far as numbers allow.", f"{_EXTRACTOR}, loadImage"),
            ("padDistance", "Voxels kept around the lesion.", "idx keeps as many as a filter needs.", f"{_OPERATIONS}, resampleImage"),
            ("normalizeScale", "Used with normalize only, which is refused.", "No effect.", f"{_OPERATIONS}, normalizeImage"),
            ("removeOutliers", "Used with normalize only, which is refused.", "No effect.", f"{_OPERATIONS}, normalizeImage"),
            *(
                (name, "Used by an image type only that is refused.", "No effect.", _OPERATIONS)
                for name in (
                    "gradientUseSpacing",
                    "lbp2DRadius",
                    "lbp2DSamples",
                    "lbp2DMethod",
                    "lbp3DLevels",
                    "lbp3DIcosphereRadius",
                    "lbp3DIcosphereSubdivision",
                )
            ),
            *(
                (name, "Used for voxel-wise maps only.", "An argument of idx.radiomics.feature_maps.", "radiomics/base.py")
                for name in ("kernelRadius", "maskedKernel", "initValue", "voxelBatch")
            ),
        )
    ),
)
"""What of a PyRadiomics parameter file idx measures in another way, leaves out, or accepts without effect."""

_ACCEPTED = frozenset(row.what for row in PYRADIOMICS_DEVIATIONS if row.kind == "accepted")
_VOXEL_SETTINGS = frozenset({"kernelRadius", "maskedKernel", "initValue", "voxelBatch"})
_LEFT_OUT = {row.what: row for row in PYRADIOMICS_DEVIATIONS if row.kind == "left out"}
_NOT_BY_DEFAULT = frozenset(row.what for row in PYRADIOMICS_DEVIATIONS if row.kind == "not by default")
_KEYS = {definition.pyradiomics: key for key, definition in CATALOG.items() if definition.pyradiomics}


@dataclass(frozen=True)
class _Fixed:
    """A setting that idx takes at some values only, because of the features whose names start so."""

    allowed: tuple[object, ...]
    touches: tuple[str, ...]
    remedy: str


_FIXED: Mapping[str, _Fixed] = {
    "normalize": _Fixed((False, None), ("",), "Scale the image first, for example ct.with_values((v - v.mean()) / v.std() * 100), and remove the entry."),
    "distances": _Fixed(([1], None), ("glcm_", "gldm_", "ngtdm_"), "Write distances: [1], the distance of IBSI's reference values."),
    "symmetricalGLCM": _Fixed((True, None), ("glcm_",), "Write symmetricalGLCM: true, as IBSI defines the matrix."),
    "gldm_a": _Fixed((0, None), ("gldm_",), "Write gldm_a: 0, or leave the class gldm out."),
    "voxelArrayShift": _Fixed(
        (0, None),
        ("firstorder_Energy", "firstorder_TotalEnergy", "firstorder_RootMeanSquared"),
        "Write voxelArrayShift: 0, or leave out Energy and RootMeanSquared of firstorder, the only features that it changes.",
    ),
    "resegmentShape": _Fixed((False, None), ("shape_",), "Re-segment the mask itself first: idx.Mask(mask.values & (low <= ct.values) & ..., mask.grid)."),
    "minimumROISize": _Fixed((None,), ("",), "Remove the entry and leave out lesions with fewer mask.n_voxels yourself."),
    "minimumROIDimensions": _Fixed((1, 2, None), ("",), "Remove the entry and leave out flat lesions yourself, by mask.bounding_box()."),
}
_STEPS = frozenset(
    {"normalize", "resegmentShape", "minimumROISize", "minimumROIDimensions", "resampledPixelSpacing", "interpolator", "resegmentRange", "resegmentMode"}
)
_LEVELS = frozenset({"binWidth", "binCount", "force2D", "force2Ddimension", "weightingNorm"})
_FILTERS = frozenset({"sigma", "wavelet", "level", "start_level"})
_KNOWN = frozenset(_FIXED) | _STEPS | _LEVELS | _FILTERS | (_ACCEPTED - _VOXEL_SETTINGS)


def settings_from_parameters(parameters: PathLike | Mapping[str, object]) -> dict[str, object]:
    """Keyword arguments of :class:`~idx.radiomics.settings.RadiomicsSettings` that measure what a PyRadiomics parameter file asks for.

    Parameters
    ----------
    parameters : path or mapping
        A YAML or JSON file, or its sections ``setting``, ``imageType``, ``featureClass`` and ``voxelSetting``. As in PyRadiomics, absent feature
        classes mean all of them, and an absent image type the original image.

    Returns
    -------
    dict

    Raises
    ------
    FormatError
        If the file cannot be read, an entry is unknown, or it asks for numbers that idx does not give; the message names the entry, its value and
        what to do.

    Notes
    -----
    ``label`` and ``label_channel`` are accepted and have no effect: pass ``label`` to :func:`idx.read_mask`. What else is accepted without effect,
    left out of a class, or measured in another way is listed in ``PYRADIOMICS_DEVIATIONS``.

    Examples
    --------
    >>> given = {"setting": {"binWidth": 10, "resampledPixelSpacing": [1, 1, 0]}, "featureClass": {"firstorder": ["Mean", "Entropy"]}}
    >>> arguments = settings_from_parameters(given)
    >>> arguments["spacing_mm"], arguments["bin_size"], arguments["features"]
    ((1.0, 1.0, None), 10.0, ('mean_intensity', 'histogram_entropy'))
    """
    try:
        return _settings_of(*_read(parameters))
    except _RefusalError as refusal:
        where = "PyRadiomics parameters" if isinstance(parameters, Mapping) else f"'{parameters}'"
        raise FormatError(f"{refusal.fact} ({where}). {refusal.remedy}") from refusal.__cause__


def _settings_of(sections: Mapping[str, Mapping[str, object]], name: str) -> dict[str, object]:
    """Keyword arguments of RadiomicsSettings from the sections of a file."""
    settings, image_types = sections["setting"], sections["imageType"] or {"Original": {}}
    for key in sections["voxelSetting"]:
        if key not in _VOXEL_SETTINGS:
            _refuse(f"voxelSetting {key}", f"one of {', '.join(sorted(_VOXEL_SETTINGS))}", sections["voxelSetting"][key], "Remove the entry.")
    asked = _features(sections["featureClass"])
    _check_settings(settings, asked, "setting", _KNOWN)
    per_image = {kind: _image_settings(kind, custom, settings, asked) for kind, custom in image_types.items()}
    measured = {kind: _levels(merged) for kind, merged in per_image.items()}
    first = next(iter(measured))
    for kind, levels in measured.items():
        if levels != measured[first]:
            _refuse(
                f"grey levels and aggregation of imageType {kind}",
                f"those of imageType {first}",
                levels,
                "Make a parameter file for each image type and measure with each.",
            )
    keys = {_KEYS[feature] for feature in asked}
    return {
        "name": name,
        **_steps(settings),
        **measured[first],
        "families": tuple(family for family in FAMILIES if any(CATALOG[key].family == family for key in keys)),
        "features": tuple(key for key in CATALOG if key in keys),
        "filters": _with_shape(tuple(image for kind, merged in per_image.items() for image in _images(kind, merged)), keys),
    }


class _RefusalError(Exception):
    """An entry that idx does not follow; who knows the file names it."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(fact)
        self.fact = fact
        self.remedy = remedy


def _refuse(what: str, constraint: str, value: object, remedy: str) -> NoReturn:
    raise _RefusalError(f"{what} must be {constraint}; got {value!r}", remedy)


def _read(parameters: PathLike | Mapping[str, object]) -> tuple[dict[str, dict[str, object]], str]:
    import yaml

    if isinstance(parameters, Mapping):
        content: object = parameters
        name = "PyRadiomics parameters"
    else:
        path = Path(parameters).expanduser()
        if not path.is_file():
            _refuse("parameter file", "an existing YAML or JSON file", str(path), "Check the path.")
        text = path.read_text(encoding="utf-8")
        try:
            content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
        except (yaml.YAMLError, json.JSONDecodeError) as error:
            raise FormatError(f"parameter file must be YAML or JSON; got a text that is not ({path}: {error}). Mend the file.") from error
        name = f"PyRadiomics parameters {path.name}"
    if not isinstance(content, Mapping):
        _refuse("parameters", f"sections {', '.join(_SECTIONS)}", content, "See PyRadiomics' examples/exampleSettings.")
    for section, entries in content.items():
        if section not in _SECTIONS:
            _refuse("section", f"one of {', '.join(_SECTIONS)}", section, "Rename it (inputImage became imageType in PyRadiomics 2) or remove it.")
        if entries is not None and not isinstance(entries, Mapping):
            _refuse(f"section {section}", "entries with a name and a value", entries, "Write 'name: value' below it.")
    return {section: dict(content.get(section) or {}) for section in _SECTIONS}, name


def _features(classes: Mapping[str, object]) -> tuple[str, ...]:
    """PyRadiomics' names of the features asked for, all with an IBSI counterpart."""
    asked: list[str] = []
    for name, features in (classes or dict.fromkeys(c for c in _CLASSES if c != "shape2D")).items():
        if name not in _CLASSES:
            _refuse(f"featureClass {name}", f"one of {', '.join(_CLASSES)}", name, "Correct its name.")
        if name in _LEFT_OUT:
            _refuse(f"featureClass {name}", "a class of features in space", name, _LEFT_OUT[name].idx)
        if not features:
            asked += [feature for feature in _KEYS if feature.startswith(f"{name}_") and feature not in _NOT_BY_DEFAULT]
            continue
        if isinstance(features, str) or not isinstance(features, Sequence):
            _refuse(f"featureClass {name}", "a list of features, or empty for all", features, f"Write for example '{name}: [{features}]'.")
        for feature in (f"{name}_{given}" for given in features):
            if feature in _LEFT_OUT:
                _refuse(f"feature {feature}", "one that IBSI defines", feature, _LEFT_OUT[feature].idx)
            if feature not in _KEYS:
                _refuse(f"feature {feature}", "a feature of PyRadiomics 3", feature, "See idx.radiomics.CATALOG for the names that it shares with idx.")
            asked.append(feature)
    return tuple(dict.fromkeys(asked))


def _check_settings(settings: Mapping[str, object], asked: Sequence[str], where: str, known: frozenset[str]) -> None:
    for name, value in settings.items():
        if name not in known:
            remedy = "Write it in section setting: PyRadiomics ignores it here." if name in _KNOWN else "Correct its name or remove it."
            _refuse(f"{where} {name}", "a setting of PyRadiomics that applies here", value, remedy)
        fixed = _FIXED.get(name)
        if fixed and any(feature.startswith(fixed.touches) for feature in asked) and value not in fixed.allowed:
            _refuse(f"{where} {name}", " or ".join(str(a) for a in fixed.allowed if a is not None) or "absent", value, fixed.remedy)


def _image_settings(kind: str, custom: object, settings: Mapping[str, object], asked: Sequence[str]) -> dict[str, object]:
    """Settings of one image type: the general ones with its own on top."""
    if custom is not None and not isinstance(custom, Mapping):
        _refuse(f"imageType {kind}", "settings with a name and a value, or {}", custom, "Write 'name: value' below it.")
    own: dict[str, object] = {} if custom is None else dict(custom)
    _check_settings(own, asked, f"imageType {kind}", (_KNOWN - _STEPS - _ACCEPTED) | {"label"})
    return {**settings, **own}


def _number(settings: Mapping[str, object], name: str) -> float:
    value = settings[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        _refuse(f"setting {name}", "a number", value, "Write for example 1.0 (YAML reads 1e-3 as text, 1.0e-3 as a number).")
    return float(value)


def _numbers(settings: Mapping[str, object], name: str, lengths: tuple[int, ...]) -> tuple[float, ...]:
    values = settings[name]
    if isinstance(values, str) or not isinstance(values, Sequence) or (lengths and len(values) not in lengths) or not values:
        _refuse(f"setting {name}", f"a list of {' or '.join(map(str, lengths)) or 'one or more'} numbers", values, "Write for example [1, 1, 1].")
    return tuple(_number({name: value}, name) for value in values)


def _steps(settings: Mapping[str, object]) -> dict[str, object]:
    """How the image is prepared."""
    steps: dict[str, object] = {"round_intensities": False}
    interpolator = settings.get("interpolator", "sitkBSpline")
    if settings.get("resampledPixelSpacing") is not None and interpolator is not None:
        if interpolator not in _INTERPOLATORS:
            _refuse("setting interpolator", f"one of {', '.join(_INTERPOLATORS)}", interpolator, "Write sitkBSpline, the default of PyRadiomics.")
        spacing = _numbers(settings, "resampledPixelSpacing", (2, 3))
        if min(spacing) < 0:
            _refuse("setting resampledPixelSpacing", "mm of (x, y, z), 0 to keep an axis", list(spacing), "Write for example [1, 1, 1].")
        if any(spacing):
            # A 2-D image is one slice here.
            steps |= {"spacing_mm": tuple(mm or None for mm in (*spacing, 0.0)[:3]), "interpolation": _INTERPOLATORS[str(interpolator)]}
    if settings.get("resegmentRange") is not None:
        steps |= _resegmentation(sorted(_numbers(settings, "resegmentRange", (1, 2))), settings.get("resegmentMode", "absolute"))
    return steps


def _resegmentation(limits: list[float], mode: object) -> dict[str, object]:
    if mode == "absolute":
        return {"resegment_range": (limits[0], limits[1] if len(limits) == 2 else math.inf)}
    if mode != "sigma":
        _refuse("setting resegmentMode", "absolute or sigma", mode, "Write the range in the image's unit with resegmentMode: absolute.")
    if len(limits) != 2 or limits[0] != -limits[1] or not limits[1] > 0:
        _refuse("setting resegmentRange", "symmetric with resegmentMode sigma", limits, "Write for example [-3, 3].")
    return {"outlier_sigma": limits[1]}


def _levels(settings: Mapping[str, object]) -> dict[str, object]:
    """Grey levels and the aggregation of texture matrices."""
    norm, in_slices = settings.get("weightingNorm"), settings.get("force2D", False)
    if norm not in (None, "no_weighting"):
        _refuse("setting weightingNorm", "empty or no_weighting", norm, "Remove the entry: IBSI's reference values are not weighted by distance.")
    if not isinstance(in_slices, bool):
        _refuse("setting force2D", "true or false", in_slices, "Write force2D: true to measure in axial slices.")
    if in_slices and settings.get("force2Ddimension", 0) != 0:
        _refuse("setting force2Ddimension", "0, slices along z", settings["force2Ddimension"], "Turn the image so that its slices lie along z.")
    merged = norm == "no_weighting"
    aggregation = ("2.5d_merged" if merged else "2.5d_direction_merged") if in_slices else ("3d_merged" if merged else "3d_averaged")
    if settings.get("binCount") is not None:
        count = settings["binCount"]
        if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= MAX_LEVELS:
            _refuse("setting binCount", f"a whole number of 2 to {MAX_LEVELS}", count, "Write for example 32.")
        return {"aggregations": (aggregation,), "n_bins": count}
    width = _number(settings, "binWidth") if "binWidth" in settings else DEFAULT_BIN_WIDTH
    if not width > 0:
        _refuse("setting binWidth", "positive, in the image's unit", width, "Write for example 25.")
    return {"aggregations": (aggregation,), "bin_size": width, "bin_origin": MULTIPLE}


def _images(kind: str, settings: Mapping[str, object]) -> list[ImageFilter | None]:
    """The image itself or filters of it that an image type stands for, in PyRadiomics' order."""
    if kind == "Original":
        return [None]
    if kind == "LoG":
        return _laplacians(settings)
    if kind == "Wavelet":
        return _wavelets(settings)
    _refuse(f"imageType {kind}", "one of Original, LoG, Wavelet", kind, "Remove it: IBSI 2 does not define this filter; see idx.radiomics for those of IBSI 2.")


def _with_shape(images: tuple[ImageFilter | None, ...], keys: set[str]) -> tuple[ImageFilter | None, ...]:
    """The images, with the original one where shape is asked for: idx measures shape with it, PyRadiomics beside all images."""
    return images if None in images or all(CATALOG[key].family != "shape" for key in keys) else (None, *images)


def _laplacians(settings: Mapping[str, object]) -> list[ImageFilter | None]:
    from idx.radiomics.filters import LaplacianOfGaussian

    if not settings.get("sigma"):
        _refuse("imageType LoG", "given with sigma in mm", settings.get("sigma"), "Write 'LoG: {sigma: [2.0, 3.0]}'.")
    sigmas = _numbers(settings, "sigma", ())
    if min(sigmas) <= 0:
        _refuse("setting sigma", "positive mm", list(sigmas), "Write for example [2.0, 3.0].")
    return [LaplacianOfGaussian(sigma, scale_normalised=True, boundary="nearest") for sigma in sigmas]


def _wavelets(settings: Mapping[str, object]) -> list[ImageFilter | None]:
    from idx.radiomics.filters_wavelets import SeparableWavelet

    for name, only in (("level", 1), ("start_level", 0)):
        if settings.get(name, only) != only:
            remedy = "Remove the entry: PyRadiomics repeats level 1 without spreading its kernel, which is no level of the undecimated transform (IBSI 25BO)."
            _refuse(f"setting {name}", str(only), settings[name], remedy)
    wavelet = str(settings.get("wavelet", DEFAULT_WAVELET))
    if settings.get("force2D", False):
        return [SeparableWavelet(wavelet, band, dimensions=2, boundary="periodic") for band in _BANDS_2D]
    return [SeparableWavelet(wavelet, band, boundary="periodic") for band in _BANDS]
