"""What is installed into the environment of each peer."""

_SIMPLEITK = "SimpleITK>=2.3"
RECIPES: dict[str, list[list[str]]] = {
    # 3.0.1 is the newest release that builds; its setup.py needs what it imports beforehand and an old setuptools.
    "pyradiomics": [["setuptools<70", "wheel", "numpy<2", "versioneer", "cython"], ["--no-build-isolation", "pyradiomics==3.0.1"]],
    # It does not declare its dependencies.
    "flash": [["flash-radiomics==1.0.0", "numpy", "h5py", _SIMPLEITK, "pykwalify", "PyWavelets", "scipy", "scikit-image", "scikit-learn", "trimesh"]],
    # torch first, so that fastrad does not choose another build; SimpleITK reads the files, for fastrad reads DICOM only.
    "fastrad": [["torch==2.13.0"], ["torch==2.13.0", "fastrad==1.0.0", _SIMPLEITK]],
    "nyxus": [["nyxus==0.11.*"]],
}
"""Arguments of the pip calls that fill each environment, in order."""
