"""The IBSI reporting guidelines of a run as a table: what idx knows is filled in, the rest is left to the author.

Items and numbers are those of the IBSI reference manual (arXiv:1612.07003), chapter "Radiomics reporting guidelines and nomenclature"; their
wording here is shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from idx.errors import FormatError
from idx.provenance import Setting
from idx.radiomics.catalog import CATALOG, FAMILIES, LEVEL_FAMILIES, MATRIX_FAMILIES, ZONE_FAMILIES
from idx.radiomics.settings import MULTIPLE
from idx.table import FeatureSpec, FeatureTable
from idx.volume import Mask, Volume

if TYPE_CHECKING:
    import pandas as pd

FILLED = "filled"
TO_BE_FILLED = "to be filled by the author"
_NOT_RESAMPLED = "not interpolated: measured on the image's own grid"
_NOT_MEASURED = "not measured"
_MODALITIES = {"CT": "CT", "PT": "PET", "NM": "SPECT", "MR": "MRI"}
"""The guidelines' word for a DICOM modality."""
_FAMILY_CODES = dict(zip(FAMILIES, ("HCUG", "9ST6", "UHIW", "ZVCW", "P88C", "LFYI", "TP0I", "9SAK", "VMDZ", "IPET", "REK0"), strict=True))
_AGGREGATION_CODES = {
    "2d_averaged": "BTW3", "2d_slice_merged": "SUJT", "2.5d_direction_merged": "JJUI", "2.5d_merged": "ZW7Z", "3d_averaged": "ITBB", "3d_merged": "IAZD",
    "2d": "8QNN", "2.5d": "62GR", "3d": "KOBO",
}  # fmt: skip


class Item(NamedTuple):
    """One line of the guidelines: number, what to describe, the modalities it is for ("" for all), and the IBSI code of the concept ("" for none)."""

    number: str
    text: str
    modality: str = ""
    ibsi: str = ""


