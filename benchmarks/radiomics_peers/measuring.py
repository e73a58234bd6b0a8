"""The worker's side of radiomics: load a case, time the measuring call. It imports the standard library only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import serving

FAMILIES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
"""PyRadiomics' families, in whose names jobs are stated."""


class Peer:
    """What a worker script provides."""

    includes: str
    """What the timed call includes besides the measuring itself."""

    def load(self, image: str, mask: str, quantity: str) -> object:
        """Read a case; not timed."""
        raise NotImplementedError

    def job(self, case: object, kind: str, features: Sequence[str]) -> Callable[[], object]:
        """Prepare the timed call, which measures the features, named as PyRadiomics names them."""
        raise NotImplementedError

    def values(self, result: object) -> Mapping[str, float]:
        """Numbers that a call returned, by name, or the sum over each map; not timed."""
        raise NotImplementedError

    def device_peak_bytes(self) -> int | None:
        """Most device memory taken so far; None without a device."""
        return None


def families_of(features: Sequence[str]) -> list[str]:
    """Families of some features, in PyRadiomics' order."""
    return [family for family in FAMILIES if any(name.startswith(family + "_") for name in features)]


def by_family(features: Sequence[str]) -> dict[str, list[str]]:
    """Features without their family's name, by family."""
    return {family: [name.partition("_")[2] for name in features if name.startswith(family + "_")] for family in families_of(features)}


def serve(peer: Peer) -> None:
    """Answer requests until stdin ends."""
    loaded: dict[str, object] = {}
    serving.serve(lambda request: answer(peer, request, loaded), includes=peer.includes)


def answer(peer: Peer, request: Mapping[str, object], loaded: dict[str, object]) -> dict[str, object]:
    """Load the case or measure it."""
    name = str(request["case"])
    if request["do"] == "load":
        # One case at a time, so that a small case is not measured beside a large one's memory.
        loaded.clear()
        loaded[name] = peer.load(str(request["image"]), str(request["mask"]), str(request["quantity"]))
        return {"peak_bytes": serving.peak_bytes()}
    call = peer.job(loaded[name], str(request["kind"]), list(request["features"]))
    before = serving.peak_bytes()
    done = serving.timed(call)
    values = peer.values(done.result)
    found = {
        "seconds": done.wall_s,
        "n": len(values),
        "peak_before_bytes": before,
        "peak_bytes": serving.peak_bytes(),
        "device_peak_bytes": peer.device_peak_bytes(),
    }
    return found | ({"values": {name: value for name, value in values.items() if math.isfinite(value)}} if request["values"] else {})
