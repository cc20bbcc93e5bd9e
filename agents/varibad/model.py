"""The networks of VariBAD: encoder, decoders, policy; and the loss that trains the first two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from gymnasium import spaces
from torch import nn
from torch.distributions import Distribution

from metarl.agents.common.actions import action_head, orthogonal_
from metarl.agents.common.actor_critic import TrialState
from metarl.agents.common.layers import tanh_layers
from metarl.agents.common.losses import masked
from metarl.agents.common.memory.config import MemoryConfig
from metarl.agents.common.memory.contract import MemorySizes, State
from metarl.agents.common.memory.registry import MEMORIES
from metarl.agents.common.noise import ActionNoise
from metarl.agents.common.trials import TrialOutputs
from metarl.agents.training.config import Range, Width
from metarl.errors import InvalidValueError
from metarl.trial import TrialInput


@dataclass(frozen=True)
class BeliefConfig(MemoryConfig):
    """The ``policy_kwargs`` of VariBAD."""

    head: Sequence[Width] = (64, 64)
    """The sizes of tanh layers of the policy, and of the critic, between belief and output."""
    decoder: Sequence[Width] = (64, 64)
    """The sizes of tanh layers of each decoder, from latent variables and from a step to features
    whose products it adds up."""
    log_std_init: Annotated[float, Range(-100, 100)] = -0.5
    """The initial log standard deviation of Box actions, in units of half the action range."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.decoder:
            raise InvalidValueError("decoder must name at least one layer, got []")


class Encoder(nn.Module):
    """A memory that reads a trial, and returns a belief about the task after every step.

    A belief is a Gaussian with a diagonal covariance: mean and log-variance, side by side.

    Args:
        trial_input: The inputs.
        latent_size: The number of latent variables.
        generator: The source of the initial weights.
        config: The memory.
    """

    def __init__(
        self,
        trial_input: TrialInput,
        latent_size: int,
        generator: torch.Generator,
        config: BeliefConfig,
    ):
        super().__init__()
        self._episode_end = trial_input.episode_end.start
        sizes = MemorySizes(trial_input.size, trial_input.size, config.hidden_size)
        self.memory = MEMORIES[config.memory](sizes, config.memory_config(), generator)
        self.belief = nn.Linear(config.hidden_size, 2 * latent_size)
        orthogonal_(self.belief, 1.0, generator)

    def initial_state(self, num_trials: int) -> TrialState:
        """Return what is known at the start of a trial: nothing."""
        memory = self.memory.initial_state(num_trials)
        return torch.zeros(num_trials, dtype=torch.int64, device=self.belief.weight.device), memory

    def reset(self, state: TrialState, where: torch.Tensor) -> TrialState:
        """Return a state in which some trials, of shape (n,), are at their start."""
        time, memory = state
        return time.masked_fill(where, 0), self.memory.reset(memory, where)

    def forward(
        self, rows: torch.Tensor, state: TrialState | None = None
    ) -> tuple[torch.Tensor, TrialState]:
        """Read on in each trial.

        Args:
            rows: Input rows of successive steps, of shape (time, n, row_size).
            state: The state before the first of them; None is the start of the trials.

        Returns:
            The belief after each row, of shape (time, n, 2 * latent_size), and the state.
        """
        elapsed, memory = self.initial_state(rows.shape[1]) if state is None else state
        time = elapsed + torch.arange(len(rows), device=rows.device)[:, None]  # (time, n)
        starts = torch.logical_or(rows[..., self._episode_end], time == 0)
        features, memory = self.memory(rows, memory, time, starts)
        return self.belief(features), (elapsed + len(rows), memory)


