"""The cases: the same files for every worker, as NIfTI in a folder of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 (its customary name)

IBSI_IMAGE = "ct/ibsi1_ct_phantom/nifti/image/phantom.nii.gz"
IBSI_MASK = "ct/ibsi1_ct_phantom/nifti/mask/mask.nii.gz"
PYRADIOMICS_CASES = "ct/pyradiomics_cases"
LARGE_LESION_VOXELS = 1_700_000
CASES = ("ibsi_ct", "lung1", "brain1", "large")
"""IBSI 1 CT phantom, lung CT and brain MR of PyRadiomics, and the phantom on a fine isotropic grid."""


@dataclass(frozen=True)
class Case:
    """An image and a lesion in files.

    Parameters
    ----------
    name : str
        One of ``CASES``.
    image, mask : Path
        NIfTI, int16 and uint8.
    quantity : str
        Quantity of the image, as ``idx.read_volume`` takes it.
    n_voxels : int
        Voxels of the lesion.
    size : tuple of int
        Voxels of the image along (x, y, z).
    spacing_mm : tuple of float
        Along (x, y, z).
    """

    name: str
    image: Path
    mask: Path
    quantity: str
    n_voxels: int
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]


def make_cases(names: Sequence[str], data: Path, folder: Path) -> list[Case]:
    """Write the cases' files into a folder."""
    return [_make(name, data, folder) for name in names]


def _make(name: str, data: Path, folder: Path) -> Case:
    if name in ("ibsi_ct", "large"):
        image, mask = sitk.ReadImage(str(data / IBSI_IMAGE)), sitk.ReadImage(str(data / IBSI_MASK))
        image = _rounded(image)
        if name == "large":
            image, mask = _refined(image, mask, LARGE_LESION_VOXELS)
    else:
        image, mask = (sitk.ReadImage(str(data / PYRADIOMICS_CASES / f"{name}_{part}.nrrd")) for part in ("image", "label"))
    paths = folder / f"{name}_image.nii", folder / f"{name}_mask.nii"
    inside = sitk.Cast(mask == 1, sitk.sitkUInt8)
    sitk.WriteImage(sitk.Cast(image, sitk.sitkInt16), str(paths[0]))
    sitk.WriteImage(inside, str(paths[1]))
    n_voxels = int(np.count_nonzero(sitk.GetArrayViewFromImage(inside)))
    return Case(name, *paths, "arbitrary" if name == "brain1" else "hu", n_voxels, image.GetSize(), image.GetSpacing())


def _rounded(image: sitk.Image) -> sitk.Image:
    return sitk.Cast(sitk.Round(image), sitk.sitkInt16)


def _refined(image: sitk.Image, mask: sitk.Image, n_voxels: int) -> tuple[sitk.Image, sitk.Image]:
    """Image and mask on the isotropic grid on which the lesion has about so many voxels, both interpolated linearly."""
    lesion_mm3 = float(np.count_nonzero(sitk.GetArrayViewFromImage(mask))) * float(np.prod(image.GetSpacing()))
    spacing = (lesion_mm3 / n_voxels) ** (1 / 3)
    size = [int(n * old / spacing) for n, old in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    fine = sitk.Image(size, sitk.sitkFloat32)
    fine.SetSpacing([spacing] * 3)
    fine.SetOrigin(image.GetOrigin())
    fine.SetDirection(image.GetDirection())
    edge = float(sitk.GetArrayViewFromImage(image).min())
    values = sitk.Resample(sitk.Cast(image, sitk.sitkFloat32), fine, sitk.Transform(), sitk.sitkLinear, edge)
    inside = sitk.Resample(sitk.Cast(mask, sitk.sitkFloat32), fine, sitk.Transform(), sitk.sitkLinear, 0.0)
    return _rounded(values), sitk.Cast(inside >= 0.5, sitk.sitkUInt8)
