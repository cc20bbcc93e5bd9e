"""PPO over whole trials: advantages, epochs of minibatches, the loss.

Whole trials, or sequences of their steps, go through the network in one call and back, a minibatch
in pieces of a few trials, each in a thread of its own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar

import torch
from torch.distributions import kl_divergence

from metarl.agents.common.losses import (
    generalized_advantages,
    masked,
    masked_mean,
    ppo_surrogate,
    standardize,
)
from metarl.agents.common.memory.contract import State, map_state
from metarl.agents.common.teacher import ActionLabels
from metarl.agents.common.trials import TrialOutputs, Trials
from metarl.agents.training.config import Config, Count, NotNegative, Positive, Share
from metarl.agents.training.ranks import ALONE, Ranks
from metarl.agents.training.threads import one_thread, parallel_map

SelfConfig = TypeVar("SelfConfig", bound="TrialPPOConfig")
PARTS = ("policy_loss", "value_loss", "entropy", "approx_kl", "task_prediction_loss")
MEASURES = (*PARTS, "grad_norm")


class TrialNetwork(Protocol):
    """The interface of a network for PPO on trials.

    It may use the encoded task in training, for its critic for example. Its policy must not: no
    task is given when it acts.
    """

    @property
    def steps_per_piece(self) -> int:
        """How many steps, of all trials together, one thread takes at a time."""

    def __call__(
        self, rows: torch.Tensor, pixels: torch.Tensor, task: torch.Tensor, *state: State
    ) -> TrialOutputs:
        """Return the action distributions and the critic's outputs of whole trials.

        Args:
            rows: Input rows, of shape (time, n, row_size).
            pixels: Their pixels, uint8, of shape (time, n, num_pixels).
            task: The encoded tasks, of shape (n, task_size).
            state: For sequences, which start within a trial, one of those of :meth:`states`.
        """

    def states(self, rows: torch.Tensor, pixels: torch.Tensor, length: int) -> list[State]:
        """Return the states before steps 0, ``length``, ``2 * length``, ... of whole trials.

        It is called with ``sequence_length`` only.
        """

    def values(self, rows: torch.Tensor, pixels: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """Return the critic's outputs alone, of shape (time, n)."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Return the trained parameters."""


@dataclass(frozen=True)
class Batch:
    """The data of a PPO update, of shapes (time, num_trials, ...).

    Attributes:
        rows: The network's input rows.
        pixels: Their pixels, uint8.
        task: The encoded tasks, of shape (num_trials, task_size).
        actions: As sampled.
        log_probs: Of the actions, when they were taken.
        advantages: Standardised over all real steps, zero in the padding.
        targets: The critic's target values.
        value_scale: The factor from the critic's output to a value.
        mask: 1 where a step is real and 0 in the padding.
        labels: A teacher's action distributions, which the policy is to imitate; None to improve it
            by the advantages.
        state: The network's state before the first step, as the only one of a tuple, with trials
            along dimension 0; empty for whole trials.
    """

    rows: torch.Tensor
    pixels: torch.Tensor
    task: torch.Tensor
    actions: torch.Tensor
    log_probs: torch.Tensor
    advantages: torch.Tensor
    targets: torch.Tensor
    value_scale: torch.Tensor
    mask: torch.Tensor
    labels: ActionLabels | None = None
    state: tuple[State, ...] = ()

    def select(self, trials: torch.Tensor) -> "Batch":
        """Return some of the trials."""
        return replace(  # several times as fast as indexing
            self.map(lambda tensor: tensor.index_select(1, trials)),
            task=self.task.index_select(0, trials),
            state=map_state(lambda tensor: tensor.index_select(0, trials), self.state),
        )

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """Return it with a function applied to every tensor that has a row for each step."""
        names = {field.name for field in fields(self)} - {"task", "labels", "state"}
        labels = None if self.labels is None else self.labels.map(function)
        changed: dict[str, Any] = {name: function(getattr(self, name)) for name in names}
        return replace(self, labels=labels, **changed)


