"""Running normalisation of observations and rewards, part of an agent's saved parameters."""

import torch
from torch import nn


class RunningMoments(nn.Module):
    """Mean and variance of everything seen so far (Chan et al. 1979), in double precision.

    Until something was seen, normalisation is the identity.

    Args:
        size: The number of features.
    """

    mean: torch.Tensor
    var: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def update(self, rows: torch.Tensor) -> None:
        """Take in rows of shape (n, size)."""
        rows = rows.to(torch.float64)
        count = rows.shape[0]
        total = self.count + count
        mean = rows.mean(0)
        delta = mean - self.mean
        spread = self.var * self.count + rows.var(0, unbiased=False) * count
        self.var.copy_((spread + delta.square() * self.count * count / total) / total)
        self.mean.add_(delta * count / total)
        self.count.copy_(total)

    def std(self) -> torch.Tensor:
        """Return the standard deviation, of shape (size,), in single precision, never zero."""
        return (self.var + 1e-8).sqrt().float()

    def normalize(self, rows: torch.Tensor, clip: float = 10.0) -> torch.Tensor:
        """Shift and scale rows of shape (..., size); values beyond ``clip`` are clipped."""
        return ((rows - self.mean.float()) / self.std()).clamp(-clip, clip)