class Decoder(nn.Module):
    """Predicts the outcome of a step from the task's latent variables.

    An outcome is a linear function of the product of two sets of features, those of the latent
    variables and those of the step. So all pairs of a belief and a step cost little more than the
    beliefs and the steps alone.

    Args:
        latent_size: The number of latent variables.
        step_size: The length of what is known of a step.
        num_outputs: The length of the outcome.
        sizes: The sizes of the layers of features, at least one.
        generator: The source of the initial weights.
    """

    def __init__(
        self,
        latent_size: int,
        step_size: int,
        num_outputs: int,
        sizes: Sequence[int],
        generator: torch.Generator,
    ):
        super().__init__()
        self.of_latent = tanh_layers(latent_size, sizes, generator)
        self.of_step = tanh_layers(step_size, sizes, generator)
        self.output = nn.Linear(sizes[-1], num_outputs)
        orthogonal_(self.output, 1.0, generator)

    def forward(self, latents: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Return the expected outcome of each step by each latent vector of its trial.

        Args:
            latents: Of shape (num_latents, n, latent_size).
            steps: Of shape (num_steps, n, step_size).

        Returns:
            A tensor of shape (num_latents, num_steps, n, num_outputs).
        """
        weighted = self.of_step(steps)[..., None, :] * self.output.weight
        products = torch.einsum("lnf,snof->lsno", self.of_latent(latents), weighted)
        return products + self.output.bias


class BeliefPolicy(nn.Module):
    """Policy and critic on observation and belief, without a memory of their own.

    It is what PPO trains: beliefs come in as inputs, and no gradient leaves through them.

    Args:
        input_size: The length of observation and belief together.
        mask: Which part of them is a mask of invalid actions; None if there is none.
        action_space: The action space.
        generator: The source of the initial weights.
        config: Sizes.
    """

    steps_per_piece = 12_800

    def __init__(
        self,
        input_size: int,
        mask: slice | None,
        action_space: spaces.Space[Any],
        generator: torch.Generator,
        config: BeliefConfig,
    ):
        super().__init__()
        self._mask = mask
        self.action_head = action_head(action_space, masked=mask is not None)
        self.policy_layers = tanh_layers(input_size, config.head, generator)
        self.value_layers = tanh_layers(input_size, config.head, generator)
        last = config.head[-1] if config.head else input_size
        self.policy = nn.Linear(last, self.action_head.num_outputs)
        self.value = nn.Linear(last, 1)
        # A policy that starts close to uniform explores all actions alike.
        orthogonal_(self.policy, 0.01, generator)
        orthogonal_(self.value, 1.0, generator)
        self.log_std = (
            nn.Parameter(torch.full((self.action_head.num_log_std,), config.log_std_init))
            if self.action_head.num_log_std
            else None
        )

    def outputs(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what :meth:`distribution` takes, of shape (..., num_outputs)."""
        outputs: torch.Tensor = self.policy(self.policy_layers(rows))
        if self._mask is not None:
            outputs = self.action_head.forbid(outputs, rows[..., self._mask])
        return outputs

    def distribution(self, outputs: torch.Tensor) -> Distribution:
        """Return the action distribution of the policy's outputs."""
        return self.action_head.distribution(outputs, self.log_std)

    def values(self, rows: torch.Tensor, pixels: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """Return the values of observations and beliefs, of shape (time, n)."""
        values: torch.Tensor = self.value(self.value_layers(rows))
        return values.squeeze(-1)

    def states(self, rows: torch.Tensor, pixels: torch.Tensor, length: int) -> list[State]:
        """Return the states at which sequences start: there is nothing to keep."""
        return [()] * -(-len(rows) // length)

    def forward(
        self, rows: torch.Tensor, pixels: torch.Tensor, task: torch.Tensor, *state: State
    ) -> TrialOutputs:
        """Return action distributions and values of observations and beliefs, (time, n, size)."""
        distribution = self.distribution(self.outputs(rows))
        return TrialOutputs(distribution, self.values(rows, pixels, task))


class VariBADNetwork(nn.Module):
    """What acts: the encoder, and the policy on its beliefs.

    Args:
        trial_input: The inputs.
        encoder: From rows to beliefs.
        policy: From observation and belief to actions.
    """

    def __init__(self, trial_input: TrialInput, encoder: Encoder, policy: BeliefPolicy):
        super().__init__()
        self._observation = trial_input.observation
        self.encoder = encoder
        self.policy = policy
        self.action_head = policy.action_head

    @property
    def log_std(self) -> torch.Tensor | None:
        """The log standard deviations of Box actions, of shape (num_log_std,), if there are any."""
        return self.policy.log_std

    def initial_state(self, num_trials: int) -> TrialState:
        """Return what is known at the start of a trial: nothing."""
        return self.encoder.initial_state(num_trials)

    def reset(self, state: TrialState, where: torch.Tensor) -> TrialState:
        """Return a state in which some trials, of shape (n,), are at their start."""
        return self.encoder.reset(state, where)

    def act(
        self, rows: torch.Tensor, pixels: torch.Tensor, state: TrialState
    ) -> tuple[torch.Tensor, TrialState]:
        """Take one step in each trial.

        Args:
            rows: Input rows, of shape (n, row_size).
            pixels: Of shape (n, 0).
            state: The state before the step; it is not changed.

        Returns:
            What :meth:`distribution` takes, of shape (n, num_outputs), and the state after it.
        """
        inputs, state = self.policy_inputs(rows[None], state)
        return self.policy.outputs(inputs[0]), state

    def policy_inputs(
        self, rows: torch.Tensor, state: TrialState | None = None
    ) -> tuple[torch.Tensor, TrialState]:
        """Return observations and beliefs, of shape (time, n, size), and the encoder's state.

        Args:
            rows: Input rows of successive steps, of shape (time, n, row_size).
            state: The state before the first of them; None is the start of the trials.
        """
        with torch.no_grad():  # the encoder learns from the decoders alone
            beliefs, state = self.encoder(rows, state)
        return torch.cat([rows[..., self._observation], beliefs], dim=-1), state

    def distribution(self, outputs: torch.Tensor) -> Distribution:
        """Return the action distribution of the policy's outputs."""
        return self.policy.distribution(outputs)

    def sample(self, outputs: torch.Tensor, noise: ActionNoise | None) -> torch.Tensor:
        """Draw actions from outputs of shape (n, num_outputs); the most likely without noise."""
        return self.action_head.sample(outputs, self.policy.log_std, noise)


class TaskModel(nn.Module):
    """Encoder and decoders: a variational autoencoder of trials, trained on its own.

    Args:
        trial_input: The inputs.
        encoder: From rows to beliefs.
        latent_size: The number of latent variables.
        decode_reward: Whether there is a decoder of rewards.
        decode_state: Whether there is one of next observations.
        generator: The source of the initial weights.
        config: Sizes.
    """

    def __init__(
        self,
        trial_input: TrialInput,
        encoder: Encoder,
        latent_size: int,
        decode_reward: bool,
        decode_state: bool,
        generator: torch.Generator,
        config: BeliefConfig,
    ):
        super().__init__()
        self._part = part = trial_input
        self.encoder = encoder
        self.reward = self.state = None
        known = part.action.stop  # observation and action
        if decode_reward:
            sizes = (latent_size, known + part.observation.stop, 1)
            self.reward = Decoder(*sizes, config.decoder, generator)
        if decode_state:
            sizes = (latent_size, known, part.observation.stop)
            self.state = Decoder(*sizes, config.decoder, generator)

    def loss(
        self,
        rows: torch.Tensor,
        outcomes: torch.Tensor,
        mask: torch.Tensor,
        kl_weight: float,
        num_terms: int | None,
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the negative evidence lower bound of trials (Zintgraf et al. 2020, eq. 5 and 8).

        From the belief at every step all steps of the trial are reconstructed, past and future:
        sums over both, and over the trial's beliefs of the divergence from the one before. The
        likelihood is a Gaussian of variance 1, without its constant.

        Args:
            rows: Input rows, of shape (time, n, row_size).
            outcomes: For each step the row that it led to, inside its episode; the same shape.
            mask: 1 where a step is real and 0 in the padding, of shape (time, n).
            kl_weight: The weight of the divergence.
            num_terms: How many beliefs are decoded, and how many steps from each, for an unbiased
                estimate of the sums; None takes all.
            generator: Draws the latent variables and the steps.

        Returns:
            The mean over trials, a scalar; and without a gradient, ``belief_kl``, its mean over
            trials, and the mean error of one prediction, ``reward_loss`` and ``state_loss``.
        """
        beliefs, _ = self.encoder(rows)  # (time, n, 2 * latent_size)
        kl = masked(successive_kl(beliefs), mask).sum(0).mean()
        believed, believed_weights = sampled_steps(mask, num_terms, generator)  # (terms, n)
        decoded, decoded_weights = sampled_steps(mask, num_terms, generator)
        mean, log_variance = _at(beliefs, believed).chunk(2, dim=-1)  # (terms, n, latent_size)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        latents = mean + (0.5 * log_variance).exp() * noise
        before, after = _at(rows, decoded), _at(outcomes, decoded)  # (terms, n, row_size)
        weights = believed_weights[:, None] * decoded_weights  # (terms, terms, n)
        total, measured = kl_weight * kl, {"belief_kl": kl.detach()}
        for name, errors in self._errors(latents, before, after).items():
            loss = (errors * weights).sum()
            total = total + loss / mask.shape[1]
            measured[f"{name}_loss"] = loss.detach() / weights.sum()
        return total, measured

    def _errors(
        self, latents: torch.Tensor, before: torch.Tensor, after: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return each decoder's negative log-likelihoods, of shape (terms, terms, n)."""
        part, errors = self._part, {}
        steps = step_inputs(part, before, after)
        if self.reward is not None:
            errors["reward"] = squared_error(self.reward(latents, steps), after[..., part.reward])
        if self.state is not None:
            changes = after[..., part.observation] - before[..., part.observation]
            predicted = self.state(latents, steps[..., : part.action.stop])
            errors["state"] = squared_error(predicted, changes)
        return errors


def step_inputs(trial_input: TrialInput, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return observation, action and next observation of steps, of shape (..., size).

    Args:
        trial_input: Their layout in rows.
        before: The rows before the steps, of shape (..., row_size).
        after: The rows that they led to.
    """
    parts = (
        before[..., trial_input.observation],
        after[..., trial_input.action],
        after[..., trial_input.observation],
    )
    return torch.cat(parts, dim=-1)


def squared_error(predicted: torch.Tensor, actual: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood of N(predicted, I), without its constant."""
    return 0.5 * (predicted - actual).square().sum(-1)


def gaussian_kl(belief: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """Return the divergence of one Gaussian from another, of shape (...).

    Args:
        belief: Mean and log-variance, of shape (..., 2 * latent_size).
        prior: Those of the other.
    """
    mean, log_variance = belief.chunk(2, dim=-1)
    prior_mean, prior_log_variance = prior.chunk(2, dim=-1)
    log_ratio = log_variance - prior_log_variance
    distance = (mean - prior_mean).square() * (-prior_log_variance).exp()
    return 0.5 * (log_ratio.exp() - log_ratio + distance - 1.0).sum(-1)


def successive_kl(beliefs: torch.Tensor) -> torch.Tensor:
    """Return the divergence of each belief from the one before; of the first, from N(0, I).

    Args:
        beliefs: Of shape (time, n, 2 * latent_size).

    Returns:
        A tensor of shape (time, n).
    """
    return gaussian_kl(beliefs, torch.cat([torch.zeros_like(beliefs[:1]), beliefs[:-1]]))


def sampled_steps(
    mask: torch.Tensor, count: int | None, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return steps of trials, and weights with which a sum over them estimates that over all.

    Each trial's real steps are cut into ``count`` equal parts, one step is drawn from each.

    Args:
        mask: 1 where a step is real and 0 in the padding, of shape (time, n); padding only follows
            real steps.
        count: How many; all if there are no more, or with None.
        generator: Draws them.

    Returns:
        The numbers of the steps and their weights, of shape (count, n) or (time, n).
    """
    if count is None or count >= len(mask):
        return torch.arange(len(mask), device=mask.device)[:, None].expand(mask.shape), mask
    lengths = mask.sum(0)  # (n,)
    places = torch.arange(count, device=mask.device)[:, None] + torch.rand(
        (count, mask.shape[1]), generator=generator, device=mask.device
    )
    steps = (places / count * lengths).long()
    return steps.minimum(lengths.long() - 1), (lengths / count).expand(count, -1)


def _at(values: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Return values of shape (time, n, size) at some steps (count, n) of each trial."""
    return torch.take_along_dim(values, steps[..., None], dim=0)
