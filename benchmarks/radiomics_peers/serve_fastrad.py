"""Worker of fastrad."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import SimpleITK as sitk  # noqa: N813 (its customary name)
import torch
from fastrad import FeatureExtractor, FeatureSettings, Mask, MedicalImage
from serving import THREADS, Peer, families_of, serve


class Fastrad(Peer):
    """fastrad on the CPU, tensors in memory."""

    includes = "FeatureExtractor.extract on float32 tensors in memory; whole families, since it has no choice of features"

    def load(self, image: str, mask: str, quantity: str) -> object:
        """Read a case as fastrad's image and mask."""
        read, label = sitk.ReadImage(image), sitk.ReadImage(mask)
        spacing = read.GetSpacing()[::-1]
        values, inside = (torch.from_numpy(sitk.GetArrayFromImage(each).astype(np.float32)) for each in (read, label))
        return MedicalImage(values, spacing), Mask(inside, spacing)

    def job(self, case: object, kind: str, features: Sequence[str]) -> Callable[[], Mapping[str, float]]:
        """Prepare an extraction of these features' families."""
        image, mask = case
        return lambda: FeatureExtractor(FeatureSettings(feature_classes=families_of(features), bin_width=25.0, device="cpu")).extract(image, mask)

    def values(self, result: Mapping[str, float]) -> Mapping[str, float]:
        """Numbers by fastrad's names."""
        return result


warnings.filterwarnings("ignore", message=".*not isotropic.*")
torch.set_num_threads(THREADS)
serve(Fastrad())
