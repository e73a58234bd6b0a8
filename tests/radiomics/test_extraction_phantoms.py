"""Features of phantoms with known answers, and one patient by two routes."""

import pytest

import idx
from idx.radiomics import RadiomicsSettings, extract, surface_area_mm2


# The last number is the excess of the faceted surface that the notes of surface_area_mm2 state.
@pytest.mark.parametrize(("spacing_mm", "excess"), [((1.0, 1.0, 1.0), 0.09), ((0.7, 0.7, 1.25), 0.11), ((0.5, 0.5, 3.0), 0.23)])
def test_ball(spacing_mm, excess):
    ball = idx.testing.ball(radius_mm=12.0, spacing_mm=spacing_mm, hu=40)
    table = extract(ball.ct, ball.mask)
    assert table["mesh_volume_mm3"].item() == pytest.approx(ball.volume_mm3, rel=0.01)
    assert table["voxel_volume_mm3"].item() == pytest.approx(ball.mask.volume_mm3, rel=1e-12)
    assert table["mesh_surface_area_mm2"].item() == surface_area_mm2(ball.mask)
    assert surface_area_mm2(ball.mask) / ball.surface_area_mm2 - 1 == pytest.approx(excess, abs=0.01)
    # The mesh lies up to half a voxel outside the outermost centres, at both ends.
    assert 24.0 - max(spacing_mm) < table["maximum_3d_diameter_mm"].item() < 24.0 + max(spacing_mm)


@pytest.mark.parametrize("seed", [0, 1])
def test_lesion_volume(seed):
    lesion = idx.testing.lesion_ct(seed=seed)
    table = extract(lesion.ct, lesion.mask)
    assert table["mesh_volume_mm3"].item() == pytest.approx(lesion.volume_mm3, rel=0.02)
    assert len(table.status) == 0


@pytest.mark.real
def test_dicom_and_nifti_give_the_same_features(real_data):
    folder = real_data / "ct" / "ibsi1_ct_phantom"
    dicom = idx.read_ct(folder / "dicom" / "image")
    nifti = idx.read_ct(folder / "nifti" / "image" / "phantom.nii.gz")
    outlined = idx.read_mask(next((folder / "dicom" / "mask").iterdir()), like=dicom)
    painted = idx.read_mask(folder / "nifti" / "mask" / "mask.nii.gz", like=nifti)
    for settings in (RadiomicsSettings(), RadiomicsSettings.ibsi("C")):
        one, other = extract(dicom, outlined, settings), extract(nifti, painted, settings)
        assert one.values.iloc[0].to_numpy() == pytest.approx(other.values.iloc[0].to_numpy(), rel=1e-6)
