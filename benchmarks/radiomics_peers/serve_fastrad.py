"""Worker of fastrad."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import SimpleITK as sitk  # noqa: N813 (its customary name)
import torch
from fastrad import FeatureExtractor, FeatureSettings, Mask, MedicalImage
from measuring import Peer, families_of, serve
from serving import THREADS

MARGIN = 1


class Fastrad(Peer):
    """fastrad on the CPU, tensors in memory."""

    includes = (
        "FeatureExtractor.extract on float32 tensors in memory; whole families, since it has no choice of features; the tensors are cropped to the lesion "
        "beforehand, untimed, since it does not crop by itself; the job 'shared_whole_image' has them uncropped, as all other tools have"
    )

    def load(self, image: str, mask: str, quantity: str) -> object:
        """Read a case as fastrad's image and mask, cropped and whole."""
        read, label = sitk.ReadImage(image), sitk.ReadImage(mask)
        values, inside = (sitk.GetArrayFromImage(each).astype(np.float32) for each in (read, label))
        box = tuple(slice(max(int(axis.min()) - MARGIN, 0), int(axis.max()) + MARGIN + 1) for axis in np.nonzero(inside))
        spacing = read.GetSpacing()[::-1]
        return {
            whole: (MedicalImage(torch.from_numpy(values[part].copy()), spacing), Mask(torch.from_numpy(inside[part].copy()), spacing))
            for whole, part in ((False, box), (True, ...))
        }

    def job(self, case: object, kind: str, features: Sequence[str]) -> Callable[[], Mapping[str, float]]:
        """Prepare an extraction of these features' families."""
        image, mask = case[kind == "shared_whole_image"]
        return lambda: FeatureExtractor(FeatureSettings(feature_classes=families_of(features), bin_width=25.0, device="cpu")).extract(image, mask)

    def values(self, result: Mapping[str, float]) -> Mapping[str, float]:
        """Numbers by fastrad's names."""
        return result


warnings.filterwarnings("ignore", message=".*not isotropic.*")
torch.set_num_threads(THREADS)
serve(Fastrad())
