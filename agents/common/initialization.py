"""Initial weights, drawn from a generator."""

import math

import torch


def orthogonal_(
    layer: torch.nn.Linear | torch.nn.Conv2d, gain: float, generator: torch.Generator
) -> None:
    """Initialise a layer: orthogonal weights of the given gain, zero biases."""
    torch.nn.init.orthogonal_(layer.weight, gain, generator=generator)
    assert layer.bias is not None
    torch.nn.init.zeros_(layer.bias)


def uniform_(tensor: torch.Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Fill with U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as PyTorch does, from a generator."""
    bound = 1.0 / math.sqrt(fan_in)
    torch.nn.init.uniform_(tensor, -bound, bound, generator=generator)
