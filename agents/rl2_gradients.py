"""Whole trials through the network of RL², and back: in pieces, one to a thread."""

import functools
import math
from collections.abc import Mapping, Sequence

import torch

from metarl.agents.losses import masked_mean, ppo_surrogate
from metarl.agents.parallel import parallel_map
from metarl.agents.recurrent import RecurrentActorCritic

STEPS_PER_PIECE = {"gru": 12_800, "lstm": 6_400}
"""Steps, of all its trials together, of the largest piece that stays in a core's cache."""


def _pieces(
    network: RecurrentActorCritic, trials: torch.Tensor, num_steps: int
) -> Sequence[torch.Tensor]:
    """Cut trials of ``num_steps`` steps into pieces, as many for each thread."""
    if trials.device.type != "cpu":
        return (trials,)
    threads = torch.get_num_threads()
    rounds = math.ceil(len(trials) * num_steps / (threads * STEPS_PER_PIECE[network.cell]))
    return torch.tensor_split(trials, min(threads * rounds, len(trials)))


def trial_values(network: RecurrentActorCritic, inputs: torch.Tensor) -> torch.Tensor:
    """Return the critic's values of whole trials, without a gradient.

    Args:
        network: The network.
        inputs: Of shape (time, n, input_size).

    Returns:
        A tensor of shape (time, n).
    """

    def values(piece: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return network.values(inputs[:, piece])

    trials = torch.arange(inputs.shape[1], device=inputs.device)
    return torch.cat(parallel_map(values, _pieces(network, trials, len(inputs))), dim=1)


def ppo_gradients(
    network: RecurrentActorCritic,
    batch: Mapping[str, torch.Tensor],
    trials: torch.Tensor,
    *,
    clip_range: float,
    vf_coef: float,
    ent_coef: float,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the gradient of PPO's loss on a minibatch of trials.

    Args:
        network: The network.
        batch: All trials.
        trials: Which of them the minibatch has.
        clip_range: PPO's clipping range.
        vf_coef: The weight of the value loss.
        ent_coef: The weight of the entropy bonus.

    Returns:
        The gradient by each parameter; and policy loss, value loss, entropy and divergence.
    """
    names = ("inputs", "actions", "log_probs", "advantages", "targets", "episodes_left", "mask")
    num_steps = batch["mask"][:, trials].sum()

    def part(piece: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        inputs, actions, old_log_probs, advantages, targets, episodes_left, mask = (
            batch[name][:, piece] for name in names
        )
        distribution, values = network(inputs)
        log_ratio = distribution.log_prob(actions) - old_log_probs
        surrogate = ppo_surrogate(log_ratio, advantages, mask, clip_range)
        value_loss = 0.5 * masked_mean((values * episodes_left - targets).square(), mask)
        entropy = masked_mean(distribution.entropy(), mask)
        share = mask.sum() / num_steps
        loss = share * (-surrogate + vf_coef * value_loss - ent_coef * entropy)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():  # the estimator of Schulman's note, never negative
            kl = masked_mean(log_ratio.exp() - 1.0 - log_ratio, mask)
            return gradients, share * torch.stack([-surrogate, value_loss, entropy, kl])

    of_pieces, measures = zip(*parallel_map(part, _pieces(network, trials, len(batch["inputs"]))))
    gradients = [functools.reduce(torch.add, parts) for parts in zip(*of_pieces)]
    return gradients, functools.reduce(torch.add, measures)