_DATA, _POST, _SEGMENTATION, _GRID, _DISCRETISATION = "23XZ", "PCDE", "OQYT", "VTM2", "4R0B"
GUIDELINES: Mapping[str, tuple[Item, ...]] = {
    "Patient": (
        Item("1", "Region of interest"),
        Item("2a", "Patient preparation: instructions before imaging"),
        Item("2b", "Patient preparation: drugs"),
        Item("2c", "Patient preparation: equipment for comfort"),
        Item("3a", "Radioactive tracer: which", "PET, SPECT"),
        Item("3b", "Radioactive tracer: administration", "PET, SPECT"),
        Item("3c", "Radioactive tracer: injected activity", "PET, SPECT"),
        Item("3d", "Radioactive tracer: uptake time", "PET, SPECT"),
        Item("3e", "Radioactive tracer: control of competing substances", "PET, SPECT"),
        Item("4a", "Contrast agent: which"),
        Item("4b", "Contrast agent: administration"),
        Item("4c", "Contrast agent: injected quantity"),
        Item("4d", "Contrast agent: uptake time"),
        Item("4e", "Contrast agent: control of competing substances"),
        Item("5", "Comorbidities that affect imaging"),
    ),
    "Acquisition": (
        Item("6", "Acquisition protocol"),
        Item("7", "Scanner type and vendor"),
        Item("8", "Imaging modality"),
        Item("9a", "Static or dynamic scans"),
        Item("9b", "Dynamic scans: time per frame"),
        Item("9c", "Dynamic scans: temporal modelling"),
        Item("10", "Scanner calibration"),
        Item("11", "Patient instructions during acquisition"),
        Item("12", "Anatomical motion correction"),
        Item("13", "Scan duration"),
        Item("14", "Tube voltage (kV peak)", "CT"),
        Item("15", "Tube current (mA)", "CT"),
        Item("16", "Time-of-flight", "PET"),
        Item("17", "RF coil", "MRI"),
        Item("18a", "Scanning sequence: which", "MRI"),
        Item("18b", "Scanning sequence: variant", "MRI"),
        Item("18c", "Scanning sequence: options", "MRI"),
        Item("19", "Repetition time (ms)", "MRI"),
        Item("20", "Echo time (ms)", "MRI"),
        Item("21", "Echo train length", "MRI"),
        Item("22", "Inversion time (ms)", "MRI"),
        Item("23", "Flip angle", "MRI"),
        Item("24", "Acquisition type", "MRI"),
        Item("25", "k-space traversal", "MRI"),
        Item("26", "Number of averages or excitations", "MRI"),
        Item("27", "Magnetic field strength", "MRI"),
    ),
    "Reconstruction": (
        Item("28", "In-plane resolution"),
        Item("29", "Slice thickness"),
        Item("30", "Slice spacing"),
        Item("31a", "Convolution kernel", "CT"),
        Item("31b", "Iterative reconstruction", "CT"),
        Item("31c", "Exposure (mAs) in slices of the region of interest", "CT"),
        Item("32a", "Reconstruction method", "PET"),
        Item("32b", "Number of iterations", "PET"),
        Item("32c", "Number of subsets", "PET"),
        Item("33", "Point spread function modelling", "PET"),
        Item("34a", "Attenuation correction", "PET"),
        Item("34b", "Other corrections", "PET"),
        Item("35a", "Reconstruction from k-space", "MRI"),
        Item("35b", "Artifact suppression", "MRI"),
        Item("36", "Diffusion weighting: b-values", "DWI-MRI"),
    ),
    "Image registration": (Item("37", "Registration method of multi-modality imaging"),),
    "Image processing: data conversion": (
        Item("38", "SUV normalisation", "PET", _DATA),
        Item("39", "ADC computation", "DWI-MRI", _DATA),
        Item("40", "Other data conversions", "", _DATA),
    ),
    "Image processing: post-acquisition processing": (
        Item("41", "Anti-aliasing in down-sampling", "", _POST),
        Item("42", "Noise suppression", "", _POST),
        Item("43", "Post-reconstruction smoothing filter", "PET", _POST),
        Item("44", "Skull stripping (brain)", "MRI", _POST),
        Item("45", "Non-uniformity correction", "MRI", _POST),
        Item("46", "Intensity normalisation", "", _POST),
        Item("47", "Other post-acquisition processing", "", _POST),
    ),
    "Segmentation": (
        Item("48a", "Segmentation method", "", _SEGMENTATION),
        Item("48b", "Experts, expertise and consensus", "", _SEGMENTATION),
        Item("48c", "Semi-automatic or automatic methods and settings", "", _SEGMENTATION),
        Item("48d", "Image that the segmentation was made on", "", _SEGMENTATION),
        Item("49", "Conversion to mask", "", _SEGMENTATION),
    ),
    "Image processing: image interpolation": (
        Item("50a", "Interpolation method", "", _GRID),
        Item("50b", "Position of the interpolation grid", "", "UMPJ"),
        Item("50c", "Dimensions of the interpolation grid", "", "026Q"),
        Item("50d", "Extrapolation beyond the image", "", _GRID),
        Item("51", "Voxel dimensions", "", _GRID),
        Item("52", "Intensity rounding", "", "68QD"),
    ),
    "Image processing: ROI interpolation": (
        Item("53", "Interpolation method of the mask", "", _GRID),
        Item("54", "Partially masked voxels", "", "E8H9"),
    ),
    "Image processing: re-segmentation": (Item("55", "Re-segmentation methods and settings", "", "IF9H"),),
    "Image processing: discretisation": (
        Item("56a", "Discretisation method", "", _DISCRETISATION),
        Item("56b", "Number of bins or bin size", "", _DISCRETISATION),
        Item("56c", "Lowest intensity of the first bin", "", _DISCRETISATION),
    ),
    "Image processing: image transformation": (Item("57", "Image filters and settings"),),
    "Image biomarker computation": (
        Item("58", "Biomarker set"),
        Item("59", "IBSI compliance (state the counts of 'idx radiomics conformance')"),
        Item("60", "Robustness (idx.radiomics.stability measures it)"),
        Item("61", "Software and version"),
    ),
    "Image biomarker computation: texture parameters": (
        Item("62", "Texture matrix aggregation"),
        Item("63", "Distance weighting"),
        Item("64", "Co-occurrence matrix: symmetry"),
        Item("65", "Co-occurrence matrix: distance"),
        Item("66", "Size zone matrix: linkage distance"),
        Item("67", "Distance zone matrix: linkage distance"),
        Item("68", "Distance zone matrix: norm of the distance to the border"),
        Item("69", "NGTDM: distance"),
        Item("70", "NGLDM: distance"),
        Item("71", "NGLDM: coarseness"),
    ),
    "Machine learning and radiomics analysis": (
        Item("72", "Diagnostic and prognostic modelling (TRIPOD)"),
        Item("73", "Comparison with known factors"),
        Item("74", "Multicollinearity"),
        Item("75", "Model availability"),
        Item("76", "Data availability"),
    ),
}
"""Items by topic."""


