"""A stand-in for ``nvidia.nvimgcodec``: its names, and its ways with streams and colours, over imagecodecs."""

from types import SimpleNamespace

import imagecodecs

RGB, YCBCR = 2, 3


class CodeStream:
    def __init__(self, block: bytes) -> None:
        if not block.startswith((b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP")):
            raise RuntimeError("Failed to get image info")
        self.block = block


class Decoder:
    """Decodes whole streams, told nothing of tables or of the colours in them; ``calls`` holds the streams of each call."""

    def __init__(self, *, device_id, max_num_cpu_threads, backends, options) -> None:
        self.device_id, self.backends = device_id, backends
        self.calls = []

    def decode(self, streams, *, params):
        self.calls.append([stream.block for stream in streams])
        return [self.decode_one(stream.block, params.color_spec) for stream in streams]

    def decode_one(self, block, colours):
        try:
            if block.startswith(b"\xff\xd8"):
                return imagecodecs.jpeg8_decode(block, outcolorspace=colours)
            return imagecodecs.jpeg2k_decode(block) if colours == RGB else None
        except (RuntimeError, ValueError):
            return None


def module(decoder: type[Decoder] = Decoder) -> SimpleNamespace:
    """A fresh stand-in; ``made`` holds the decoders that were made of it."""
    made: list[Decoder] = []

    def make(**options) -> Decoder:
        made.append(decoder(**options))
        return made[-1]

    return SimpleNamespace(
        NVIMGCODEC_DEVICE_CPU_ONLY=-99999,
        Backend=lambda kind: kind,
        BackendKind=SimpleNamespace(CPU_ONLY="cpu", GPU_ONLY="gpu", HYBRID_CPU_GPU="hybrid", HW_GPU_ONLY="hardware"),
        CodeStream=CodeStream,
        ColorSpec=SimpleNamespace(SRGB=RGB, SYCC=YCBCR),
        DecodeParams=lambda *, apply_exif_orientation, color_spec: SimpleNamespace(color_spec=color_spec),
        Decoder=make,
        made=made,
    )
