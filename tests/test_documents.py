"""The examples of the documents run, one after the other, on phantoms named as the documents name them."""

import re
import warnings
from pathlib import Path

import pytest
import torch

import idx

DOCUMENTS = Path(__file__).parents[1] / "docs"


def examples(document: Path) -> list[tuple[int, str]]:
    """Number of the first line, and text, of each block that is to run: those fenced as ``python`` and nothing else."""
    text = document.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start()) + 2, block[1]) for block in blocks]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tiling(folder: Path) -> None:
    for seed, name in enumerate(("A12.svs", "B07.svs")):
        idx.testing.he_slide(folder / name, seed=seed, mpp=0.5, size_px=(1024, 768), n_nuclei=80)
    encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    with warnings.catch_warnings():
        # torch advises against TorchScript, in which encoders are shared all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(encoder).save(str(folder / "encoder.pt"))
    document = DOCUMENTS / "tiling.md"
    found = examples(document)
    assert len(found) == 8
    names: dict[str, object] = {}
    for line, text in found:
        # Lines are counted as in the document, so that a traceback points there.
        exec(compile("\n" * (line - 1) + text, str(document), "exec"), names)
    assert {"nuclei.zarr", "heat.tif", "heat.zarr", "A12_1um.tif", "A12_dicom", "A12_vectors", "A12.h5", "scores"} <= {path.name for path in folder.iterdir()}
