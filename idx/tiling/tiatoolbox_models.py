"""Models of tiatoolbox on tiles of idx: the model's own preprocessing and inference, without its engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from idx.errors import FormatError
from idx.settings import resolve_device

if TYPE_CHECKING:
    import torch

_PROTOCOL = ("infer_batch", "preproc_func", "postproc_func")


def tiatoolbox_model(model: Any, *, device: str | torch.device | None = None, postproc: bool = False) -> Callable[[torch.Tensor], Any]:
    """A function for :func:`idx.tiling.run` from a tiatoolbox model.

    Parameters
    ----------
    model : tiatoolbox.models.models_abc.ModelABC
        For example ``CNNModel`` with its weights, or the first part of ``get_pretrained_model(name)``. It is moved to the device.
    device : str, torch.device or None
        Where it computes; None means the setting. Pass the same one to ``run``.
    postproc : bool
        Whether to apply the model's own ``postproc_func`` as well, tile by tile.

    Returns
    -------
    callable
        Maps uint8 tiles (n, y, x, 3) to what the model's ``infer_batch`` returns: an array (n, ...), or a tuple of arrays for a model of several
        heads (``HoVerNet``: nucleus probability, distances, types). With ``postproc``: an array (n, ...) of class numbers from classifiers and
        segmentation models, of detections from detectors; a list of n results from instance segmentation (``HoVerNet``: per task its label map
        and objects, in pixels of the output).

    Raises
    ------
    FormatError
        If it is no tiatoolbox model.
    MissingDependency
        If the device is absent.

    Notes
    -----
    The size and mpp of the tiles are the plan's: take them from the model's description (``patch_input_shape``, ``input_resolutions``). A
    segmentation model returns the middle of each tile; with ``overlap_px`` = input - output size these middles are the cores of the plan,
    and with more overlap they reach beyond the cores, so that :func:`idx.tiling.stitch` sees each nucleus whole in one tile. HoVer-Net's
    post-processing scales its maps by the range of each tile: the nuclei it splits depend a little on how a slide is cut.

    Examples
    --------
    >>> model, description = get_pretrained_model("resnet18-kather100k")  # doctest: +SKIP
    >>> grid = idx.tiling.plan(slide, size_px=224, mpp=0.5, within=tissue)  # doctest: +SKIP
    >>> result = idx.tiling.run(idx.tiling.tiatoolbox_model(model), slide, grid)  # doctest: +SKIP
    """
    # torch's data-parallel wrappers hide the model's methods, as tiatoolbox's own engines know.
    inner = getattr(model, "module", model)
    missing = [name for name in _PROTOCOL if not callable(getattr(inner, name, None))]
    if missing:
        raise FormatError(
            f"model must be a tiatoolbox model; got {type(model).__name__} without {', '.join(missing)} ({str(model)[:60]}). "
            "Pass the model itself: engine.model, or get_pretrained_model(name)[0]."
        )
    import torch

    target = resolve_device(device)
    # Not model.to: tiatoolbox's own wraps the model for every GPU there is.
    torch.nn.Module.to(model, target)
    return _OnTiles(model, inner, str(target), postproc)


@dataclass(frozen=True)
class _OnTiles:
    """What :func:`tiatoolbox_model` returns; a class, so that it can be sent to other processes."""

    model: Any
    inner: Any
    device: str
    postproc: bool

    def __call__(self, batch: torch.Tensor) -> Any:
        output = self.inner.infer_batch(self.model, self._prepared(batch), device=self.device)
        heads = tuple(output.values()) if isinstance(output, Mapping) else output if isinstance(output, tuple) else None
        if heads is None:
            # Encoders return their features as a list of one.
            values = output[0] if isinstance(output, list) else output
            return np.stack([self.inner.postproc_func(value) for value in values]) if self.postproc else values
        if self.postproc:
            return [self.inner.postproc_func([head[k] for head in heads]) for k in range(len(batch))]
        return heads if len(heads) > 1 else heads[0]

    def _prepared(self, batch: torch.Tensor) -> torch.Tensor:
        """Tiles through the model's own preprocessing, one by one as its engines do."""
        import torch

        # The base class does nothing: the tiles stay on the device.
        if getattr(self.inner.preproc_func, "__qualname__", None) == "ModelABC.preproc":
            return batch
        # A copy, for preprocessing in place must not change the tiles of the run.
        return torch.stack([torch.as_tensor(self.inner.preproc_func(tile.copy())) for tile in batch.cpu().numpy()])

    def __repr__(self) -> str:
        return f"tiatoolbox_model({type(self.inner).__name__}, device='{self.device}', postproc={self.postproc})"
