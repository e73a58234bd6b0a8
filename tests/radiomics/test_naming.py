"""Column names: unique, reversible, and PyRadiomics' where PyRadiomics has the number."""

import numpy as np
import pytest

from idx.errors import FormatError
from idx.provenance import Provenance
from idx.radiomics.catalog import CATALOG, aggregations_of
from idx.radiomics.filters import LaplacianOfGaussian
from idx.radiomics.filters_wavelets import SeparableWavelet
from idx.radiomics.naming import COLUMNS, renamed
from idx.radiomics.settings import AGGREGATIONS
from idx.table import FeatureSpec, FeatureTable, Missing

FILTERS = (
    LaplacianOfGaussian(2.0, scale_normalised=True, boundary="nearest"),
    LaplacianOfGaussian(1.5),
    SeparableWavelet("coif1", "LLH", boundary="periodic"),
)


def spec_of(key, aggregation=None, image=None, quantity="hu"):
    params = {"key": key, "family": CATALOG[key].family, "aggregation": aggregation, "image": "original" if image is None else image.name}
    params = {name: value for name, value in params.items() if value is not None}
    spec = CATALOG[key].spec(quantity, params, aggregation=aggregation)
    if image is None:
        return spec
    filtered = params | {f"filter_{name}": value for name, value in image.params().items()}
    return FeatureSpec(f"{image.name}_{spec.name}", spec.unit, spec.definition, spec.ibsi_id, filtered)


def table_of(specs, missing=()):
    rng = np.random.default_rng(5)
    rows = {row: {spec.name: Missing("constant") if spec.name in missing else float(rng.normal()) for spec in specs} for row in ("GTV-1", "GTV-2")}
    return FeatureTable.from_rows(rows, specs, index_name="lesion", provenance=Provenance("idx.radiomics.extract"))


@pytest.fixture(scope="module")
def everything():
    """All features under all aggregations, on the image and on three filtered images."""
    specs = [
        spec_of(key, aggregation, image)
        for image in (None, *FILTERS)
        for key, definition in CATALOG.items()
        for aggregation in aggregations_of(definition.family, AGGREGATIONS)
        if image is None or definition.family != "shape"
    ]
    return table_of(specs, missing=("intensity_kurtosis", "glcm_correlation_3d_merged"))


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("through", COLUMNS)
def test_names_are_unique_and_lead_back(everything, columns, through):
    table = renamed(renamed(everything, through), columns)
    assert len({spec.name for spec in table.specs}) == len(everything.specs)
    assert [spec.unit for spec in table.specs] == [spec.unit for spec in everything.specs]
    assert table.specs == renamed(everything, columns).specs
    back = renamed(table, "name")
    assert back.specs == everything.specs
    np.testing.assert_allclose(back.values, everything.values, rtol=0, atol=1e-15)
    assert back.values.columns.equals(everything.values.columns)
    assert back.status.equals(everything.status)
    assert back.provenance == table.provenance == everything.provenance


def test_values_move_with_their_names(everything):
    for columns in COLUMNS:
        table = renamed(everything, columns)
        for old, new in zip(everything.specs, table.specs, strict=True):
            shift = 3.0 if old.params["key"] == "intensity_kurtosis" and new.name.endswith("firstorder_Kurtosis") else 0.0
            np.testing.assert_array_equal(table[new.name], everything[old.name] + shift)
        assert table.values.dtypes.eq(np.float64).all()
        assert table.values.index.equals(everything.values.index)


def test_status_is_renamed(everything):
    table = renamed(everything, "ibsi_code")
    assert set(table.status["feature"]) == {"IPH6", "NI2N_3d_merged"}
    assert set(table.status["reason"]) == {"constant"}


@pytest.mark.parametrize(
    ("key", "aggregation", "names"),
    [
        ("mean_intensity", None, ("mean_intensity_hu", "Mean intensity", "Q4LE", "original_firstorder_Mean")),
        ("mesh_volume", None, ("mesh_volume_mm3", "Volume (mesh)", "RNU0", "original_shape_MeshVolume")),
        ("glcm_contrast", "2d_averaged", ("glcm_contrast_2d_averaged", "GLCM Contrast (2D, averaged)", "ACUI_2d_averaged", "original_glcm_Contrast")),
        (
            "glrlm_run_entropy",
            "2.5d_direction_merged",
            (
                "glrlm_run_entropy_2.5d_direction_merged",
                "GLRLM Run entropy (2.5D, direction merged)",
                "HJ9O_2.5d_direction_merged",
                "original_glrlm_RunEntropy",
            ),
        ),
        ("ngtdm_contrast", "3d", ("ngtdm_contrast_3d", "NGTDM Contrast (3D)", "65HE_3d", "original_ngtdm_Contrast")),
        ("ngldm_dependence_count_energy", "2d", ("ngldm_dependence_count_energy_2d", "NGLDM Dependence count energy (2D)", "CAS9_2d", None)),
        ("ivh_volume_at_intensity_fraction_90", None, ("ivh_volume_at_intensity_fraction_90", "Volume at intensity fraction (90%)", "BC2M_90", None)),
        ("histogram_minimum", None, ("histogram_minimum", "Minimum discretised intensity", "1PR8", None)),
        ("histogram_p10", None, ("histogram_p10", "10th discretised intensity percentile", "GPMT", None)),
        ("histogram_entropy", None, ("histogram_entropy", "Discretised intensity entropy", "TLU2", "original_firstorder_Entropy")),
    ],
)
def test_names_of_a_feature(key, aggregation, names):
    table = table_of([spec_of(key, aggregation)])
    assert tuple(renamed(table, columns).specs[0].name for columns in COLUMNS) == (*names[:3], names[3] or names[0])