def reporting_checklist(table: FeatureTable, ct: Volume | None = None, lesion: Mask | None = None) -> pd.DataFrame:
    """IBSI reporting guidelines for a run of :func:`idx.radiomics.extract`.

    Parameters
    ----------
    table : FeatureTable
        From :func:`idx.radiomics.extract`, under any column names.
    ct : Volume or None
        The image that was measured; fills in what its header and grid say.
    lesion : Mask or None
        A mask that was measured; fills in how it became voxels.

    Returns
    -------
    DataFrame
        One row per item of the guidelines, with ``number``, ``topic``, ``item``, ``ibsi`` (code of the concept, or empty), ``value`` and
        ``status``: "filled", or "to be filled by the author" where idx cannot know. An item for another modality is filled as not applying.

    Raises
    ------
    FormatError
        If the table was not made by :func:`idx.radiomics.extract`.

    Notes
    -----
    IBSI reference manual (arXiv:1612.07003), chapter 4. Nothing is guessed: header facts that are absent are left open.

    Examples
    --------
    >>> params = {"key": "mean_intensity", "family": "intensity", "image": "original", "spacing_mm": None, "resegment_range": "-1000 to 400"}
    >>> table = FeatureTable.from_rows({"GTV": {"mean_intensity_hu": 30.0}}, [CATALOG["mean_intensity"].spec(params=params)], index_name="lesion")
    >>> sheet = reporting_checklist(table).set_index("number")
    >>> sheet.loc["55", "value"], sheet.loc["6", "status"]
    ('intensities within -1000 to 400 (USB3)', 'to be filled by the author')
    """
    import pandas as pd

    if not table.specs or any(spec.params.get("key") not in CATALOG for spec in table.specs):
        raise FormatError(f"table must be made by idx.radiomics.extract; got {table!r}. Pass its table, under any column names.")
    modality = _modality(table, ct)
    known = (
        {"8": modality}
        | _image_facts(ct)
        | _lesion_facts(lesion)
        | _preparation_facts(table, ct)
        | _level_facts(table)
        | _texture_facts(table)
        | _set_facts(table)
    )
    rows = []
    for topic, items in GUIDELINES.items():
        for item in items:
            value = known.get(item.number)
            if modality and item.modality and modality not in item.modality.replace("DWI-", "").split(", "):
                value = f"does not apply to {modality}"
            rows.append((item.number, topic, item.text, item.ibsi, value or "", FILLED if value else TO_BE_FILLED))
    return pd.DataFrame(rows, columns=["number", "topic", "item", "ibsi", "value", "status"])


def _modality(table: FeatureTable, ct: Volume | None) -> str | None:
    if ct is not None and "modality" in ct.header:
        return _MODALITIES.get(ct.header["modality"], ct.header["modality"])
    in_hu = (ct is not None and ct.quantity == "hu") or any(spec.unit in ("hu", "hu2", "hu mm3") for spec in table.specs)
    return "CT" if in_hu else None


