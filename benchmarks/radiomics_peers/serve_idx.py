"""Worker of idx."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from measuring import Peer, serve
from serving import THREADS

import idx
from idx.radiomics.catalog import CATALOG, PYRADIOMICS_KURTOSIS_SHIFT
from idx.radiomics.naming import renamed
from idx.settings import use_settings

DEVICE = sys.argv[1]


def settings_for(kind: str, features: Sequence[str]) -> idx.radiomics.RadiomicsSettings:
    """Settings of a job: bins of 25 anchored as PyRadiomics anchors them, one matrix per direction, the image's own grid."""
    common = {"bin_size": 25.0, "bin_origin": "multiple", "aggregations": ("3d_averaged",)}
    if kind in ("full", "everything"):
        return idx.radiomics.RadiomicsSettings(**common)
    wanted = [definition for definition in CATALOG.values() if definition.pyradiomics in features]
    families = tuple(dict.fromkeys(definition.family for definition in wanted))
    return idx.radiomics.RadiomicsSettings(**common, families=families, features=tuple(definition.key for definition in wanted))


class Idx(Peer):
    """idx, image and mask in memory."""

    includes = "idx.radiomics.extract on image and mask in memory, from the checks of geometry to the finished table with its provenance"

    def load(self, image: str, mask: str, quantity: str) -> object:
        """Read a case as idx's volume and mask."""
        volume = idx.read_ct(image) if quantity == "hu" else idx.read_volume(image, quantity=quantity)
        return volume, idx.read_mask(mask, like=volume)

    def job(self, case: object, kind: str, features: Sequence[str]) -> Callable[[], object]:
        """Prepare an extraction of these features, of the full IBSI 1 set, or of feature maps."""
        volume, lesion = case

        def call() -> object:
            settings = settings_for(kind, features)
            if kind == "maps":
                return idx.radiomics.feature_maps(volume, lesion, settings, radius_voxels=1, features=settings.features)
            return idx.radiomics.extract(volume, lesion, settings)

        return call

    def values(self, result: idx.FeatureTable | Mapping[str, idx.radiomics.FeatureMap]) -> Mapping[str, float]:
        """Numbers by PyRadiomics' names where it has the feature, or sums over maps."""
        if isinstance(result, idx.FeatureTable):
            row = renamed(result, "pyradiomics").values.iloc[0]
            return {name.removeprefix("original_"): float(value) for name, value in row.items()}
        return {MAPPED[name]: map_sum(MAPPED[name], each.values) for name, each in result.items()}

    def device_peak_bytes(self) -> int | None:
        """Most CUDA memory taken so far."""
        return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None


MAPPED = {f"local_{definition.column(quantity)}": definition.pyradiomics for definition in CATALOG.values() for quantity in ("hu", "arbitrary")}
"""PyRadiomics' name of a map."""


def map_sum(name: str, values: np.ndarray) -> float:
    """Sum over a map; PyRadiomics does not subtract 3 from the kurtosis."""
    shift = PYRADIOMICS_KURTOSIS_SHIFT if name == "firstorder_Kurtosis" else 0.0
    return float(np.nansum(values + shift))


torch.set_num_threads(THREADS)
with use_settings(device=DEVICE, workers=THREADS, progress=False):
    serve(Idx())
