"""Names of a radiomics table's columns: idx's own, the IBSI name, the IBSI code, or the name that PyRadiomics gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from idx.errors import FormatError
from idx.provenance import Setting
from idx.radiomics.catalog import CATALOG, MATRIX_FAMILIES, PYRADIOMICS_KURTOSIS_SHIFT, ZONE_FAMILIES
from idx.table import FeatureSpec, FeatureTable

COLUMNS = ("name", "ibsi_name", "ibsi_code", "pyradiomics")
"""Kinds of column names."""
_OWN_NAME, _SHIFT = "name", "shift"
"""Parameters of a spec that bring a renamed column back: idx's name, and what was added to the values."""
_SHIFT_SENTENCE = f" Plus {PYRADIOMICS_KURTOSIS_SHIFT:g}, as PyRadiomics gives it."
_SHIFTED_KEY = "intensity_kurtosis"
_SHARED_CODES = frozenset(code for code, n in Counter(definition.ibsi_id for definition in CATALOG.values()).items() if n > 1)


def renamed(table: FeatureTable, columns: str = "name") -> FeatureTable:
    """Name the columns of a radiomics table in another way.

    Parameters
    ----------
    table : FeatureTable
        From :func:`idx.radiomics.extract`, under any of these names.
    columns : str
        - "name": idx's names, such as "glcm_joint_maximum_3d_merged".
        - "ibsi_name": names of the IBSI reference manual with family and aggregation: "GLCM Joint maximum (3D, merged)".
        - "ibsi_code": IBSI codes with what a code alone leaves open: "GYBY_3d_merged"; "BC2M_10" and "BC2M_90" are the volumes at 10 % and
          90 % of the intensity range.
        - "pyradiomics": names of PyRadiomics, such as "original_glcm_MaximumProbability" or "log-sigma-2-0-mm-3D_firstorder_Mean". The
          aggregation follows where the table holds several. What PyRadiomics does not have keeps idx's name.

    Returns
    -------
    FeatureTable
        The same rows, order, units, reasons and provenance. Values are the same but for "original_firstorder_Kurtosis" and its like on
        filtered images: PyRadiomics does not subtract 3, so the column holds 3 more, has no IBSI code, and its definition says so.

    Raises
    ------
    FormatError
        If ``columns`` is none of these, or a column is not of a radiomics table.

    Notes
    -----
    A PyRadiomics name says which feature it is, not how it was measured: with other settings than those of
    :meth:`RadiomicsSettings.from_pyradiomics <idx.radiomics.RadiomicsSettings.from_pyradiomics>` the numbers are not PyRadiomics'. A filtered
    image has a PyRadiomics name where PyRadiomics makes the same image: a scale-normalised Laplacian of Gaussian, or an undecimated wavelet of level 1.

    Examples
    --------
    >>> spec = CATALOG["glcm_joint_maximum"].spec(params={"key": "glcm_joint_maximum", "aggregation": "3d_merged"}, aggregation="3d_merged")
    >>> table = FeatureTable.from_rows({"GTV": {spec.name: 0.5}}, [spec], index_name="lesion")
    >>> [renamed(table, columns).specs[0].name for columns in ("ibsi_name", "ibsi_code", "pyradiomics")]
    ['GLCM Joint maximum (3D, merged)', 'GYBY_3d_merged', 'original_glcm_MaximumProbability']
    """
    if columns not in COLUMNS:
        raise FormatError(f"columns must be one of {', '.join(COLUMNS)}; got {columns!r}. Pass for example 'ibsi_name'.")
    own = [_own_spec(spec) for spec in table.specs]
    if columns == "name":
        return _with_specs(table, own)
    strange = next((spec.name for spec in own if spec.params.get("key") not in CATALOG), None)
    if strange is not None:
        raise FormatError(f"columns must be of a radiomics table to be renamed; got '{strange}'. Pass a table of idx.radiomics.extract.")
    named = {"ibsi_name": _ibsi_names, "ibsi_code": _ibsi_codes, "pyradiomics": _pyradiomics_names}[columns](own)
    return _with_specs(table, [_new_spec(spec, name) for spec, name in zip(own, named, strict=True)])


def _own_spec(spec: FeatureSpec) -> FeatureSpec:
    """The spec as it was before it was renamed."""
    if _OWN_NAME not in spec.params:
        return spec
    params = {key: value for key, value in spec.params.items() if key not in (_OWN_NAME, _SHIFT)}
    name = str(spec.params[_OWN_NAME])
    if _SHIFT not in spec.params:
        return replace(spec, name=name, params=params)
    definition = spec.definition.removesuffix(_SHIFT_SENTENCE)
    return replace(spec, name=name, params=params, definition=definition, ibsi_id=CATALOG[_SHIFTED_KEY].ibsi_id)