@dataclass(frozen=True)
class TrialPPOConfig(Config):
    """The hyperparameters of PPO on trials; those of an agent are derived from it."""

    learning_rate: Positive = 1e-3
    """Adam's step size."""
    anneal: bool = False
    """Whether step size and entropy bonus fall linearly to zero over ``learn``."""
    trials_per_minibatch: Count | None = 64
    """Trials in each gradient step; None takes all."""
    sequence_length: Count | None = None
    """Learn from sequences of this many steps instead of whole trials; each starts from the memory
    that the network had there before the update, and gradients end at its start (truncated
    backpropagation through time). A minibatch has as many steps as before, in more and shorter
    sequences: for a GRU and a few long trials that is several times faster. Within a sequence the
    memory must learn what to keep; across sequences it still carries what it keeps."""
    n_epochs: Count = 4
    """Passes over the collected trials."""
    gamma: Share = 0.99
    """The discount factor, across the whole trial; zero where an action changes nothing but its
    own reward, as in a classification."""
    gae_lambda: Share = 0.95
    """The decay of generalised advantage estimation."""
    clip_range: Positive = 0.2
    """PPO's clipping range."""
    infinite_horizon_critic: bool = False
    """Whether the critic predicts what would be earned if the trial never ended, of which the end
    leaves the share ``1 - gamma ** steps_left``; otherwise it predicts the return of each episode
    left. For rewards that go on through long episodes, and discounts that see less than a trial.
    Without a discount (``gamma=1``) such a trial earns without end, and this changes nothing."""
    wall_clock_discount: bool = False
    """Whether the discount counts the steps that an episode which ended early did not take, so that
    an end brings the next episode no closer. For robots that may fall and the like: otherwise a
    discount that sees less than a trial hardly punishes a fall, as the next episode pays at once.
    Leave it where an early end is what is sought, and what it teaches is to be used soon."""
    ent_coef: NotNegative = 0.0
    """The weight of the entropy bonus."""
    vf_coef: NotNegative = 0.5
    """The weight of the value loss."""
    task_prediction_coef: NotNegative = 0.0
    """The weight of a loss that makes the actor's memory predict the encoded task in each step, so
    that it learns to identify the task (after Humplik et al. 2019); 0 makes no prediction."""
    max_grad_norm: Positive = 0.5
    """The gradient is scaled down to this norm."""
    target_kl: Positive | None = None
    """Stop an iteration's epochs when the policy has moved this far; None never does."""

    def annealed(self: SelfConfig, progress: float) -> SelfConfig:
        """Return them for an update after this share of the training."""
        if not self.anneal:
            return self
        left = 1.0 - progress
        rate = max(self.learning_rate * left, math.ulp(0.0))  # zero would be refused
        return replace(self, learning_rate=rate, ent_coef=self.ent_coef * left)


def make_batch(
    network: TrialNetwork,
    trials: Trials,
    rows: torch.Tensor,
    rewards: torch.Tensor,
    config: TrialPPOConfig,
    ranks: Ranks = ALONE,
) -> tuple[Batch, float]:
    """Compute advantages and targets across whole trials, not cut at episode ends.

    Args:
        network: The network.
        trials: What was recorded.
        rows: The network's input rows, made of ``trials.rows``.
        rewards: The rewards as they are trained on.
        config: How; see :func:`value_scale` and :func:`wall_clock_discounts`.
        ranks: The processes that have the other trials.

    Returns:
        The batch, and the share of the targets' variance that the critic explains.
    """
    mask, gamma = trials.mask, config.gamma
    scale = value_scale(trials, gamma, config.infinite_horizon_critic)
    values = trial_values(network, rows, trials.pixels, trials.task) * scale
    discount = wall_clock_discounts(trials, gamma) if config.wall_clock_discount else gamma
    advantages = generalized_advantages(rewards, values, mask, discount, config.gae_lambda)
    targets = advantages + masked(values, mask)
    num_steps, total = ranks.total(mask.sum(), targets.sum())
    residual, spread = ranks.total(
        masked(targets - values, mask).square().sum(),
        masked(targets - total / num_steps, mask).square().sum(),
    )
    batch = Batch(
        rows=rows,
        pixels=trials.pixels,
        task=trials.task,
        actions=trials.actions,
        log_probs=trials.log_probs,
        advantages=standardize(advantages, mask, ranks=ranks),
        targets=targets,
        value_scale=scale,
        mask=mask,
    )
    return batch, 1.0 - (residual / spread).item()


def wall_clock_discounts(trials: Trials, gamma: float) -> torch.Tensor:
    """Return the discount from each step to the next, by wall-clock steps.

    Every episode counts as long as the longest, even if it ended early. If only the steps taken
    counted, an early end would bring the next episode closer: with a discount horizon of an episode
    or less, a robot that falls would be paid by the next episode at once, and would learn to stay
    up only in its last episode.

    Args:
        trials: The recorded trials.
        gamma: The discount factor of one step.

    Returns:
        A tensor of shape (time, num_trials): ``gamma``, or ``gamma ** (n + 1)`` where an episode
        ends n steps early.
    """
    left = trials.steps_left
    return gamma ** (left - torch.cat([left[1:], left[-1:] - 1.0]))


