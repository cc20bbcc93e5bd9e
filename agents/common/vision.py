"""The convolutional encoder of images."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from metarl.agents.common.initialization import orthogonal_

_KERNEL = 3
_SMALLEST = 4  # pixels along an axis: what halving ends at


class Vision(nn.Module):
    """Images to features: convolutions that halve the picture until it is small, then one layer.

    Args:
        shapes: The shape of each image, as :func:`metarl.spaces.is_image` takes them.
        channels: The number of filters of each convolution. Where a picture is small before all
            are used, the rest keep its size.
        num_features: The number of features of each image.
        generator: The source of the initial weights.

    Attributes:
        num_features: The number of features of all images together.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        channels: Sequence[int],
        num_features: int,
        generator: torch.Generator,
    ):
        super().__init__()
        self._shapes = list(shapes)
        self._sizes = [math.prod(shape) for shape in shapes]
        self.num_features = num_features * len(shapes)
        self.encoders = nn.ModuleList(
            _encoder(shape, channels, num_features, generator) for shape in shapes
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return features of shape (..., num_features).

        Args:
            pixels: All images of an observation side by side, uint8, of shape (..., num_pixels).
        """
        lead = pixels.shape[:-1]
        parts = torch.split(pixels.reshape(-1, pixels.shape[-1]), self._sizes, dim=1)
        features = []
        for part, shape, encoder in zip(parts, self._shapes, self.encoders):
            images = _planes(part.reshape(-1, *shape))
            features.append(encoder(images.to(torch.float32) / 255.0 - 0.5))
        return torch.cat(features, dim=1).reshape(*lead, -1)


def _planes(images: torch.Tensor) -> torch.Tensor:
    """Return images of shape (n, *shape) as planes, of shape (n, channels, height, width).

    The channels of several pictures, as of the last frames, become those of one.
    """
    if images.ndim == 3:  # (n, height, width)
        return images[:, None]
    first, *others = images.shape[-3:]
    if first >= min(others):  # the channels are last, also of equals
        images = images.movedim(images.ndim - 1, images.ndim - 3)
    return images.flatten(1, -3)  # (n, pictures * channels, height, width)


def _encoder(
    shape: tuple[int, ...],
    channels: Sequence[int],
    num_features: int,
    generator: torch.Generator,
) -> nn.Module:
    depth, height, width = _planes(torch.empty(1, *shape, device="meta")).shape[1:]
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise((depth, *channels)):
        stride = 2 if min(height, width) > _SMALLEST else 1
        height, width = -(-height // stride), -(-width // stride)
        layers += [nn.Conv2d(fan_in, fan_out, _KERNEL, stride, padding=1), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(channels[-1] * height * width, num_features), nn.ReLU()]
    for layer in layers:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            orthogonal_(layer, 2.0**0.5, generator)
    return nn.Sequential(*layers)
