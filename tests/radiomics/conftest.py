"""IBSI phantoms and reference values."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from idx.geometry import Grid
from idx.volume import CTVolume, Mask

ORACLES = Path(__file__).parent.parent / "oracles"


@pytest.fixture(scope="session")
def digital_phantom():
    """CT and mask of the IBSI 1 digital phantom, (4, 4, 5) voxels of 2 mm."""
    table = pd.read_csv(ORACLES / "ibsi1_digital_phantom.csv", comment="#")
    values = np.zeros((4, 4, 5), dtype=np.int16)
    inside = np.zeros((4, 4, 5), dtype=bool)
    values[table.z, table.y, table.x] = table.intensity
    inside[table.z, table.y, table.x] = table.roi == 1
    grid = Grid.from_spacing(values.shape, (2.0, 2.0, 2.0))
    return CTVolume(values, grid), Mask(inside, grid, "ROI")


@pytest.fixture(scope="session")
def ct_phantom(real_data):
    """CT and mask of the IBSI 1 CT phantom, read with nibabel so that no reader of idx takes part."""
    import nibabel as nib

    folder = real_data / "ct" / "ibsi1_ct_phantom" / "nifti"
    image = nib.load(folder / "image" / "phantom.nii.gz")
    mask = nib.load(folder / "mask" / "mask.nii.gz")
    # The manual asks to round this file's values first; LPS is RAS with x and y turned.
    values = np.round(np.asarray(image.dataobj, dtype=np.float32)).transpose(2, 1, 0).astype(np.int16)
    grid = Grid(values.shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine)
    return CTVolume(values, grid), Mask(np.asarray(mask.dataobj).transpose(2, 1, 0) > 0, grid, "GTV")