def test_pyradiomics_names_carry_the_aggregation_only_where_there_are_several():
    specs = [spec_of("glcm_contrast", "3d_averaged"), spec_of("glcm_contrast", "3d_merged"), spec_of("glszm_zone_percentage", "3d")]
    names = [spec.name for spec in renamed(table_of(specs), "pyradiomics").specs]
    assert names == ["original_glcm_Contrast_3d_averaged", "original_glcm_Contrast_3d_merged", "original_glszm_ZonePercentage"]


def test_filtered_images_are_named_as_pyradiomics_names_them():
    # radiomics/imageoperations.py: 'log-sigma-%s-mm-3D' % str(sigma).replace('.', '-'); 'wavelet-%s' % decompositionName.
    table = table_of([spec_of("mean_intensity", image=image, quantity="response") for image in FILTERS])
    assert [spec.name for spec in renamed(table, "pyradiomics").specs] == [
        "log-sigma-2-0-mm-3D_firstorder_Mean",
        "log_1p5mm_mean_intensity",  # not scale-normalised: PyRadiomics makes no such image
        "wavelet-LLH_firstorder_Mean",
    ]
    assert renamed(table, "ibsi_name").specs[1].name == "log_1p5mm: Mean intensity"
    assert renamed(table, "ibsi_code").specs[1].name == "log_1p5mm_Q4LE"


def test_two_wavelets_of_one_pyradiomics_name_keep_their_own():
    images = [SeparableWavelet(wavelet, "LLH", boundary="periodic") for wavelet in ("coif1", "haar")]
    table = table_of([spec_of("mean_intensity", image=image) for image in images])
    assert [spec.name for spec in renamed(table, "pyradiomics").specs] == [spec.name for spec in table.specs]


def test_kurtosis_under_its_pyradiomics_name_is_pyradiomics_number():
    values = np.random.default_rng(0).gamma(2.0, size=200)
    centred = values - values.mean()
    plain = float(np.mean(centred**4) / np.mean(centred**2) ** 2)  # radiomics/firstorder.py, getKurtosisFeatureValue
    spec = spec_of("intensity_kurtosis")
    table = FeatureTable.from_rows({"a": {spec.name: plain - 3.0}}, [spec], index_name="lesion")
    theirs = renamed(table, "pyradiomics")
    assert theirs["original_firstorder_Kurtosis"]["a"] == pytest.approx(plain, rel=1e-15)
    assert theirs.specs[0].ibsi_id is None
    assert theirs.specs[0].definition.endswith("Plus 3, as PyRadiomics gives it.")
    assert renamed(theirs, "ibsi_code")["IPH6"]["a"] == pytest.approx(plain - 3.0, rel=1e-14)
    assert table["intensity_kurtosis"]["a"] == plain - 3.0


def test_every_pyradiomics_feature_of_the_catalogue_gets_its_name():
    named = renamed(table_of([spec_of(key) for key in CATALOG]), "pyradiomics")
    expected = [f"original_{definition.pyradiomics}" for definition in CATALOG.values() if definition.pyradiomics]
    assert len(expected) == 105
    assert [spec.name for spec in named.specs if spec.name.startswith("original_")] == expected


def test_refusals():
    table = table_of([spec_of("mean_intensity")])
    with pytest.raises(FormatError, match="'ibsi_name'"):
        renamed(table, "ibsi")
    nuclei = FeatureTable.from_rows({0: {"area_um2": 1.0}}, [FeatureSpec("area_um2", "um2", "Area.")], index_name="nucleus")
    with pytest.raises(FormatError, match=r"table of idx\.radiomics\.extract"):
        renamed(nuclei, "ibsi_code")
    assert renamed(nuclei, "name") is nuclei
