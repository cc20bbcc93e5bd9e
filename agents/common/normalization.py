"""Running normalisation of observations and rewards, part of an agent's saved parameters."""

import torch
from torch import nn

from metarl.agents.training.ranks import ALONE, Ranks


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

    def update(self, rows: torch.Tensor, ranks: Ranks = ALONE) -> None:
        """Take in rows of shape (n, size), and those of the other ranks."""
        rows = rows.to(torch.float64)
        own = torch.stack([rows.mean(0), rows.var(0, unbiased=False)])
        counts = ranks.gather(torch.tensor([len(rows)]))
        for count, (mean, var) in zip(counts.tolist(), ranks.gather(own[None])):
            self._merge(count, mean, var)

    def _merge(self, count: int, mean: torch.Tensor, var: torch.Tensor) -> None:
        total = self.count + count
        delta = mean - self.mean
        spread = self.var * self.count + var * count
        self.var.copy_((spread + delta.square() * self.count * count / total) / total)
        self.mean.add_(delta * count / total)
        self.count.copy_(total)

    def std(self) -> torch.Tensor:
        """Return the standard deviation, of shape (size,), in single precision, never zero."""
        return (self.var + 1e-8).sqrt().float()


class Normalizer:
    """Shifts and scales the columns of rows, and clips them. Other columns stay.

    Args:
        size: The length of a row.
        device: Where the rows are.
    """

    def __init__(self, size: int, device: torch.device):
        self._shift = torch.zeros(size, device=device)
        self._factor = torch.ones(size, device=device)
        self._low = torch.full((size,), -torch.inf, device=device)
        self._high = torch.full((size,), torch.inf, device=device)

    def set(
        self, columns: slice, shift: torch.Tensor | float, scale: torch.Tensor, limit: float = 10.0
    ) -> None:
        """Determine what happens to some columns: ``(x - shift) / scale``, within the limit."""
        self._shift[columns], self._factor[columns] = shift, 1.0 / scale
        self._low[columns], self._high[columns] = -limit, limit

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows of shape (..., size) as the network takes them."""
        return (rows - self._shift).mul_(self._factor).clamp_(self._low, self._high)
