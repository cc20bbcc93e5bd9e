"""The mathematics of policy optimisation: pure functions of tensors, padded and masked."""

import torch

from metarl.agents.training.ranks import ALONE, Ranks


def discounted_returns(rewards: torch.Tensor, gamma: float | torch.Tensor) -> torch.Tensor:
    """Return what is still to come at each step, up to the end of the episode.

    Args:
        rewards: Of shape (time, n), zero in the padding.
        gamma: The discount factor, or that from each step to the next, of shape (time, n).

    Returns:
        A tensor of the same shape as the rewards.
    """
    returns = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        if isinstance(gamma, torch.Tensor):
            running = torch.addcmul(rewards[t], gamma[t], running, out=returns[t])
        else:
            running = torch.add(rewards[t], running, alpha=gamma, out=returns[t])
    return returns


def generalized_advantages(
    rewards: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    gamma: float | torch.Tensor,
    gae_lambda: float,
) -> torch.Tensor:
    """Compute generalised advantage estimates (Schulman et al. 2016, eq. 16).

    The end of a sequence is terminal: nothing is bootstrapped beyond it. For RL² a sequence is a
    whole trial, so credit flows across the episode ends inside it.

    Args:
        rewards: Of shape (time, n).
        values: The critic's values, of shape (time, n).
        mask: Which steps are real, of shape (time, n); padding only follows real steps.
        gamma: The discount factor, or that from each step to the next, of shape (time, n).
        gae_lambda: The decay of the exponential average over horizons.

    Returns:
        The advantages, of shape (time, n), zero in the padding.
    """
    # A padded value of zero makes the last real step terminal.
    values = masked(values, mask)
    following = torch.cat([values[1:], torch.zeros_like(values[:1])])
    deltas = masked(rewards + gamma * following - values, mask)
    return discounted_returns(deltas, gamma * gae_lambda)


def running_returns(rewards: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return the discounted sum of the rewards up to each step, the latest weighing most.

    It is the quantity whose deviation scales rewards in SB3's ``VecNormalize``.

    Args:
        rewards: Of shape (time, n).
        gamma: The discount factor.

    Returns:
        A tensor of the same shape.
    """
    sums = [rewards[0]]
    for reward in rewards[1:]:
        sums.append(gamma * sums[-1] + reward)
    return torch.stack(sums)


def masked(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the values, zero in the padding, whatever is there: infinity times zero is NaN."""
    return torch.where(mask > 0, values, 0.0)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over the real steps, a scalar."""
    return masked(values, mask).sum() / mask.sum()


def task_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over each task's real steps: (num_tasks, n) to (num_tasks,)."""
    return masked(values, mask).sum(1) / mask.sum(1)


def standardize(
    values: torch.Tensor, mask: torch.Tensor, dim: int | None = None, ranks: Ranks = ALONE
) -> torch.Tensor:
    """Shift and scale to mean 0 and standard deviation 1 over the real steps; padding is zero.

    Args:
        values: The values.
        mask: Which steps are real, of the same shape.
        dim: The dimension over which to average; None averages over all.
        ranks: The processes that have the other values, to be averaged over too.

    Returns:
        A tensor of the same shape.
    """
    count, total = ranks.total(
        mask.sum(dim, keepdim=True), masked(values, mask).sum(dim, keepdim=True)
    )
    centered = masked(values - total / count, mask)
    # Not the variance: dividing by that would tie the size of a step to the scale of rewards.
    (squares,) = ranks.total(centered.square().sum(dim, keepdim=True))
    std = (squares / count).sqrt()
    return centered / (std + 1e-8)


def ppo_surrogate(
    log_ratio: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, clip_range: float
) -> torch.Tensor:
    """Compute PPO's clipped objective (Schulman et al. 2017, eq. 7), to be maximised.

    Args:
        log_ratio: Log-probability of the actions now minus when they were taken, (time, n).
        advantages: Of shape (time, n).
        mask: Which steps are real, of shape (time, n).
        clip_range: How far the ratio may move from 1.

    Returns:
        A scalar.
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return masked_mean(torch.minimum(ratio * advantages, clipped * advantages), mask)
