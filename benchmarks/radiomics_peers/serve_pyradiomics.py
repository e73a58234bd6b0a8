"""Worker of PyRadiomics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import radiomics
import SimpleITK as sitk  # noqa: N813 (its customary name)
from measuring import Peer, by_family, serve
from radiomics.featureextractor import RadiomicsFeatureExtractor


class PyRadiomics(Peer):
    """PyRadiomics through its extractor, images in memory."""

    includes = "RadiomicsFeatureExtractor.execute on SimpleITK images in memory, provenance (additionalInfo) only in the job 'shared_with_provenance'"

    def load(self, image: str, mask: str, quantity: str) -> object:
        """Read a case as SimpleITK images."""
        return sitk.ReadImage(image), sitk.ReadImage(mask)

    def job(self, case: object, kind: str, features: Sequence[str]) -> Callable[[], Mapping[str, object]]:
        """Prepare an extraction of exactly these features."""
        image, mask = case

        def call() -> Mapping[str, object]:
            extractor = RadiomicsFeatureExtractor(binWidth=25, additionalInfo=kind == "shared_with_provenance", kernelRadius=1)
            extractor.disableAllFeatures()
            extractor.enableFeaturesByName(**by_family(features))
            return extractor.execute(image, mask, voxelBased=kind == "maps")

        return call

    def values(self, result: Mapping[str, object]) -> Mapping[str, float]:
        """Numbers by name without the image type, or sums over maps."""
        found = {name.removeprefix("original_"): value for name, value in result.items() if name.startswith("original_")}
        return {name: float(np.nansum(sitk.GetArrayViewFromImage(value)) if isinstance(value, sitk.Image) else value) for name, value in found.items()}


radiomics.setVerbosity(60)
serve(PyRadiomics())