def value_scale(trials: Trials, gamma: float, infinite_horizon_critic: bool) -> torch.Tensor:
    """Return the factor from the critic's output to the value of a step.

    Args:
        trials: The recorded trials.
        gamma: The discount factor.
        infinite_horizon_critic: If False, the critic predicts the return of each remaining episode;
            with a discount of zero, the next reward. If True, it predicts the value of an infinite
            trial; with constant rewards the finite trial has the share ``1 - gamma ** steps_left``
            of it.
            With a discount of one the infinite value does not exist, and True acts like False.

    Returns:
        A tensor of shape (time, num_trials).
    """
    if infinite_horizon_critic and gamma < 1.0:
        return 1.0 - gamma**trials.steps_left
    return trials.episodes_left if gamma else torch.ones_like(trials.mask)


def trial_values(
    network: TrialNetwork, rows: torch.Tensor, pixels: torch.Tensor, task: torch.Tensor
) -> torch.Tensor:
    """Return the critic's values of whole trials, without a gradient.

    Args:
        network: The network.
        rows: Of shape (time, n, row_size).
        pixels: Of shape (time, n, num_pixels).
        task: Of shape (n, task_size).

    Returns:
        A tensor of shape (time, n).
    """

    def values(piece: torch.Tensor) -> torch.Tensor:
        return network.values(rows[:, piece], pixels[:, piece], task[piece])

    return of_pieces(network, values, rows)


