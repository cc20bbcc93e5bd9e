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
        self.merge(summarized(rows))

    def merge(self, summaries: torch.Tensor) -> None:
        """Take in what :func:`summarized` gives of batches of rows, of shape (batches, 3, size)."""
        for counts, mean, var in summaries:
            self._merge(counts[0], mean, var)

    def _merge(self, count: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> None:
        total = self.count + count
        delta = mean - self.mean
        spread = self.var * self.count + var * count
        self.var.copy_((spread + delta.square() * self.count * count / total) / total)
        self.mean.add_(delta * count / total)
        self.count.copy_(total)

    def std(self) -> torch.Tensor:
        """Return the standard deviation, of shape (size,), in single precision, never zero."""
        return (self.var + 1e-8).sqrt().float()


def summarized(rows: torch.Tensor) -> torch.Tensor:
    """Return number, mean and variance of rows of shape (n, size), of shape (1, 3, size)."""
    rows = rows.to(torch.float64)
    mean, var = rows.mean(0), rows.var(0, unbiased=False)
    return torch.stack([torch.full_like(mean, len(rows)), mean, var])[None]


class Normalizer:
    """Shifts and scales the columns of rows, and clips them. Other columns stay.

    Args:
        size: The length of a row.
        device: Where the rows are.

    Attributes:
        changes_nothing: Whether no column is shifted, scaled or clipped.
    """

    def __init__(self, size: int, device: torch.device):
        self._shift = torch.zeros(size, device=device)
        self._factor = torch.ones(size, device=device)
        self._low = torch.full((size,), -torch.inf, device=device)
        self._high = torch.full((size,), torch.inf, device=device)
        self.changes_nothing = True

    def set(
        self, columns: slice, shift: torch.Tensor | float, scale: torch.Tensor, limit: float = 10.0
    ) -> None:
        """Determine what happens to some columns: ``(x - shift) / scale``, within the limit."""
        self.changes_nothing = False
        self._shift[columns], self._factor[columns] = shift, 1.0 / scale
        self._low[columns], self._high[columns] = -limit, limit

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows of shape (..., size) as the network takes them."""
        return (rows - self._shift).mul_(self._factor).clamp_(self._low, self._high)