def _image_facts(ct: Volume | None) -> dict[str, str | None]:
    if ct is None:
        return {}
    x, y, z = ct.spacing_mm
    header = ct.header
    scanner = " ".join(header[name] for name in ("manufacturer", "model") if name in header)
    return {
        "7": scanner or None,
        "14": f"{header['kVp']} kV" if "kVp" in header else None,
        "28": f"{x:.6g} x {y:.6g} mm, {ct.values.shape[2]} x {ct.values.shape[1]} voxels",
        "29": f"{header['slice thickness (mm)']} mm" if "slice thickness (mm)" in header else None,
        "30": f"{z:.6g} mm",
        "31a": header.get("kernel"),
    }


def _lesion_facts(lesion: Mask | None) -> dict[str, str | None]:
    if lesion is None or lesion.source is None:
        return {}
    if lesion.source.kind == "rtstruct":
        return {"49": "contours (RTSTRUCT): voxels whose centre lies inside an odd number of the contours of their slice"}
    return {"49": f"read as voxels ({lesion.source.kind})"}


def _preparation_facts(table: FeatureTable, ct: Volume | None) -> dict[str, str | None]:
    params = table.specs[0].params
    limits, sigma = params.get("resegment_range"), params.get("outlier_sigma")
    kept = [f"intensities within {limits} (USB3)"] if limits is not None else []
    kept += [f"intensities within {sigma:g} standard deviations of the mean (7ACA)"] if isinstance(sigma, int | float) else []
    facts: dict[str, str | None] = {"55": ", then ".join(kept) or "none"}
    spacing = params.get("spacing_mm")
    if spacing is None:
        own = None if ct is None else " x ".join(f"{mm:.6g}" for mm in ct.spacing_mm)
        facts |= dict.fromkeys(("41", "50a", "50b", "50c", "50d", "52", "53", "54"), _NOT_RESAMPLED)
        return facts | {"51": f"{_NOT_RESAMPLED}{f', {own} mm (x, y, z)' if own else ''}"}
    sizes = f"{spacing} mm (x, y, z{'; own: not interpolated' if 'own' in str(spacing) else ''})"
    axes = ("tri", "bi", "")[min(str(spacing).count("own"), 2)]
    return facts | {
        "41": "none",
        "50a": {"linear": f"{axes}linear", "cubic": f"{axes}cubic spline", "nearest": "nearest neighbour"}.get(str(params.get("interpolation"))),
        "50b": "grid centres aligned (3WE3)",
        "50c": "extent over spacing, rounded up",
        "50d": "values at the border go on",
        "51": sizes,
        "52": _rounding(params.get("round_intensities"), _modality(table, ct)),
        "53": f"{axes}linear",
        "54": "inside from a fraction of 0.5 on",
    }


def _rounding(round_intensities: Setting, modality: str | None) -> str | None:
    if round_intensities is None and modality is None:
        return None
    rounded = modality == "CT" if round_intensities is None else bool(round_intensities)
    return "to the nearest whole number" if rounded else "not rounded"


def _of_images(found: Iterable[tuple[FeatureSpec, str]]) -> str:
    """One statement where all images share it, or one per image."""
    by_image: dict[str, str] = {}
    for spec, text in found:
        by_image.setdefault(str(spec.params.get("image", "original")), text)
    texts = set(by_image.values())
    return texts.pop() if len(texts) == 1 else "; ".join(f"{image}: {text}" for image, text in by_image.items())