def of_pieces(
    network: TrialNetwork, function: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor
) -> torch.Tensor:
    """Apply a function to pieces of whole trials, without a gradient.

    Args:
        network: What it calls.
        function: From the numbers of some trials to a tensor of shape (time, len(trials), ...).
        rows: The rows of all trials, of shape (time, n, row_size).

    Returns:
        A tensor of shape (time, n, ...).
    """

    def of_piece(piece: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():  # in each thread, because the mode is per thread
            return function(piece)

    trials = torch.arange(rows.shape[1], device=rows.device)
    return torch.cat(parallel_map(of_piece, _pieces(network, trials, len(rows))), dim=1)


def ppo_update(
    network: TrialNetwork,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: TrialPPOConfig,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Make some epochs of gradient steps, each on a minibatch of whole trials or of sequences.

    Args:
        network: The network; its parameters change.
        optimizer: Of the network's parameters.
        batch: What to learn from.
        config: How.
        generator: Draws the minibatches.
        ranks: The processes that have the other trials of the minibatches.

    Returns:
        Means of ``MEASURES`` over the gradient steps, and the number of these.
    """
    optimizer.param_groups[0]["lr"] = config.learning_rate
    parameters = list(network.parameters())
    history = []
    lengths = ranks.gather(batch.mask.sum(0))  # of all trials, whoever has them
    num_trials = len(lengths)
    present = torch.arange(num_trials, device=lengths.device)
    if config.sequence_length is not None:
        batch = in_sequences(network, batch, config.sequence_length, ranks)
        lengths = ranks.gather(batch.mask.sum(0))
        present = lengths.nonzero().flatten()  # the rest is padding
    per_minibatch = (config.trials_per_minibatch or num_trials) * len(present) / num_trials
    own = ranks.shard(len(lengths), "trials")
    for _ in range(config.n_epochs):
        order = torch.randperm(len(present), generator=generator, device=lengths.device)
        minibatches = torch.split(present[order], math.ceil(per_minibatch))
        for minibatch in minibatches:
            num_steps = lengths[minibatch].sum()
            trials = minibatch[(minibatch >= own.start) & (minibatch < own.stop)] - own.start
            parts = ppo_gradients(network, batch, trials, num_steps, config)
            *gradients, measured = ranks.total(*parts)
            for parameter, gradient in zip(parameters, gradients):
                # Fused Adam walks through memory side by side: on a CPU it takes a convolution's
                # gradient, whose channels are last, silently for that of other weights.
                parameter.grad = gradient.contiguous()
            with one_thread():  # waking others would take longer than the work
                grad_norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.step()
            history.append(torch.cat([measured, grad_norm.reshape(1)]))
        # A whole epoch is measured: single minibatches of few trials scatter too much.
        if config.target_kl is not None:
            epoch = torch.stack(history[-len(minibatches) :])
            if epoch[:, MEASURES.index("approx_kl")].double().mean() > config.target_kl:
                break
    # Read once, at the end: reading a number synchronises a GPU.
    means = dict(zip(MEASURES, torch.stack(history).double().mean(0).tolist()))
    if not config.task_prediction_coef:
        del means["task_prediction_loss"]
    return {**means, "gradient_steps": len(history)}


def in_sequences(network: TrialNetwork, batch: Batch, length: int, ranks: Ranks = ALONE) -> Batch:
    """Cut whole trials into sequences, each with the network's present state at its start.

    Args:
        network: The network.
        batch: The whole trials.
        length: The steps of a sequence.
        ranks: The processes that have the other trials.

    Returns:
        The sequences, those of a trial side by side: of shapes (length, num_trials * parts, ...).
    """
    # The longest trial of all processes counts, so that all have as many sequences.
    num_steps = int(ranks.gather(torch.tensor([len(batch.rows)], device=batch.rows.device)).max())
    length = min(length, num_steps)
    parts = math.ceil(num_steps / length)

    def padded(steps: torch.Tensor) -> torch.Tensor:
        missing = steps.new_zeros(parts * length - len(steps), *steps.shape[1:])
        return torch.cat([steps, missing])

    def cut(steps: torch.Tensor) -> torch.Tensor:  # (time, n, ...) to (length, n * parts, ...)
        return steps.reshape(parts, length, *steps.shape[1:]).movedim(0, 2).flatten(1, 2)

    def states(piece: torch.Tensor) -> State:
        with torch.no_grad():
            found = network.states(batch.rows[:, piece], batch.pixels[:, piece], length)
        return map_state(lambda *times: torch.stack(times, 1).flatten(0, 1), *found)

    batch = batch.map(padded)
    trials = torch.arange(batch.rows.shape[1], device=batch.rows.device)
    pieces = parallel_map(states, _pieces(network, trials, len(batch.rows)))
    state = map_state(lambda *tensors: torch.cat(tensors), *pieces)
    task = batch.task.repeat_interleave(parts, dim=0)
    return replace(batch.map(cut), task=task, state=(state,))


def ppo_gradients(
    network: TrialNetwork,
    batch: Batch,
    trials: torch.Tensor,
    num_steps: torch.Tensor,
    config: TrialPPOConfig,
) -> list[torch.Tensor]:
    """Return the contribution of some trials to the gradient of PPO's loss on a minibatch.

    Args:
        network: The network.
        batch: All trials of this process.
        trials: Which of them the minibatch has; there may be none.
        num_steps: How many real steps the minibatch has, with the trials of others.
        config: The loss's weights.

    Returns:
        The gradient by each parameter; then the parts of the loss in one tensor.
    """
    parameters = list(network.parameters())

    def of_piece(piece: torch.Tensor) -> tuple[torch.Tensor, ...]:
        part = batch.select(piece)
        # Means over pieces of unequal numbers of real steps make the mean over the minibatch.
        share = part.mask.sum() / num_steps
        loss, measured = ppo_loss(network, part, config)
        return *torch.autograd.grad(share * loss, parameters), share * measured

    if not len(trials):
        empty = [torch.zeros_like(parameter) for parameter in parameters]
        return [*empty, batch.mask.new_zeros(len(PARTS))]
    pieces = parallel_map(of_piece, _pieces(network, trials, len(batch.rows)))
    return [sum(parts) for parts in zip(*pieces)]  # type: ignore[misc]


def ppo_loss(
    network: TrialNetwork, batch: Batch, config: TrialPPOConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return PPO's loss (Schulman et al. 2017, eq. 9), and its parts.

    With labels the policy's part is the divergence KL(teacher || policy) instead, in closed form,
    without the noise of sampled actions. Where the policy cannot know the task yet, its minimum is
    the mean of the teacher's distributions over the tasks that remain possible.

    Args:
        network: The network.
        batch: Some trials.
        config: The loss's weights.

    Returns:
        The loss; and policy loss, value loss, entropy, divergence from the policy that acted and
        loss of predicting the task, without a gradient.
    """
    mask = batch.mask
    distribution, values, task_loss = network(batch.rows, batch.pixels, batch.task, *batch.state)
    # Masked before it is exponentiated: a gradient of zero times infinity is NaN.
    log_ratio = masked(distribution.log_prob(batch.actions) - batch.log_probs, mask)
    if batch.labels is None:
        policy_loss = -ppo_surrogate(log_ratio, batch.advantages, mask, config.clip_range)
    else:
        policy_loss = masked_mean(kl_divergence(batch.labels.distribution(), distribution), mask)
    value_loss = 0.5 * masked_mean((values * batch.value_scale - batch.targets).square(), mask)
    entropy = masked_mean(distribution.entropy(), mask)
    loss = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    prediction = torch.zeros_like(value_loss)
    if task_loss is not None:
        prediction = masked_mean(task_loss, mask)
        loss = loss + config.task_prediction_coef * prediction
    with torch.no_grad():  # the estimator of Schulman's note, never negative
        kl = masked_mean(log_ratio.exp() - 1.0 - log_ratio, mask)
        return loss, torch.stack([policy_loss, value_loss, entropy, kl, prediction])


def _pieces(network: TrialNetwork, trials: torch.Tensor, num_steps: int) -> Sequence[torch.Tensor]:
    """Cut trials of ``num_steps`` steps into pieces, as many for each thread."""
    if trials.device.type != "cpu":
        return (trials,)
    threads = torch.get_num_threads()
    rounds = math.ceil(len(trials) * num_steps / (threads * network.steps_per_piece))
    return torch.tensor_split(trials, min(threads * rounds, len(trials)))
