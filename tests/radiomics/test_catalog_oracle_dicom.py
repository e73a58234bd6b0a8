"""Codes of the catalogue against the DICOM standard."""

import re

import pytest
from pydicom.sr._concepts_dict import concepts

from idx.radiomics import CATALOG
from idx.radiomics.catalog import FAMILIES

# Words of the DICOM meanings (PS3.16, coding scheme IBSI) that idx's IBSI names do not use, and the other way round.
SYNONYMS = {"gray": "grey", "nonuniformity": "non uniformity", "normalized": "normalised", "3d": "", "minor axis in": "minor axis", "level": ""}
MEANINGS = {code: meaning for entries in concepts["IBSI"].values() for code, (meaning, _) in entries.items()}
"""Meaning by code, as pydicom copies it from the standard."""


def test_codes_of_histogram_features_mean_these_features():
    expected = {
        "histogram_minimum": "Intensity Histogram Minimum Gray Level",
        "histogram_p10": "Intensity Histogram 10th Percentile",
        "histogram_p90": "Intensity Histogram 90th Percentile",
        "histogram_maximum": "Intensity Histogram Maximum Gray Level",
    }
    assert {key: MEANINGS[CATALOG[key].ibsi_id] for key in expected} == expected


def test_no_two_features_share_a_code_but_by_their_parameter():
    shared = {}
    for key, definition in CATALOG.items():
        shared.setdefault(definition.ibsi_id, []).append(key)
    assert {code for code, keys in shared.items() if len(keys) > 1} == {"BC2M", "GBPN"}


@pytest.mark.parametrize("family", ["shape", "histogram", "glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm"])
def test_dicom_knows_every_code_by_a_like_name(family):
    """The words of idx's name that matter stand in the meaning that DICOM gives the code."""
    for definition in CATALOG.values():
        if definition.family != family:
            continue
        meaning = words(MEANINGS[definition.ibsi_id])
        ours = words(re.sub("discretised intensity|intensity histogram|\\(.*?\\)", "", definition.ibsi_name.lower()))
        missing = ours - meaning - {"length", "count", "emphasis", "counting", "mesh", "angular", "percentage", "1", "2"}
        assert not missing, (definition.key, MEANINGS[definition.ibsi_id], missing)


def words(text):
    text = text.lower().replace("-", " ")
    for theirs, our in SYNONYMS.items():
        text = text.replace(theirs, our)
    return set(re.findall("[a-z0-9]+", text))


def test_every_feature_has_a_section_of_the_manual():
    for definition in CATALOG.values():
        assert re.fullmatch(r"3\.\d+\.\d+", definition.section)
    assert len({definition.family for definition in CATALOG.values()}) == len(FAMILIES) == 11