def _level_facts(table: FeatureTable) -> dict[str, str | None]:
    with_levels = [spec for spec in table.specs if spec.params.get("family") in LEVEL_FAMILIES]
    histograms = [spec for spec in table.specs if spec.params.get("family") == "ivh"]
    if not with_levels and not histograms:
        return dict.fromkeys(("56a", "56b", "56c"), "not discretised")
    method = [(spec, "fixed bin number (K15C)" if spec.params.get("n_bins") is not None else "fixed bin size (Q3RU)") for spec in with_levels]
    size = [
        (spec, f"{spec.params['n_bins']} bins" if spec.params.get("n_bins") is not None else f"bins of {spec.params['bin_size']:g}") for spec in with_levels
    ]
    first = [(spec, _first_bin(spec.params)) for spec in with_levels]
    facts = {number: _of_images(found) or "none" for number, found in (("56a", method), ("56b", size), ("56c", first))}
    if histograms:
        text = _of_images((spec, _ivh_bins(spec.params)) for spec in histograms)
        facts["56b"] += f"; intensity-volume histogram: {text}"
    return dict(facts)


def _first_bin(params: Mapping[str, Setting]) -> str:
    if params.get("n_bins") is not None:
        return "smallest intensity of the lesion"
    origin = params.get("bin_origin")
    return "largest multiple of the bin size not above the lesion's smallest intensity" if origin == MULTIPLE else f"{origin:g}"


def _ivh_bins(params: Mapping[str, Setting]) -> str:
    if params.get("ivh_n_bins") is not None:
        return f"{params['ivh_n_bins']} bins"
    return "not discretised, steps of one unit" if params.get("ivh_bin_size") is None else f"bins of {params['ivh_bin_size']:g}"


def _texture_facts(table: FeatureTable) -> dict[str, str | None]:
    aggregations: dict[str, dict[str, None]] = {}
    distances: dict[str, Setting] = {}
    for spec in table.specs:
        family = str(spec.params.get("family"))
        if family in (*MATRIX_FAMILIES, *ZONE_FAMILIES):
            aggregations.setdefault(family, {})[str(spec.params.get("aggregation"))] = None
            distances[family] = spec.params.get("distance_voxels")
    chebyshev = {family: f"Chebyshev distance of {distance} voxel (PVMT)" for family, distance in distances.items()}
    ways = [f"{family.upper()}: {', '.join(f'{a} ({_AGGREGATION_CODES.get(a, a)})' for a in given)}" for family, given in aggregations.items()]
    return {
        "62": "; ".join(ways) or _NOT_MEASURED,
        "63": "none" if ways else _NOT_MEASURED,
        "64": "symmetric" if "glcm" in aggregations else _NOT_MEASURED,
        "65": chebyshev.get("glcm", _NOT_MEASURED),
        "66": chebyshev.get("glszm", _NOT_MEASURED),
        "67": chebyshev.get("gldzm", _NOT_MEASURED),
        "68": "Manhattan (LIFZ)" if "gldzm" in aggregations else _NOT_MEASURED,
        "69": chebyshev.get("ngtdm", _NOT_MEASURED),
        "70": chebyshev.get("ngldm", _NOT_MEASURED),
        "71": "0" if "ngldm" in aggregations else _NOT_MEASURED,
    }


def _set_facts(table: FeatureTable) -> dict[str, str | None]:
    filters: dict[str, str] = {}
    keys: dict[str, set[str]] = {}
    for spec in table.specs:
        image = str(spec.params.get("image", "original"))
        keys.setdefault(str(spec.params.get("family")), set()).add(str(spec.params["key"]))
        if image != "original":
            given = {name.removeprefix("filter_"): value for name, value in spec.params.items() if name.startswith("filter_")}
            filters[image] = f"{given.pop('filter', image)}({', '.join(f'{name}={value}' for name, value in given.items())})"
    families = ", ".join(f"{family} {len(keys[family])} ({_FAMILY_CODES[family]})" for family in FAMILIES if family in keys)
    made = table.provenance
    return {
        "57": "; ".join(filters.values()) or "none",
        "58": f"{sum(map(len, keys.values()))} features: {families}; definitions: IBSI reference manual (arXiv:1612.07003)",
        "61": None if made is None else f"idx {made.version} ({made.function}, {made.device})",
    }
