"""The linear feature baseline (Duan et al. 2016a), fitted to every task in closed form."""

import torch

from metarl.agents.common.losses import masked

RIDGE = 1e-5
"""The regularisation of the fit, as in rllab."""

MAX_TRIES = 10
"""The most ridges tried, each ten times the last; beyond that the data is not finite."""

MAX_SIZE = 256
"""Longer observations are projected to this size: memory grows with its square."""


def linear_baseline(
    observations: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Fit the returns of each task by ridge regression, and return the fit.

    The features of step t are the observation clipped to [-10, 10], its square, t/100 and the
    second and third power of that, and 1. The time features let the baseline predict the end, so
    the time limit counts as an end. Large observations, such as images, are replaced by random
    projections, the same at every call; these keep distances (Johnson and Lindenstrauss 1984). All
    tasks are solved at once, in double precision.

    Args:
        observations: Of shape (time, num_tasks, num_episodes, size).
        returns: Discounted returns, of shape (time, num_tasks, num_episodes).
        mask: Which steps are real, of the same shape.

    Returns:
        The fitted values, of the same shape, zero in the padding.
    """
    if observations.shape[-1] > MAX_SIZE:
        observations = observations @ _projection(observations)
    num_steps, num_tasks, num_episodes, size = observations.shape
    seen = observations.clamp(-10.0, 10.0).to(torch.float64)
    features = seen.new_ones(num_tasks, num_steps, num_episodes, 2 * size + 4)
    features[..., :size] = seen.transpose(0, 1)
    features[..., size : 2 * size] = features[..., :size].square()
    time = torch.arange(num_steps, dtype=torch.float64, device=seen.device)[:, None] / 100.0
    for power in (1, 2, 3):
        features[..., 2 * size + power - 1] = time**power
    features = features.reshape(num_tasks, num_steps * num_episodes, -1)
    features = masked(features, mask.transpose(0, 1).reshape(num_tasks, -1, 1))
    targets = returns.transpose(0, 1).reshape(num_tasks, -1, 1).to(torch.float64)
    gram = features.transpose(1, 2) @ features
    weights = _solve(gram, features.transpose(1, 2) @ targets)
    fitted: torch.Tensor = (features @ weights).reshape(num_tasks, num_steps, num_episodes)
    return fitted.transpose(0, 1).to(returns.dtype)


def _solve(gram: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Solve ``(gram + ridge) x = targets`` for each task; gram is positive semidefinite.

    A ridge of ``RIDGE`` is multiplied by ten, as in rllab, until rounding leaves the task's matrix
    positive definite.
    """
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    ridge = torch.full_like(gram[:, :1, :1], RIDGE)
    for _ in range(MAX_TRIES):
        factor, failed = torch.linalg.cholesky_ex(gram + ridge * identity)
        if not failed.any():
            break
        ridge = torch.where(failed[:, None, None] > 0, 10.0 * ridge, ridge)
    return torch.cholesky_solve(targets, factor)


def _projection(observations: torch.Tensor) -> torch.Tensor:
    """Return a random matrix of shape (size, MAX_SIZE) that keeps the expected squared length."""
    size = observations.shape[-1]
    matrix = torch.randn(size, MAX_SIZE, generator=torch.Generator().manual_seed(size))
    projection: torch.Tensor = (matrix / MAX_SIZE**0.5).to(observations)
    return projection
