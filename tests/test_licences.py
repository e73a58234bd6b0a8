"""The base install brings no licence that would bind its users (GPL parts live in extras)."""

import re
from importlib.metadata import distribution, requires

from packaging.requirements import Requirement

# Licence texts that only permissive or weak-copyleft (library) terms use; OpenSlide's LGPL binds changes to OpenSlide itself.
PERMISSIVE = re.compile(r"apache|bsd|mit\b|mit license|isc|psf|python software|hpnd|mpl|lgpl|lesser|unlicense|zlib|0bsd|public domain", re.IGNORECASE)
STRONG_COPYLEFT = re.compile(r"(?<!lesser )(?<!l)\b(?:a?gpl|gnu (?:affero )?general public)", re.IGNORECASE)


def licence_of(name):
    metadata = distribution(name).metadata
    classifiers = [c for c in metadata.get_all("Classifier", []) if c.startswith("License")]
    # A long License field is a whole text that may quote other licences; its first line names it.
    stated = (metadata.get("License") or "").strip().splitlines()[:1]
    return " | ".join(filter(None, [metadata.get("License-Expression"), *stated, *classifiers]))


def without_choices(text):
    """Drop alternatives such as "(BSD-3-Clause OR GPL-2.0-only)": the taker chooses the permissive one."""
    return re.sub(r"\(([^()]* OR [^()]*)\)", lambda m: "" if any(PERMISSIVE.search(part) for part in m[1].split(" OR ")) else m[0], text)


def base_dependencies():
    return sorted(r.name for r in map(Requirement, requires("idx")) if r.marker is None)


def test_base_dependencies_are_permissive():
    licences = {name: licence_of(name) for name in base_dependencies()}
    unknown = {name: text for name, text in licences.items() if not PERMISSIVE.search(text)}
    copyleft = {name: text for name, text in licences.items() if STRONG_COPYLEFT.search(without_choices(text))}
    assert unknown == {}
    assert copyleft == {}


def test_the_guard_sees_a_gpl_package():
    assert STRONG_COPYLEFT.search(licence_of("scikit-survival"))
    assert STRONG_COPYLEFT.search(without_choices("(GPL-2.0-only OR AGPL-3.0-only)"))
    assert not STRONG_COPYLEFT.search("LGPL-2.1-only")