def _new_spec(spec: FeatureSpec, name: str) -> FeatureSpec:
    params: dict[str, Setting] = {**spec.params, _OWN_NAME: spec.name}
    if spec.params["key"] != _SHIFTED_KEY or not name.endswith(CATALOG[_SHIFTED_KEY].pyradiomics):
        return replace(spec, name=name, params=params)
    shifted = params | {_SHIFT: PYRADIOMICS_KURTOSIS_SHIFT}
    return replace(spec, name=name, params=shifted, definition=spec.definition + _SHIFT_SENTENCE, ibsi_id=None)


def _with_specs(table: FeatureTable, specs: Sequence[FeatureSpec]) -> FeatureTable:
    if tuple(specs) == table.specs:
        return table
    new_names = {old.name: new.name for old, new in zip(table.specs, specs, strict=True)}
    values = table.values.set_axis([spec.name for spec in specs], axis=1)
    for old, new in zip(table.specs, specs, strict=True):
        change = _number(new.params, _SHIFT) - _number(old.params, _SHIFT)
        if change:
            values[new.name] = values[new.name] + change
    status = table.status.assign(feature=[new_names[feature] for feature in table.status["feature"]])
    return replace(table, values=values, specs=tuple(specs), status=status)


def _number(params: Mapping[str, Setting], key: str) -> float:
    value = params.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _image(spec: FeatureSpec) -> str:
    return str(spec.params.get("image", "original"))


def _aggregation(spec: FeatureSpec) -> str | None:
    value = spec.params.get("aggregation")
    return None if value is None else str(value)


def _ibsi_names(specs: Sequence[FeatureSpec]) -> list[str]:
    names = []
    for spec in specs:
        definition, aggregation = CATALOG[str(spec.params["key"])], _aggregation(spec)
        name = definition.ibsi_name
        if definition.family in (*MATRIX_FAMILIES, *ZONE_FAMILIES):
            name = f"{definition.family.upper()} {name}"
        if aggregation is not None:
            dimensions, _, how = aggregation.partition("_")
            name += f" ({dimensions.upper()}{', ' if how else ''}{how.replace('_', ' ')})"
        names.append(name if _image(spec) == "original" else f"{_image(spec)}: {name}")
    return names


def _ibsi_codes(specs: Sequence[FeatureSpec]) -> list[str]:
    names = []
    for spec in specs:
        definition = CATALOG[str(spec.params["key"])]
        # The last word of the key is what one code leaves open: the fraction, or which of two features.
        which = definition.key.rpartition("_")[2] if definition.ibsi_id in _SHARED_CODES else None
        image = None if _image(spec) == "original" else _image(spec)
        names.append("_".join(part for part in (image, definition.ibsi_id, which, _aggregation(spec)) if part is not None))
    return names


def _pyradiomics_names(specs: Sequence[FeatureSpec]) -> list[str]:
    plain = [_pyradiomics_name(spec) for spec in specs]
    often = Counter(plain)
    names = [
        f"{name}_{_aggregation(spec)}" if name is not None and often[name] > 1 and _aggregation(spec) is not None else name
        for name, spec in zip(plain, specs, strict=True)
    ]
    # Two images may have one name in PyRadiomics, which does not say which wavelet it took.
    unique = Counter(names)
    return [spec.name if name is None or unique[name] > 1 else name for name, spec in zip(names, specs, strict=True)]


def _pyradiomics_name(spec: FeatureSpec) -> str | None:
    feature = CATALOG[str(spec.params["key"])].pyradiomics
    image = _pyradiomics_image(spec)
    return f"{image}_{feature}" if feature and image else None


def _pyradiomics_image(spec: FeatureSpec) -> str | None:
    """PyRadiomics' name of the image that a column was measured on; None where PyRadiomics makes no such image."""
    if _image(spec) == "original":
        return "original"
    settings = {key.removeprefix("filter_"): value for key, value in spec.params.items() if key.startswith("filter_")}
    kind, boundary = settings.get("filter"), settings.get("boundary")
    if kind == "LaplacianOfGaussian" and settings["scale_normalised"] and settings["dimensions"] == 3 and boundary == "nearest":
        return f"log-sigma-{_number(settings, 'sigma_mm')!r}-mm-3D".replace(".", "-")
    if kind == "SeparableWavelet" and settings["level"] == 1 and settings["rotations"] is None and boundary == "periodic":
        return f"wavelet-{settings['band']}"
    return None
