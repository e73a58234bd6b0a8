"""Worker of flash-radiomics."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import flash_radiomics
import numpy as np
import SimpleITK as sitk  # noqa: N813 (its customary name)
from flash_radiomics import RadiomicsFeatureExtractor
from measuring import Peer, by_family, serve
from serving import THREADS


class Flash(Peer):
    """flash-radiomics through its extractor, images in memory."""

    includes = (
        "RadiomicsFeatureExtractor.execute on SimpleITK images in memory with the HDF5 file that it writes on every call (into a temporary folder); "
        "a new extractor for each call, since one keeps its preprocessing between calls; provenance only in the job 'shared_with_provenance'"
    )

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._output = str(Path(self._folder.name) / "features.h5")

    def load(self, image: str, mask: str, quantity: str) -> object:
        """Read a case as SimpleITK images."""
        return sitk.ReadImage(image), sitk.ReadImage(mask)

    def job(self, case: object, kind: str, features: Sequence[str]) -> Callable[[], Mapping[str, object]]:
        """Prepare an extraction of exactly these features, or of all it has."""
        image, mask = case

        def call() -> Mapping[str, object]:
            provenance = kind == "shared_with_provenance"
            extractor = RadiomicsFeatureExtractor(backend="cpu", num_threads=THREADS, binWidth=25, additionalInfo=provenance, kernelRadius=1)
            if kind == "everything":
                extractor.enableAllScalarFeatures()
            else:
                extractor.disableAllFeatures()
                extractor.enableFeaturesByName(**by_family(features))
            return extractor.execute(image, mask, spatialMode=kind == "maps", output_hdf5_path=self._output)

        return call

    def values(self, result: Mapping[str, object]) -> Mapping[str, float]:
        """Numbers by name without the image type, or sums over maps."""
        found = {name.removeprefix("original_"): value for name, value in result.items() if name.startswith("original_")}
        return {name: float(np.nansum(sitk.GetArrayViewFromImage(value)) if isinstance(value, sitk.Image) else value) for name, value in found.items()}


flash_radiomics.setVerbosity(50)
serve(Flash())
