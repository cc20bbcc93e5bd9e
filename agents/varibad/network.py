"""What acts in VariBAD: the encoder, whose belief about the task the policy sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from gymnasium import spaces
from torch import nn
from torch.distributions import Distribution

from metarl.agents.common.actions import action_head
from metarl.agents.common.actor_critic import TrialState
from metarl.agents.common.initialization import orthogonal_
from metarl.agents.common.layers import tanh_layers
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
