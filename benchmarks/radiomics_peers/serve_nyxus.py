"""Worker of Nyxus."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import nyxus
from measuring import Peer, families_of, serve
from serving import THREADS

GROUPS = {
    "shape": "*3D_ALL_MORPHOLOGY*",
    "firstorder": "*3D_ALL_INTENSITY*",
    "glcm": "*3D_GLCM*",
    "glrlm": "*3D_GLRLM*",
    "glszm": "*3D_GLSZM*",
    "gldm": "*3D_GLDM*",
    "ngtdm": "*3D_NGTDM*",
}
GREY_LEVELS = 64
"""It knows no bin width; a negative number asks it for equal bins between the smallest and the largest intensity, as radiomics packages take them."""


class Nyxus(Peer):
    """Nyxus in 3-D, from files."""

    includes = (
        f"Nyxus3D.featurize_files: it reads image and mask from their files on every call; whole families; {GREY_LEVELS} grey levels instead of a bin width"
    )

    def load(self, image: str, mask: str, quantity: str) -> object:
        """Keep the paths: its 3-D interface takes files only."""
        return image, mask

    def job(self, case: object, kind: str, features: Sequence[str]) -> Callable[[], object]:
        """Prepare an extraction of these features' families."""
        image, mask = case
        families = families_of(features)
        engine = nyxus.Nyxus3D([GROUPS[family] for family in families], n_feature_calc_threads=THREADS)
        for family in families:
            if family not in ("shape", "firstorder"):
                engine.set_metaparam(f"3{family}/greydepth={-GREY_LEVELS}")

        return lambda: engine.featurize_files([image], [mask], False)

    def values(self, result: object) -> Mapping[str, float]:
        """Numbers by Nyxus' names."""
        if len(result) != 1:
            raise ValueError(f"one lesion must be measured; got {len(result)} rows")
        return {name: float(result[name].iloc[0]) for name in result.columns if name.startswith("3")}


serve(Nyxus())
