"""Layers that networks share."""

from collections.abc import Sequence

import torch
from torch import nn

from metarl.agents.common.initialization import orthogonal_


def tanh_layers(input_size: int, sizes: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Return layers of these sizes, each followed by tanh; none of them changes nothing."""
    layers: list[nn.Module] = []
    for size in sizes:
        linear = nn.Linear(input_size, size)
        orthogonal_(linear, 2.0**0.5, generator)
        layers += [linear, nn.Tanh()]
        input_size = size
    return nn.Sequential(*layers)
