"""The recurrent actor-critic of RL²."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from gymnasium import spaces
from torch import nn

from metarl.agents.actions import ActionHead, orthogonal_
from metarl.agents.config import Config, Count, Range
from metarl.agents.rl2.memory import MEMORIES


@dataclass(frozen=True)
class NetworkConfig(Config):
    """The ``policy_kwargs`` of RL²."""

    hidden_size: Count = 128
    """The number of units of the memory."""
    memory: Literal["gru", "lstm"] = "gru"
    """The recurrent cell."""
    encoder: Sequence[Count] = ()
    """The sizes of tanh layers before the memory."""
    separate_critic: bool = False
    """Whether the critic has an encoder and a memory of its own."""
    log_std_init: Annotated[float, Range(-100, 100)] = -0.5
    """The initial log standard deviation of Box actions, in units of half the action range."""


class RecurrentActorCritic(nn.Module):
    """A memory with a policy head and a value head: input rows to actions and values.

    Args:
        input_size: The length of an input row.
        action_space: The action space.
        generator: The source of the initial weights.
        config: Sizes and kinds.
    """

    def __init__(
        self,
        input_size: int,
        action_space: spaces.Space[Any],
        generator: torch.Generator,
        config: NetworkConfig,
    ):
        super().__init__()
        memory = MEMORIES[config.memory]
        size, encoder = config.hidden_size, config.encoder
        self.action_head = ActionHead(action_space)
        self.actor = memory(input_size, size, encoder, generator)
        self.critic = (
            memory(input_size, size, encoder, generator) if config.separate_critic else None
        )
        self.policy = nn.Linear(size, self.action_head.num_outputs)
        self.value = nn.Linear(size, 1)
        # A policy that starts close to uniform explores all actions alike.
        orthogonal_(self.policy, 0.01, generator)
        orthogonal_(self.value, 1.0, generator)
        self.log_std = (
            nn.Parameter(torch.full((self.action_head.num_outputs,), config.log_std_init))
            if self.action_head.has_log_std
            else None
        )

    def initial_state(self, num_trials: int) -> torch.Tensor:
        """Return the actor's memory at the start of a trial, of shape (num_slots, n, hidden)."""
        return self.actor.initial_state(num_trials)

    def act(self, inputs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Continue from a memory.

        Args:
            inputs: Input rows, of shape (time, n, input_size).
            state: The memory before the first row, of shape (num_slots, n, hidden_size).

        Returns:
            What :meth:`distribution` takes, of shape (time, n, num_outputs), and the memory after
            the last row.
        """
        features, after = self.actor(inputs, state)
        return self.policy(features), after

    def distribution(self, outputs: torch.Tensor) -> torch.distributions.Distribution:
        """Return the action distribution of the policy's outputs."""
        return self.action_head.distribution(outputs, self.log_std)

    def sample(self, outputs: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Draw actions from the policy's outputs; the most likely ones without a generator."""
        return self.action_head.sample(outputs, self.log_std, generator)

    def forward(
        self, inputs: torch.Tensor
    ) -> tuple[torch.distributions.Distribution, torch.Tensor]:
        """Run over whole trials, from an empty memory.

        Args:
            inputs: Input rows, of shape (time, n, input_size).

        Returns:
            The action distribution over (time, n), and the values of shape (time, n).
        """
        features, _ = self.actor(inputs, self.actor.initial_state(inputs.shape[1]))
        return self.distribution(self.policy(features)), self.values(inputs, features)

    def values(self, inputs: torch.Tensor, features: torch.Tensor | None = None) -> torch.Tensor:
        """Return the values alone, of shape (time, n).

        Args:
            inputs: Input rows of whole trials, of shape (time, n, input_size).
            features: The actor's features, if they are known.
        """
        if self.critic is not None:
            features, _ = self.critic(inputs, self.critic.initial_state(inputs.shape[1]))
        elif features is None:
            features, _ = self.actor(inputs, self.actor.initial_state(inputs.shape[1]))
        values: torch.Tensor = self.value(features)
        return values.squeeze(-1)
