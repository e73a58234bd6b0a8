"""Encoders: what turns a tile into a vector, from a module, a TorchScript file, timm, or an installed distribution."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from idx._optional import require
from idx._repr import card
from idx._typing import PathLike, Triple
from idx.algorithms import TileEncoder, find_algorithm, installed_algorithms
from idx.errors import FormatError, GeometryError, MissingDependency, UnitError
from idx.io.folders import sha256_of
from idx.provenance import Setting

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "float16", "bfloat16"]
Interpolation = Literal["bilinear", "bicubic"]
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
"""Mean of red, green and blue (0 to 1) that most encoders trained on ImageNet, and many of pathology, expect."""
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
"""Their standard deviation."""
TIMM = "timm:"
"""What a name begins with that timm knows."""


@dataclass(frozen=True, eq=False)
class ModuleEncoder:
    """A torch module as an encoder. Make it with :func:`load_encoder`.

    Parameters
    ----------
    module : torch.nn.Module
        Maps float (n, 3, y, x) to (n, features). It is in eval mode, and on the tiles' device, only while it is used.
    mpp : float
        um per pixel of the tiles it wants.
    size_px : int
        Side of the tiles it wants.
    mean, std : (red, green, blue)
        Taken off, and divided by, after pixels were scaled to 0..1.
    input_px : int
        Side of what the module gets: tiles of another size are resampled, antialiased as Pillow does.
    interpolation : {"bilinear", "bicubic"}
    precision : {"float32", "float16", "bfloat16"}
        What convolutions and products are computed in (autocast); other than float32 on CUDA devices only.
    name : str
    file_sha256 : str or None
        Of the file that its weights were read from.

    Raises
    ------
    UnitError
        If ``mpp`` is not positive.
    GeometryError
        If a size is not positive.
    FormatError
        If ``mean`` and ``std`` are not three numbers, or ``interpolation`` or ``precision`` is unknown.
    """

    module: torch.nn.Module
    mpp: float
    size_px: int
    mean: Triple
    std: Triple
    input_px: int
    interpolation: Interpolation = "bilinear"
    precision: Precision = "float32"
    name: str = "module"
    file_sha256: str | None = None

    def __post_init__(self) -> None:
        where = f"encoder '{self.name}'"
        if not (np.isfinite(self.mpp) and self.mpp > 0):
            raise UnitError(f"mpp must be a positive um per pixel; got {self.mpp} ({where}). Pass that of the tiles it was trained on, such as mpp=0.5.")
        if self.size_px < 1 or self.input_px < 1:
            raise GeometryError(f"size_px and input_px must be at least 1; got {self.size_px} and {self.input_px} ({where}). Pass for example size_px=224.")
        mean, std = np.asarray(self.mean, dtype=np.float64), np.asarray(self.std, dtype=np.float64)
        if mean.shape != (3,) or std.shape != (3,) or not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise FormatError(
                f"mean and std must be three numbers each, std positive; got {self.mean} and {self.std} ({where}). "
                f"Pass those it was trained with, such as mean={IMAGENET_MEAN}, std={IMAGENET_STD}."
            )
        for key, known in (("interpolation", get_args(Interpolation)), ("precision", get_args(Precision))):
            if getattr(self, key) not in known:
                raise FormatError(f"{key} must be one of {', '.join(known)}; got '{getattr(self, key)}' ({where}). Pass {key}='{known[0]}'.")
        object.__setattr__(self, "mean", tuple(mean.tolist()))
        object.__setattr__(self, "std", tuple(std.tolist()))

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Map uint8 (n, y, x, 3) to float32 (n, features), where the tiles are.

        Raises
        ------
        GeometryError
            If the tiles have another size.
        FormatError
            If they are not uint8, or the module returns something else than one vector per tile.
        MissingDependency
            If a precision other than float32 is asked for and the tiles are not on a CUDA device.
        """
        import torch

        self._check_tiles(batch)
        with ready(self, batch.device), torch.inference_mode(), self._autocast():
            vectors = self.module(self._prepared(batch))
            if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or len(vectors) != len(batch) or not vectors.is_floating_point():
                got = f"{vectors.dtype} {tuple(vectors.shape)}" if isinstance(vectors, torch.Tensor) else type(vectors).__name__
                raise FormatError(
                    f"a module must return one vector per tile, floating point (n, features); got {got} for {len(batch)} tiles (encoder '{self.name}'). "
                    "Wrap it in a module that pools and returns them."
                )
            return vectors.float()

    def _check_tiles(self, batch: torch.Tensor) -> None:
        import torch

        if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[-1] != 3:
            raise FormatError(f"tiles must be uint8 (n, y, x, 3); got {batch.dtype} {tuple(batch.shape)} (encoder '{self.name}'). Pass them as they are read.")
        if tuple(batch.shape[1:3]) != (self.size_px, self.size_px):
            raise GeometryError(
                f"tiles must be of the encoder's {self.size_px} px; got {batch.shape[2]} x {batch.shape[1]} px (encoder '{self.name}'). "
                f"Plan with size_px={self.size_px}."
            )

    def _prepared(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (n, 3, y, x) in the module's own dtype, in the order of operations of torchvision's transforms."""
        import torch

        pixels = batch.permute(0, 3, 1, 2).float()
        if self.input_px != self.size_px:
            pixels = _resampled(pixels, self.input_px, self.interpolation)
        mean, std = (torch.tensor(values, dtype=torch.float32, device=batch.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        dtypes = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return pixels.div_(255.0).sub_(mean).div_(std).to(next(dtypes, torch.float32))

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        import torch

        return contextlib.nullcontext() if self.precision == "float32" else torch.autocast("cuda", dtype=getattr(torch, self.precision))

    def settings(self) -> Mapping[str, Setting]:
        """What makes its vectors what they are, for a table's provenance; the weights are hashed as they are now."""
        return {
            "encoder": self.name,
            "weights_sha256": weights_sha256(self.module),
            **({} if self.file_sha256 is None else {"file_sha256": self.file_sha256}),
            "encoder_mpp": self.mpp,
            "encoder_size_px": self.size_px,
            "input_px": self.input_px,
            **({} if self.input_px == self.size_px else {"interpolation": self.interpolation}),
            "mean": ", ".join(map(repr, self.mean)),
            "std": ", ".join(map(repr, self.std)),
            "precision": self.precision,
        }

    def __repr__(self) -> str:
        return f"ModuleEncoder('{self.name}', {self.size_px} px at {self.mpp:g} um/px)"

    def _repr_html_(self) -> str:
        n_weights = sum(p.numel() for p in self.module.parameters())
        return card("ModuleEncoder", [*self.settings().items(), ("weights", f"{n_weights:,}")])


@dataclass(frozen=True, eq=False)
class InstalledEncoder:
    """An encoder that an installed distribution offers. Make it with :func:`load_encoder`.

    Parameters
    ----------
    encoder : TileEncoder
    name : str
        Of its entry point.
    distribution : str
        Name and version of the distribution.
    """

    encoder: TileEncoder
    name: str
    distribution: str

    @property
    def mpp(self) -> float:
        """Um per pixel of the tiles it wants."""
        return self.encoder.mpp

    @property
    def size_px(self) -> int:
        """Side of the tiles it wants."""
        return self.encoder.size_px

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Map uint8 (n, y, x, 3) to float32 (n, features)."""
        return self.encoder(batch)

    def settings(self) -> Mapping[str, Setting]:
        """What is known of it, for a table's provenance."""
        return {"encoder": self.name, "encoder_distribution": self.distribution, "encoder_mpp": float(self.mpp), "encoder_size_px": int(self.size_px)}


def load_encoder(
    source: torch.nn.Module | PathLike,
    *,
    mpp: float | None = None,
    size_px: int | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
    input_px: int | None = None,
    interpolation: Interpolation | None = None,
    precision: Precision = "float32",
    weights: PathLike | None = None,
    name: str | None = None,
) -> TileEncoder:
    """Make an encoder for :func:`idx.tiling.embed`, or for :func:`idx.tiling.run`.

    Parameters
    ----------
    source : torch.nn.Module, path or str
        - A module that maps normalised pixels (n, 3, y, x) to vectors (n, features).
        - Path of a TorchScript file. **Loading it runs code that the file brings**: load only files from people you trust. A file is loaded
          from the path that is given and from nowhere else; nothing is downloaded.
        - ``"timm:NAME"``, a model of timm without its classifier, or ``"timm:local-dir:FOLDER"``, where the folder holds the ``config.json`` of a
          timm model that was fetched from a hub; ``weights`` says where its weights are.
        - The name of an encoder that an installed distribution offers (``idx.algorithms.installed_algorithms("tile_encoder")``); it brings all
          settings with it.
    mpp : float
        um per pixel of the tiles that it was trained on.
    size_px : int
        Side of the tiles that it gets. By default timm's own input size.
    mean, std : (red, green, blue)
        Of the pixels it was trained on, in 0..1. By default timm's own.
    input_px : int, optional
        Side of what the module sees, where that is not the tiles' own: tiles of 256 px may be resampled to 224. By default timm's own input size,
        else ``size_px``.
    interpolation : {"bilinear", "bicubic"}, optional
        How they are resampled, as a whole (timm's cropping of a border is left out). By default timm's own, else bilinear.
    precision : {"float32", "float16", "bfloat16"}
        Other than float32 on CUDA devices only. float16 may overflow, which is an error and not a vector.
    weights : path or "random"
        timm only: a local file of weights (safetensors or PyTorch, which is read without running code from it), or "random" to test a pipeline.
    name : str, optional
        How provenance calls it.

    Returns
    -------
    TileEncoder
        Normalises on the device. The module is in eval mode and without gradients while it is used, and as it was before afterwards.

    Raises
    ------
    FormatError
        If the file is absent or no TorchScript, timm does not know the model or cannot use the weights, a setting is missing, or one is given
        that the encoder brings with it.
    UnitError, GeometryError
        If ``mpp`` or a size is not positive.
    MissingDependency
        If timm, or the installed encoder, is not there.

    Examples
    --------
    >>> import torch
    >>> mean_colour = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    >>> encoder = idx.tiling.load_encoder(mean_colour, mpp=0.5, size_px=64, mean=(0, 0, 0), std=(1, 1, 1), name="mean colour")
    >>> encoder(torch.full((2, 64, 64, 3), 255, dtype=torch.uint8)).tolist() == [[1.0, 1.0, 1.0]] * 2
    True
    """
    import torch

    given: dict[str, Any] = {"mpp": mpp, "size_px": size_px, "mean": mean, "std": std, "input_px": input_px, "interpolation": interpolation, "name": name}
    given = {key: value for key, value in given.items() if value is not None}
    if isinstance(source, str) and not Path(source).exists() and source in installed_algorithms("tile_encoder"):
        return _installed(source, [*given, *(["weights"] if weights is not None else []), *(["precision"] if precision != "float32" else [])])
    if isinstance(source, str) and source.startswith(TIMM):
        module, own = _from_timm(source, weights)
    elif weights is not None:
        raise FormatError(f"weights must be left out unless timm makes the model; got '{weights}' (encoder). Load them into the module and pass that.")
    elif isinstance(source, torch.nn.Module):
        module, own = source, {"name": type(source).__name__}
    else:
        module, own = _from_torchscript(source)
    chosen = {**own, **given}
    if missing := [key for key in ("mpp", "size_px", "mean", "std") if key not in chosen]:
        raise FormatError(
            f"{', '.join(missing)} must be given, for they are not part of the model; got None (encoder '{chosen['name']}'). "
            f"Pass those it was trained with, such as mpp=0.5, size_px=224, mean={IMAGENET_MEAN}, std={IMAGENET_STD}."
        )
    return ModuleEncoder(module, **{"input_px": chosen["size_px"], **chosen}, precision=precision)


@contextlib.contextmanager
def ready(encoder: TileEncoder, device: torch.device) -> Iterator[None]:
    """Keep an encoder's module in eval mode on a device for a ``with`` block; afterwards each of its parts is where and as it was.

    Encoders of other makers see to themselves.

    Raises
    ------
    FormatError
        If the module is spread over several devices.
    MissingDependency
        If its precision is one of CUDA devices and this is none.
    """
    if not isinstance(encoder, ModuleEncoder):
        yield
        return
    if encoder.precision != "float32" and device.type != "cuda":
        raise MissingDependency(
            f"precision '{encoder.precision}' must be computed on a CUDA device; got '{device}' (encoder '{encoder.name}'). "
            "Pass precision='float32' or device='cuda'."
        )
    module = encoder.module
    homes = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
    if len(homes) > 1:
        raise FormatError(f"a module must lie on one device; got {', '.join(sorted(map(str, homes)))} (encoder '{encoder.name}'). Call module.to('cpu').")
    # Part by part: a module in training may hold parts (frozen normalisation) that are not. Frozen TorchScript has no such state.
    training = [part for part in module.modules() if getattr(part, "training", False)]
    moved = homes - {device}
    try:
        if training:
            module.eval()
        if moved:
            module.to(device)
        yield
    finally:
        for home in moved:
            module.to(home)
        for part in training:
            part.training = True


def _resampled(pixels: torch.Tensor, side_px: int, mode: Interpolation) -> torch.Tensor:
    """Pixels (n, 3, y, x) as Pillow resamples images, which modules are trained on: rows, then columns, whole grey levels after each."""
    from torch.nn.functional import interpolate

    for size in ((pixels.shape[2], side_px), (side_px, side_px)):
        pixels = interpolate(pixels, size=size, mode=mode, antialias=True).add_(0.5).floor_().clamp_(0, 255)
    return pixels


def weights_sha256(module: torch.nn.Module) -> str:
    """Hash of a module's weights and buffers by name, whatever file or device they are on."""
    import torch

    total = hashlib.sha256()
    for name, values in sorted(module.state_dict().items()):
        # Other state than tensors (which a module may add) is its own affair.
        if isinstance(values, torch.Tensor):
            total.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
            total.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def encoder_settings(encoder: TileEncoder) -> Mapping[str, Setting]:
    """What is known of an encoder, for a table's provenance."""
    if isinstance(encoder, ModuleEncoder | InstalledEncoder):
        return encoder.settings()
    kind = type(encoder)
    return {"encoder": f"{kind.__module__}.{kind.__qualname__}", "encoder_mpp": float(encoder.mpp), "encoder_size_px": int(encoder.size_px)}


def _installed(name: str, given: list[str]) -> InstalledEncoder:
    if given:
        raise FormatError(f"an installed encoder must be used with its own settings; got {', '.join(given)} (encoder '{name}'). Leave them out.")
    distribution = installed_algorithms("tile_encoder")[name].dist
    return InstalledEncoder(find_algorithm("tile_encoder", name), name, f"{distribution.name} {distribution.version}" if distribution else "unknown")


def _from_torchscript(path: PathLike) -> tuple[torch.nn.Module, dict[str, Any]]:
    import torch

    file = Path(path).expanduser().absolute()
    if not file.is_file():
        offered = ", ".join(sorted(installed_algorithms("tile_encoder"))) or "none"
        raise FormatError(
            f"encoder must be a module, a TorchScript file, 'timm:NAME' or an installed encoder ({offered}); got '{path}', which is no file ({file}). "
            "Check the path."
        )
    try:
        with warnings.catch_warnings():
            # torch advises authors of new models; models that exist are shared as TorchScript.
            warnings.filterwarnings("ignore", "`torch.jit.load` is", DeprecationWarning)
            module: torch.nn.Module = torch.jit.load(str(file), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise FormatError(
            f"encoder file must be TorchScript; got {type(error).__name__}: {str(error).splitlines()[0]} ({file}). If it holds weights only, make the module, "
            "call module.load_state_dict(torch.load(file, weights_only=True)) and pass the module."
        ) from error
    return module, {"name": file.name, "file_sha256": sha256_of(file)}


def _from_timm(source: str, weights: PathLike | None) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A model of timm without its classifier, and what timm says of its input."""
    timm = require("timm", extra="timm", purpose="encoders of timm")
    if weights is None:
        raise FormatError(f"weights must be given; got None (encoder '{source}'). Pass a local file, or weights='random' to test a pipeline.")
    file = None if weights == "random" else Path(weights).expanduser().absolute()
    if file is not None and not file.is_file():
        raise FormatError(f"weights must be a local file; got nothing at '{file}' (encoder '{source}'). Nothing is downloaded: fetch the file first.")
    try:
        module = timm.create_model(source.removeprefix(TIMM), pretrained=False, num_classes=0)
    except Exception as error:  # timm passes on whatever a name or a folder leads to.
        reason = str(error).splitlines()[0] if str(error) else ""
        raise FormatError(f"timm must know the model; got {type(error).__name__}: {reason} (encoder '{source}'). See timm.list_models().") from error
    config = timm.data.resolve_model_data_config(module)
    _, height, width = config["input_size"]
    if height != width:
        raise FormatError(f"a model must see square tiles; got an input of {width} x {height} px (encoder '{source}'). Pass a module that resamples.")
    own = {"name": source, "size_px": width, "input_px": width, **{key: config[key] for key in ("mean", "std", "interpolation")}}
    if file is not None:
        _load_into_timm(timm, module, file, source)
        own["file_sha256"] = sha256_of(file)
    return module, own


def _load_into_timm(timm: ModuleType, module: torch.nn.Module, file: Path, source: str) -> None:
    """Load a file of weights whole. timm itself would leave out what does not fit, and the rest of the model at random."""
    try:
        state = timm.models.load_state_dict(str(file))
        # By timm's convention this brings older checkpoints of an architecture into today's form.
        convert = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
        missing, extra = module.load_state_dict(convert(state, module) if convert else state, strict=False)
    except Exception as error:  # A damaged file fails with whatever its garbage leads to.
        reason = str(error).splitlines()[0] if str(error) else ""
        raise FormatError(
            f"weights must be of the model; got {type(error).__name__}: {reason} (encoder '{source}', weights '{file}'). Pass weights of that model."
        ) from error
    classifiers = getattr(module, "pretrained_cfg", {}).get("classifier") or ()
    heads = tuple(f"{name}." for name in ([classifiers] if isinstance(classifiers, str) else classifiers))
    if unlike := [*missing, *(key for key in extra if not key.startswith(heads))]:
        raise FormatError(
            f"weights must be those of the model, all of them; got {len(missing)} missing and {len(unlike) - len(missing)} that it has no place for, such as "
            f"'{unlike[0]}' (encoder '{source}', weights '{file}'). Pass 'timm:local-dir:FOLDER' with the config.json they came with, or make the model "
            "with timm.create_model and pass the module."
        )
